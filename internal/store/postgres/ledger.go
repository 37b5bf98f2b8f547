package postgres

import (
	"context"
	"iter"

	"gatehouse/internal/billing"
)

const entryColumns = "number, id, amount, balance_after, source, reference, created_at"

func scanEntry(scan scanner, more ...any) (e billing.Entry, err error) {
	var created int64
	err = scan(append(more, &e.Number, &e.ID, &e.Amount, &e.BalanceAfter, &e.Source, &e.Reference, &created)...)
	e.CreatedAt = instant(created)
	return e, err
}

// Entries implements billing.Store.
func (s *Store) Entries(ctx context.Context, customerID string, before int64, limit int) ([]billing.Entry, error) {
	return list(ctx, s, "list_entries", "SELECT "+entryColumns+" FROM ledger_entries WHERE customer_id = $1 AND ($2 = 0 OR number < $2) ORDER BY number DESC LIMIT $3",
		[]any{customerID, before, limit}, func(scan scanner) (billing.Entry, error) { return scanEntry(scan) })
}

// Ledgers implements billing.Auditor: one customer's, or with "" everybody's,
// as they were at one moment.
func (s *Store) Ledgers(ctx context.Context, customerID string) iter.Seq2[billing.Account, error] {
	return func(yield func(billing.Account, error) bool) {
		// One statement is one snapshot, whatever is written meanwhile.
		rows, err := s.pool.Query(ctx, `SELECT c.id, c.credit_balance, coalesce(e.number, 0), coalesce(e.id, ''), coalesce(e.amount, 0),
			coalesce(e.balance_after, 0), coalesce(e.source, ''), coalesce(e.reference, ''), coalesce(e.created_at, 0)
			FROM customers c LEFT JOIN ledger_entries e ON e.customer_id = c.id WHERE $1 = '' OR c.id = $1 ORDER BY c.id, e.number`, customerID)
		if err != nil {
			yield(billing.Account{}, s.away(err))
			return
		}
		defer rows.Close()
		for account, err := range billing.Accounts(rows, scanEntry) {
			if !yield(account, s.away(err)) {
				return
			}
		}
	}
}
