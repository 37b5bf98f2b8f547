package postgres

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store/records"
)

// usable is the condition for a key that works.
const usable = "k.revoked_at IS NULL AND coalesce(now_us() < least(k.expires_at, k.retires_at), true)"

// Enter implements apikey.Checker. A mere look is a read of its own; otherwise
// check, place and the time of use are one statement.
func (s *Store) Enter(ctx context.Context, key apikey.Presented, policy ratelimit.Name, limit ratelimit.Limit) (apikey.Principal, ratelimit.Decision, error) {
	if policy != "" {
		p, err := s.enter("enter", turnstileKey{policy, limit, true}, ask{key.PublicID, key.Hash[:]})
		return p.who, p.decision, err
	}
	who, err := read(ctx, s, "check_key", func(r records.Reader) (who apikey.Principal, err error) {
		err = r.Row(`SELECT k.customer_id, k.id, c.suspended_at IS NOT NULL FROM api_keys k JOIN customers c ON c.id = k.customer_id
			WHERE k.public_id = $1 AND k.hash = $2 AND `+usable, []any{key.PublicID, key.Hash[:]}, &who.CustomerID, &who.KeyID, &who.Suspended)
		if errors.Is(err, sql.ErrNoRows) {
			return apikey.Principal{}, nil
		}
		return who, err
	})
	return who, ratelimit.Decision{}, err
}

// Keys implements apikey.Store.
func (s *Store) Keys(ctx context.Context, customerID string) ([]apikey.Record, error) {
	return read(ctx, s, "list_keys", func(r records.Reader) ([]apikey.Record, error) { return records.Keys(r, customerID) })
}

// AddKey implements apikey.Store.
func (s *Store) AddKey(ctx context.Context, by apikey.Principal, key apikey.Issue, keep *idempotency.Once[apikey.Record]) error {
	_, err := once(ctx, s, "add_key", by.CustomerID, keep, func(t records.Tx) (apikey.Record, error) { return records.AddKey(t, by, key) })
	return err
}

// ReplaceKey implements apikey.Store.
func (s *Store) ReplaceKey(ctx context.Context, by apikey.Principal, oldID string, grace time.Duration, key apikey.Issue, keep *idempotency.Once[apikey.Record]) (apikey.Record, error) {
	return once(ctx, s, "replace_key", by.CustomerID, keep, func(t records.Tx) (apikey.Record, error) { return records.ReplaceKey(t, by, oldID, grace, key) })
}

// RevokeKey implements apikey.Store.
func (s *Store) RevokeKey(ctx context.Context, by apikey.Principal, id string) error {
	_, err := write(ctx, s, "revoke_key", nothing(func(t records.Tx) error { return records.RevokeKey(t, by, id) }))
	return err
}

// KeyOwner implements apikey.Registry.
func (s *Store) KeyOwner(ctx context.Context, idOrPrefix string) (customerID, id string, err error) {
	_, err = read(ctx, s, "find_key", func(r records.Reader) (_ struct{}, err error) {
		customerID, id, err = records.KeyOwner(r, idOrPrefix)
		return struct{}{}, err
	})
	return customerID, id, err
}
