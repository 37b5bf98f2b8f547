package sqlite

import (
	"context"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/account"
)

// domain is that of a canonical address, which has one @.
const domain = "substr(email_canonical, instr(email_canonical, '@') + 1)"

// PurgeSome implements account.Registry. No index knows domains, so it is a
// read that looks for them, which holds up nobody; the transaction looks again
// at those that were found.
func (s *Store) PurgeSome(ctx context.Context, at, after string, limit int) (account.Purged, error) {
	ids, err := s.customersAt(ctx, at, after, limit)
	if err != nil || len(ids) == 0 {
		return account.Purged{}, err
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return account.Purged{}, err
	}
	done, err := mutate(ctx, s, "purge", func(t *tx) (account.Purged, error) { return purge(t, at, string(list)) })
	if err == nil && len(ids) == limit {
		done.Next = ids[limit-1]
	}
	return done, err
}

func (s *Store) customersAt(ctx context.Context, at, after string, limit int) (ids []string, err error) {
	err = s.each(ctx, "purge_read", "SELECT id FROM customers WHERE id > ? AND "+domain+" = ? ORDER BY id LIMIT ?", []any{after, at, limit}, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids = append(ids, id)
		return err
	})
	return ids, err
}

// purge removes those of the customers that are still at the domain, signed up
// as a load test's, and are unknown to Stripe. What the table purges names may lose its ledger, and
// it names nobody outside this transaction.
func purge(t *tx, at, list string) (done account.Purged, err error) {
	err = t.exec("INSERT INTO purges SELECT id FROM customers WHERE id IN (SELECT value FROM json_each(?)) AND load_test = 1 AND stripe_customer_id IS NULL AND "+domain+" = ?", list, at)
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
		if err := t.exec(removal); err != nil {
			return done, err
		}
	}
	removed, err := t.change("DELETE FROM purges")
	if err != nil {
		return done, err
	}
	done.Removed = int(removed)
	return done, t.row("SELECT count(*) FROM customers WHERE id IN (SELECT value FROM json_each(?)) AND "+domain+" = ?", []any{list, at}, &done.Kept)
}
