package storetest

import (
	"testing"

	"gatehouse/internal/billing"
)

var ledgerTests = map[string]func(*testing.T, Backend){
	"EachCustomersLedgerAddsUp": func(t *testing.T, b Backend) {
		for range 30 {
			signUp(t, b, newID(t)+"@example.dev")
		}
		report, err := billing.Verify(b.Ledgers(t.Context(), ""))
		if err != nil || report.Customers != 30 || report.Entries != 30 || len(report.Findings) > 0 {
			t.Errorf("ledgers are %+v, %v", report, err)
		}
	},
	"OneLedgerIsOneCustomers": func(t *testing.T, b Backend) {
		o, _, _ := signUp(t, b, "ada@example.dev")
		signUp(t, b, "eve@example.dev")
		n := 0
		for account, err := range b.Ledgers(t.Context(), o.ID) {
			if n++; err != nil || account.CustomerID != o.ID || len(account.Entries) != 1 || account.Balance != 5 {
				t.Errorf("account %+v, %v", account, err)
			}
		}
		if n != 1 {
			t.Errorf("%d accounts, want 1", n)
		}
	},
	"ReadingMayStopEarly": func(t *testing.T, b Backend) {
		for range 3 {
			signUp(t, b, newID(t)+"@example.dev")
		}
		for _, err := range b.Ledgers(t.Context(), "") {
			if err != nil {
				t.Error(err)
			}
			break
		}
		signUp(t, b, newID(t)+"@example.dev") // nothing is held on to
	},
	"EntriesAreTheCustomersOwn": func(t *testing.T, b Backend) {
		o, _, _ := signUp(t, b, "ada@example.dev")
		signUp(t, b, "eve@example.dev")
		entries, err := b.Entries(t.Context(), o.ID, 0, 10)
		if err != nil || len(entries) != 1 || entries[0].Reference != billing.SignUpReference(o.ID) {
			t.Errorf("entries are %+v, %v", entries, err)
		}
		if entries, err = b.Entries(t.Context(), o.ID, 1, 10); err != nil || len(entries) != 0 {
			t.Errorf("before the first: %+v, %v", entries, err)
		}
	},
}
