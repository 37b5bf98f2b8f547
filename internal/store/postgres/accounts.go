package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/account"
	"gatehouse/internal/jobs"
	"gatehouse/internal/store/records"
)

// QueueStripeCustomers implements account.Store. Who has neither a Stripe
// customer nor a job that makes one is queued.
func (s *Store) QueueStripeCustomers(ctx context.Context, after string, limit int) (last string, queued int, err error) {
	err = runner{s}.Write(ctx, "queue_stripe_customers", func(t records.Tx) error {
		return t.Row(`WITH found AS (
				SELECT id FROM customers c WHERE id > $1 AND stripe_customer_id IS NULL AND NOT load_test AND erased_at IS NULL
				AND NOT EXISTS (SELECT FROM jobs WHERE kind = $3 AND subject = c.id) ORDER BY id LIMIT $2
			), queued AS (
				INSERT INTO jobs (kind, subject, created_at, due_at, claim) SELECT $3, f.id, u.at, u.at, u.at FROM found f, LATERAL (SELECT now_us() AS at, f.id) u
				ORDER BY f.id ON CONFLICT DO NOTHING RETURNING subject
			) SELECT coalesce((SELECT max(id) FROM found), ''), (SELECT count(*) FROM queued)`, []any{after, limit, string(jobs.StripeCustomer)}, &last, &queued)
	})
	return last, queued, err
}

// domain is that of a canonical address, which has one @.
const domain = "split_part(email_canonical, '@', 2)"

// PurgeSome implements account.Registry. No index knows domains, so it is a
// read that looks for them, which holds up nobody; the transaction looks again
// at those that were found.
func (s *Store) PurgeSome(ctx context.Context, at, after string, limit int) (done account.Purged, err error) {
	ids, err := records.Read(ctx, runner{s}, "purge_read", func(r records.Reader) ([]string, error) {
		return records.List(r, "SELECT id FROM customers WHERE id > $1 AND "+domain+" = $2 ORDER BY id LIMIT $3", []any{after, at, limit}, records.Text)
	})
	if err != nil || len(ids) == 0 {
		return done, err
	}
	done, err = records.Write(ctx, runner{s}, "purge", func(t records.Tx) (account.Purged, error) {
		if _, err := t.Exec("SELECT 1 FROM customers WHERE id = ANY($1) ORDER BY id FOR UPDATE", ids); err != nil {
			return account.Purged{}, err
		}
		return records.Purge(t, at, domain, "SELECT unnest($2::text[])", ids)
	})
	if err == nil && len(ids) == limit {
		done.Next = ids[limit-1]
	}
	return done, err
}

// Export implements account.Registry.
func (s *Store) Export(ctx context.Context, id string) (d account.Data, err error) {
	err = s.call(ctx, "export_customer", func(ctx context.Context, c *pgxpool.Conn) error {
		return inTx(ctx, c, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) { // one moment
			d, err = records.Export(work{ctx, tx}, id)
			return err
		})
	})
	return d, err
}

// Erase implements account.Registry. The server's log and its archives hold what
// was erased until they are recycled, and so do free places of its files until
// something else is written there; VACUUM makes those free.
func (s *Store) Erase(ctx context.Context, id string, at time.Time) (account.Erased, error) {
	done, err := records.Erase(ctx, runner{s}, id, at)
	if err != nil {
		return done.Erased, err
	}
	done.Logged = true
	if err := s.vacuum(ctx); err != nil {
		return done.Erased, fmt.Errorf("%s is erased, but its rows could not be vacuumed away: run it again: %w", id, s.away(err))
	}
	return done.Erased, nil
}

// vacuum frees what was deleted. Where the server does so by itself just then,
// it gives way after a second.
func (s *Store) vacuum(ctx context.Context) error {
	c, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.Release()
	ctx, cancel := context.WithTimeout(ctx, 10*commandTimeout)
	defer cancel()
	for _, statement := range []string{"SET lock_timeout = '30s'", "VACUUM customers, api_keys, outcomes, jobs, stripe_events, payment_methods, fixes, grants", "RESET lock_timeout"} {
		if _, err = c.Exec(ctx, statement); err != nil {
			break
		}
	}
	if err != nil { // whatever is set on it now
		_ = c.Conn().Close(context.WithoutCancel(ctx))
	}
	return err
}
