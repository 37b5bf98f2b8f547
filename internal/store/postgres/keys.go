package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/ratelimit"
)

const (
	// ends is when a key ends, by its own expiry or by its grace after it was
	// replaced; null when neither is set.
	ends = "least(k.expires_at, k.retires_at)"
	// usable is the condition for a key that works.
	usable = "k.revoked_at IS NULL AND coalesce(now_us() < " + ends + ", true)"
)

// Enter implements apikey.Checker. A mere look is a read of its own; otherwise
// check, place and the time of use are one statement.
func (s *Store) Enter(ctx context.Context, key apikey.Presented, policy ratelimit.Name, limit ratelimit.Limit) (who apikey.Principal, d ratelimit.Decision, err error) {
	if policy != "" {
		p, err := s.enter("enter", turnstileKey{policy, limit, true}, ask{key.PublicID, key.Hash[:]})
		return p.who, p.decision, err
	}
	err = s.query(ctx, "check_key", `SELECT k.customer_id, k.id, c.suspended_at IS NOT NULL FROM api_keys k JOIN customers c ON c.id = k.customer_id
		WHERE k.public_id = $1 AND k.hash = $2 AND `+usable, []any{key.PublicID, key.Hash[:]}, &who.CustomerID, &who.KeyID, &who.Suspended)
	if errors.Is(err, pgx.ErrNoRows) {
		return apikey.Principal{}, d, nil
	}
	return who, d, err
}

// lockCustomer makes others who would change what is the customer's wait until
// the transaction ends.
func lockCustomer(ctx context.Context, tx pgx.Tx, id string) error {
	_, err := tx.Exec(ctx, "SELECT 1 FROM customers WHERE id = $1 FOR NO KEY UPDATE", id)
	return err
}

// stillIn refuses a change by a key that was let in and has since ended. An
// operator's change (no key) passes. The customer is locked before.
func stillIn(ctx context.Context, tx pgx.Tx, by apikey.Principal) error {
	if err := lockCustomer(ctx, tx, by.CustomerID); err != nil || by.KeyID == "" {
		return err
	}
	var suspended bool
	err := tx.QueryRow(ctx, "SELECT c.suspended_at IS NOT NULL FROM api_keys k JOIN customers c ON c.id = k.customer_id WHERE k.customer_id = $1 AND k.id = $2 AND "+usable,
		by.CustomerID, by.KeyID).Scan(&suspended)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return apikey.Unknown()
	case err == nil && suspended:
		return apikey.Suspended()
	}
	return err
}

const keyColumns = "k.id, k.name, k.prefix, k.created_at, k.last_used_at, " + ends

func scanKey(scan scanner, more ...any) (r apikey.Record, err error) {
	var created int64
	var used, expires *int64
	err = scan(append([]any{&r.ID, &r.Name, &r.Prefix, &created, &used, &expires}, more...)...)
	r.CreatedAt, r.LastUsedAt, r.ExpiresAt = instant(created), optional(used), optional(expires)
	return r, err
}

// Keys implements apikey.Store.
func (s *Store) Keys(ctx context.Context, customerID string) ([]apikey.Record, error) {
	return list(ctx, s, "list_keys", "SELECT "+keyColumns+" FROM api_keys k WHERE k.customer_id = $1 AND k.revoked_at IS NULL ORDER BY k.id", []any{customerID},
		func(scan scanner) (apikey.Record, error) { return scanKey(scan) })
}

// AddKey implements apikey.Store.
func (s *Store) AddKey(ctx context.Context, by apikey.Principal, key apikey.Issue, keep *idempotency.Once[apikey.Record]) error {
	_, err := once(ctx, s, "add_key", by.CustomerID, keep, func(ctx context.Context, tx pgx.Tx) (apikey.Record, error) {
		if err := stillIn(ctx, tx, by); err != nil {
			return key.Record, err
		}
		if ended, err := hasPassed(ctx, tx, key.ExpiresAt); err != nil {
			return key.Record, err
		} else if ended {
			return key.Record, fault.Field("expires_at", fault.NotAllowed, "expires_at must be in the future")
		}
		if err := roomForKey(ctx, tx, by.CustomerID, apikey.MaxKeys); err != nil {
			return key.Record, err
		}
		return key.Record, insertKey(ctx, tx, by.CustomerID, key)
	})
	return err
}

// hasPassed says whether a time, if there is one, has come.
func hasPassed(ctx context.Context, tx pgx.Tx, at time.Time) (passed bool, err error) {
	err = tx.QueryRow(ctx, "SELECT coalesce($1::bigint <= now_us(), false)", micros(at)).Scan(&passed)
	return passed, err
}

