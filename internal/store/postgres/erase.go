package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/account"
)

// Export implements account.Registry.
func (s *Store) Export(ctx context.Context, id string) (d account.Data, err error) {
	err = s.call(ctx, "export_customer", func(ctx context.Context, c *pgxpool.Conn) error {
		d = account.Data{}
		return inTx(ctx, c, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) { // one moment
			d.Customer, err = scanCustomer(tx.QueryRow(ctx, "SELECT "+customerColumns+", email_canonical, load_test FROM customers WHERE id = $1", id).Scan, &d.CanonicalEmail, &d.LoadTest)
			if err != nil {
				return missing(err)
			}
			err = each(ctx, tx, "SELECT "+keyColumns+", k.revoked_at FROM api_keys k WHERE k.customer_id = $1 ORDER BY k.id", []any{id}, func(scan scanner) error {
				var revoked *int64
				r, err := scanKey(scan, &revoked)
				d.Keys = append(d.Keys, account.Key{Record: r, RevokedAt: optional(revoked)})
				return err
			})
			if err != nil {
				return err
			}
			err = each(ctx, tx, "SELECT "+entryColumns+" FROM ledger_entries WHERE customer_id = $1 ORDER BY number", []any{id}, func(scan scanner) error {
				e, err := scanEntry(scan)
				d.Entries = append(d.Entries, e)
				return err
			})
			if err != nil {
				return err
			}
			return each(ctx, tx, "SELECT "+jobColumns+" FROM jobs j WHERE subject = $1 ORDER BY kind", []any{id}, func(scan scanner) error {
				j, err := scanJob(scan)
				d.Jobs = append(d.Jobs, j)
				return err
			})
		})
	})
	return d, err
}

// Erase implements account.Registry. The server's log and its archives hold what
// was erased until they are recycled, and so do free places of its files until
// something else is written there; VACUUM makes those free.
func (s *Store) Erase(ctx context.Context, id string, at time.Time) (account.Erased, error) {
	done, err := mutate(ctx, s, "erase_customer", func(ctx context.Context, tx pgx.Tx) (e account.Erased, err error) {
		e.Customer, err = scanCustomer(tx.QueryRow(ctx, "SELECT "+customerColumns+" FROM customers WHERE id = $1 FOR UPDATE", id).Scan)
		e.Already, e.Logged = !e.Customer.ErasedAt.IsZero(), true
		if err != nil || e.Already {
			return e, missing(err)
		}
		if err := tx.QueryRow(ctx, "SELECT count(*) FROM jobs WHERE subject = $1 AND running", id).Scan(&e.Running); err != nil {
			return e, err
		}
		for _, removal := range []string{
			"DELETE FROM api_keys WHERE customer_id = $1", "DELETE FROM outcomes WHERE customer_id = $1", "DELETE FROM jobs WHERE subject = $1",
		} {
			if _, err := tx.Exec(ctx, removal, id); err != nil {
				return e, err
			}
		}
		e.Customer, err = scanCustomer(tx.QueryRow(ctx, `UPDATE customers SET name = '', email = '', email_canonical = 'erased:' || id, company = '', erased_at = $2
			WHERE id = $1 RETURNING `+customerColumns, id, at.UnixMicro()).Scan)
		return e, err
	})
	if err != nil {
		return done, err
	}
	if _, err := s.pool.Exec(ctx, "VACUUM customers, api_keys, outcomes, jobs"); err != nil {
		return done, fmt.Errorf("%s is erased, but its rows could not be vacuumed away: run it again: %w", id, s.away(err))
	}
	return done, nil
}
