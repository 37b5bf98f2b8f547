package postgres

import (
	"context"
	"iter"

	"gatehouse/internal/billing"
	"gatehouse/internal/store/records"
)

// Ledgers implements billing.Auditor: one customer's, or with "" everybody's,
// as they were at one moment.
func (s *Store) Ledgers(ctx context.Context, customerID string) iter.Seq2[billing.Account, error] {
	return func(yield func(billing.Account, error) bool) {
		conn, err := s.acquire(ctx)
		if err != nil {
			yield(billing.Account{}, s.away(err))
			return
		}
		defer conn.Release()
		rows, err := conn.Query(ctx, records.Ledgers, customerID)
		if err != nil {
			yield(billing.Account{}, s.away(err))
			return
		}
		defer rows.Close()
		for account, err := range billing.Accounts(rows, records.ScanEntry) {
			if !yield(account, s.away(err)) {
				return
			}
		}
	}
}