func insertKey(ctx context.Context, tx pgx.Tx, customerID string, k apikey.Issue) error {
	_, err := tx.Exec(ctx, "INSERT INTO api_keys (customer_id, id, public_id, hash, prefix, name, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		customerID, k.ID, k.PublicID, k.Hash[:], k.Prefix, k.Name, k.CreatedAt.UnixMicro(), micros(k.ExpiresAt))
	return err
}

// roomForKey refuses a key beyond the customer's most unrevoked ones, or
// beyond those of a day. It also says when there is no such customer.
func roomForKey(ctx context.Context, tx pgx.Tx, customerID string, most int) error {
	var keys, made, customers, erased int
	// Ids begin with the milliseconds they were made at, so those of the last
	// day are the end of the customer's part of the primary key.
	err := tx.QueryRow(ctx, `SELECT (SELECT count(*) FROM api_keys WHERE customer_id = $1 AND revoked_at IS NULL),
		(SELECT count(*) FROM api_keys WHERE customer_id = $1 AND id > (
			SELECT left(lpad(to_hex(now_us() / 1000 - 86400000), 12, '0'), 8) || '-' || right(lpad(to_hex(now_us() / 1000 - 86400000), 12, '0'), 4))),
		count(*), count(erased_at) FROM customers WHERE id = $1`, customerID).Scan(&keys, &made, &customers, &erased)
	switch {
	case err != nil:
		return err
	case customers == 0:
		return missing(pgx.ErrNoRows)
	case erased > 0:
		return fault.Refused("The customer was erased.")
	case keys >= most:
		return fault.Refused(fmt.Sprintf("There are %d keys already: delete one first.", keys))
	case made >= apikey.MaxKeysADay:
		return fault.Refused(fmt.Sprintf("%d keys were made within a day: try again tomorrow.", made))
	}
	return nil
}

// ReplaceKey implements apikey.Store.
func (s *Store) ReplaceKey(ctx context.Context, by apikey.Principal, oldID string, grace time.Duration, key apikey.Issue, keep *idempotency.Once[apikey.Record]) (apikey.Record, error) {
	return once(ctx, s, "replace_key", by.CustomerID, keep, func(ctx context.Context, tx pgx.Tx) (apikey.Record, error) {
		if err := stillIn(ctx, tx, by); err != nil {
			return apikey.Record{}, err
		}
		var works bool
		var expires *int64
		replacement := key
		err := tx.QueryRow(ctx, "SELECT k.name, k.expires_at, "+usable+" FROM api_keys k WHERE k.customer_id = $1 AND k.id = $2", by.CustomerID, oldID).
			Scan(&replacement.Name, &expires, &works)
		if err != nil {
			return apikey.Record{}, missingKey(err)
		}
		if !works {
			return apikey.Record{}, fault.Refused("The key was revoked or has expired: create a new one.")
		}
		replacement.ExpiresAt = optional(expires)
		retire, most := "revoked_at = now_us() + $3", apikey.MaxKeys+1
		if grace > 0 { // two keys for a while
			retire, most = "retires_at = least(retires_at, now_us() + $3)", apikey.MaxKeys
		}
		if err := roomForKey(ctx, tx, by.CustomerID, most); err != nil {
			return apikey.Record{}, err
		}
		if _, err := tx.Exec(ctx, "UPDATE api_keys SET "+retire+" WHERE customer_id = $1 AND id = $2", by.CustomerID, oldID, grace.Microseconds()); err != nil {
			return apikey.Record{}, err
		}
		return replacement.Record, insertKey(ctx, tx, by.CustomerID, replacement)
	})
}

// RevokeKey implements apikey.Store.
func (s *Store) RevokeKey(ctx context.Context, by apikey.Principal, id string) error {
	return s.change(ctx, "revoke_key", func(ctx context.Context, tx pgx.Tx) error {
		if err := stillIn(ctx, tx, by); err != nil {
			return err
		}
		var revoked bool
		err := tx.QueryRow(ctx, "SELECT revoked_at IS NOT NULL FROM api_keys WHERE customer_id = $1 AND id = $2", by.CustomerID, id).Scan(&revoked)
		if err != nil || revoked {
			return missingKey(err)
		}
		var others int
		err = tx.QueryRow(ctx, "SELECT count(*) FROM api_keys k WHERE customer_id = $1 AND id <> $2 AND "+usable, by.CustomerID, id).Scan(&others)
		if err != nil {
			return err
		}
		if others == 0 && by.KeyID != "" {
			return fault.Refused("This is the last usable key: create another one first.")
		}
		_, err = tx.Exec(ctx, "UPDATE api_keys SET revoked_at = now_us() WHERE customer_id = $1 AND id = $2", by.CustomerID, id)
		return err
	})
}

func missingKey(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return fault.Missing("There is no such key.")
	}
	return err
}

// KeyOwner implements apikey.Registry.
func (s *Store) KeyOwner(ctx context.Context, idOrPrefix string) (customerID, id string, err error) {
	err = missingKey(s.query(ctx, "find_key", "SELECT customer_id, id FROM api_keys WHERE id = $1 OR prefix = $1", []any{idOrPrefix}, &customerID, &id))
	return customerID, id, err
}
