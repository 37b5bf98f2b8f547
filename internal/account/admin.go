package account

import (
	"context"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/jobs"
	"gatehouse/internal/vending"
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
	// Resume undoes Suspend. Of an erased customer both are fault.Conflict.
	Resume(ctx context.Context, id string) (Customer, error)
	// Export reads all that is stored of a customer as it is at one moment,
	// or returns fault.NotFound.
	Export(ctx context.Context, id string) (Data, error)
	// Erase removes a customer's name, address and company, API keys, kept
	// outcomes and jobs, so that nothing of it is left in the database's
	// files, and keeps the ledger and the balances, where the customer came
	// from and who it is at Stripe. Of Stripe's events it empties those that are
	// the customer's and those that are nobody's and have its id, that at Stripe
	// or its address; but not what a job is to apply, which is emptied after
	// that. Erasing again looks for traces again, though not for the address,
	// which nobody knows any more.
	Erase(ctx context.Context, id string, at time.Time) (Erased, error)
	// PurgeSome removes, in one transaction, the first customers with ids
	// above after whose canonical address is at exactly domain, with all that
	// is theirs: keys and ledgers too. It looks at no more than limit of them,
	// and keeps those that did not sign up as a load test's (Opening.LoadTest)
	// and those that have an id at Stripe which no load test made up.
	PurgeSome(ctx context.Context, domain, after string, limit int) (Purged, error)
}

// Data is what is stored of a customer, but for hashes and what is sealed.
type Data struct {
	Customer
	CanonicalEmail string // who it is by address: unique over all customers
	LoadTest       bool
	Keys           []Key // revoked and ended ones too
	Entries        []billing.Entry
	Jobs           []jobs.Job
	Fixes          []billing.Fix
	Methods        []string              // payment methods that are attached, by their ids at Stripe
	Events         []billing.StoredEvent // of Stripe's, with their payloads
	Credentials    []vending.Credential  // ended ones too
	Audit          []vending.Audit
}

// Key is an API key of any state.
type Key struct {
	apikey.Record
	RevokedAt time.Time // zero: not revoked
}

// Erased is what erasing a customer came to.
type Erased struct {
	Customer Customer // as it is now
	Already  bool     // it was erased before
	Running  int      // jobs that were under way, so that others may yet hear of the customer
	Logged   bool     // others who read keep the database's log as it was: it still holds the data
}
