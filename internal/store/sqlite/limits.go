package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"time"

	"gatehouse/internal/ratelimit"
)

// Take implements ratelimit.Store. A caller that leaves does not take its
// request back: what it sent is counted.
func (s *Store) Take(ctx context.Context, policy ratelimit.Name, limit ratelimit.Limit, key string) (ratelimit.Decision, error) {
	return mutate(context.WithoutCancel(ctx), s, "take", func(t *tx) (ratelimit.Decision, error) {
		return s.place(t, policy, limit, key)
	})
}

// place decides one request inside the writer's transaction.
func (s *Store) place(t *tx, policy ratelimit.Name, limit ratelimit.Limit, key string) (ratelimit.Decision, error) {
	var blob []byte
	err := t.row("SELECT stamps FROM rate_windows WHERE policy = ? AND key = ?", []any{string(policy), key}, &blob)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return ratelimit.Decision{}, err
	}
	kept, d := ratelimit.Admit(limit, decodeStamps(blob), s.now())
	if !d.Admitted {
		return d, nil
	}
	return d, t.exec("INSERT INTO rate_windows (policy, key, stamps) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET stamps = excluded.stamps",
		string(policy), key, encodeStamps(kept))
}

func decodeStamps(blob []byte) []ratelimit.Instant {
	stamps := make([]ratelimit.Instant, 0, len(blob)/8+1) // room for one more
	for ; len(blob) >= 8; blob = blob[8:] {
		stamps = append(stamps, ratelimit.Instant(binary.BigEndian.Uint64(blob)))
	}
	return stamps
}

func encodeStamps(stamps []ratelimit.Instant) []byte {
	blob := make([]byte, 0, 8*len(stamps))
	for _, s := range stamps {
		blob = binary.BigEndian.AppendUint64(blob, uint64(s))
	}
	return blob
}

// sweepPage is how many windows one step of a sweep looks at, so that a sweep
// of millions never holds up a request for more than milliseconds.
const sweepPage = 500

// Sweep removes the windows that hold no live stamp: those whose newest is
// older than windows says for their policy, or than ratelimit.MaxWindow for
// policies it does not name. It returns how many there were and how many are
// gone.
func (s *Store) Sweep(ctx context.Context, windows map[ratelimit.Name]time.Duration) (seen, removed int, err error) {
	var policy, key string
	for {
		page, err := s.windowsAfter(ctx, policy, key)
		if err != nil || len(page) == 0 {
			return seen, removed, err
		}
		seen += len(page)
		var dead []windowRow
		for _, w := range page {
			if s.isDead(w, windows) {
				dead = append(dead, w)
			}
		}
		if len(dead) > 0 {
			n, err := s.removeDead(ctx, dead, windows)
			if err != nil {
				return seen, removed, err
			}
			removed += n
		}
		last := page[len(page)-1]
		policy, key = last.policy, last.key
	}
}

type windowRow struct {
	policy, key string
	stamps      []byte
}

func (s *Store) isDead(w windowRow, windows map[ratelimit.Name]time.Duration) bool {
	if len(w.stamps) < 8 {
		return true
	}
	window, ok := windows[ratelimit.Name(w.policy)]
	if !ok {
		window = ratelimit.MaxWindow
	}
	newest := ratelimit.Instant(binary.BigEndian.Uint64(w.stamps[len(w.stamps)-8:]))
	return newest+ratelimit.Instant(window/time.Microsecond) <= s.now()
}

func (s *Store) windowsAfter(ctx context.Context, policy, key string) (page []windowRow, err error) {
	err = s.query("sweep_read", func() error {
		rows, err := s.read.QueryContext(ctx, "SELECT policy, key, stamps FROM rate_windows WHERE (policy, key) > (?, ?) ORDER BY policy, key LIMIT ?", policy, key, sweepPage)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var w windowRow
			if err := rows.Scan(&w.policy, &w.key, &w.stamps); err != nil {
				return err
			}
			page = append(page, w)
		}
		return rows.Err()
	})
	return page, err
}

// removeDead looks again inside the transaction: a key may have been used
// since the page was read.
func (s *Store) removeDead(ctx context.Context, dead []windowRow, windows map[ratelimit.Name]time.Duration) (int, error) {
	return mutate(ctx, s, "sweep", func(t *tx) (n int, err error) {
		for _, w := range dead {
			err = t.row("SELECT stamps FROM rate_windows WHERE policy = ? AND key = ?", []any{w.policy, w.key}, &w.stamps)
			if errors.Is(err, sql.ErrNoRows) || err == nil && !s.isDead(w, windows) {
				continue
			}
			if err != nil {
				return 0, err
			}
			if err := t.exec("DELETE FROM rate_windows WHERE policy = ? AND key = ?", w.policy, w.key); err != nil {
				return 0, err
			}
			n++
		}
		return n, nil
	})
}
