package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
)

// Open implements account.Store.
func (s *Store) Open(ctx context.Context, o account.Opening, keep *idempotency.Once[account.Customer]) error {
	_, err := once(ctx, s, "open_account", o.ID, keep, func(t *tx) (account.Customer, error) {
		n, err := t.change(`INSERT INTO customers (id, name, email, email_canonical, company, source, subscription_plan, subscription_state,
			trial_fixes_limit, trial_fixes_used, credit_balance, credit_debt, created_at, load_test)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (email_canonical) DO NOTHING`,
			o.ID, o.Name, o.Email, o.CanonicalEmail, o.Company, o.Source, string(o.Plan), o.State,
			o.TrialFixesLimit, o.TrialFixesUsed, o.CreditBalance, o.CreditDebt, o.CreatedAt.UnixMicro(), o.LoadTest)
		if err != nil {
			return o.Customer, err
		}
		if n == 0 {
			return o.Customer, alreadyOpen(t, o)
		}
		if err := insertKey(t, o.ID, o.Key); err != nil {
			return o.Customer, err
		}
		for _, kind := range o.Jobs {
			if err := s.enqueue(t, kind, o.ID); err != nil {
				return o.Customer, err
			}
		}
		return o.Customer, insertEntry(t, o.ID, o.Grant)
	})
	return err
}

// alreadyOpen tells another's address from this same opening, committed
// before by a try whose outcome was unknown.
func alreadyOpen(t *tx, o account.Opening) error {
	var id string
	if err := t.row("SELECT id FROM customers WHERE email_canonical = ?", []any{o.CanonicalEmail}, &id); err != nil {
		return err
	}
	if id == o.ID {
		return nil
	}
	return fault.Field("email", fault.AlreadyRegistered, "email is already registered")
}

