package apikey

import (
	"context"
	"strings"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
)

// Principal is who a usable key speaks for.
type Principal struct {
	CustomerID string
	KeyID      string
	Suspended  bool // known, and may do nothing
}

// Checker finds keys and takes their places.
type Checker interface {
	// Enter checks a key, takes its place in the policy's window and notes
	// the time of its use, in one transaction; a zero limit takes no place,
	// and without a policy it only looks. An unknown, revoked or expired
	// key is the zero Principal and takes nothing. An error means that
	// nothing is known: nobody may pass.
	Enter(ctx context.Context, key Presented, policy ratelimit.Name, limit ratelimit.Limit) (Principal, ratelimit.Decision, error)
}

// Door lets requests with a usable key in, at the rate of its policy.
type Door struct {
	store   Checker
	limiter *ratelimit.Limiter
}

// NewDoor returns a door that admits each key by limiter's policy.
func NewDoor(store Checker, limiter *ratelimit.Limiter) *Door {
	return &Door{store: store, limiter: limiter}
}

// Policy is the policy that this door enforces.
func (d *Door) Policy() ratelimit.Policy { return d.limiter.Policy }

// Enter checks the key a client presents. A key that is not usable is a
// fault.Unauthenticated, told apart from others by nothing. A suspended
// customer's key takes its place like any other, so that its refusals are
// limited too. Only a Decision that admits lets the request in.
func (d *Door) Enter(ctx context.Context, presented string) (Principal, ratelimit.Decision, error) {
	key, ok := Parse(presented)
	if !ok {
		return Principal{}, ratelimit.Decision{}, malformed(presented)
	}
	// A refusal is remembered under the hash of the whole key: nobody can
	// ask about a key that he doesn't hold.
	memory := string(key.Hash[:])
	refusal, remembered := ratelimit.Decision{}, false
	policy, limit := d.limiter.Policy.Name, d.limiter.Policy.Limit
	if d.limiter.Policy.Off {
		limit = ratelimit.Limit{}
	} else if refusal, remembered = d.limiter.Recall(memory); remembered {
		policy, limit = "", ratelimit.Limit{} // only look whether the key still stands
	}
	asked := time.Now()
	who, decision, err := d.store.Enter(ctx, key, policy, limit)
	switch {
	case err == nil && who.KeyID == "":
		return Principal{}, ratelimit.Decision{}, Unknown()
	case remembered: // also where the store can't be reached
		return who, refusal, nil
	case d.limiter.Policy.Off:
		decision.Admitted = err == nil
	default:
		d.limiter.Settle(memory, asked, decision, err)
	}
	return who, decision, err
}

// EnterFor checks a key as Enter does, and has its customer admitted by another
// policy than the door's: over all its keys.
func (d *Door) EnterFor(ctx context.Context, presented string, limiter *ratelimit.Limiter) (Principal, ratelimit.Decision, error) {
	key, ok := Parse(presented)
	if !ok {
		return Principal{}, ratelimit.Decision{}, malformed(presented)
	}
	// As in Enter, so that a refusal is one also where the store can't say whose
	// key it is.
	memory := string(key.Hash[:])
	refusal, remembered := limiter.Recall(memory)
	policy := d.limiter.Policy.Name // so that the time of its use is noted
	if remembered {
		policy = ""
	}
	who, _, err := d.store.Enter(ctx, key, policy, ratelimit.Limit{})
	switch {
	case err == nil && who.KeyID == "":
		return Principal{}, ratelimit.Decision{}, Unknown()
	case remembered:
		return who, refusal, nil
	case err != nil:
		return Principal{}, ratelimit.Decision{}, err
	}
	decision, err := limiter.Take(ctx, who.CustomerID)
	if err == nil && !decision.Admitted {
		limiter.Alias(memory, who.CustomerID)
	}
	return who, decision, err
}

// Unknown is the one answer to malformed, unknown, revoked and expired keys; the
// door says of a gateway's token that it is one.
func Unknown() *fault.Error {
	return &fault.Error{Kind: fault.Unauthenticated, Code: "INVALID_API_KEY", Message: "The API key is not valid."}
}

// malformed is Unknown, and tells by its beginning alone what never is a key.
func malformed(presented string) *fault.Error {
	f := Unknown()
	if strings.HasPrefix(presented, tokens+"_") {
		f.Message = "This is a gateway token, not an API key."
	}
	return f
}

// Suspended refuses a suspended customer's key.
func Suspended() *fault.Error {
	return &fault.Error{Kind: fault.Forbidden, Code: "FORBIDDEN", Message: "This account is suspended. Contact support."}
}
