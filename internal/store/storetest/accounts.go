package storetest

import (
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/account"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
)

var accountTests = map[string]func(*testing.T, Backend){
	"OpenedAccountIsThereAsWritten": func(t *testing.T, b Backend) {
		o, _, _ := signUp(t, b, "ada@example.dev")
		got, err := b.Customer(t.Context(), o.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o.Customer, got); diff != "" {
			t.Errorf("customer (-written +read):\n%s", diff)
		}
		keys, err := b.Keys(t.Context(), o.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o.Key.Record, keys[0]); diff != "" || len(keys) != 1 {
			t.Errorf("%d keys (-written +read):\n%s", len(keys), diff)
		}
		entries, err := b.Entries(t.Context(), o.ID, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]billing.Entry{o.Grant}, entries); diff != "" {
			t.Errorf("entries (-written +read):\n%s", diff)
		}
	},
	"OpenTwiceIsRefused": func(t *testing.T, b Backend) {
		signUp(t, b, "ada@example.dev")
		again, secret := newOpening(t, b.Clock, "ada@example.dev")
		wantFault(t, b.Open(t.Context(), again, nil), fault.Invalid, fault.AlreadyRegistered)
		_, err := b.Customer(t.Context(), again.ID)
		wantFault(t, err, fault.NotFound, "")
		who, _, err := b.Enter(t.Context(), present(t, secret), "api", apiLimit)
		if err != nil || who.KeyID != "" {
			t.Errorf("the refused sign-up's key entered as %v, %v", who, err)
		}
	},
	"OpenAgainAfterAnUnknownOutcome": func(t *testing.T, b Backend) {
		o, _, _ := signUp(t, b, "ada@example.dev")
		if err := b.Open(t.Context(), o, nil); err != nil {
			t.Fatalf("opening the same account again: %v", err)
		}
		report, err := billing.Verify(b.Ledgers(t.Context(), ""))
		if err != nil || report.Customers != 1 || report.Entries != 1 || len(report.Findings) > 0 {
			t.Errorf("ledgers are %+v, %v", report, err)
		}
	},
	"FiftyAtOnceWithOneAddressMakeOne": func(t *testing.T, b Backend) {
		openings := make([]account.Opening, 50)
		for i := range openings {
			openings[i], _ = newOpening(t, b.Clock, "ada@example.dev")
		}
		if n := atOnce(t, 50, fault.Invalid, func(i int) error { return b.Open(t.Context(), openings[i], nil) }); n != 1 {
			t.Errorf("%d sign-ups succeeded, want 1", n)
		}
		all, err := b.Customers(t.Context(), "", 100)
		if err != nil || len(all) != 1 {
			t.Errorf("%d customers, %v, want 1", len(all), err)
		}
		report, err := billing.Verify(b.Ledgers(t.Context(), ""))
		if err != nil || report.Entries != 1 || len(report.Findings) > 0 {
			t.Errorf("ledgers are %+v, %v", report, err)
		}
	},
	"OneBadOperationFailsAlone": func(t *testing.T, b Backend) {
		// A customer whose key id is taken breaks the transaction it is in.
		first, _, _ := signUp(t, b, "first@example.dev")
		openings := make([]account.Opening, 40)
		for i := range openings {
			openings[i], _ = newOpening(t, b.Clock, newID(t)+"@example.dev")
		}
		openings[20].Key.PublicID = first.Key.PublicID
		var wg sync.WaitGroup
		for i := range openings {
			wg.Go(func() {
				err := b.Open(t.Context(), openings[i], nil)
				if (err != nil) != (i == 20) {
					t.Errorf("opening %d: %v", i, err)
				}
			})
		}
		wg.Wait()
		all, err := b.Customers(t.Context(), "", 100)
		if err != nil || len(all) != 40 { // the first, and all but the bad one
			t.Errorf("%d customers, %v, want 40", len(all), err)
		}
	},
	"SurvivesReopening": func(t *testing.T, b Backend) {
		o, key, _ := signUp(t, b, "ada@example.dev")
		s := b.Reopen(t)
		who, _, err := s.Enter(t.Context(), key, "api", apiLimit)
		if err != nil || who.CustomerID != o.ID {
			t.Errorf("entered as %v, %v", who, err)
		}
	},
	"UnknownCustomerIsNotFound": func(t *testing.T, b Backend) {
		_, err := b.Customer(t.Context(), newID(t))
		wantFault(t, err, fault.NotFound, "")
		_, err = b.CustomerByEmail(t.Context(), "nobody@example.dev")
		wantFault(t, err, fault.NotFound, "")
		_, err = b.Suspend(t.Context(), newID(t), time.Now())
		wantFault(t, err, fault.NotFound, "")
		_, err = b.Resume(t.Context(), newID(t))
		wantFault(t, err, fault.NotFound, "")
	},
	"CustomersAreListedInPages": func(t *testing.T, b Backend) {
		var want []string
		for range 5 {
			o, _, _ := signUp(t, b, newID(t)+"@example.dev")
			want = append(want, o.ID)
		}
		var got []string
		after := ""
		for {
			page, err := b.Customers(t.Context(), after, 2)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, c := range page {
				got = append(got, c.ID)
			}
			after = page[len(page)-1].ID
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("customers (-want +got):\n%s", diff)
		}
	},
	"SuspendKeepsTheFirstTimeAndResumeEndsIt": func(t *testing.T, b Backend) {
		o, _, _ := signUp(t, b, "ada@example.dev")
		first := b.Clock.Now()
		for _, at := range []time.Time{first.Add(999).In(time.FixedZone("", 3600)), first.Add(time.Hour)} { // as an operator's clock has it
			c, err := b.Suspend(t.Context(), o.ID, at)
			if err != nil || c.SuspendedAt != first { // in UTC, to the microsecond
				t.Fatalf("suspended at %v, %v, want %v", c.SuspendedAt, err, first)
			}
		}
		c, err := b.Resume(t.Context(), o.ID)
		if err != nil || !c.SuspendedAt.IsZero() {
			t.Fatalf("resumed: suspended at %v, %v", c.SuspendedAt, err)
		}
	},
	"PingAnswers": func(t *testing.T, b Backend) {
		if err := b.Ping(t.Context()); err != nil {
			t.Error(err)
		}
	},
}
