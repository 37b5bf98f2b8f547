package vending

import (
	"context"
	"slices"
	"sync"
	"time"

	"gatehouse/internal/gateway"
)

const (
	// keepSome is how many holds one transaction keeps, or lets go of: all of
	// thousands would take longer than a call of the store's may, and then none were
	// kept.
	keepSome = 200
	// doubtFor is for how long a hold is in doubt before it is let go of: a commit
	// whose answer did not come may be under way yet.
	doubtFor = 10 * time.Second
	// maxDoubts bounds how many are remembered: those of the beginning of an outage,
	// since later ones do not even reach the database.
	maxDoubts = 1000
)

// doubts are holds of no call that may be written all the same. Left alone they
// would be booked as lost calls.
type doubts struct {
	mu    sync.Mutex
	since map[string]time.Time
}

func (d *doubts) add(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since == nil {
		d.since = make(map[string]time.Time)
	}
	if len(d.since) < maxDoubts {
		d.since[id] = time.Now()
	}
}

// after lists those that were in doubt for a while.
func (d *doubts) after(age time.Duration) (ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, since := range d.since {
		if time.Since(since) >= age {
			ids = append(ids, id)
		}
	}
	return ids
}

func (d *doubts) remove(ids []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range ids {
		delete(d.since, id)
	}
}

// letGo removes what there is of holds that were in doubt for a while. Where that
// fails they stay in doubt.
func (m *Meter) letGo(ctx context.Context, age time.Duration) {
	for some := range slices.Chunk(m.doubts.after(age), keepSome) {
		releases := make([]Spending, len(some))
		for i, id := range some {
			releases[i].Reservation = id
		}
		if m.store.Settle(ctx, releases) != nil {
			return
		}
		m.doubts.remove(some)
	}
}

// keep keeps what is held for calls under way, and lets go of what may be held for
// none.
func (m *Meter) keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := m.renew(ctx); err != nil && ctx.Err() == nil {
				m.log.WarnContext(ctx, "money held for calls under way may lapse", "err", err)
			}
			m.letGo(ctx, doubtFor)
		case <-ctx.Done():
			return
		}
	}
}

// renew keeps what it can, and returns the last error.
func (m *Meter) renew(ctx context.Context) (err error) {
	var ids []string // an idle node has none, and writes nothing
	m.holds.Range(func(id, _ any) bool {
		ids = append(ids, id.(string))
		return true
	})
	slices.Sort(ids) // so that two writers never wait for each other in a circle
	for some := range slices.Chunk(ids, keepSome) {
		if failed := m.store.KeepHolds(ctx, some, holdLife); failed != nil {
			err = failed
		}
		if ctx.Err() != nil { // a node that stops does not wait
			break
		}
	}
	return err
}

// BookLost books the calls of nodes that died, of any node, and is called now and
// then. A node that was away from the database has calls whose holds lapsed and
// which it can book itself. So this one keeps its own first; and after the database
// was away for all it only asks whether it is there, and books the next time.
func (m *Meter) BookLost(ctx context.Context) error {
	some := m.lostSome
	if !m.there {
		some = 0
	}
	err := m.renew(ctx)
	for more := err == nil; more; {
		var calls []Audit
		if calls, err = m.store.BookLost(ctx, some); err != nil && some > 1 { // perhaps they were too many for one transaction
			m.lostSome = some / 2
		}
		for _, c := range calls {
			m.ended(string(c.Provider), gateway.Lost, true)
		}
		if len(calls) > 0 {
			m.log.WarnContext(ctx, "nobody said what calls came to, and they were booked at what was held for them: their nodes died, or were away for long", "calls", len(calls))
		}
		more = err == nil && len(calls) > 0 && len(calls) == some
	}
	m.there = err == nil
	return err
}
