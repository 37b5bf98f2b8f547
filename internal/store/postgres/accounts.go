package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/account"
	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
)

// Customer implements account.Store.
func (s *Store) Customer(ctx context.Context, id string) (account.Customer, error) {
	return s.customer(ctx, "id", id)
}

// CustomerByEmail implements account.Registry.
func (s *Store) CustomerByEmail(ctx context.Context, canonical string) (account.Customer, error) {
	return s.customer(ctx, "email_canonical", canonical)
}

const customerColumns = `id, name, email, company, source, subscription_plan, subscription_state, trial_fixes_limit, trial_fixes_used,
	credit_balance, credit_debt, coalesce(stripe_customer_id, ''), created_at, suspended_at, erased_at`

func scanCustomer(scan scanner, more ...any) (c account.Customer, err error) {
	var created int64
	var suspended, erased *int64
	err = scan(append([]any{
		&c.ID, &c.Name, &c.Email, &c.Company, &c.Source, &c.Plan, &c.State, &c.TrialFixesLimit, &c.TrialFixesUsed,
		&c.CreditBalance, &c.CreditDebt, &c.StripeCustomerID, &created, &suspended, &erased,
	}, more...)...)
	c.CreatedAt, c.SuspendedAt, c.ErasedAt = instant(created), optional(suspended), optional(erased)
	return c, err
}

// customer reads the customer whose column, one of our own names, is value.
func (s *Store) customer(ctx context.Context, column, value string) (c account.Customer, err error) {
	err = s.call(ctx, "read_customer", func(ctx context.Context, conn *pgxpool.Conn) (err error) {
		c, err = scanCustomer(conn.QueryRow(ctx, "SELECT "+customerColumns+" FROM customers WHERE "+column+" = $1", value).Scan)
		return missing(err)
	})
	return c, err
}

// Customers implements account.Registry.
func (s *Store) Customers(ctx context.Context, after string, limit int) ([]account.Customer, error) {
	return list(ctx, s, "list_customers", "SELECT "+customerColumns+" FROM customers WHERE id > $1 ORDER BY id LIMIT $2", []any{after, limit},
		func(scan scanner) (account.Customer, error) { return scanCustomer(scan) })
}

// Suspend implements account.Registry.
func (s *Store) Suspend(ctx context.Context, id string, at time.Time) (account.Customer, error) {
	return s.setSuspended(ctx, id, "coalesce(suspended_at, $2)", at.UnixMicro())
}

// Resume implements account.Registry.
func (s *Store) Resume(ctx context.Context, id string) (account.Customer, error) {
	return s.setSuspended(ctx, id, "NULL")
}

func (s *Store) setSuspended(ctx context.Context, id, to string, args ...any) (account.Customer, error) {
	return mutate(ctx, s, "suspend_customer", func(ctx context.Context, tx pgx.Tx) (account.Customer, error) {
		c, err := scanCustomer(tx.QueryRow(ctx, "SELECT "+customerColumns+" FROM customers WHERE id = $1 FOR NO KEY UPDATE", id).Scan)
		if err != nil {
			return c, missing(err)
		}
		if !c.ErasedAt.IsZero() {
			return c, fault.Refused("The customer was erased.")
		}
		return scanCustomer(tx.QueryRow(ctx, "UPDATE customers SET suspended_at = "+to+" WHERE id = $1 RETURNING "+customerColumns, append([]any{id}, args...)...).Scan)
	})
}

// SetStripeCustomer implements account.Store.
func (s *Store) SetStripeCustomer(ctx context.Context, id, stripeID string) error {
	return s.change(ctx, "set_stripe_customer", func(ctx context.Context, tx pgx.Tx) error {
		var known string
		err := tx.QueryRow(ctx, "SELECT coalesce(stripe_customer_id, '') FROM customers WHERE id = $1 FOR NO KEY UPDATE", id).Scan(&known)
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
		err = tx.QueryRow(ctx, "SELECT id FROM customers WHERE stripe_customer_id = $1", stripeID).Scan(&other)
		if err == nil {
			return fault.Refused(fmt.Sprintf("%s at Stripe is customer %s already.", stripeID, other))
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		_, err = tx.Exec(ctx, "UPDATE customers SET stripe_customer_id = $2 WHERE id = $1", id, stripeID)
		return err
	})
}

// QueueStripeCustomers implements account.Store. Who has neither a Stripe
// customer nor a job that makes one is queued.
func (s *Store) QueueStripeCustomers(ctx context.Context, after string, limit int) (last string, queued int, err error) {
	type step struct {
		last   string
		queued int
	}
	done, err := mutate(ctx, s, "queue_stripe_customers", func(ctx context.Context, tx pgx.Tx) (d step, err error) {
		err = tx.QueryRow(ctx, `WITH found AS (
				SELECT id FROM customers c WHERE id > $1 AND stripe_customer_id IS NULL AND NOT load_test AND erased_at IS NULL
				AND NOT EXISTS (SELECT FROM jobs WHERE kind = $3 AND subject = c.id) ORDER BY id LIMIT $2
			), queued AS (
				INSERT INTO jobs (kind, subject, created_at, due_at, claim) SELECT $3, f.id, u.at, u.at, u.at FROM found f, LATERAL (SELECT now_us() AS at, f.id) u
				ORDER BY f.id ON CONFLICT DO NOTHING RETURNING subject
			) SELECT coalesce((SELECT max(id) FROM found), ''), (SELECT count(*) FROM queued)`, after, limit, string(jobs.StripeCustomer)).Scan(&d.last, &d.queued)
		return d, err
	})
	return done.last, done.queued, err
}

func missing(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.Missing("There is no such customer.")
	}
	return err
}
