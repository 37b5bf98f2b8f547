package gateway

import (
	"context"
	"time"
)

// Door tells what a token stands for.
type Door interface {
	// Enter returns the lease of a token at a provider. It is called for each
	// request, and so answers from memory. A *fault.Error is told to the
	// client: Unauthenticated for a token that is unknown, expired or
	// another provider's (401), Forbidden (403), Unavailable where this
	// node's view is too old to be trusted (503). Any other error is a 503.
	Enter(ctx context.Context, token, provider string) (*Lease, error)
}

// Lease is what a token stands for. Many calls may share one; the gateway
// changes nothing in it.
type Lease struct {
	CredentialID, CustomerID, KeyID, GrantID string
	// ExpiresAt, by the clock of Config.Now, ends open streams too.
	ExpiresAt time.Time
	// Ended ends when the lease is revoked: open streams end at once. Nil: it
	// never is.
	Ended context.Context //nolint:containedctx // its calls wait for it without a goroutine of their own
	// Capped says that money is set aside before each call.
	Capped bool
}

func (l *Lease) over(now time.Time) bool {
	return l.Ended != nil && l.Ended.Err() != nil || !now.Before(l.ExpiresAt)
}

// Meter is told what calls cost.
type Meter interface {
	// Reserve sets money aside before a call that costs something, where the
	// lease is capped. A fault.PaymentRequired, code BUDGET_EXCEEDED, is told
	// to the client (402), as Enter's faults are. The call goes out after it.
	Reserve(ctx context.Context, l *Lease, c *Call) (Reservation, error)
	// Settle says what a call came to: exactly once for each that was reserved
	// or may have reached the provider, free ones too. r is zero where nothing
	// was reserved. The client may have all of its answer by then. It must not
	// take long; ctx does not end with the client.
	Settle(ctx context.Context, l *Lease, c *Call, u Usage, r Reservation)
}

// Reservation is money set aside for one call.
type Reservation struct {
	ID       string
	MicroUSD int64 // millionths of a dollar
}

// Call is one request as it is sent on, before anything is known of its answer.
type Call struct {
	Provider string
	Path     string // behind /gateway/{provider}, with {id} for a model's name: one of a few
	Model    string // asked for; at most 256 bytes, empty where the request names none
	Started  time.Time
	Stream   bool // an answer in parts was asked for
	// Free calls (lists of models, counting tokens) cost nothing, and
	// nothing is reserved for them.
	Free bool
	// InputTokens is an estimate by the body's size, rather too high.
	InputTokens int64
	// MaxOutputTokens is the most that the request allows, over all choices; zero
	// where it sets no bound. NoOutput says that there is none to bound.
	MaxOutputTokens int64
	NoOutput        bool
}

// Usage is what a call came to. Tokens are counted Anthropic's way whoever the
// provider: those of input, cache reads and cache writes add up to the prompt.
type Usage struct {
	Model                string // as the provider names it; empty where it did not
	InputTokens          int64  // neither read from a cache nor written to one
	CacheReadTokens      int64
	CacheWriteTokens     int64 // kept for minutes
	CacheWriteHourTokens int64 // kept for an hour, which costs more
	OutputTokens         int64 // reasoning included
	WebSearches          int64 // made by the provider, paid one by one
	// Cost is the provider's own figure where Priced, in millionths of a
	// dollar, rounded up; it beats any price table.
	Cost   int64
	Priced bool
	// Estimated says that the provider's final figures did not come, so that
	// tokens are what was seen, or what it must have come to.
	Estimated bool
	Status    int // of the provider's answer; 0: there was none
	Outcome   Outcome
	Took      time.Duration
}

// Outcome is how a call ended; it is a metric label.
type Outcome string

// The ways in which a call ends.
const (
	Done     Outcome = "done"     // answered whole, and taken
	Left     Outcome = "left"     // the client went away before the end
	Cut      Outcome = "cut"      // the provider's answer broke off
	Failed   Outcome = "failed"   // the provider refused it, or could not be reached
	Revoked  Outcome = "revoked"  // its lease was revoked or expired meanwhile
	Overdue  Outcome = "overdue"  // the provider fell silent for too long
	Shutdown Outcome = "shutdown" // this node stopped
	Lost     Outcome = "lost"     // its node died, and nobody knows: the meter's, not a gateway's
)
