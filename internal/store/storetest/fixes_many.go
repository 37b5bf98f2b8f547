package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
)

// manyFixTests are about fixes at once, and about all of a customer's.
var manyFixTests = map[string]func(*testing.T, Backend){
	"LastCreditPaysForOneOfTwoHundred": func(t *testing.T, b Backend) {
		o := payer(t, b, 1)
		o.CentsByPlan = nil
		orders := make([]billing.FixOrder, 200)
		for i := range orders {
			orders[i] = of(o, t, fmt.Sprint("fix-", i))
		}
		n := atOnce(t, len(orders), fault.Forbidden, func(i int) error {
			return patiently(func() error {
				_, err := b.BeginFix(context.Background(), orders[i], nil)
				return err
			})
		})
		if d := export(t, b, o.CustomerID); n != 1 || len(d.Fixes) != 1 {
			t.Errorf("%d were said to be paid, recorded are %+v", n, d.Fixes)
		}
		wantCredits(t, b, o.CustomerID, 0, 0)
	},
	"TwoHundredOfOneNameAreOne": func(t *testing.T, b Backend) {
		for _, credits := range []int64{150, 0} {
			o := payer(t, b, credits)
			orders := make([]billing.FixOrder, 200)
			for i := range orders {
				orders[i] = of(o, t, "fix-1")
			}
			var mu sync.Mutex
			ids, first, turns := make(map[string]int), 0, 0
			atOnce(t, len(orders), fault.Internal, func(i int) error {
				return patiently(func() error {
					r, err := b.BeginFix(context.Background(), orders[i], nil)
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						ids[r.ID]++
						if !r.Existing {
							first++
						}
						if r.Turn {
							turns++
						}
					}
					return err
				})
			})
			if len(ids) != 1 || first > 1 || turns > 1 { // the first may have been told that nobody knows
				t.Errorf("with %d credits: %v, %d were told that they are the first, and %d to charge", credits, ids, first, turns)
			}
			wantCredits(t, b, o.CustomerID, max(credits-1, 0), 0)
		}
	},
	"SettledAtOnceIsOnce": func(t *testing.T, b Backend) {
		o := payer(t, b, 0)
		f := begin(t, b, of(o, t, "fix-1"))
		atOnce(t, 30, fault.Internal, func(i int) error {
			_, err := b.SettleFix(context.Background(), billing.FixOutcome{FixID: f.ID, CustomerID: f.CustomerID, Attempt: 1, Told: i%2 > 0, ChargeOutcome: billing.ChargeOutcome{Intent: "pi_1", Paid: i%3 > 0, Why: "x"}}, nil)
			return err
		})
		wantCredits(t, b, o.CustomerID, 0, 0)
		entries, err := b.Entries(t.Context(), o.CustomerID, 0, 10)
		stored, err2 := b.Fix(t.Context(), f.ID)
		want := map[billing.FixState]int{billing.FixPaid: 4, billing.FixFailed: 2, billing.FixUntold: 2}[stored.State]
		if err := errors.Join(err, err2); err != nil || len(entries) != want {
			t.Errorf("%s with %d entries, %v, want %d", stored.State, len(entries), err, want)
		}
	},
	"CountedAreThoseOfAPeriod": func(t *testing.T, b Backend) {
		o := payer(t, b, 3)
		var at []time.Time
		for i := range 3 {
			at = append(at, b.Clock.Now())
			begin(t, b, of(o, t, fmt.Sprint(i)))
			b.Clock.Move(time.Second)
		}
		at = append(at, b.Clock.Now())
		charged := begin(t, b, of(o, t, "charged"))
		begin(t, b, of(payer(t, b, 1), t, "another's"))
		for _, tt := range []struct {
			from, to time.Time
			want     int64
		}{
			{at[0], at[0], 0}, {at[0], at[0].Add(time.Microsecond), 1}, {at[0], at[2], 2}, {at[0].Add(time.Microsecond), at[2].Add(time.Microsecond), 2}, {at[0], at[3].Add(time.Hour), 3},
		} {
			if n, err := b.FixesBetween(t.Context(), o.CustomerID, tt.from, tt.to); err != nil || n != tt.want {
				t.Errorf("from %v to %v there are %d, %v, want %d", tt.from, tt.to, n, err, tt.want)
			}
		}
		settle(t, b, charged.Fix, 1, billing.ChargeOutcome{Intent: "pi_1", Paid: true})
		if n, err := b.FixesBetween(t.Context(), o.CustomerID, at[3], at[3].Add(time.Second)); err != nil || n != 1 {
			t.Errorf("once it is paid there are %d, %v", n, err)
		}
	},
	"ExportedAndErased": func(t *testing.T, b Backend) {
		o := of(payer(t, b, 1), t, "fix-1")
		id := o.CustomerID
		o.Repository, o.PullRequest = "acme/engine", "#7"
		paid := begin(t, b, o)
		pending := begin(t, b, of(o, t, "fix-2"))
		d := export(t, b, id)
		if diff := gocmp.Diff([]billing.Fix{paid.Fix, pending.Fix}, d.Fixes); diff != "" || !slices.Equal(d.Methods, []string{"pm_" + id}) || len(d.Events) != 1 || len(d.Events[0].Payload) == 0 {
			t.Errorf("methods %q, events %+v, fixes (-want +got):\n%s", d.Methods, d.Events, diff)
		}
		_, err := b.Erase(t.Context(), id, b.Clock.Now())
		done(t, err)
		d = export(t, b, id)
		for i, f := range []billing.Fix{paid.Fix, pending.Fix} {
			f.ExternalID, f.Repository, f.PullRequest = f.ID, "", ""
			if f.State == billing.FixPending { // nothing is charged any more, only looked for: a charge may be on its way
				f.BegunAt = b.Clock.Now().Add(-billing.ChargeTrust - time.Minute)
			}
			if diff := gocmp.Diff(f, d.Fixes[i]); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
		}
		if len(d.Methods) > 0 || len(d.Events) != 1 || len(d.Events[0].Payload) > 0 {
			t.Errorf("left are the methods %q, the events %+v", d.Methods, d.Events)
		}
		settle(t, b, pending.Fix, 1, billing.ChargeOutcome{Intent: "pi_1", Paid: true}) // what was charged is
		wantCredits(t, b, id, 0, 0)
	},
	"PurgedWithTheirCustomer": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@"+loadDomain)
		o := billing.FixOrder{Fix: billing.Fix{CustomerID: by.CustomerID}, KeyID: by.KeyID}
		f := begin(t, b, of(o, t, "fix-1"))
		done(t, decide(t, b, attached(o.CustomerID, "pm_1", 1))())
		done(t, decide(t, b, invoice(o.CustomerID, "in_1", "pi_1", 60))())
		done(t, decide(t, b, told(o.CustomerID, fact("sub_1", billing.FactCreated, 1, "", "active")))())
		if n := purgeAll(t, b, 10); n != 1 {
			t.Errorf("%d were purged", n)
		}
		_, err := b.Fix(t.Context(), f.ID)
		wantFault(t, err, fault.NotFound, "")
		other := someoneWith(t, b)
		done(t, decide(t, b, invoice(other, "in_1", "pi_1", 60))()) // its names are free
		wantCredits(t, b, other, 65, 0)
	},
}
