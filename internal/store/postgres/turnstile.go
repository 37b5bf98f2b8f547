package postgres

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store/records"
)

// ask is one request for a place: by the window's key or, where an API key is
// checked in the same step, by what was presented.
type ask struct {
	id   string // the window's key, or the key's public id
	hash []byte // nil: the window's key
}

// pass is what became of it.
type pass struct {
	who      apikey.Principal // zero: none, or no usable key
	decision ratelimit.Decision
}

type asked = call[ask, pass]

// turnstileKey is what the requests of one statement have in common.
type turnstileKey struct {
	policy ratelimit.Name
	limit  ratelimit.Limit
	keys   bool // API keys are checked
}

// turnstile decides the requests of one policy, one statement for all that
// queue meanwhile. A key whose row another transaction keeps locked is moved to
// a lane of its own until it is free.
type turnstile struct {
	turnstileKey
	store *Store
	main  *lane[ask, pass]
	full  atomic.Bool // the last group had requests for windows that are full

	mu   sync.RWMutex
	slow map[string]*lane[ask, pass] // nil once closed
}

const (
	// maxSlow bounds the keys that have lanes of their own, since each of them
	// holds a connection while it waits. Requests for more queue again.
	maxSlow = 4
	// rounds is how often a statement is tried that does not decide all it was
	// asked, since another took the last place while it waited.
	rounds = 4
)

func (s *Store) turnstile(k turnstileKey) (*turnstile, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fault.Away(errClosed)
	}
	t, ok := s.turnstiles[k]
	if !ok {
		t = &turnstile{turnstileKey: k, store: s, slow: make(map[string]*lane[ask, pass])}
		t.main = newLane(width, t.runMain)
		s.turnstiles[k] = t
	}
	return t, nil
}

// enter decides one request. A caller that leaves does not take its request
// back: what it sent is counted.
func (s *Store) enter(name string, k turnstileKey, a ask) (p pass, err error) {
	start := time.Now()
	c := &asked{in: a, queued: start, done: make(chan struct{})}
	t, err := s.turnstile(k)
	if err == nil {
		err = t.add(c)
	}
	if err == nil {
		<-c.done
		p, err = c.out, c.err
	}
	s.observe(name, time.Since(start), err)
	return p, err
}

// add queues a request: in the lane of its key, if that has one.
func (t *turnstile) add(c *asked) error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if l, ok := t.slow[c.in.id]; ok {
		return l.add(c)
	}
	return t.main.add(c)
}

func (t *turnstile) close() {
	t.main.close() // first: it opens the others
	t.mu.Lock()
	slow := t.slow
	t.slow = nil
	t.mu.Unlock()
	for _, l := range slow {
		l.close()
	}
}

// runMain decides a group. If another's lock holds it up, the keys that are
// locked are moved aside, and the rest goes on.
func (t *turnstile) runMain(ctx context.Context, group []*asked) {
	left, err := t.run(ctx, group)
	for sqlState(err) == lockNotAvailable && hasTime(ctx) {
		var locked map[string]bool
		if locked, err = t.locked(ctx, left); err != nil {
			break
		}
		var free []*asked
		for _, c := range left {
			if locked[c.in.id] {
				t.aside(c)
			} else {
				free = append(free, c)
			}
		}
		if len(locked) == 0 { // who holds us up, if anybody still does, has inserted a row that nobody sees yet
			one, others := halves(free)
			if len(others) == 0 {
				for _, c := range one {
					t.aside(c)
				}
				return
			}
			t.runMain(ctx, one)
			free = others
		}
		left, err = t.run(ctx, free)
	}
	t.fail(left, err)
}

// halves splits a group between two keys; the second half is empty where there is
// but one.
func halves(group []*asked) (one, others []*asked) {
	slices.SortFunc(group, func(a, b *asked) int { return strings.Compare(a.in.id, b.in.id) })
	middle := group[len(group)/2].in.id
	at := slices.IndexFunc(group, func(c *asked) bool { return c.in.id == middle })
	if at == 0 {
		at = slices.IndexFunc(group, func(c *asked) bool { return c.in.id != middle })
	}
	if at < 0 {
		at = len(group)
	}
	return group[:at], group[at:]
}

// hasTime says whether another wait for a lock is over before ctx ends.
func hasTime(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return !ok || time.Until(deadline) > 2*lockTimeout
}

func (t *turnstile) fail(group []*asked, err error) {
	if err == nil {
		return
	}
	err = t.store.away(err)
	for _, c := range group {
		c.answer(pass{}, err)
	}
}

// aside moves a request to a lane of its key's own or, where there are many such
// keys, to the end of the queue: then it is the database that is slow.
func (t *turnstile) aside(c *asked) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, ok := t.slow[c.in.id]
	if !ok && t.slow != nil && len(t.slow) < maxSlow {
		id := c.in.id
		l = newLane(1, func(ctx context.Context, group []*asked) { t.runSlow(ctx, id, group) })
		t.slow[id] = l
	}
	if l == nil {
		l = t.main
	}
	if err := l.add(c); err != nil {
		c.answer(pass{}, err)
	}
}

