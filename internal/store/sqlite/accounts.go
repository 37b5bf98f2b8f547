package sqlite

import (
	"context"

	"gatehouse/internal/account"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
	"gatehouse/internal/store/records"
)

// Open implements account.Store.
func (s *Store) Open(ctx context.Context, o account.Opening, keep *idempotency.Once[account.Customer]) error {
	_, err := records.WriteOnce(ctx, runner{s}, "open_account", o.ID, keep, func(t records.Tx) (account.Customer, error) {
		n, err := t.Exec(`INSERT INTO customers (id, name, email, email_canonical, company, source, subscription_plan, subscription_state,
			trial_fixes_limit, trial_fixes_used, credit_balance, credit_debt, created_at, load_test)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT (email_canonical) DO NOTHING`,
			o.ID, o.Name, o.Email, o.CanonicalEmail, o.Company, o.Source, string(o.Plan), o.State,
			o.TrialFixesLimit, o.TrialFixesUsed, o.CreditBalance, o.CreditDebt, o.CreatedAt.UnixMicro(), o.LoadTest)
		if err != nil {
			return o.Customer, err
		}
		if n == 0 {
			return o.Customer, alreadyOpen(t, o)
		}
		if err := records.InsertKey(t, o.ID, o.Key); err != nil {
			return o.Customer, err
		}
		for _, kind := range o.Jobs {
			if err := records.Enqueue(t, kind, o.ID); err != nil {
				return o.Customer, err
			}
		}
		return o.Customer, records.InsertEntry(t, o.ID, o.Grant)
	})
	return err
}

// alreadyOpen tells another's address from this same opening, committed
// before by a try whose outcome was unknown.
func alreadyOpen(t records.Tx, o account.Opening) error {
	var id string
	if err := t.Row("SELECT id FROM customers WHERE email_canonical = $1", []any{o.CanonicalEmail}, &id); err != nil {
		return err
	}
	if id == o.ID {
		return nil
	}
	return fault.Field("email", fault.AlreadyRegistered, "email is already registered")
}

// unknownToStripe are the customers that ought to have a Stripe customer and
// have neither one nor a job that makes it.
const unknownToStripe = `stripe_customer_id IS NULL AND load_test = 0 AND erased_at IS NULL
	AND NOT EXISTS (SELECT 1 FROM jobs WHERE kind = 'stripe_customer' AND subject = customers.id)`

// QueueStripeCustomers implements account.Store. It looks for them beside the
// writer, which looks again.
func (s *Store) QueueStripeCustomers(ctx context.Context, after string, limit int) (last string, queued int, err error) {
	ids, err := records.Read(ctx, runner{s}, "find_unknown_to_stripe", func(r records.Reader) ([]string, error) {
		return records.List(r, "SELECT id FROM customers WHERE id > $1 AND "+unknownToStripe+" ORDER BY id LIMIT $2", []any{after, limit}, records.Text)
	})
	if err != nil || len(ids) == 0 {
		return "", 0, err
	}
	queued, err = records.Write(ctx, runner{s}, "queue_stripe_customers", func(t records.Tx) (n int, err error) {
		for _, id := range ids {
			var still bool
			if err := t.Row("SELECT EXISTS (SELECT 1 FROM customers WHERE id = $1 AND "+unknownToStripe+")", []any{id}, &still); err != nil {
				return n, err
			}
			if !still {
				continue
			}
			if err := records.Enqueue(t, jobs.StripeCustomer, id); err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	})
	return ids[len(ids)-1], queued, err
}
