package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
)

// life is idempotency.Life in the database's unit.
const life = int64(idempotency.Life / time.Microsecond)

// keepSQL keeps outcomes; one that is younger than life stays, and then there is
// a row less.
const keepSQL = `INSERT INTO outcomes AS o (request, body, customer_id, created_at, status, key_id, sealed)
SELECT q.request, q.body, q.customer_id, now_us(), q.status, q.key_id, q.sealed
FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::bigint[], $5::text[], $6::bytea[]) AS q(request, body, customer_id, status, key_id, sealed)
ORDER BY q.request
ON CONFLICT (request) DO UPDATE SET body = excluded.body, customer_id = excluded.customer_id, created_at = excluded.created_at,
	status = excluded.status, key_id = excluded.key_id, sealed = excluded.sealed
WHERE o.created_at <= now_us() - $7`

// kept is an outcome and whose it is.
type kept struct {
	idempotency.Outcome
	customerID string
}

// keepArgs are the arguments of keepSQL.
func keepArgs(all []kept) []any {
	n := len(all)
	requests, bodies, sealed := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	customers, keys := make([]string, n), make([]string, n)
	statuses := make([]int64, n)
	for i, o := range all {
		requests[i], bodies[i], sealed[i] = o.ID[:], o.Request.Body[:], o.Outcome.Body.Bytes
		customers[i], keys[i], statuses[i] = o.customerID, o.Outcome.Body.KeyID, int64(o.Status)
	}
	return []any{requests, bodies, customers, statuses, keys, sealed, life}
}

// makeOutcome seals what is kept of a result. An error loses its kind: a bug is
// no refusal.
func makeOutcome[T any](o *idempotency.Once[T], result T, customerID string) (_ kept, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = bug{fault.Panicked(p)}
		}
	}()
	made, err := o.Seal(result)
	if err != nil {
		return kept{}, bug{errors.New("make the outcome: " + err.Error())}
	}
	return kept{made, customerID}, nil
}

// once is a writing call whose outcome is kept, where a client asks for that:
// both are in one transaction. customerID is whose the outcome is.
func once[T any](ctx context.Context, s *Store, name, customerID string, o *idempotency.Once[T], run func(context.Context, pgx.Tx) (T, error)) (T, error) {
	if o == nil {
		return mutate(ctx, s, name, run)
	}
	return mutate(ctx, s, name, func(ctx context.Context, tx pgx.Tx) (T, error) {
		var none T
		var there bool
		err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM outcomes WHERE request = $1 AND created_at > now_us() - $2)", o.Request.ID[:], life).Scan(&there)
		if err != nil {
			return none, err
		}
		if there { // of a try whose caller gave up too early to know, or on another node
			return none, idempotency.Running()
		}
		result, err := run(ctx, tx)
		if err != nil {
			return none, err
		}
		k, err := makeOutcome(o, result, customerID)
		if err != nil {
			return none, err
		}
		wrote, err := tx.Exec(ctx, keepSQL, keepArgs([]kept{k})...)
		if err == nil && wrote.RowsAffected() == 0 { // another node's was first
			return none, idempotency.Running()
		}
		return result, err
	})
}

// Outcome implements idempotency.Store.
func (s *Store) Outcome(ctx context.Context, id [32]byte) (o idempotency.Outcome, found bool, err error) {
	var body []byte
	err = s.query(ctx, "find_outcome", "SELECT body, status, key_id, sealed FROM outcomes WHERE request = $1 AND created_at > now_us() - $2", []any{id[:], life},
		&body, &o.Status, &o.Body.KeyID, &o.Body.Bytes)
	if errors.Is(err, pgx.ErrNoRows) {
		return idempotency.Outcome{}, false, nil
	}
	o.ID = id
	copy(o.Request.Body[:], body)
	return o, err == nil, err
}

// SweepOutcomes implements idempotency.Store.
func (s *Store) SweepOutcomes(ctx context.Context, limit int) (int, error) {
	return s.count(ctx, "sweep_outcomes", `DELETE FROM outcomes o USING (
		SELECT request FROM outcomes WHERE created_at <= (SELECT now_us()) - $2 ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED) old
		WHERE o.request = old.request`, limit, life)
}

// SealedWith implements idempotency.Store.
func (s *Store) SealedWith(ctx context.Context) ([]string, error) {
	return list(ctx, s, "list_sealing_keys", "SELECT DISTINCT key_id FROM outcomes WHERE created_at > (SELECT now_us()) - $1", []any{life},
		func(scan scanner) (id string, err error) {
			err = scan(&id)
			return id, err
		})
}
