package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/vending"
)

const (
	// clocksApart is how far this machine's clock may have been ahead of the
	// database's: what was written earlier is not looked at.
	clocksApart = 24 * time.Hour
	readAtOnce  = 1000
)

// uuidIn finds the UUID that a load test put into an address.
var uuidIn = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)

// reconciler compares step by step.
type reconciler struct {
	adminCall
	writes
	customers map[string]bool // ids of those who signed up in the runs
	granted   map[string]int  // credentials that the runs were told of
	refreshed map[string]int  // by customer: how many refreshes there may have been
	last      time.Time       // when the last came about that a killed run has a row of
}

// told takes note of when something came about that a run has a row of.
func (r *reconciler) told(id string, at time.Time) {
	if r.killed[id] && at.After(r.last) {
		r.last = at
	}
}

// signUps finds customers by the UUIDs in their addresses.
func (r *reconciler) signUps(ctx context.Context) (*reconciled, error) {
	one, acked, maybe := r.of("sign-ups", signUps)
	r.customers = make(map[string]bool)
	if one.Acknowledged+one.Unclear == 0 {
		return one, nil
	}
	seen := make(map[string]int)
	var between, since []string // not ours, since the last of ours, and before it
	for after := firstID(r.since.Add(-clocksApart)); ; {
		page, err := r.store.Customers(ctx, after, readAtOnce)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			after = c.ID
			id := uuidIn.FindString(c.Email)
			if id == "" {
				continue
			}
			if acked[id]+maybe[id] == 0 {
				if len(seen) > 0 { // none of the runs' before: another run's
					since = append(since, c.ID)
					one.when[c.ID] = c.CreatedAt
				}
				continue
			}
			between, since = append(between, since...), nil
			r.customers[c.ID] = true
			r.told(id, c.CreatedAt)
			if seen[id]++; seen[id] == 2 {
				one.Twice = append(one.Twice, id)
			}
		}
		if len(page) < readAtOnce {
			break
		}
	}
	one.Surplus = append(one.Surplus, between...)
	one.Found = len(seen)
	one.lose(acked, seen)
	return one, nil
}

// firstID is before all ids that are made at a time or later.
func firstID(at time.Time) string {
	var id uuid.UUID
	ms := max(at.UnixMilli(), 0)
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6], id[8] = 0x70, 0x80
	return id.String()
}

// lose finds what was acknowledged and not seen.
func (r *reconciled) lose(acked, seen map[string]int) {
	for id := range acked {
		if seen[id] == 0 {
			r.Lost = append(r.Lost, id)
		}
	}
	slices.Sort(r.Lost)
}

// ledgers finds what does not add up at these customers.
func (r *reconciler) ledgers(ctx context.Context) (*reconciled, error) {
	one, _, _ := r.of("their ledgers")
	one.Acknowledged = len(r.customers)
	if len(r.customers) == 0 {
		return one, nil
	}
	found, err := billing.Verify(func(yield func(billing.Account, error) bool) {
		for a, err := range r.store.Ledgers(ctx, "") {
			if err == nil && !r.customers[a.CustomerID] {
				continue
			}
			one.Found++
			if !yield(a, err) {
				return
			}
		}
	})
	for _, f := range found.Findings {
		one.Other = append(one.Other, fmt.Sprintf("customer %s: %+v", f.CustomerID, f))
	}
	return one, err
}

// trail is the credentials that the audit trail has an action of.
func (r *reconciler) trail(ctx context.Context, action vending.Action, each func(vending.Audit)) error {
	for after := ""; ; {
		page, err := r.store.AuditRows(ctx, vending.AuditFilter{Action: action, Since: r.since.Add(-clocksApart)}, after, readAtOnce)
		if err != nil {
			return err
		}
		for _, row := range page {
			after = row.ID
			each(row)
		}
		if len(page) < readAtOnce {
			return nil
		}
	}
}

