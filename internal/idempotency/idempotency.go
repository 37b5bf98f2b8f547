package idempotency

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/seal"
)

// Life is how long an outcome is kept.
const Life = 24 * time.Hour

// The bounds of an Idempotency-Key, in characters, which are printable ASCII.
const (
	MinKey = 16
	MaxKey = 255
)

// Request is one request under an Idempotency-Key.
type Request struct {
	ID   [32]byte // SHA-256 of whose it is, of its method and path, and of the key
	Body [32]byte // SHA-256 of the raw body
}

// NewRequest names a request. Equal keys of two scopes, methods or paths have
// nothing to do with each other.
func NewRequest(scope, method, path, key string, body []byte) Request {
	var b []byte
	for _, part := range []string{scope, method, path, key} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	return Request{ID: sha256.Sum256(b), Body: sha256.Sum256(body)}
}

// Outcome is an answer as it is kept.
type Outcome struct {
	Request
	Status int
	Body   seal.Box
}

// Store keeps outcomes. They are written by the calls that have an effect,
// which take a *Once.
type Store interface {
	// Outcome finds what is kept of a request and younger than Life.
	Outcome(ctx context.Context, id [32]byte) (o Outcome, found bool, err error)
	// SweepOutcomes removes some that are older, at most limit, and says how
	// many it were.
	SweepOutcomes(ctx context.Context, limit int) (int, error)
	// SealedWith lists the ids of the master keys that outcomes are sealed with.
	SealedWith(ctx context.Context) ([]string, error)
}

// Once is what a store writes beside an effect whose result is a T. A store
// that finds an outcome of the request refuses with Running and writes nothing.
// A nil Once writes nothing: the client gave no key.
type Once[T any] struct {
	Request Request
	// Seal makes the outcome of the effect's result. One of status 0 is not
	// kept: the result is not final. It fails on our bugs alone, and then
	// nothing is written.
	Seal func(T) (Outcome, error)
}

// Map makes the Once of a result from the Once of what is made of it.
func Map[A, B any](o *Once[B], f func(A) B) *Once[A] {
	if o == nil {
		return nil
	}
	return &Once[A]{o.Request, func(a A) (Outcome, error) { return o.Seal(f(a)) }}
}

// Running refuses a request whose like is being carried out.
func Running() *fault.Error {
	return &fault.Error{Kind: fault.Conflict, Code: "IDEMPOTENCY_CONFLICT", Message: "A request with this Idempotency-Key is being carried out. Try again shortly."}
}
