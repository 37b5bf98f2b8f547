package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/ratelimit"
)

// taker decides requests: the store, or another layout.
type taker interface {
	Take(ctx context.Context, policy ratelimit.Name, limit ratelimit.Limit, key string) (ratelimit.Decision, error)
}

// naive is one statement a request, on the store's own table, in the form that
// the store has for many.
type naive struct{ pool *pgxpool.Pool }

// Take implements taker. It says of a decision only whether it admits.
func (n naive) Take(ctx context.Context, policy ratelimit.Name, limit ratelimit.Limit, key string) (d ratelimit.Decision, err error) {
	err = n.pool.QueryRow(ctx, `INSERT INTO rate_windows AS t (policy, key, stamps, granted) VALUES ($1, $2, ARRAY[now_us()], 1)
		ON CONFLICT (key, policy) DO UPDATE SET stamps = t.stamps[width_bucket(now_us() - $4, t.stamps) + 1:] || greatest(t.stamps[cardinality(t.stamps)], now_us())
		WHERE cardinality(t.stamps) - width_bucket(now_us() - $4, t.stamps) < $3 RETURNING true`, string(policy), key, limit.Count, limit.Window.Microseconds()).Scan(&d.Admitted)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return d, err
}

// rows is a layout with a row for each stamp, beside one for each key that is
// locked: what ADR 12 compares the store's with. Requests that queue meanwhile
// go in the next call, as in the store.
type rows struct {
	pool  *pgxpool.Pool
	queue chan *rowsCall
	done  sync.WaitGroup
}

type rowsCall struct {
	limit    ratelimit.Limit
	key      string
	admitted bool
	err      error
	answered chan struct{}
}

const rowsSchema = `
CREATE TABLE heads (k text COLLATE "C" PRIMARY KEY, seq bigint NOT NULL, last bigint NOT NULL);
CREATE TABLE stamps (k text COLLATE "C", seq bigint, t bigint NOT NULL, PRIMARY KEY (k, seq));`

func newRows(ctx context.Context, pool *pgxpool.Pool) *rows {
	r := &rows{pool: pool, queue: make(chan *rowsCall, 4096)}
	for range 2 { // groups under way, as in the store
		r.done.Go(func() { r.loop(ctx) })
	}
	return r
}

func (r *rows) close() {
	close(r.queue)
	r.done.Wait()
}

// Take implements taker.
func (r *rows) Take(_ context.Context, _ ratelimit.Name, limit ratelimit.Limit, key string) (ratelimit.Decision, error) {
	c := &rowsCall{limit: limit, key: key, answered: make(chan struct{})}
	r.queue <- c
	<-c.answered
	return ratelimit.Decision{Admitted: c.admitted}, c.err
}

func (r *rows) loop(ctx context.Context) {
	for first := range r.queue {
		group := []*rowsCall{first}
		for more := true; more && len(group) < 256; {
			select {
			case c, ok := <-r.queue:
				if more = ok; ok {
					group = append(group, c)
				}
			default:
				more = false
			}
		}
		err := r.run(ctx, group)
		for _, c := range group {
			c.err = err
			close(c.answered)
		}
	}
}

// run decides a group in one round trip, which is one transaction: make the
// missing heads, lock all in the order of their keys, and only then look at the
// stamps. A request fits where the stamp that is limit before its own is not
// there, or has left the window.
func (r *rows) run(ctx context.Context, group []*rowsCall) error {
	counts := make(map[string]int32)
	for _, c := range group {
		counts[c.key]++
	}
	keys, ns := make([]string, 0, len(counts)), make([]int32, 0, len(counts))
	for k := range counts {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		ns = append(ns, counts[k])
	}
	granted := make(map[string]int, len(keys))
	b := new(pgx.Batch)
	b.Queue("INSERT INTO heads SELECT k, 0, 0 FROM unnest($1::text[]) AS k ON CONFLICT DO NOTHING", keys)
	b.Queue("SELECT h.k FROM unnest($1::text[]) AS q(k) CROSS JOIN LATERAL (SELECT k FROM heads WHERE k = q.k FOR UPDATE) h", keys)
	b.Queue(`WITH q AS (
			SELECT q.k, h.seq, greatest(h.last, now_us()) AS t, least(q.n, $3) AS n FROM unnest($1::text[], $2::int[]) AS q(k, n)
			CROSS JOIN LATERAL (SELECT seq, last FROM heads WHERE k = q.k OFFSET 0) h
		), g AS MATERIALIZED (
			SELECT q.k, q.seq, q.t, (SELECT count(*) FROM generate_series(1, q.n) AS i
				WHERE coalesce((SELECT s.t <= q.t - $4 FROM stamps s WHERE s.k = q.k AND s.seq = q.seq + i - $3 OFFSET 0), true)) AS granted FROM q
		), added AS (
			INSERT INTO stamps SELECT g.k, g.seq + i, g.t FROM g, generate_series(1, g.granted) AS i
		), moved AS (
			UPDATE heads h SET seq = h.seq + g.granted, last = g.t FROM g CROSS JOIN LATERAL (SELECT ctid FROM heads WHERE k = g.k OFFSET 0) own
			WHERE h.ctid = own.ctid AND g.granted > 0
		) SELECT k, granted FROM g`, keys, ns, group[0].limit.Count, group[0].limit.Window.Microseconds()).Query(func(found pgx.Rows) error {
		for found.Next() {
			var k string
			var n int
			if err := found.Scan(&k, &n); err != nil {
				return err
			}
			granted[k] = n
		}
		return found.Err()
	})
	err := r.pool.SendBatch(ctx, b).Close()
	for _, c := range group {
		if granted[c.key] > 0 {
			granted[c.key]--
			c.admitted = true
		}
	}
	return err
}

// sweep removes the stamps that have left their window, as the store's layout
// does by itself.
func (r *rows) sweep(ctx context.Context, window time.Duration) error {
	_, err := r.pool.Exec(ctx, "DELETE FROM stamps WHERE t <= now_us() - $1", window.Microseconds())
	return err
}
