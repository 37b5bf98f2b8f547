package storetest

import (
	"slices"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/account"
	"gatehouse/internal/billing"
)

// standingTests are about what subscriptions come to.
var standingTests = map[string]func(*testing.T, Backend){
	"NoOrderOfASubscriptionsLifeMatters": func(t *testing.T, b Backend) {
		cancels := fact("sub", billing.FactUpdated, 30, "", "active")
		cancels.CancelsAtEnd = true
		lives := map[string]struct {
			facts []billing.Fact
			want  account.Customer
		}{
			"renewed after trouble": {
				[]billing.Fact{
					fact("sub", billing.FactCreated, 1, "", "incomplete"), fact("sub", billing.FactUpdated, 1, "incomplete", "active"), fact("sub", billing.FactFailed, 20, "", ""),
					fact("sub", billing.FactPaid, 25, "", ""), cancels,
				},
				account.Customer{Plan: billing.Pro, State: "active", CancelsAtEnd: true, PeriodStart: second(30), PeriodEnd: second(3630), CreditBalance: 65},
			},
			"ended in trouble": {
				[]billing.Fact{
					fact("sub", billing.FactCreated, 1, "", "active"), fact("sub", billing.FactFailed, 20, "", ""), fact("sub", billing.FactUpdated, 20, "active", "past_due"),
					fact("sub", billing.FactUpdated, 30, "past_due", "canceled"), fact("sub", billing.FactPaid, 31, "", ""),
				},
				account.Customer{Plan: billing.PayAsYouGo, State: "canceled", CreditBalance: 65},
			},
			"in trouble": {
				[]billing.Fact{
					fact("sub", billing.FactPaid, 2, "", ""), fact("sub", billing.FactCreated, 2, "", "active"), fact("sub", billing.FactUpdated, 20, "active", "past_due"),
					fact("sub", billing.FactUpdated, 20, "past_due", "unpaid"),
				},
				account.Customer{Plan: billing.Pro, State: "unpaid", PeriodStart: second(20), PeriodEnd: second(3620), CreditBalance: 65},
			},
		}
		var all sync.WaitGroup
		slots := make(chan struct{}, 8)
		for name, life := range lives {
			for order := range permutations(len(life.facts)) {
				o, _ := newOpening(t, b.Clock, newID(t)+"@example.dev")
				slots <- struct{}{}
				all.Go(func() {
					defer func() { <-slots }()
					if err := b.Open(t.Context(), o, nil); err != nil {
						t.Error(err)
						return
					}
					for _, i := range append(order, order[0]) { // and one of them twice
						f := life.facts[i]
						f.SubscriptionID, f.EventID = "sub_"+o.ID, f.EventID+o.ID
						c := told(o.ID, f)
						c.EventID, c.State = newID(t), billing.Done
						if f.Kind == billing.FactPaid {
							c.Payment = invoice(o.ID, "in_"+o.ID, "", 60).Payment
						}
						_, err := b.TakeIn(t.Context(), receipt(c.EventID))
						if err == nil {
							_, err = b.Apply(t.Context(), c)
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
					want := life.want
					want.ID, want.Name, want.Email, want.Company, want.Source, want.TrialFixesLimit, want.CreatedAt = o.ID, o.Name, o.Email, o.Company, o.Source, o.TrialFixesLimit, o.CreatedAt
					got, err := b.Customer(t.Context(), o.ID)
					if diff := gocmp.Diff(want, got); err != nil || diff != "" {
						t.Errorf("%s, in the order %v: %v (-want +got):\n%s", name, order, err, diff)
					}
				})
			}
		}
		all.Wait()
		report, err := billing.Verify(b.Ledgers(t.Context(), ""))
		if err != nil || len(report.Findings) > 0 {
			t.Errorf("ledgers: %+v, %v", report, err)
		}
	},
	"FactIsKeptOnceAndTheNewerOneStays": func(t *testing.T, b Backend) {
		in, id := newInbox(b), someoneWith(t, b)
		wantPlan := func(state string) {
			t.Helper()
			if c, err := b.Customer(t.Context(), id); err != nil || c.State != state {
				t.Errorf("state %q, %v, want %q", c.State, err, state)
			}
		}
		f := fact("sub_1", billing.FactFetched, 10, "", "past_due")
		f.EventID, f.Seen = "evt_1", second(10)
		for _, tt := range []struct {
			seen          int
			status, state string
		}{{10, "past_due", "past_due"}, {9, "active", "past_due"}, {11, "active", "active"}, {10, "unpaid", "active"}} {
			f.Seen, f.At, f.Status = second(tt.seen), second(tt.seen), tt.status
			c := told(id, f)
			c.EventID = ""
			in.apply(t, c)
			wantPlan(tt.state)
		}
	},
}

// permutations of the numbers below n.
func permutations(n int) func(yield func([]int) bool) {
	return func(yield func([]int) bool) {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		var from func(int) bool
		from = func(k int) bool {
			if k == n {
				return yield(slices.Clone(order))
			}
			for i := k; i < n; i++ {
				order[k], order[i] = order[i], order[k]
				if !from(k + 1) {
					return false
				}
				order[k], order[i] = order[i], order[k]
			}
			return true
		}
		from(0)
	}
}
