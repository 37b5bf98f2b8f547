package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/account"
)

// domain is that of a canonical address, which has one @.
const domain = "split_part(email_canonical, '@', 2)"

// PurgeSome implements account.Registry. No index knows domains, so it is a
// read that looks for them, which holds up nobody; the transaction looks again
// at those that were found.
func (s *Store) PurgeSome(ctx context.Context, at, after string, limit int) (done account.Purged, err error) {
	ids, err := list(ctx, s, "purge_read", "SELECT id FROM customers WHERE id > $1 AND "+domain+" = $2 ORDER BY id LIMIT $3", []any{after, at, limit},
		func(scan scanner) (id string, err error) {
			err = scan(&id)
			return id, err
		})
	if err != nil || len(ids) == 0 {
		return done, err
	}
	done, err = mutate(ctx, s, "purge", func(ctx context.Context, tx pgx.Tx) (account.Purged, error) { return purge(ctx, tx, at, ids) })
	if err == nil && len(ids) == limit {
		done.Next = ids[limit-1]
	}
	return done, err
}

// purge removes those of the customers that are still at the domain, signed up
// as a load test's, and are unknown to Stripe. What the table purges names may
// lose its ledger, and it names nobody outside this transaction.
func purge(ctx context.Context, tx pgx.Tx, at string, ids []string) (done account.Purged, err error) {
	_, err = tx.Exec(ctx, `INSERT INTO purges SELECT id FROM customers WHERE id = ANY($1) AND load_test AND stripe_customer_id IS NULL AND `+domain+` = $2
		ORDER BY id FOR UPDATE`, ids, at)
	if err != nil {
		return done, err
	}
	for _, removal := range []string{
		"DELETE FROM api_keys WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM jobs WHERE kind IN ('welcome_mail', 'stripe_customer') AND subject IN (SELECT customer_id FROM purges)",
		"DELETE FROM outcomes WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM ledger_entries WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM customers WHERE id IN (SELECT customer_id FROM purges)",
	} {
		if _, err := tx.Exec(ctx, removal); err != nil {
			return done, err
		}
	}
	removed, err := tx.Exec(ctx, "DELETE FROM purges")
	if err != nil {
		return done, err
	}
	done.Removed = int(removed.RowsAffected())
	return done, tx.QueryRow(ctx, "SELECT count(*) FROM customers WHERE id = ANY($1) AND "+domain+" = $2", ids, at).Scan(&done.Kept)
}