// runSlow decides requests of one key that was locked. The lane ends once
// nobody waits in it.
func (t *turnstile) runSlow(ctx context.Context, id string, group []*asked) {
	left, err := t.run(ctx, group)
	for sqlState(err) == lockNotAvailable && hasTime(ctx) {
		left, err = t.run(ctx, left)
	}
	t.fail(left, err)
	t.mu.Lock()
	defer t.mu.Unlock()
	if l, ok := t.slow[id]; ok && l.len() == 0 { // nobody adds to it meanwhile
		delete(t.slow, id)
		l.end()
	}
}

// run decides a group, in rounds, each of which is a transaction and answers
// those that it decided: what holds up a later one must not ask for their places
// again. With an error it returns those that are left, some of which may have
// taken places.
func (t *turnstile) run(ctx context.Context, group []*asked) (left []*asked, err error) {
	left = group
	for round := 0; len(left) > 0; round++ {
		if round == rounds {
			return left, errContended
		}
		err := t.store.connected(ctx, func(ctx context.Context, c *pgxpool.Conn) (err error) {
			left, err = t.decide(ctx, c, left, round > 0 || t.full.Load())
			return err
		})
		if err != nil {
			return left, err
		}
	}
	return nil, nil
}

// window is what the statement says of one key's window.
type window struct {
	granted       int   // of those asked for: the first ones
	held          int   // stamps in it, with those
	oldest, frees int64 // the oldest stamp, and the one whose leaving makes room
	clock         int64 // when those were read
}

func windowOf(a []int64) window { return window{int(a[0]), int(a[1]), a[2], a[3], a[4]} }

// decision is that of the i-th request of the key in this statement.
func (w window) decision(l ratelimit.Limit, i int) ratelimit.Decision {
	from := w.frees
	d := ratelimit.Decision{Admitted: i < w.granted}
	if d.Admitted {
		d.Remaining = max(0, l.Count-(w.held-w.granted+i+1))
		from = w.oldest
	}
	d.Wait = time.Duration(from-w.clock)*time.Microsecond + l.Window
	return d
}

// decide asks the database for some requests, answers those that it decides, and
// returns the others; with an error, all.
func (t *turnstile) decide(ctx context.Context, c *pgxpool.Conn, group []*asked, look bool) (undecided []*asked, err error) {
	keys, passes := make([]string, len(group)), make([]pass, len(group)) // keys: the windows'; "": no usable API key
	windows := make(map[string]window, len(group))
	how := []any{string(t.policy), t.limit.Count, t.limit.Window.Microseconds(), look}
	switch {
	case t.keys:
		ids, hashes := make([]string, len(group)), make([][]byte, len(group))
		for i, c := range group {
			ids[i], hashes[i] = c.in.id, c.in.hash
		}
		query, args := enterSQL, append([]any{ids, hashes}, how...)
		if t.limit.Count == 0 {
			query, args = noteSQL, args[:2]
		}
		err = each(ctx, c, query, args, func(scan records.Scan) error {
			var i int
			var who apikey.Principal
			var w []int64
			if err := scan(&i, &who.CustomerID, &who.KeyID, &who.Suspended, &w); err != nil {
				return err
			}
			passes[i-1].who, keys[i-1] = who, who.KeyID
			if w != nil {
				windows[who.KeyID] = windowOf(w)
			}
			return nil
		})
	default:
		counts := make(map[string]int32, len(group))
		for i, c := range group {
			keys[i] = c.in.id
			counts[c.in.id]++
		}
		asked, ns := make([]string, 0, len(counts)), make([]int32, 0, len(counts))
		for key, n := range counts {
			asked, ns = append(asked, key), append(ns, n)
		}
		err = each(ctx, c, takeSQL, append([]any{asked, ns}, how...), func(scan records.Scan) error {
			var key string
			var w []int64
			if err := scan(&key, &w); err != nil {
				return err
			}
			windows[key] = windowOf(w)
			return nil
		})
	}
	if err != nil {
		return group, err
	}
	full, nth := false, make(map[string]int, len(windows))
	for i, c := range group {
		if keys[i] != "" && t.limit.Count > 0 {
			w, ok := windows[keys[i]]
			d := w.decision(t.limit, nth[keys[i]])
			nth[keys[i]]++
			full = full || !d.Admitted
			if !ok || !d.Admitted && d.Wait <= 0 { // others took the last place, or one has just become free
				undecided = append(undecided, c)
				continue
			}
			passes[i].decision = d
		}
		c.answer(passes[i], nil)
	}
	t.full.Store(full)
	return undecided, nil
}
