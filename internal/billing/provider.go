package billing

import (
	"context"
	"errors"
	"time"
)

// Provider is who charges customers. Its errors are fit to be kept and logged.
// One that is not ErrGone is worth another try, whatever it says: what is
// missing may be mended.
type Provider interface {
	// Live says whether it moves real money.
	Live() bool
	// Subscription and the next three return what is there now, or ErrGone.
	Subscription(ctx context.Context, id string) (SubscriptionObject, error)
	// Invoice returns an invoice with all its lines.
	Invoice(ctx context.Context, id string) (InvoiceObject, error)
	Method(ctx context.Context, id string) (MethodObject, error)
	Price(ctx context.Context, id string) (Price, error)
	// InvoiceOf returns which invoice a payment intent paid, "" when none.
	InvoiceOf(ctx context.Context, intent string) (string, error)
	// Charge charges a customer who is not there. With the same charge again it
	// is the same one, however often.
	Charge(ctx context.Context, c Charge) (ChargeOutcome, error)
	// Events returns a page of at most 100 events that happened from since to
	// until, the newest first, after the one with the id after ("": from the
	// newest), and whether there are more.
	Events(ctx context.Context, since, until time.Time, after string) (page []Receipt, more bool, err error)
}

// ErrGone says that the provider knows nothing of that id.
var ErrGone = errors.New("there is no such object at Stripe")

// Charge is one attempt to have a fix paid.
type Charge struct {
	FixID    string
	Attempt  int64
	Customer string // at the provider
	Method   string // payment method
	Cents    int64
	Currency string
	// Again says that an earlier try may have come through: it is looked for
	// first. Late says that it may not be made any more, only looked for, since the
	// provider may have forgotten that it was asked before. Final says that nobody
	// makes it any more, so that one that is not there was not made.
	Again, Late, Final bool
}

// ChargeOutcome is what certainly became of a charge.
type ChargeOutcome struct {
	Intent string // "" when none was made
	Paid   bool
	Why    string // why it was not paid: a code of Stripe's such as insufficient_funds
}