// credentials are looked for in the audit trail, which keeps those that ended.
func (r *reconciler) credentials(ctx context.Context) (*reconciled, error) {
	one, acked, maybe := r.of("credentials", exchanges, refreshes)
	one.Unclear = 0
	unclear := make(map[string]int) // by customer, whose "of ID" stands where no credential was told
	for id, n := range maybe {
		one.Unclear += n
		unclear[customerOf(id)] += n
	}
	r.granted, r.refreshed = acked, make(map[string]int)
	for id, n := range r.maybe[refreshes] {
		r.refreshed[customerOf(id)] += n
	}
	seen := make(map[string]int)
	more := make(map[string][]string) // by customer: what nobody was told of
	// The same, since what one was last told of who had a key before: others may
	// use it before the run and after it.
	since := make(map[string][]string)
	err := r.trail(ctx, vending.Granting, func(row vending.Audit) {
		id, of := row.CredentialID, row.CustomerID
		waiting, begun := since[of]
		if r.customers[of] || begun {
			one.when[id] = row.At
		}
		switch {
		case acked[id] > 0:
			r.told(id, row.At)
			more[of], since[of] = append(more[of], waiting...), nil
			if seen[id]++; seen[id] == 2 {
				one.Twice = append(one.Twice, id)
			}
			if r.acked[refreshes][id] > 0 {
				r.refreshed[of]++
			}
		case r.customers[of]:
			more[of] = append(more[of], id)
		case begun:
			since[of] = append(waiting, id)
		}
	})
	one.Found = len(seen)
	for of, ids := range more {
		known := min(len(ids), unclear[of])
		one.Found += known
		one.Surplus = append(one.Surplus, ids[known:]...)
	}
	slices.Sort(one.Surplus)
	one.lose(acked, seen)
	return one, err
}

// customerOf is whose request it was that was told of no credential.
func customerOf(id string) string { return strings.TrimPrefix(id, "of ") }

// revocations are deletions, and of our customers and credentials also what
// refreshes replaced. What ended with its key or customer nobody asked for here.
func (r *reconciler) revocations(ctx context.Context) (*reconciled, error) {
	const byDelete, byRefresh = "deleted", "replaced" // as the trail has it
	one, acked, maybe := r.of("revocations", revocations)
	seen := make(map[string]int)
	replaced := make(map[string][]string) // by customer
	err := r.trail(ctx, vending.Revoking, func(row vending.Audit) {
		id, of := row.CredentialID, row.CustomerID
		asked := acked[id]+maybe[id] > 0
		switch {
		case !asked && !r.customers[of] && r.granted[id] == 0:
			return
		case row.Outcome != byDelete && row.Outcome != byRefresh:
			seen[id] = max(seen[id], 1)
			return
		case asked:
			r.told(id, row.At)
		case row.Outcome == byRefresh:
			one.when[id], replaced[of] = row.At, append(replaced[of], id)
		default:
			one.when[id], one.Surplus = row.At, append(one.Surplus, id)
		}
		if seen[id]++; seen[id] == 2 {
			one.Twice = append(one.Twice, id)
		}
	})
	for of, ids := range replaced {
		one.Surplus = append(one.Surplus, ids[min(len(ids), r.refreshed[of]):]...)
	}
	slices.Sort(one.Surplus)
	for id := range seen {
		if acked[id]+maybe[id] > 0 {
			one.Found++
		}
	}
	one.lose(acked, seen)
	return one, err
}

// events are there once by their key; what is asked is whether they are, and
// whether each has been decided.
func (r *reconciler) events(ctx context.Context) (*reconciled, error) {
	one, acked, maybe := r.of("events", deliveries)
	for id := range maybe {
		acked[id] += 0
	}
	for id, n := range acked {
		e, err := r.store.Event(ctx, id)
		f, known := errors.AsType[*fault.Error](err)
		switch {
		case known && f.Kind == fault.NotFound:
			if n > 0 {
				one.Lost = append(one.Lost, id)
			}
			continue
		case err != nil:
			return nil, err
		case e.State == billing.Received || e.Dead:
			one.Other = append(one.Other, id+" is not decided")
		}
		one.Found++
		r.told(id, e.ReceivedAt)
	}
	slices.Sort(one.Lost)
	return one, r.strangeEvents(ctx, acked, one)
}

// eventOf finds the run in an event's id, which goes on with what it is.
var eventOf = regexp.MustCompile(`^evt_load[a-z0-9]{10}`)

// strangeEvents finds those of the runs' that no run was told of.
func (r *reconciler) strangeEvents(ctx context.Context, known map[string]int, one *reconciled) error {
	runs := make(map[string]bool)
	for id := range known {
		runs[eventOf.FindString(id)] = true
	}
	delete(runs, "")
	for before := ""; len(runs) > 0; {
		page, err := r.store.Events(ctx, billing.EventFilter{}, before, readAtOnce)
		if err != nil {
			return err
		}
		for _, e := range page {
			before = e.ID
			if _, ok := known[e.ID]; !ok && runs[eventOf.FindString(e.ID)] {
				one.when[e.ID], one.Surplus = e.ReceivedAt, append(one.Surplus, e.ID)
			}
		}
		if len(page) < readAtOnce || page[len(page)-1].ReceivedAt.Before(r.since.Add(-clocksApart)) {
			return nil
		}
	}
	return nil
}
