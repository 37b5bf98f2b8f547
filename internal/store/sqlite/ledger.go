package sqlite

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
		rows, err := s.read.QueryContext(ctx, rebind(records.Ledgers), customerID) //nolint:rowserrcheck // billing.Accounts does
		if err != nil {
			yield(billing.Account{}, err)
			return
		}
		defer rows.Close()
		billing.Accounts(rows, records.ScanEntry)(yield)
	}
}
