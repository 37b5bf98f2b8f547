package records

import (
	"database/sql"
	"errors"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
)

// Life is idempotency.Life in the databases' unit.
const Life = int64(idempotency.Life / time.Microsecond)

// BugError is an error of ours, and neither a refusal nor the database's.
type BugError struct{ error }

// Unwrap returns what happened.
func (b BugError) Unwrap() error { return b.error }

// MakeOutcome makes what is kept of a result. An error loses its kind: a bug is
// no refusal.
func MakeOutcome[T any](o *idempotency.Once[T], result T) (made idempotency.Outcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = BugError{fault.Panicked(p)}
		}
	}()
	if made, err = o.Seal(result); err != nil {
		err = BugError{errors.New("make the outcome: " + err.Error())}
	}
	return made, err
}

// Once runs an operation and keeps its outcome, where a client asks for that.
// customerID is whose the outcome is.
func Once[T any](t Tx, customerID string, o *idempotency.Once[T], run func(Tx) (T, error)) (result T, err error) {
	if o == nil {
		return run(t)
	}
	var none T
	now, err := t.Now()
	if err != nil {
		return none, err
	}
	var there bool
	if err := t.Row("SELECT EXISTS (SELECT 1 FROM outcomes WHERE request = $1 AND created_at > $2)", []any{o.Request.ID[:], now - Life}, &there); err != nil {
		return none, err
	}
	if there { // of a try whose caller gave up too early to know, or on another node
		return none, idempotency.Running()
	}
	if result, err = run(t); err != nil {
		return none, err
	}
	made, err := MakeOutcome(o, result)
	if err != nil {
		return none, err
	}
	if made.Status == 0 { // it is no final one
		return result, nil
	}
	if _, err := t.Exec("DELETE FROM outcomes WHERE request = $1 AND created_at <= $2", made.ID[:], now-Life); err != nil {
		return none, err
	}
	wrote, err := t.Exec("INSERT INTO outcomes (request, body, customer_id, created_at, status, key_id, sealed) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
		made.ID[:], made.Request.Body[:], customerID, now, made.Status, made.Body.KeyID, made.Body.Bytes)
	if err == nil && wrote == 0 { // another node's was first
		err = idempotency.Running()
	}
	if err != nil {
		return none, err
	}
	return result, nil
}

// Outcome finds what is kept of a request.
func Outcome(r Reader, id [32]byte) (o idempotency.Outcome, found bool, err error) {
	var body []byte
	var created, now int64
	err = r.Row("SELECT body, status, key_id, sealed, created_at FROM outcomes WHERE request = $1", []any{id[:]}, &body, &o.Status, &o.Body.KeyID, &o.Body.Bytes, &created)
	if errors.Is(err, sql.ErrNoRows) {
		return idempotency.Outcome{}, false, nil
	}
	if err == nil {
		now, err = r.Now()
	}
	if err != nil || created <= now-Life {
		return idempotency.Outcome{}, false, err
	}
	o.ID = id
	copy(o.Request.Body[:], body)
	return o, true, nil
}

// SealedWith lists the keys that outcomes are sealed with.
func SealedWith(r Reader) ([]string, error) {
	now, err := r.Now()
	if err != nil {
		return nil, err
	}
	return List(r, "SELECT DISTINCT key_id FROM outcomes WHERE created_at > $1", []any{now - Life}, Text)
}
