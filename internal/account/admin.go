package account

import (
	"context"
	"time"
)

// Registry is what an operator does with customers, on the database itself.
type Registry interface {
	// Customers lists at most limit customers with ids above after, in the
	// order they signed up.
	Customers(ctx context.Context, after string, limit int) ([]Customer, error)
	// CustomerByEmail finds the customer of a canonical address, or
	// fault.NotFound.
	CustomerByEmail(ctx context.Context, canonical string) (Customer, error)
	// Suspend refuses all of a customer's keys from the next request on;
	// suspending again keeps the first time. It returns the customer as it
	// is then, or fault.NotFound.
	Suspend(ctx context.Context, id string, at time.Time) (Customer, error)
	// Resume undoes Suspend.
	Resume(ctx context.Context, id string) (Customer, error)
	// PurgeSome removes, in one transaction, the first customers with ids
	// above after whose canonical address is at exactly domain, with all that
	// is theirs: keys and ledgers too. It looks at no more than limit of them,
	// and keeps those that did not sign up as a load test's (Opening.LoadTest)
	// and those that Stripe knows.
	PurgeSome(ctx context.Context, domain, after string, limit int) (Purged, error)
}
