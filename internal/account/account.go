package account

import (
	"context"
	"fmt"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
)

// Customer is a customer as stored.
type Customer struct {
	ID              string // UUIDv7
	Name            string
	Email           string // as given
	Company         string // "" when there is none
	Source          string // where the sign-up came from
	Plan            billing.Plan
	State           string // of the subscription; "" until there was one
	TrialFixesLimit int64
	TrialFixesUsed  int64
	CreditBalance   int64 // whole fixes; the sum of the ledger's entries
	CreditDebt      int64 // whole fixes a refund could not take back
	// The Pro period that is paid for; zero without Pro.
	PeriodStart, PeriodEnd time.Time
	CancelsAtEnd           bool  // Pro ends with its period
	DayBudget              int64 // cents that its credentials may spend in a day (UTC); 0: no bound
	StripeCustomerID       string
	CreatedAt              time.Time
	SuspendedAt            time.Time // zero: not suspended
	ErasedAt               time.Time // zero: not erased; then nothing personal is left
}

// Opening is all that a sign-up writes: the store commits the whole or nothing.
type Opening struct {
	Customer
	CanonicalEmail string // unique over all customers
	LoadTest       bool   // made by a load test, so that a purge may remove it
	Key            apikey.Issue
	Grant          billing.Entry
	Jobs           []jobs.Kind // that follow, with the customer's id as subject
}

// Store is what accounts need from a database, and no more.
type Store interface {
	// Open commits the customer, the key, the first ledger entry, the jobs
	// and what keep makes of the customer together. A taken address is fault.Invalid with the reason
	// already_registered and writes nothing. Opening the same customer id
	// again, after an outcome that was unknown, succeeds and changes nothing.
	Open(ctx context.Context, o Opening, keep *idempotency.Once[Customer]) error
	// Customer returns a customer, or fault.NotFound.
	Customer(ctx context.Context, id string) (Customer, error)
	// SetStripeCustomer notes who a customer is at Stripe; noting it again
	// does nothing. It is fault.Conflict where that is somebody else, or the
	// customer is known there under another id.
	SetStripeCustomer(ctx context.Context, id, stripeID string) error
	// QueueStripeCustomers queues the job StripeCustomer for at most limit
	// customers with ids above after who have neither it nor a Stripe
	// customer and are no load test's. It returns the last id it looked at,
	// or "" at the end.
	QueueStripeCustomers(ctx context.Context, after string, limit int) (last string, queued int, err error)
	// FixesBetween counts a customer's fixes from start to before end.
	FixesBetween(ctx context.Context, customerID string, start, end time.Time) (int64, error)
}

// Usage is what a customer used in a period.
type Usage struct {
	Start, End time.Time // End is not part of it
	Fixes      int64
}

// Get returns the customer and its usage in the current period.
func (s *Service) Get(ctx context.Context, id string) (Customer, Usage, error) {
	c, err := s.store.Customer(ctx, id)
	if err != nil {
		return Customer{}, Usage{}, fmt.Errorf("read account: %w", err)
	}
	start, end := c.period(s.now())
	fixes, err := s.store.FixesBetween(ctx, id, start, end)
	if err != nil {
		return Customer{}, Usage{}, fmt.Errorf("count fixes: %w", err)
	}
	return c, Usage{start, end, fixes}, nil
}

// period is the one that now is in: Pro's, or else the month in UTC. Where Pro
// is not paid yet for a new period the old one is over.
func (c Customer) period(now time.Time) (start, end time.Time) {
	if c.Plan == billing.Pro && !now.Before(c.PeriodStart) && now.Before(c.PeriodEnd) {
		return c.PeriodStart, c.PeriodEnd
	}
	y, m, _ := now.UTC().Date()
	start = time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)
	return start, start.AddDate(0, 1, 0)
}
