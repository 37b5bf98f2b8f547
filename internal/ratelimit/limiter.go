package ratelimit

import (
	"context"
	"time"
)

// Store takes places in windows that all nodes share.
type Store interface {
	// Take decides one request of key against the policy and commits the
	// place it took, if any, before it returns. Time is the store's clock,
	// read once the key's turn has come. An error means that nothing may be
	// admitted: a place may or may not have been taken.
	Take(ctx context.Context, policy Name, limit Limit, key string) (Decision, error)
}

// Observer is told of each decision, for metrics.
type Observer func(Outcome)

// Outcome is how a request fared; it is a metric label.
type Outcome string

// The outcomes of asking for a place.
const (
	Admitted   Outcome = "admitted"
	Denied     Outcome = "denied"            // by the store
	Remembered Outcome = "denied_remembered" // from this node's memory
	Failed     Outcome = "store_failed"
)

// Limiter enforces one policy.
type Limiter struct {
	Policy  Policy
	store   Store
	denials *denials
	observe Observer
}

// New returns a limiter of policy over store. observe must be cheap and safe
// for concurrent use.
func New(policy Policy, store Store, observe Observer) *Limiter {
	return &Limiter{Policy: policy, store: store, denials: newDenials(), observe: observe}
}

// Take asks for a place in key's window. A policy that is off admits all,
// with the zero Decision but for Admitted.
func (l *Limiter) Take(ctx context.Context, key string) (Decision, error) {
	if l.Policy.Off {
		return Decision{Admitted: true}, nil
	}
	if d, ok := l.Recall(key); ok {
		return d, nil
	}
	asked := time.Now()
	d, err := l.store.Take(ctx, l.Policy.Name, l.Policy.Limit, key)
	l.Settle(key, asked, d, err)
	return d, err
}

// Recall returns the refusal that this node remembers for key, if it still
// holds. It is for callers that ask the store together with something else;
// they tell the store's answer to Settle.
func (l *Limiter) Recall(key string) (Decision, bool) {
	left := l.denials.left(key, time.Now())
	if left <= 0 {
		return Decision{}, false
	}
	l.observe(Remembered)
	return Decision{Wait: left}, true
}

// Alias has what this node remembers of key recalled under another name, too.
func (l *Limiter) Alias(name, key string) { l.denials.alias(name, key) }

// Settle counts the store's answer for key and remembers a refusal. The
// memory runs on this node's monotonic clock from asked, the time before the
// store was asked: so it ends before the place frees, never after, and the
// next request asks the store again. What clients are told to wait runs from
// the answer, so that it is never too short.
func (l *Limiter) Settle(key string, asked time.Time, d Decision, err error) {
	switch {
	case err != nil:
		l.observe(Failed)
	case d.Admitted:
		l.observe(Admitted)
	default:
		l.observe(Denied)
		l.denials.remember(key, asked, time.Now(), d.Wait)
	}
}
