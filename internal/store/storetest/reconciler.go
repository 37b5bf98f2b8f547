package storetest

import (
	"testing"
	"time"

	"gatehouse/internal/billing"
	"gatehouse/internal/jobs"
)

// reconcilerTests are about what reads Stripe's list of events.
var reconcilerTests = map[string]func(*testing.T, Backend){
	"CursorIsKept": func(t *testing.T, b Backend) {
		if c, err := b.Cursor(t.Context()); err != nil || c != (billing.Cursor{}) {
			t.Errorf("at first: %+v, %v", c, err)
		}
		now := b.Clock.Now()
		for _, want := range []billing.Cursor{
			{Since: now.Add(-time.Hour), Until: now, After: "evt_1", BegunAt: now.Add(time.Microsecond)},
			{Since: now, BegunAt: now},
			{},
		} {
			done(t, b.SetCursor(t.Context(), want))
			b.Store = b.Reopen(t)
			if got, err := b.Cursor(t.Context()); err != nil || got != want {
				t.Errorf("set to %+v, read as %+v, %v", want, got, err)
			}
		}
	},
	"ReconcilerIsQueuedWhenItIsTime": func(t *testing.T, b Backend) {
		queue := func(want int) {
			t.Helper()
			done(t, b.QueueReconcile(t.Context(), time.Hour))
			if got := listed(t, b, jobs.Filter{Kind: jobs.StripeReconcile}); len(got) != want {
				t.Errorf("%d are queued, want %d", len(got), want)
			}
		}
		queue(1)
		queue(1)
		j := claimOne(t, b, jobs.StripeReconcile)
		queue(1)
		done(t, b.SetCursor(t.Context(), billing.Cursor{BegunAt: b.Clock.Now()}))
		done(t, b.Done(t.Context(), j))
		b.Clock.Move(time.Hour - time.Microsecond)
		queue(0)
		b.Clock.Move(time.Microsecond)
		queue(1)
		done(t, b.Postpone(t.Context(), claimOne(t, b, jobs.StripeReconcile), time.Hour, "Stripe is away", false))
		queue(1)
		if found := claim(t, b, jobs.StripeReconcile, 1); len(found) > 0 {
			t.Errorf("claimed %+v, which may wait as long as the next", found)
		}
		b.Clock.Move(time.Hour)
		done(t, b.Postpone(t.Context(), claimOne(t, b, jobs.StripeReconcile), time.Hour+1000, "Stripe is away", false))
		queue(1)
		done(t, b.Bury(t.Context(), claimOne(t, b, jobs.StripeReconcile), "Stripe was away for days"))
		queue(1)
		if j := claimOne(t, b, jobs.StripeReconcile); j.Tries != 1 || !j.DeadAt.IsZero() {
			t.Errorf("after one that was given up: %+v", j)
		}
	},
}
