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

// Desk knows the requests under way and finds those that are done.
type Desk struct {
	store   Store
	ring    *seal.Ring
	mu      sync.Mutex
	running map[[32]byte]struct{}
}

// NewDesk returns a desk over store that seals and opens with ring.
func NewDesk(store Store, ring *seal.Ring) *Desk {
	return &Desk{store: store, ring: ring, running: make(map[[32]byte]struct{})}
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
func (d *Desk) Begin(ctx context.Context, r Request) (again *Replay, end func(), err error) {
	if !d.start(r.ID) {
		return nil, nil, Running()
	}
	release := func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.running, r.ID)
	}
	defer func() {
		if end == nil {
			release()
		}
	}()
	kept, found, err := d.store.Outcome(ctx, r.ID) // after start: nobody is about to write it
	switch {
	case err != nil:
		return nil, nil, fmt.Errorf("look for an earlier outcome: %w", err)
	case !found && !d.ring.Ready():
		return nil, nil, sealed(seal.ErrNoKey)
	case !found:
		return nil, release, nil
	case kept.Request.Body != r.Body:
		return nil, nil, &fault.Error{
			Kind: fault.Invalid, Code: "IDEMPOTENCY_MISMATCH",
			Message: "This Idempotency-Key was used with another body. Use a new key for a new request.",
		}
	}
	body, err := d.ring.Open(kept.Body, about(r, kept.Status))
	if err != nil {
		return nil, nil, sealed(fmt.Errorf("%w: %w", ErrSealed, err))
	}
	return &Replay{kept.Status, body}, nil, nil
}

func (d *Desk) start(id [32]byte) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, busy := d.running[id]; busy {
		return false
	}
	d.running[id] = struct{}{}
	return true
}

// Seal makes the outcome of a request.
func (d *Desk) Seal(r Request, status int, body []byte) (Outcome, error) {
	box, err := d.ring.Seal(body, about(r, status))
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
