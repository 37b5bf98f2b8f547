package postgres

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/billing"
	"gatehouse/internal/jobs"
	"gatehouse/internal/store/records"
)

type takingIn = call[billing.Receipt, bool]

// TakeIn implements billing.Inbox.
func (s *Store) TakeIn(ctx context.Context, r billing.Receipt) (isNew bool, err error) {
	start := time.Now()
	defer func() { s.observe("take_in_event", time.Since(start), err) }()
	return s.receipts.do(ctx, r)
}

// takeInGroup takes in the events of some callers as a group. One that breaks it
// fails alone: what was certainly rolled back is tried again singly.
func (s *Store) takeInGroup(ctx context.Context, group []*takingIn) {
	if n := len(group); n > 1 && octets(group) > maxOctets {
		s.takeInGroup(ctx, group[:n/2])
		s.takeInGroup(ctx, group[n/2:])
		return
	}
	isNew, err := s.takeInAll(ctx, group)
	for len(group) == 1 && sqlState(err) == lockNotAvailable && hasTime(ctx) { // another takes in the same event
		isNew, err = s.takeInAll(ctx, group)
	}
	if err != nil && len(group) > 1 && rolledBack(err) {
		for i := range group {
			s.takeInGroup(ctx, group[i:i+1])
		}
		return
	}
	err = s.away(err)
	for _, c := range group {
		c.answer(err == nil && isNew[c.in.ID], err)
		delete(isNew, c.in.ID) // of one id the first was new
	}
}

// takeInSQL writes the events that are not there, in the order of their ids, so
// that two nodes never wait for each other in a circle, and returns their ids. The
// lines of a history get their time in the form that records gives it.
const takeInSQL = `WITH n AS MATERIALIZED (
	SELECT at, to_char(timestamp 'epoch' + at * interval '1 microsecond', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z "') AS stamp FROM (SELECT now_us() AS at) now
), e AS (
	INSERT INTO stripe_events (id, type, payload, state, reason, received_at, history)
	SELECT id, type, payload, state, reason, at, stamp || replace(lines, E'\n', E'\n' || stamp) || E'\n'
	FROM n, unnest($1::text[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::text[]) AS q(id, type, payload, state, reason, lines)
	ORDER BY id COLLATE "C" ON CONFLICT (id) DO NOTHING RETURNING id, state
), j AS (
	INSERT INTO jobs (kind, subject, created_at, due_at, claim)
	SELECT '` + string(jobs.StripeEvent) + `', e.id, n.at, n.at, n.at FROM n, e WHERE e.state = '` + string(billing.Received) + `'
	ON CONFLICT DO NOTHING
)
SELECT id FROM e`

// maxOctets bounds what one statement writes: an event has some thousand bytes,
// and may have a million.
const maxOctets = 4 << 20

func octets(group []*takingIn) (n int) {
	for _, c := range group {
		n += len(c.in.Payload)
	}
	return n
}

func (s *Store) takeInAll(ctx context.Context, group []*takingIn) (isNew map[string]bool, err error) {
	isNew = make(map[string]bool, len(group))
	err = s.connected(ctx, func(ctx context.Context, c *pgxpool.Conn) error {
		var ids, kinds, states, reasons, lines []string
		var payloads [][]byte
		for _, c := range group {
			state, first := records.Arrival(c.in)
			ids, kinds, payloads = append(ids, c.in.ID), append(kinds, c.in.Type), append(payloads, c.in.Payload)
			states, reasons, lines = append(states, state), append(reasons, c.in.Park), append(lines, strings.Join(first, "\n"))
		}
		return each(ctx, c, takeInSQL, []any{ids, kinds, payloads, states, reasons, lines}, func(scan records.Scan) error {
			var id string
			err := scan(&id)
			isNew[id] = true
			return err
		})
	})
	return isNew, err
}
