package sqlite

import (
	"context"

	"gatehouse/internal/store/records"
)

// SweepOutcomes implements idempotency.Store.
func (s *Store) SweepOutcomes(ctx context.Context, limit int) (int, error) {
	return mutate(ctx, s, "sweep_outcomes", func(t *tx) (int, error) {
		n, err := t.change("DELETE FROM outcomes WHERE number IN (SELECT number FROM outcomes ORDER BY number LIMIT ?) AND created_at <= ?", limit, int64(s.now())-records.Life)
		return int(n), err
	})
}
