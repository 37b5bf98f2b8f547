package storetest

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
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
	"AdjustmentsCountOnce": func(t *testing.T, b Backend) {
		id, other := someoneWith(t, b), someoneWith(t, b)
		b.Clock.Move(time.Second)
		e, err := b.Adjust(t.Context(), id, 10, "ticket-1")
		want := billing.Entry{ID: e.ID, Number: 2, Amount: 10, BalanceAfter: 15, Source: billing.Adjustment, Reference: "adjustment:ticket-1", CreatedAt: b.Clock.Now()}
		if err != nil || e != want {
			t.Errorf("adjusted by %+v, %v, want %+v", e, err, want)
		}
		for _, id := range []string{id, other} {
			for _, amount := range []int64{10, -1} {
				_, err := b.Adjust(t.Context(), id, amount, "ticket-1")
				wantFault(t, err, fault.Conflict, "")
			}
		}
		if e, err = b.Adjust(t.Context(), id, -15, "ticket-2"); err != nil || e.BalanceAfter != 0 {
			t.Errorf("adjusted by %+v, %v", e, err)
		}
		_, err = b.Adjust(t.Context(), newID(t), 1, "ticket-3")
		wantFault(t, err, fault.NotFound, "")
		wantCredits(t, b, id, 0, 0)
		wantCredits(t, b, other, 5, 0)
	},
	"AdjustmentsKeepToTheBounds": func(t *testing.T, b Backend) {
		id := someoneWith(t, b)
		for i, tt := range []struct {
			amount int64
			fits   bool
		}{
			{math.MinInt64, false}, {math.MaxInt64, false}, {-billing.MaxCredits, false}, {billing.MaxCredits, false}, {-6, false}, {billing.MaxCredits - 4, false},
			{billing.MaxCredits - 5, true}, {1, false}, {math.MaxInt64, false}, {-billing.MaxCredits - 1, false}, {-billing.MaxCredits, true}, {-1, false},
		} {
			_, err := b.Adjust(t.Context(), id, tt.amount, fmt.Sprint(i))
			switch {
			case tt.fits:
				done(t, err)
			default:
				wantFault(t, err, fault.Conflict, "")
			}
		}
		wantCredits(t, b, id, 0, 0)
	},
	"GrantBeyondTheBoundsLeavesAllAsItWas": func(t *testing.T, b Backend) {
		id := someoneWith(t, b)
		_, err := b.Adjust(t.Context(), id, billing.MaxCredits-5, "all there are")
		done(t, err)
		takeIn(t, b, receipt("evt_1"))
		c := invoice(id, "in_1", "pi_1", 60)
		c.EventID, c.State, c.ProPrices = "evt_1", billing.Done, []string{"price_1"}
		if _, err := b.Apply(t.Context(), c); err == nil {
			t.Error("applied")
		}
		wantEvent(t, event(t, b, "evt_1"), billing.Received, "", "")
		if known, _, err := b.ProPrices(t.Context(), []string{"price_1"}, ""); err != nil || len(known) > 0 {
			t.Errorf("known are %q, %v", known, err)
		}
		wantCredits(t, b, id, billing.MaxCredits, 0)
	},
	"AdjustmentSettlesDebtFirst": func(t *testing.T, b Backend) {
		id := someoneWith(t, b)
		done(t, decide(t, b, invoice(id, "in_1", "pi_1", 60))())
		_, err := b.Adjust(t.Context(), id, -65, "spent")
		done(t, err)
		done(t, decide(t, b, refund(id, "pi_1", 0, 59900))())
		wantCredits(t, b, id, 0, 60)
		_, err = b.Adjust(t.Context(), id, -1, "more")
		wantFault(t, err, fault.Conflict, "")
		if e, err := b.Adjust(t.Context(), id, 59, "some"); err != nil || e.Source != billing.DebtSettlement || e.Debt != -59 || e.BalanceAfter != 0 {
			t.Errorf("the newest entry is %+v, %v", e, err)
		}
		wantCredits(t, b, id, 0, 1)
	},
	"AdjustedAtOnceAddsUp": func(t *testing.T, b Backend) {
		id := someoneWith(t, b)
		n := atOnce(t, 60, fault.Conflict, func(i int) error {
			return patiently(func() error {
				_, err := b.Adjust(context.Background(), id, int64(i%3-1)*2+1, fmt.Sprint("ticket-", i%30))
				return err
			})
		})
		if n == 0 || n > 30 {
			t.Errorf("%d counted, of 30 references", n)
		}
		credits(t, b, id)
	},
}
