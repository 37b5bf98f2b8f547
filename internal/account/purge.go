package account

import (
	"context"
	"fmt"
	"time"
)

// purgeBatch is how many customers one transaction of a purge removes: some
// 10 ms of the database's time, which a node's sign-ups wait for.
const purgeBatch = 250

// Purged is what a purge came to, or a step of it.
type Purged struct {
	Removed int
	Kept    int    // at the domain, but no load test's or known to Stripe
	Next    string // of a step: the id to go on after, or "" at the end
}

// Purge removes all load-test customers whose canonical address is at exactly
// domain, and keeps all others there; see Registry. It goes in steps, each of which
// holds whatever ends it, so that running it again does the rest, and leaves
// the database to others between them for as long as a step took. progress is
// told after each step how many there were so far.
func Purge(ctx context.Context, r Registry, domain string, progress func(Purged)) (all Purged, err error) {
	for {
		start := time.Now()
		step, err := r.PurgeSome(ctx, domain, all.Next, purgeBatch)
		if err != nil {
			return all, fmt.Errorf("purge %s: %d customers removed, run it again for the rest: %w", domain, all.Removed, err)
		}
		all = Purged{Removed: all.Removed + step.Removed, Kept: all.Kept + step.Kept, Next: step.Next}
		progress(all)
		if all.Next == "" {
			return all, nil
		}
		select {
		case <-time.After(time.Since(start)):
		case <-ctx.Done():
			return all, fmt.Errorf("purge %s: %d customers removed, run it again for the rest: %w", domain, all.Removed, ctx.Err())
		}
	}
}
