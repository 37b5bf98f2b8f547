package ratelimit

import "time"

// Instant is a store's time in microseconds since the Unix epoch. It is a
// type of its own so that no node's clock is taken for the store's.
type Instant int64

// Time returns i as a wall-clock time.
func (i Instant) Time() time.Time { return time.UnixMicro(int64(i)) }

// Limit is how many requests a window of time holds.
type Limit struct {
	Count  int           // at least 1
	Window time.Duration // at least a millisecond; whole microseconds
}

// Decision is what became of a request that asked for a place.
type Decision struct {
	Admitted bool
	// Remaining is how many places were left right after this request took
	// its own; 0 when it was refused.
	Remaining int
	// Wait is how long until the next place frees: for a refused request the
	// time to wait, for an admitted one until Remaining next rises. It is
	// positive, and never longer than the window unless the clock stepped
	// back or the limit was lowered.
	Wait time.Duration
}

// Admit decides one request against one key's window.
//
// stamps are the times of admitted requests, ascending, the newest last;
// Admit reuses their memory. clock is the store's clock as just read, which
// may lie before the newest stamp if it was stepped back: time then stands
// still at that stamp, and waits are longer by the step. What was admitted at
// t frees its place at t + l.Window exactly (half-open), so stamps at or
// before now - l.Window are dropped from kept. There may be more live stamps
// than l.Count after a limit was lowered: all of them count. A refusal adds
// no stamp and extends nothing, and kept then need not be stored.
// It never fails.
//
// Source: docs/adr/0003 (exact sliding log).
func Admit(l Limit, stamps []Instant, clock Instant) (kept []Instant, d Decision) {
	window := Instant(l.Window / time.Microsecond)
	now := clock
	if n := len(stamps); n > 0 {
		now = max(now, stamps[n-1])
	}
	live := 0
	for live < len(stamps) && stamps[live] <= now-window {
		live++
	}
	kept = stamps[live:]
	if len(kept) < l.Count {
		kept = append(kept, now)
		d.Admitted = true
	}
	d.Remaining = max(0, l.Count-len(kept))
	// The place that next frees is the oldest one's, or, with more stamps
	// than places, the one whose leaving makes room.
	next := kept[max(0, len(kept)-l.Count)]
	d.Wait = time.Duration(next+window-clock) * time.Microsecond
	return kept, d
}
