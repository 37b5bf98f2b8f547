package idempotency

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/seal"
)

// Guard knows the requests that are being carried out and finds those that are
// done.
type Guard struct {
	store   Store
	ring    *seal.Ring
	mu      sync.Mutex
	running map[[32]byte]struct{}
}

// NewGuard returns a guard over store that seals and opens with ring.
func NewGuard(store Store, ring *seal.Ring) *Guard {
	return &Guard{store: store, ring: ring, running: make(map[[32]byte]struct{})}
}

// Replay is an answer that is given again.
type Replay struct {
	Status int
	Body   []byte
}

// ErrSealed is why an outcome that is there can't be given again.
var ErrSealed = errors.New("a kept answer can't be opened")

// Begin takes a request on: either it is new, and the caller carries it out
// and calls end, or its answer is given again. It refuses a body other than the
// first one's, and what is being carried out now. Where the outcome could not
// be kept or can't be opened it is fault.Unavailable: it is never a new secret.
func (g *Guard) Begin(ctx context.Context, r Request) (again *Replay, end func(), err error) {
	if !g.start(r.ID) {
		return nil, nil, Running()
	}
	release := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.running, r.ID)
	}
	defer func() {
		if end == nil {
			release()
		}
	}()
	kept, found, err := g.store.Outcome(ctx, r.ID) // after start: nobody is about to write it
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("look for an earlier outcome: %w", err)
	case !found && !g.ring.Ready():
		return nil, nil, sealed(seal.ErrNoKey)
	case !found:
		return nil, release, nil
	case kept.Request.Body != r.Body:
		return nil, nil, &fault.Error{
			Kind: fault.Invalid, Code: "IDEMPOTENCY_MISMATCH",
			Message: "This Idempotency-Key was used with another body. Use a new key for a new request.",
		}
	}
	body, err := g.ring.Open(kept.Body, about(r, kept.Status))
	if err != nil {
		return nil, nil, sealed(fmt.Errorf("%w: %w", ErrSealed, err))
	}
	return &Replay{kept.Status, body}, nil, nil
}

func (g *Guard) start(id [32]byte) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, busy := g.running[id]; busy {
		return false
	}
	g.running[id] = struct{}{}
	return true
}

// Seal makes the outcome of a request.
func (g *Guard) Seal(r Request, status int, body []byte) (Outcome, error) {
	box, err := g.ring.Seal(body, about(r, status))
	return Outcome{Request: r, Status: status, Body: box}, err
}

// about binds a sealed answer to its request and its status.
func about(r Request, status int) []byte {
	b := append([]byte("idempotent outcome\x00"), r.ID[:]...)
	b = append(b, r.Body[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(status))
}

// sealedRetry is when a client may ask again for what an operator must mend.
const sealedRetry = time.Minute

func sealed(cause error) *fault.Error {
	return &fault.Error{
		Kind: fault.Unavailable, Code: "UNAVAILABLE", Message: "Gatehouse can't keep or repeat answers under an Idempotency-Key just now. Try again later.",
		RetryAfter: sealedRetry, Err: cause,
	}
}
