package account_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/account/email"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
)

var errAway = fault.Away(errors.New("connection lost"))

// book is a store in memory. It can fail and not persist, or fail but
// persist, as when the connection is lost before the answer to a commit.
type book struct {
	account.Store
	mu        sync.Mutex
	opened    []account.Opening // what persists
	tried     []account.Opening
	err       error
	persist   bool        // although there is an error
	counted   []time.Time // the periods that fixes were counted in
	uncounted error       // of counting them
	said      *[]string
}

func (b *book) Open(_ context.Context, o account.Opening, _ *idempotency.Once[account.Customer]) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tried = append(b.tried, o)
	if b.said != nil {
		*b.said = append(*b.said, "open "+o.CanonicalEmail)
	}
	if b.err != nil && !b.persist {
		return b.err
	}
	for _, known := range b.opened {
		switch {
		case known.ID == o.ID:
			return b.err
		case known.CanonicalEmail == o.CanonicalEmail:
			return fault.Field("email", fault.AlreadyRegistered, "email is already registered")
		}
	}
	b.opened = append(b.opened, o)
	return b.err
}

func (b *book) Customer(_ context.Context, id string) (account.Customer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return account.Customer{}, b.err
	}
	for _, o := range b.opened {
		if o.ID == id {
			return o.Customer, nil
		}
	}
	return account.Customer{}, fault.Missing("There is no such customer.")
}

// FixesBetween counts two fixes in any period.
func (b *book) FixesBetween(_ context.Context, _ string, start, end time.Time) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.counted = append(b.counted, start, end)
	return 2, b.uncounted
}

// resolver checks mail domains by what it was told to say.
type resolver struct {
	err   error
	asked []string
	said  *[]string
}

func (r *resolver) Check(_ context.Context, domain string) error {
	r.asked = append(r.asked, domain)
	if r.said != nil {
		*r.said = append(*r.said, "check "+domain)
	}
	return r.err
}

// noon has a zone and nanoseconds, of which nothing is kept.
var (
	noon    = time.Date(2026, 3, 1, 14, 0, 0, 123456789, time.FixedZone("", 2*60*60))
	created = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)
)

// desk is a service, and what it says of outcomes.
type desk struct {
	*account.Service
	mu       sync.Mutex
	outcomes []string
}

// signUp signs up without an Idempotency-Key.
func (d *desk) signUp(ctx context.Context, a account.Application) (account.Customer, apikey.Secret, error) {
	opened, err := d.SignUp(ctx, a, nil)
	return opened.Customer, opened.Key, err
}

func (d *desk) observe(outcome string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.outcomes = append(d.outcomes, outcome)
}

// newDesk takes a nil mail for nobody who asks.
func newDesk(t *testing.T, store account.Store, mail account.MailChecker) *desk {
	t.Helper()
	rules, err := email.NewRules(nil, []string{"competitor.com"})
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{}
	policy := account.Policy{Rules: rules, Mail: mail, Catalogue: billing.DefaultCatalogue(), KeyKind: apikey.Test}
	d.Service = account.NewService(store, policy, func() time.Time { return noon }, d.observe)
	return d
}

func application(name, address string) account.Application {
	return account.Application{Name: &name, Email: &address}
}
