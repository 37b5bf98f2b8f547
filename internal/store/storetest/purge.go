package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
)

const loadDomain = "load.gatehouse.internal"

// purgeAll purges in steps of limit, and checks that each keeps to it.
func purgeAll(t *testing.T, b Backend, limit int) (removed int) {
	t.Helper()
	for after := ""; ; {
		step, err := b.PurgeSome(t.Context(), loadDomain, after, limit)
		if err != nil || step.Kept != 0 || step.Removed > limit || step.Next != "" && step.Removed != limit {
			t.Fatalf("a step of %d after %q: %+v, %v", limit, after, step, err)
		}
		removed += step.Removed
		if after = step.Next; after == "" {
			return removed
		}
	}
}

var purgeTests = map[string]func(*testing.T, Backend){
	"AllAtTheDomainAndOnlyThose": func(t *testing.T, b Backend) {
		var stay, away []account.Opening
		for _, address := range []string{
			"x@sub." + loadDomain, "x@evil-" + loadDomain, "x@gatehouse.internal", "x@" + loadDomain + ".dev",
			loadDomain + "@example.dev", "x@loadxgatehouse.internal", "%@example.dev",
		} {
			o, _, _ := signUp(t, b, address)
			stay = append(stay, o)
			gone, _, _ := signUp(t, b, fmt.Sprintf("u%d@%s", len(away), loadDomain)) // between the others
			away = append(away, gone)
		}
		if n := purgeAll(t, b, 3); n != len(away) {
			t.Errorf("%d were removed, want %d", n, len(away))
		}
		for _, o := range stay {
			if _, err := b.Customer(t.Context(), o.ID); err != nil {
				t.Errorf("%s: %v", o.Email, err)
			}
		}
		for _, o := range away {
			_, err := b.Customer(t.Context(), o.ID)
			wantFault(t, err, fault.NotFound, "")
			keys, err := b.Keys(t.Context(), o.ID)
			if err != nil || len(keys) > 0 {
				t.Errorf("%d keys are left, %v", len(keys), err)
			}
			entries, err := b.Entries(t.Context(), o.ID, 0, 10)
			if err != nil || len(entries) > 0 {
				t.Errorf("%d entries are left, %v", len(entries), err)
			}
		}
		report, err := billing.Verify(b.Ledgers(t.Context(), ""))
		if err != nil || report.Customers != len(stay) || report.Entries != len(stay) || len(report.Findings) > 0 {
			t.Errorf("ledgers are %+v, %v", report, err)
		}
	},
	"WhoSignedUpAsNoLoadTestIsKept": func(t *testing.T, b Backend) {
		var stay []apikey.Presented
		for address, loadTest := range map[string]bool{"real@" + loadDomain: false, "other@" + loadDomain: false, "elsewhere@example.dev": true} {
			o, secret := newOpening(t, b.Clock, address)
			o.LoadTest = loadTest
			if err := b.Open(t.Context(), o, nil); err != nil {
				t.Fatal(err)
			}
			stay = append(stay, present(t, secret))
			signUp(t, b, newID(t)+"@"+loadDomain)
		}
		for _, want := range []account.Purged{{Removed: 3, Kept: 2}, {Kept: 2}} {
			if got, err := b.PurgeSome(t.Context(), loadDomain, "", 10); err != nil || got != want {
				t.Errorf("purged %+v, %v, want %+v", got, err, want)
			}
		}
		for _, key := range stay {
			if who, _, err := b.Enter(t.Context(), key, "api", apiLimit); err != nil || who.KeyID == "" {
				t.Errorf("a kept customer entered as %v, %v", who, err)
			}
		}
		report, err := billing.Verify(b.Ledgers(t.Context(), ""))
		if err != nil || report.Customers != 3 || report.Entries != 3 || len(report.Findings) > 0 {
			t.Errorf("ledgers are %+v, %v", report, err)
		}
	},
	"WhoAnEventToldOfIsKnownToStripe": func(t *testing.T, b Backend) {
		told := func(address, stripeID, invoiceID string) string {
			_, _, by := signUp(t, b, address+"@"+loadDomain)
			c := invoice(by.CustomerID, invoiceID, "pi_"+invoiceID, 60)
			c.Customer.StripeID = stripeID
			done(t, decide(t, b, c)())
			return by.CustomerID
		}
		told("made-up", "cus_load4XY1_12", "in_1")
		known := told("real", "cus_loadNffrFeUfNV", "in_2")
		if got, err := b.PurgeSome(t.Context(), loadDomain, "", 10); err != nil || got != (account.Purged{Removed: 1, Kept: 1}) {
			t.Errorf("purged %+v, %v", got, err)
		}
		if _, err := b.Customer(t.Context(), known); err != nil {
			t.Error(err)
		}
		if ids := listEvents(t, b, billing.EventFilter{}, 10); len(ids) != 1 || event(t, b, ids[0]).CustomerID != known {
			t.Errorf("left are the events %q, want the other's", ids)
		}
	},
	"AsManyAsAStepTakes": func(t *testing.T, b Backend) {
		for range 6 {
			signUp(t, b, newID(t)+"@"+loadDomain)
		}
		first, err := b.PurgeSome(t.Context(), loadDomain, "", 3)
		if err != nil || first.Removed != 3 || first.Next == "" {
			t.Fatalf("the first step: %+v, %v", first, err)
		}
		left, err := b.Customers(t.Context(), "", 10)
		if err != nil || len(left) != 3 || slices.ContainsFunc(left, func(c account.Customer) bool { return c.ID <= first.Next }) {
			t.Errorf("left are %+v, %v, want the three youngest", left, err)
		}
		// Whoever starts anew does the rest.
		if n := purgeAll(t, b, 3); n != 3 {
			t.Errorf("then %d were removed, want 3", n)
		}
		if n := purgeAll(t, b, 3); n != 0 {
			t.Errorf("of none %d were removed", n)
		}
	},
	"KeysOfThePurgedAreUnknownAndTheAddressIsFree": func(t *testing.T, b Backend) {
		_, key, by := signUp(t, b, "ada@"+loadDomain)
		purgeAll(t, b, 10)
		for _, policy := range []ratelimit.Name{"", "api"} {
			who, _, err := b.Enter(t.Context(), key, policy, apiLimit)
			if err != nil || who.KeyID != "" {
				t.Errorf("policy %q: entered as %v, %v", policy, who, err)
			}
		}
		_, issue, err := apikey.NewIssue(apikey.Live, "", b.Clock.Now(), time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		wantFault(t, b.AddKey(t.Context(), by, issue, nil), fault.Unauthenticated, "")
		again, _, _ := signUp(t, b, "ada@"+loadDomain)
		got, err := b.CustomerByEmail(t.Context(), "ada@"+loadDomain)
		if err != nil || got.ID != again.ID {
			t.Errorf("signed up again: %+v, %v", got, err)
		}
	},
	"BesideSignUps": func(t *testing.T, b Backend) {
		openings := make([]account.Opening, 100)
		for i := range openings {
			domain := loadDomain
			if i%2 == 0 {
				domain = "example.dev"
			}
			openings[i], _ = newOpening(t, b.Clock, newID(t)+"@"+domain)
		}
		n := atOnce(t, 104, fault.Unavailable, func(i int) error {
			if i < len(openings) {
				return b.Open(t.Context(), openings[i], nil)
			}
			_, err := b.PurgeSome(t.Context(), loadDomain, "", 10)
			return err
		})
		if n != 104 {
			t.Errorf("%d of 104 succeeded", n)
		}
		purgeAll(t, b, 10)
		report, err := billing.Verify(b.Ledgers(t.Context(), ""))
		if err != nil || report.Customers != 50 || report.Entries != 50 || len(report.Findings) > 0 {
			t.Errorf("ledgers are %+v, %v", report, err)
		}
	},
}

var aboutTests = map[string]func(*testing.T, Backend){
	"SaysWhatItIs": func(t *testing.T, b Backend) {
		about, err := b.About(t.Context())
		if err != nil || about.Driver == "" || about.Version == "" || len(about.Settings) == 0 {
			t.Fatalf("%+v, %v", about, err)
		}
		for name, value := range about.Settings {
			if value == "" {
				t.Errorf("%s has no value", name)
			}
		}
	},
}
