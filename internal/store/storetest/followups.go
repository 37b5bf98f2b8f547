package storetest

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
)

var followUpTests = map[string]func(*testing.T, Backend){
	"WaitingOneIsHurriedOrDropped": func(t *testing.T, b Backend) {
		id := someoneWith(t, b, jobs.WelcomeMail, jobs.StripeCustomer)
		done(t, b.Postpone(t.Context(), claimOne(t, b, jobs.WelcomeMail), time.Hour, "away", false))
		if n, err := b.RetryJobs(t.Context(), jobs.Filter{}); err != nil || n != 1 {
			t.Errorf("retried %d, %v, want the one that waits", n, err)
		}
		if j := claimOne(t, b, jobs.WelcomeMail); j.Tries != 1 || j.Reason != "" {
			t.Errorf("retried as %+v", j)
		}
		for what, want := range map[jobs.Filter]int{{Kind: jobs.StripeCustomer}: 0, {}: 0, {Kind: jobs.WelcomeMail, Subject: id}: 0} {
			if n, err := b.DropJobs(t.Context(), what); err != nil || n != want {
				t.Errorf("dropped %d of %+v, %v", n, what, err)
			}
		}
		if n, err := b.DropJobs(t.Context(), jobs.Filter{Kind: jobs.StripeCustomer, Subject: id}); err != nil || n != 1 {
			t.Errorf("dropped %d by its name, %v", n, err)
		}
	},
	"StripeCustomerIsNotedOnce": func(t *testing.T, b Backend) {
		id, other := someoneWith(t, b), someoneWith(t, b)
		for range 2 {
			done(t, b.SetStripeCustomer(t.Context(), id, "cus_1"))
		}
		for _, tt := range []struct {
			id, stripeID string
			kind         fault.Kind
			says         string
		}{
			{id, "cus_2", fault.Conflict, "cus_1"},
			{other, "cus_1", fault.Conflict, id},
			{newID(t), "cus_1", fault.NotFound, ""},
			{newID(t), "cus_3", fault.NotFound, ""},
		} {
			err := b.SetStripeCustomer(t.Context(), tt.id, tt.stripeID)
			wantFault(t, err, tt.kind, "")
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v does not name %s", err, tt.says)
			}
		}
		for id, want := range map[string]string{id: "cus_1", other: ""} {
			if c, err := b.Customer(t.Context(), id); err != nil || c.StripeCustomerID != want {
				t.Errorf("%s is %q at Stripe, %v, want %q", id, c.StripeCustomerID, err, want)
			}
		}
	},
	"UnknownToStripeAreQueuedInPages": func(t *testing.T, b Backend) {
		var want []string
		for range 5 {
			want = append(want, someoneWith(t, b))
			known := someoneWith(t, b)
			done(t, b.SetStripeCustomer(t.Context(), known, "cus_"+known))
			signUpWith(t, b, newID(t)+"@"+loadDomain)
			dead := someoneWith(t, b, jobs.StripeCustomer)
			j := claimOne(t, b, jobs.StripeCustomer)
			if j.Subject != dead {
				t.Fatalf("claimed %+v", j)
			}
			done(t, b.Bury(t.Context(), j, ""))
		}
		queued := someoneWith(t, b, jobs.StripeCustomer)
		steps, all := 0, 0
		for after := ""; ; steps++ {
			last, n, err := b.QueueStripeCustomers(t.Context(), after, 2)
			if all += n; err != nil || n > 2 || last != "" && last <= after {
				t.Fatalf("a step of 2 after %q: %q, %d, %v", after, last, n, err)
			}
			if after = last; last == "" {
				break
			}
		}
		if all != 5 || steps != 3 {
			t.Errorf("queued %d in %d steps, want 5 in 3", all, steps)
		}
		if _, n, err := b.QueueStripeCustomers(t.Context(), "", 10); err != nil || n != 0 {
			t.Errorf("queued %d more, %v", n, err)
		}
		want = append(want, queued)
		slices.Sort(want)
		if got := subjects(claim(t, b, jobs.StripeCustomer, 100)); !slices.Equal(got, want) {
			t.Errorf("queued are %q, want %q", got, want)
		}
	},
	"QueuedAtOnceTheyAreQueuedOnce": func(t *testing.T, b Backend) {
		for range 20 {
			someoneWith(t, b)
		}
		var mu sync.Mutex
		all := 0
		atOnce(t, 8, fault.Internal, func(int) error {
			_, n, err := b.QueueStripeCustomers(t.Context(), "", 100)
			mu.Lock()
			defer mu.Unlock()
			all += n
			return err
		})
		if all != 20 {
			t.Errorf("%d were said to be queued, want 20", all)
		}
	},
}
