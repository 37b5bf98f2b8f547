package vending

import (
	"context"
	"slices"
	"time"

	"gatehouse/internal/gateway"
)

// keepSome is how many holds one transaction keeps: all of thousands would take
// longer than a call of the store's may, and then none were kept.
const keepSome = 200

// keep keeps what is held for calls under way.
func (m *Meter) keep(ctx context.Context) {
	tick := time.NewTicker(keepEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := m.renew(ctx); err != nil && ctx.Err() == nil {
				m.log.WarnContext(ctx, "money held for calls under way may lapse", "err", err)
			}
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
	some := settleSome
	if !m.there {
		some = 0
	}
	err := m.renew(ctx)
	for more := err == nil; more; {
		var calls []Audit
		calls, err = m.store.BookLost(ctx, some)
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
