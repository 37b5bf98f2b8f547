package apikey_test

import (
	"context"
	"errors"
	"maps"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
)

var errAway = fault.Away(errors.New("connection refused"))

// hall is what lies behind a door: keys and their windows, in memory and on
// the bubble's clock. It can fail, and it can be slow.
type hall struct {
	mu      sync.Mutex
	known   map[[32]byte]apikey.Principal
	stamps  map[string][]ratelimit.Instant
	asked   []ratelimit.Limit // of each call, in order
	policy  ratelimit.Name    // of the last call
	err     error
	latency time.Duration // passes between the clock's reading and the answer
}

func newHall() *hall {
	return &hall{known: make(map[[32]byte]apikey.Principal), stamps: make(map[string][]ratelimit.Instant)}
}

// issue makes a key that the hall knows.
func (h *hall) issue(who apikey.Principal) (key string) {
	secret, made := apikey.Generate(apikey.Live)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.known[made.Hash] = who
	return secret.Reveal()
}

func (h *hall) revoke(t *testing.T, key string) {
	t.Helper()
	p, ok := apikey.Parse(key)
	if !ok {
		t.Fatalf("%q is no key", key)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.known, p.Hash)
}

func (h *hall) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

// places is how many were ever taken; the tests here end within a window.
func (h *hall) places() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.stamps {
		n += len(s)
	}
	return n
}

func (h *hall) Enter(_ context.Context, key apikey.Presented, policy ratelimit.Name, limit ratelimit.Limit) (apikey.Principal, ratelimit.Decision, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked, h.policy = append(h.asked, limit), policy
	clock := ratelimit.Instant(time.Now().UnixMicro())
	if h.latency > 0 {
		<-time.After(h.latency)
	}
	if h.err != nil {
		return apikey.Principal{}, ratelimit.Decision{}, h.err
	}
	who, ok := h.known[key.Hash]
	if !ok || limit == (ratelimit.Limit{}) {
		return who, ratelimit.Decision{}, nil
	}
	kept, d := ratelimit.Admit(limit, h.stamps[who.KeyID], clock)
	if d.Admitted {
		h.stamps[who.KeyID] = kept
	}
	return who, d, nil
}

// tally counts a limiter's outcomes.
type tally struct {
	mu sync.Mutex
	n  map[ratelimit.Outcome]int
}

func (c *tally) count(o ratelimit.Outcome) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[ratelimit.Outcome]int)
	}
	c.n[o]++
}

func (c *tally) are(t *testing.T, want map[ratelimit.Outcome]int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !maps.Equal(c.n, want) {
		t.Errorf("outcomes %v, want %v", c.n, want)
	}
}

// noLimiterStore is for a door's limiter: the door asks its own store.
type noLimiterStore struct{ t *testing.T }

func (s noLimiterStore) Take(context.Context, ratelimit.Name, ratelimit.Limit, string) (ratelimit.Decision, error) {
	s.t.Error("the door asked the limiter's store")
	return ratelimit.Decision{}, nil
}

// limit is what the doors of these tests hold: two in a minute.
var limit = ratelimit.Limit{Count: 2, Window: time.Minute}

func newDoor(t *testing.T, h *hall) (*apikey.Door, *tally) {
	t.Helper()
	return doorWith(t, h, ratelimit.Policy{Name: ratelimit.API, Limit: limit})
}

func openDoor(t *testing.T, h *hall) (*apikey.Door, *tally) {
	t.Helper()
	return doorWith(t, h, ratelimit.Policy{Name: ratelimit.API, Limit: limit, Off: true})
}

func doorWith(t *testing.T, h *hall, p ratelimit.Policy) (*apikey.Door, *tally) {
	t.Helper()
	c := &tally{}
	return apikey.NewDoor(h, ratelimit.New(p, noLimiterStore{t}, c.count)), c
}
