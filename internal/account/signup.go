package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"gatehouse/internal/account/email"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
)

// Application is what somebody who wants to sign up says. Nil is left out.
type Application struct {
	Name, Email, Company, Source *string
}

// MailChecker says whether a domain can receive mail; see email.MX.
type MailChecker interface {
	Check(ctx context.Context, domain string) error
}

// Policy is the part of the configuration that sign-up owns.
type Policy struct {
	// Rules are the addresses that are refused for what they are.
	Rules *email.Rules
	// Mail refuses domains that can't receive mail; nil: nobody asks.
	Mail MailChecker
	// LoadTest are the domains of load tests, in the spelling of
	// email.Address.Domain. They get no mail, so Mail is not asked of them, and
	// who signs up there is marked for a purge; Rules must let them pass.
	LoadTest []string
	// FollowUps are the jobs that a sign-up queues, unless it is a load
	// test's: those whose means are configured.
	FollowUps []jobs.Kind
	// Catalogue says what a trial starts with.
	Catalogue billing.Catalogue
	// KeyKind is the kind of key that customers get.
	KeyKind apikey.Kind
}

// Service signs customers up and shows them their accounts.
type Service struct {
	store   Store
	policy  Policy
	now     func() time.Time
	observe func(outcome string)
}

// NewService returns a service over store. observe is told each sign-up's
// outcome: created, a reason of refusal, or failed.
func NewService(store Store, policy Policy, now func() time.Time, observe func(outcome string)) *Service {
	return &Service{store: store, policy: policy, now: now, observe: observe}
}

// Opened is a new customer with its first API key, which can't be read again.
type Opened struct {
	Customer
	Key apikey.Secret
}

// SignUp opens an account, and keeps what keep makes of it. What is wrong with
// an application is said of all its fields at once.
func (s *Service) SignUp(ctx context.Context, a Application, keep *idempotency.Once[Opened]) (Opened, error) {
	opened, err := s.signUp(ctx, a, keep)
	s.observe(outcome(err))
	return opened, err
}

func (s *Service) signUp(ctx context.Context, a Application, keep *idempotency.Once[Opened]) (Opened, error) {
	o, err := s.check(ctx, a)
	if err != nil {
		return Opened{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Opened{}, fmt.Errorf("make customer id: %w", err)
	}
	entry, err := uuid.NewV7()
	if err != nil {
		return Opened{}, fmt.Errorf("make entry id: %w", err)
	}
	at := s.now().UTC().Truncate(time.Microsecond)
	secret, issue, err := apikey.NewIssue(s.policy.KeyKind, "default", at, time.Time{})
	if err != nil {
		return Opened{}, err
	}
	if !o.LoadTest {
		o.Jobs = s.policy.FollowUps
	}
	o.ID, o.CreatedAt, o.Key = id.String(), at, issue
	o.Plan, o.TrialFixesLimit, o.CreditBalance = billing.Trial, s.policy.Catalogue.Trial.Fixes, s.policy.Catalogue.Trial.Credits
	o.Grant = billing.Entry{
		ID: entry.String(), Number: 1, Amount: o.CreditBalance, BalanceAfter: o.CreditBalance,
		Source: billing.TrialSignUp, Reference: billing.SignUpReference(o.ID), CreatedAt: at,
	}
	opened := func(c Customer) Opened { return Opened{c, secret} }
	if err := s.store.Open(ctx, o, idempotency.Map(keep, opened)); err != nil {
		return Opened{}, fmt.Errorf("open account: %w", err)
	}
	return opened(o.Customer), nil
}

// check reads an application into an opening that is acceptable but for what
// only the store can know.
func (s *Service) check(ctx context.Context, a Application) (o Opening, err error) {
	var wrong []fault.Detail
	var broken error // not the applicant's fault
	refuse := func(err error) {
		if f, ok := errors.AsType[*fault.Error](err); ok {
			wrong = append(wrong, f.Details...)
		} else if err != nil {
			broken = err
		}
	}
	o.Name, err = Text("name", a.Name, true)
	refuse(err)
	address, err := s.address(a.Email)
	refuse(err)
	o.Email, o.CanonicalEmail = address.Given, address.Canonical
	o.LoadTest = slices.Contains(s.policy.LoadTest, address.Domain)
	o.Company, err = Text("company", a.Company, false)
	refuse(err)
	o.Source, err = origin(a.Source)
	refuse(err)
	if broken != nil {
		return Opening{}, broken
	}
	if len(wrong) > 0 {
		return Opening{}, fault.Fields(wrong)
	}
	if s.policy.Mail != nil && !o.LoadTest { // last: it asks the network
		if err := s.policy.Mail.Check(ctx, address.Domain); err != nil {
			return Opening{}, err
		}
	}
	return o, nil
}

func (s *Service) address(given *string) (email.Address, error) {
	if given == nil {
		return email.Address{}, fault.Field("email", fault.Required, "email is required")
	}
	address, err := email.Parse(*given)
	if err != nil {
		return email.Address{}, err
	}
	return address, s.policy.Rules.Check(address)
}

func outcome(err error) string {
	if err == nil {
		return "created"
	}
	if f, ok := errors.AsType[*fault.Error](err); ok && len(f.Details) > 0 {
		return f.Details[0].Reason
	}
	return "failed"
}
