package sqlite

import (
	"context"

	"gatehouse/internal/idempotency"
	"gatehouse/internal/store/records"
)

// Outcome implements idempotency.Store.
func (s *Store) Outcome(ctx context.Context, id [32]byte) (o idempotency.Outcome, found bool, err error) {
	_, err = read(ctx, s, "find_outcome", func(r records.Reader) (_ struct{}, err error) {
		o, found, err = records.Outcome(r, id)
		return struct{}{}, err
	})
	return o, found, err
}

// SweepOutcomes implements idempotency.Store.
func (s *Store) SweepOutcomes(ctx context.Context, limit int) (int, error) {
	return mutate(ctx, s, "sweep_outcomes", func(t *tx) (int, error) {
		n, err := t.change("DELETE FROM outcomes WHERE number IN (SELECT number FROM outcomes ORDER BY number LIMIT ?) AND created_at <= ?", limit, int64(s.now())-records.Life)
		return int(n), err
	})
}

// SealedWith implements idempotency.Store.
func (s *Store) SealedWith(ctx context.Context) ([]string, error) {
	return read(ctx, s, "list_sealing_keys", records.SealedWith)
}
