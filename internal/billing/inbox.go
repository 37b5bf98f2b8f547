package billing

import (
	"context"
	"log/slog"
	"time"
)

// EventState is how far an event has come. It is stored.
type EventState string

// The states.
const (
	Received EventState = "received" // a job will decide, or has given up
	Done     EventState = "done"     // its effect is committed
	Ignored  EventState = "ignored"  // it has none
	Parked   EventState = "parked"   // it can't have one as things are
)

// Receipt is an event as it is taken in.
type Receipt struct {
	ID      string // Stripe's; of bytes without one, made of their hash
	Type    string // "" when it can't be read
	Payload []byte // as it came
	Note    string // how it came, and how we know that it is Stripe's
	Park    string // why nobody need try to apply it; "" when a job shall
}

// StoredEvent is an event of the inbox.
type StoredEvent struct {
	Receipt
	State      EventState
	Reason     string // what was decided, and why
	WaitsFor   string // what a parked one waits for; "" when for an operator
	CustomerID string // whose it is, once that is known
	ReceivedAt time.Time
	DecidedAt  time.Time // zero: not yet
	History    []string  // a line for each step, oldest first
	// Dead says that its job was given up, or dropped, and Tries how often it was
	// begun.
	Dead  bool
	Tries int
	Claim int64 // of its job, the last one
}

// ParkedEvents is how many events are parked.
type ParkedEvents struct {
	Waiting int // for something that may come
	Stuck   int // until an operator does something, or for EventLife
}

// EventFilter says which events are meant; its zero value: all.
type EventFilter struct {
	ID    string     // "": any
	State EventState // "": any
	Dead  bool       // those alone whose job was given up
	Type  string     // "": any
}

// Inbox keeps events until they are applied, and for a while longer.
type Inbox interface {
	// TakeIn commits an event and the job that applies it, and says whether it
	// was new: of one id, one call is told so, however many there are.
	TakeIn(ctx context.Context, r Receipt) (isNew bool, err error)
	// Event returns an event, or fault.NotFound.
	Event(ctx context.Context, id string) (StoredEvent, error)
	// Apply commits what an event comes to, together with its new state, and
	// returns it as it is then. One that was decided meanwhile stays as it is.
	Apply(ctx context.Context, c Change) (StoredEvent, error)
	// ProPrices returns which of some prices are known to be Pro, and whether
	// a subscription is.
	ProPrices(ctx context.Context, prices []string, subscription string) (known []string, isPro bool, err error)
	// Revisit queues the events whose wait has ended, and says how many are
	// parked still.
	Revisit(ctx context.Context) (queued int, parked ParkedEvents, err error)
	// SweepEvents removes at most limit events that came EventLife ago and were
	// settled, parked or given up so long ago, and returns how many it were.
	SweepEvents(ctx context.Context, limit int) (int, error)
	// Cursor returns how far the reconciler has come.
	Cursor(ctx context.Context) (Cursor, error)
	// SetCursor notes how far the reconciler has come.
	SetCursor(ctx context.Context, c Cursor) error
	// QueueReconcile queues a run of the reconciler, unless the last one that
	// came through began less than every ago. One that failed waits no longer
	// than that for its next try.
	QueueReconcile(ctx context.Context, every time.Duration) error
}

// Intake takes events in, and tells of those that nobody can apply.
type Intake struct {
	inbox   Inbox
	log     *slog.Logger
	observe func(kind string, state EventState)
}

// NewIntake returns an intake into inbox. observe is told of what is parked.
func NewIntake(inbox Inbox, log *slog.Logger, observe func(kind string, state EventState)) *Intake {
	return &Intake{inbox, log, observe}
}

// TakeIn is Inbox.TakeIn.
func (i *Intake) TakeIn(ctx context.Context, r Receipt) (isNew bool, err error) {
	isNew, err = i.inbox.TakeIn(ctx, r)
	if isNew && r.Park != "" {
		i.observe(r.Type, Parked)
		i.log.ErrorContext(ctx, "an event of Stripe's is parked", "event", r.ID, "type", r.Type, "reason", r.Park)
	}
	return isNew, err
}

// InboxAdmin is what an operator does with events, on the database itself.
type InboxAdmin interface {
	// Events lists at most limit events, the newest first, after (that is,
	// older than) the one with the id before; "" begins with the newest.
	// Payloads are left out.
	Events(ctx context.Context, f EventFilter, before string, limit int) ([]StoredEvent, error)
	// Replay queues events again, whatever became of them, and returns how
	// many it were. What an event did once it does not do again.
	Replay(ctx context.Context, f EventFilter) (int, error)
}

// EventLife is how long an event is kept that nobody works on: Stripe tells of the last 30
// days, and a second effect of an older event is impossible all the same.
const EventLife = 90 * 24 * time.Hour

// Cursor is how far the reconciler has come with Stripe's list of events, which
// is newest first: all before Since are in the inbox; of those up to Until, it
// goes on after the event After.
type Cursor struct {
	Since, Until time.Time // Until is zero between two runs
	After        string
	BegunAt      time.Time // of the last run
}

// Change is what an event comes to.
type Change struct {
	EventID string
	By      string // who decided it
	Claim   int64  // of the job that decided: one that is not the last decides nothing; 0: whoever it is
	// State and Reason are what was decided of the event itself; a Done one may
	// yet be parked by the store, where whom or what it is about is missing.
	State    EventState
	Reason   string
	WaitsFor string
	Customer Party
	Facts    []Fact
	Method   *Method
	Payment  *Payment
	Reversal *Reversal
	// ProPrices are prices that are Pro's.
	ProPrices []string
}

// Party is whom an event is about: who that is at Stripe, and who the object's
// metadata says it is here.
type Party struct{ StripeID, CustomerID string }

// Prefixes of what a parked event waits for; an id follows.
const (
	WaitsForStripeCustomer = "stripe_customer:" // until a customer is known to be that one
	WaitsForCustomer       = "customer:"        // until there is a customer of the id
	WaitsForPrice          = "price:"           // until a price is known to be Pro's
	WaitsForPayment        = "payment:"         // until a payment is known, by its invoice or intent
	WaitsForSubscription   = "subscription:"    // until a subscription is known to be Pro's
)

// WaitFor is what an event about somebody unknown waits for; "" when it does not
// say who that is.
func (p Party) WaitFor() string {
	switch {
	case p.StripeID != "":
		return WaitsForStripeCustomer + p.StripeID
	case p.CustomerID != "":
		return WaitsForCustomer + p.CustomerID
	}
	return ""
}

// Payment is money that was paid and the credits it bought.
type Payment struct {
	ID      string // the invoice's, or of a fix the intent's
	Intent  string // the payment intent; "" when unknown
	Cents   int64
	Credits int64 // 0: it bought none
	Source  Source
	// Link says that nothing was paid just now: it only tells which intent
	// paid an invoice.
	Link bool
}

// Method is a payment method that was seen attached, or detached, at a time.
type Method struct {
	ID                     string
	AttachedAt, DetachedAt time.Time // zero: not said
	Credits                int64     // granted for the customer's first one
}

// Reversal is money that went back, or is claimed back.
type Reversal struct {
	Intent  string // whose payment it is: the payment intent, or a charge without one
	Payment string // the payment's id where it is known; "": found by the intent
	Charge  string
	Cents   int64 // of the whole charge; 0: as of the payment
	// From and To are how much was refunded before and is now, for a refund.
	From, To int64
	// Dispute is the dispute's id; "": it is a refund.
	Dispute      string
	DisputeCents int64
	Closed       bool
	Won          bool // for us: what was taken is given back
}