func insertKey(t *tx, customerID string, k apikey.Issue) error {
	return t.exec(`INSERT INTO api_keys (customer_id, id, public_id, hash, prefix, name, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		customerID, k.ID, k.PublicID, k.Hash[:], k.Prefix, k.Name, k.CreatedAt.UnixMicro(), micros(k.ExpiresAt))
}

func insertEntry(t *tx, customerID string, e billing.Entry) error {
	return t.exec(`INSERT INTO ledger_entries (customer_id, number, id, amount, balance_after, source, reference, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		customerID, e.Number, e.ID, e.Amount, e.BalanceAfter, string(e.Source), e.Reference, e.CreatedAt.UnixMicro())
}

const customerColumns = `id, name, email, company, source, subscription_plan, subscription_state, trial_fixes_limit, trial_fixes_used,
	credit_balance, credit_debt, coalesce(stripe_customer_id, ''), created_at, suspended_at, erased_at`

func scanCustomer(scan func(...any) error) (c account.Customer, err error) {
	var created int64
	var suspended, erased sql.NullInt64
	err = scan(&c.ID, &c.Name, &c.Email, &c.Company, &c.Source, &c.Plan, &c.State, &c.TrialFixesLimit, &c.TrialFixesUsed,
		&c.CreditBalance, &c.CreditDebt, &c.StripeCustomerID, &created, &suspended, &erased)
	c.CreatedAt, c.SuspendedAt, c.ErasedAt = instant(created), optional(suspended), optional(erased)
	return c, err
}

// Customer implements account.Store.
func (s *Store) Customer(ctx context.Context, id string) (account.Customer, error) {
	return s.customer(ctx, "id", id)
}

// CustomerByEmail implements account.Registry.
func (s *Store) CustomerByEmail(ctx context.Context, canonical string) (account.Customer, error) {
	return s.customer(ctx, "email_canonical", canonical)
}

// customer reads the customer whose column, one of our own names, is value.
func (s *Store) customer(ctx context.Context, column, value string) (c account.Customer, err error) {
	err = s.query("read_customer", func() error {
		c, err = scanCustomer(s.read.QueryRowContext(ctx, "SELECT "+customerColumns+" FROM customers WHERE "+column+" = ?", value).Scan)
		return missing(err)
	})
	return c, err
}

// Customers implements account.Registry.
func (s *Store) Customers(ctx context.Context, after string, limit int) (found []account.Customer, err error) {
	err = s.each(ctx, "list_customers", "SELECT "+customerColumns+" FROM customers WHERE id > ? ORDER BY id LIMIT ?", []any{after, limit}, func(scan func(...any) error) error {
		c, err := scanCustomer(scan)
		found = append(found, c)
		return err
	})
	return found, err
}

// Suspend implements account.Registry.
func (s *Store) Suspend(ctx context.Context, id string, at time.Time) (account.Customer, error) {
	return s.setSuspended(ctx, id, "UPDATE customers SET suspended_at = coalesce(suspended_at, ?2) WHERE id = ?1", at.UnixMicro())
}

// Resume implements account.Registry.
func (s *Store) Resume(ctx context.Context, id string) (account.Customer, error) {
	return s.setSuspended(ctx, id, "UPDATE customers SET suspended_at = NULL WHERE id = ?1")
}

func (s *Store) setSuspended(ctx context.Context, id, update string, args ...any) (account.Customer, error) {
	return mutate(ctx, s, "suspend_customer", func(t *tx) (account.Customer, error) {
		read := func(into ...any) error {
			return t.row("SELECT "+customerColumns+" FROM customers WHERE id = ?", []any{id}, into...)
		}
		c, err := scanCustomer(read)
		if err != nil {
			return c, missing(err)
		}
		if !c.ErasedAt.IsZero() {
			return c, fault.Refused("The customer was erased.")
		}
		if err := t.exec(update, append([]any{id}, args...)...); err != nil {
			return c, err
		}
		return scanCustomer(read)
	})
}

// SetStripeCustomer implements account.Store.
func (s *Store) SetStripeCustomer(ctx context.Context, id, stripeID string) error {
	return s.change(ctx, "set_stripe_customer", func(t *tx) error {
		var known string
		err := t.row("SELECT coalesce(stripe_customer_id, '') FROM customers WHERE id = ?", []any{id}, &known)
		if err != nil {
			return missing(err)
		}
		if known == stripeID {
			return nil
		}
		if known != "" {
			return fault.Refused(fmt.Sprintf("The customer is %s at Stripe already.", known))
		}
		var other string
		err = t.row("SELECT id FROM customers WHERE stripe_customer_id = ?", []any{stripeID}, &other)
		if err == nil {
			return fault.Refused(fmt.Sprintf("%s at Stripe is customer %s already.", stripeID, other))
		}
		if !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		return t.exec("UPDATE customers SET stripe_customer_id = ? WHERE id = ?", stripeID, id)
	})
}

// unknownToStripe are the customers that ought to have a Stripe customer and
// have neither one nor a job that makes it.
const unknownToStripe = `stripe_customer_id IS NULL AND load_test = 0 AND erased_at IS NULL
	AND NOT EXISTS (SELECT 1 FROM jobs WHERE kind = 'stripe_customer' AND subject = customers.id)`

// QueueStripeCustomers implements account.Store.
func (s *Store) QueueStripeCustomers(ctx context.Context, after string, limit int) (last string, queued int, err error) {
	var ids []string
	err = s.each(ctx, "find_unknown_to_stripe", "SELECT id FROM customers WHERE id > ? AND "+unknownToStripe+" ORDER BY id LIMIT ?", []any{after, limit}, func(scan func(...any) error) error {
		err := scan(&last)
		ids = append(ids, last)
		return err
	})
	if err != nil || len(ids) == 0 {
		return "", 0, err
	}
	queued, err = mutate(ctx, s, "queue_stripe_customers", func(t *tx) (n int, err error) {
		for _, id := range ids {
			var still bool
			if err := t.row("SELECT EXISTS (SELECT 1 FROM customers WHERE id = ? AND "+unknownToStripe+")", []any{id}, &still); err != nil {
				return n, err
			}
			if !still {
				continue
			}
			if err := s.enqueue(t, jobs.StripeCustomer, id); err != nil {
				return n, err
			}
			n++
		}
		return n, nil
	})
	return last, queued, err
}

func missing(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.Missing("There is no such customer.")
	}
	return err
}

// micros stores a time that may be absent.
func micros(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UnixMicro()
}

func instant(us int64) time.Time { return time.UnixMicro(us).UTC() }

func optional(us sql.NullInt64) time.Time {
	if !us.Valid {
		return time.Time{}
	}
	return instant(us.Int64)
}
