package sqlite

import (
	"context"
	"iter"

	"gatehouse/internal/billing"
	"gatehouse/internal/store/records"
)

// Entries implements billing.Store.
func (s *Store) Entries(ctx context.Context, customerID string, before int64, limit int) ([]billing.Entry, error) {
	return read(ctx, s, "list_entries", func(r records.Reader) ([]billing.Entry, error) { return records.Entries(r, customerID, before, limit) })
}

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
