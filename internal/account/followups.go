package account

import (
	"context"
	"errors"
	"fmt"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
)

// Mailer sends customers mail.
type Mailer interface {
	// Welcome sends the welcome mail; sent twice it is the same message.
	Welcome(ctx context.Context, c Customer) error
}

// Payments makes customers known to who charges them.
type Payments interface {
	// EnsureCustomer makes a customer there and returns its id; done twice
	// within a day it makes one. With look it looks for the customer first.
	EnsureCustomer(ctx context.Context, c Customer, look bool) (id string, err error)
}

// WelcomeMail is the handler of jobs.WelcomeMail. Mail can't be unsent, so a
// job that runs twice sends it twice, as one message of one id.
func WelcomeMail(s Store, m Mailer) jobs.Handler {
	return func(ctx context.Context, j jobs.Job) error {
		c, err := s.Customer(ctx, j.Subject)
		if isGone(err) || err == nil && !c.ErasedAt.IsZero() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read customer: %w", err)
		}
		return m.Welcome(ctx, c)
	}
}

// keyTrust is for how long after its sign-up a customer can't be made twice at
// Stripe, which knows a repeated request by its key for 24 hours.
const keyTrust = 20 * time.Hour

// StripeCustomer is the handler of jobs.StripeCustomer.
func StripeCustomer(s Store, p Payments, now func() time.Time) jobs.Handler {
	return func(ctx context.Context, j jobs.Job) error {
		c, err := s.Customer(ctx, j.Subject)
		if isGone(err) || err == nil && (!c.ErasedAt.IsZero() || c.StripeCustomerID != "") {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read customer: %w", err)
		}
		id, err := p.EnsureCustomer(ctx, c, now().Sub(c.CreatedAt) > keyTrust)
		if err != nil {
			return err
		}
		err = s.SetStripeCustomer(ctx, c.ID, id)
		if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind != fault.Unavailable {
			return jobs.Permanent(fmt.Errorf("it is %s at Stripe, and can't be noted here: %s", id, f.Message))
		}
		return err
	}
}

func isGone(err error) bool {
	f, ok := errors.AsType[*fault.Error](err)
	return ok && f.Kind == fault.NotFound
}

// catchUpBatch is how many customers one step of CatchUp queues: a few ms of
// the database's time.
const catchUpBatch = 250

// catchUpPause is how long it waits between two steps, and between two looks at
// whether the last ones are done.
const catchUpPause = time.Second

// CatchUp queues the job StripeCustomer for all customers who signed up while
// Stripe was not configured, and returns how many it were. It goes in steps, and
// begins none while waiting says that many jobs of that kind wait: who signs up
// meanwhile must not stand behind all those.
func CatchUp(ctx context.Context, s Store, waiting func(context.Context) (int, error)) (queued int, err error) {
	for after := ""; ; {
		wait, err := waiting(ctx)
		if err != nil {
			return queued, err
		}
		if wait < catchUpBatch {
			last, n, err := s.QueueStripeCustomers(ctx, after, catchUpBatch)
			queued += n
			if err != nil || last == "" {
				return queued, err
			}
			after = last
		}
		select {
		case <-time.After(catchUpPause):
		case <-ctx.Done():
			return queued, ctx.Err()
		}
	}
}
