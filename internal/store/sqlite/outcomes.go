package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"gatehouse/internal/idempotency"
)

// life is idempotency.Life in the database's unit.
const life = int64(idempotency.Life / time.Microsecond)

// once is a writing call whose outcome is kept, where a client asks for that:
// both are in one transaction. customerID is whose the outcome is.
func once[T any](ctx context.Context, s *Store, call, customerID string, o *idempotency.Once[T], run func(*tx) (T, error)) (T, error) {
	if o == nil {
		return mutate(ctx, s, call, run)
	}
	return mutate(ctx, s, call, func(t *tx) (T, error) {
		var none T
		now := int64(s.now())
		var there bool
		if err := t.row("SELECT EXISTS (SELECT 1 FROM outcomes WHERE request = ? AND created_at > ?)", []any{o.Request.ID[:], now - life}, &there); err != nil {
			return none, err
		}
		if there { // of a try whose caller gave up too early to know
			return none, idempotency.Running()
		}
		result, err := run(t)
		if err != nil {
			return none, err
		}
		kept, err := o.Seal(result)
		if err != nil { // without its kind: the writer commits what refuses, since that has not written
			return none, errors.New("make the outcome: " + err.Error())
		}
		return result, t.exec("INSERT OR REPLACE INTO outcomes (request, body, customer_id, created_at, status, key_id, sealed) VALUES (?, ?, ?, ?, ?, ?, ?)",
			kept.ID[:], kept.Request.Body[:], customerID, now, kept.Status, kept.Body.KeyID, kept.Body.Bytes)
	})
}

// Outcome implements idempotency.Store.
func (s *Store) Outcome(ctx context.Context, id [32]byte) (o idempotency.Outcome, found bool, err error) {
	err = s.query("find_outcome", func() error {
		var body []byte
		err := s.read.QueryRowContext(ctx, "SELECT body, status, key_id, sealed FROM outcomes WHERE request = ? AND created_at > ?", id[:], int64(s.now())-life).
			Scan(&body, &o.Status, &o.Body.KeyID, &o.Body.Bytes)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		found, o.ID = err == nil, id
		copy(o.Request.Body[:], body)
		return err
	})
	return o, found, err
}

// SweepOutcomes implements idempotency.Store.
func (s *Store) SweepOutcomes(ctx context.Context, limit int) (int, error) {
	return mutate(ctx, s, "sweep_outcomes", func(t *tx) (int, error) {
		n, err := t.change("DELETE FROM outcomes WHERE number IN (SELECT number FROM outcomes ORDER BY number LIMIT ?) AND created_at <= ?", limit, int64(s.now())-life)
		return int(n), err
	})
}

// SealedWith implements idempotency.Store.
func (s *Store) SealedWith(ctx context.Context) (ids []string, err error) {
	err = s.each(ctx, "list_sealing_keys", "SELECT DISTINCT key_id FROM outcomes WHERE created_at > ?", []any{int64(s.now()) - life}, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		ids = append(ids, id)
		return err
	})
	return ids, err
}
