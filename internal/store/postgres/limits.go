package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store/records"
)

var errContended = errors.New("it could not be decided: others were always faster")

// Take implements ratelimit.Store.
func (s *Store) Take(_ context.Context, policy ratelimit.Name, limit ratelimit.Limit, key string) (ratelimit.Decision, error) {
	p, err := s.enter("take", turnstileKey{policy: policy, limit: limit}, ask{id: key})
	return p.decision, err
}

// The statements that decide. $3 is the policy, $4 the limit and $5 the window
// in microseconds; asked are the windows' keys, each once, with how many
// requests there are of each.
//
// A window that is full is refused without a lock (seen): places only free as
// time passes. That look is taken only if $6 says so, since it costs as much as
// half of the rest, and most requests that reach the database are admitted. All
// others are written, in the order of their keys, so that two
// such statements never wait for each other in a circle. The update's WHERE and
// SET see the newest version of the row under its lock, and read the clock
// then, so that no stamp is older than one that was written before it; a row
// that another filled meanwhile is not written and not returned, which leaves
// its requests undecided. width_bucket counts the stamps at or before a time.
// A new row's stamp is read above the sort: once the rows before it are written.
//
// OFFSET 0 keeps a look-up by key what it is, whatever the planner believes of
// a table that is new.
const (
	decideSQL = `
seen AS MATERIALIZED (
	SELECT a.key, a.n, w.at, w.stamps,
		w.at IS NULL OR cardinality(w.stamps) - width_bucket(greatest(w.stamps[cardinality(w.stamps)], w.at) - $5::bigint, w.stamps) < $4::int AS open
	FROM asked a LEFT JOIN LATERAL (
		SELECT stamps, now_us() AS at FROM rate_windows WHERE $6::boolean AND policy = $3::text AND key = a.key OFFSET 0) w ON true
), taken AS (
	INSERT INTO rate_windows AS t (policy, key, stamps, granted)
	SELECT $3, s.key, array_fill(now_us(), ARRAY[least(s.n, $4)]), least(s.n, $4)
	FROM (SELECT key, n FROM seen WHERE open ORDER BY key COLLATE "C" OFFSET 0) s
	ON CONFLICT (key, policy) DO UPDATE SET (stamps, granted) = (
		SELECT b.live || array_fill(b.at, ARRAY[b.granted]), b.granted FROM (
			SELECT a.at, t.stamps[a.ended + 1:] AS live, greatest(0, least(excluded.granted, $4 - (cardinality(t.stamps) - a.ended))) AS granted FROM (
				SELECT c.at, width_bucket(c.at - $5, t.stamps) AS ended FROM (
					SELECT greatest(t.stamps[cardinality(t.stamps)], now_us()) AS at) c) a) b)
	WHERE cardinality(t.stamps) - width_bucket(greatest(t.stamps[cardinality(t.stamps)], now_us()) - $5, t.stamps) < $4
	RETURNING key, ARRAY[granted, cardinality(stamps), stamps[1], stamps[greatest(1, cardinality(stamps) - $4 + 1)], now_us()] AS found
), decided AS (
	SELECT key, found FROM taken
	UNION ALL SELECT key, ARRAY[0, 0, 0, stamps[cardinality(stamps) - $4 + 1], at] FROM seen WHERE NOT open
)`

	takeSQL = "WITH asked AS (SELECT key, n FROM unnest($1::text[], $2::int[]) AS a(key, n))," + decideSQL + `
SELECT key, found FROM decided`

	// known are the presented keys that are usable; noted writes down their use,
	// to the minute, and leaves out those that another transaction holds.
	knownSQL = `
known AS MATERIALIZED (
	SELECT q.i, k.customer_id, k.key, k.public_id, k.suspended, k.last_used_at FROM unnest($1::text[], $2::bytea[]) WITH ORDINALITY AS q(public_id, hash, i)
	CROSS JOIN LATERAL (
		SELECT k.customer_id, k.id AS key, k.public_id, c.suspended_at IS NOT NULL AS suspended, k.last_used_at
		FROM api_keys k JOIN customers c ON c.id = k.customer_id
		WHERE k.public_id = q.public_id AND k.hash = q.hash AND ` + usable + ` OFFSET 0) k
), noted AS (
	UPDATE api_keys k SET last_used_at = now_us() FROM known w CROSS JOIN LATERAL (
		SELECT ctid FROM api_keys WHERE public_id = w.public_id FOR NO KEY UPDATE SKIP LOCKED) u
	WHERE coalesce(w.last_used_at, 0) <= now_us() - 60000000 AND k.ctid = u.ctid
)`
	noteSQL = "WITH" + knownSQL + `
SELECT i, customer_id, key, suspended, NULL::bigint[] FROM known`

	enterSQL = "WITH" + knownSQL + ", asked AS (SELECT key, count(*)::int AS n FROM known GROUP BY key)," + decideSQL + `
SELECT w.i, w.customer_id, w.key, w.suspended, d.found FROM known w LEFT JOIN decided d USING (key)`
)

