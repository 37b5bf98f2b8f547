package postgres

import (
	"context"

	"gatehouse/internal/idempotency"
	"gatehouse/internal/store/records"
)

// keepSQL keeps outcomes of a group; one that is younger than a life stays, and
// then there is a row less.
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
	return []any{requests, bodies, customers, statuses, keys, sealed, records.Life}
}

// SweepOutcomes implements idempotency.Store.
func (s *Store) SweepOutcomes(ctx context.Context, limit int) (int, error) {
	n, err := records.Write(ctx, runner{s}, "sweep_outcomes", func(t records.Tx) (int64, error) {
		return t.Exec(`DELETE FROM outcomes o USING (
			SELECT request FROM outcomes WHERE created_at <= (SELECT now_us()) - $2 ORDER BY created_at LIMIT $1 FOR UPDATE SKIP LOCKED) old
			WHERE o.request = old.request`, limit, records.Life)
	})
	return int(n), err
}