// The rows of some windows that no other transaction holds: by the windows'
// keys, or by the public ids of API keys.
const (
	freeWindowsSQL = `SELECT a.id, w.key IS NOT NULL FROM unnest($1::text[]) AS a(id)
JOIN rate_windows there ON there.policy = $2 AND there.key = a.id
LEFT JOIN LATERAL (SELECT key FROM rate_windows WHERE policy = $2 AND key = a.id FOR NO KEY UPDATE SKIP LOCKED) w ON true`
	freeKeysSQL = `SELECT a.id, w.key IS NOT NULL FROM unnest($1::text[]) AS a(id) JOIN api_keys k ON k.public_id = a.id
JOIN rate_windows there ON there.policy = $2 AND there.key = k.id
LEFT JOIN LATERAL (SELECT key FROM rate_windows WHERE policy = $2 AND key = k.id FOR NO KEY UPDATE SKIP LOCKED) w ON true`
)

// locked finds the requests of a group whose windows another transaction holds.
func (t *turnstile) locked(ctx context.Context, group []*asked) (map[string]bool, error) {
	ids := make([]string, len(group))
	for i, c := range group {
		ids[i] = c.in.id
	}
	query := freeWindowsSQL
	if t.keys {
		query = freeKeysSQL
	}
	held := make(map[string]bool)
	err := t.store.connected(ctx, func(ctx context.Context, c *pgxpool.Conn) error {
		return each(ctx, c, query, []any{ids, string(t.policy)}, func(scan records.Scan) error {
			var id string
			var free bool
			if err := scan(&id, &free); err != nil {
				return err
			}
			if !free {
				held[id] = true
			}
			return nil
		})
	})
	return held, err
}

const (
	// sweepPage is how many windows one step of a sweep looks at, so that it
	// never holds up a request for more than milliseconds.
	sweepPage = 500
	// sweepLock is the advisory lock of who sweeps.
	sweepLock = 0x67617465_73776565
)

// Sweep implements store.Store. It does nothing while another node sweeps.
func (s *Store) Sweep(ctx context.Context, windows map[ratelimit.Name]time.Duration) (seen, removed int, err error) {
	conn, err := s.acquire(ctx)
	if err != nil {
		return 0, 0, s.away(err)
	}
	defer conn.Release()
	var mine bool
	ask := func(ctx context.Context, question string) error {
		ctx, cancel := context.WithTimeout(ctx, callTimeout)
		defer cancel()
		return s.away(conn.QueryRow(ctx, question, int64(sweepLock)).Scan(&mine))
	}
	if err := ask(ctx, "SELECT pg_try_advisory_lock($1)"); err != nil || !mine {
		return 0, 0, err
	}
	defer func() {
		if !conn.Conn().IsClosed() { // else the lock goes with it
			err = errors.Join(err, ask(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)"))
		}
	}()
	var policy, key string
	for {
		n, gone, err := s.sweepSome(ctx, conn.Conn(), windows, &policy, &key)
		seen, removed = seen+n, removed+gone
		if err != nil || n < sweepPage {
			return seen, removed, s.away(err)
		}
	}
}

// sweepSome looks at the windows after a policy and a key, which it moves on.
func (s *Store) sweepSome(ctx context.Context, conn *pgx.Conn, windows map[ratelimit.Name]time.Duration, policy, key *string) (seen, removed int, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	start := time.Now()
	defer func() { s.observe("sweep", time.Since(start), err) }()
	var policies, keys []string // of the dead
	var lengths []int64
	err = each(ctx, conn, `SELECT policy, key, stamps[cardinality(stamps)], now_us() FROM rate_windows
		WHERE (key, policy) > ($1, $2) ORDER BY key, policy LIMIT $3`, []any{*key, *policy, sweepPage}, func(scan records.Scan) error {
		var newest, now int64
		if err := scan(policy, key, &newest, &now); err != nil {
			return err
		}
		seen++
		window, ok := windows[ratelimit.Name(*policy)]
		if !ok {
			window = ratelimit.MaxWindow
		}
		if newest+window.Microseconds() <= now {
			policies, keys, lengths = append(policies, *policy), append(keys, *key), append(lengths, window.Microseconds())
		}
		return nil
	})
	if err != nil || len(keys) == 0 {
		return seen, 0, err
	}
	// A key may have been used since: it is looked at again under its lock.
	gone, err := conn.Exec(ctx, `DELETE FROM rate_windows w USING unnest($1::text[], $2::text[], $3::bigint[]) AS d(policy, key, length)
		CROSS JOIN LATERAL (SELECT ctid FROM rate_windows WHERE policy = d.policy AND key = d.key
			AND stamps[cardinality(stamps)] + d.length <= now_us() FOR UPDATE SKIP LOCKED) r
		WHERE w.ctid = r.ctid`, policies, keys, lengths)
	return seen, int(gone.RowsAffected()), err
}
