package sqlite

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
)

// usedEvery is how exact last_used_at is: a write each minute and key.
const usedEvery = ratelimit.Instant(time.Minute / time.Microsecond)

// usable is the condition for a key that works; its argument is the clock.
const usable = "k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > ?)"

const findKey = `SELECT k.hash, k.customer_id, k.id, coalesce(k.last_used_at, 0), c.suspended_at IS NOT NULL
	FROM api_keys k JOIN customers c ON c.id = k.customer_id WHERE k.public_id = ? AND ` + usable

// Enter implements apikey.Checker. Only a check that takes no place is a
// read; otherwise check and place are one transaction of the writer.
func (s *Store) Enter(ctx context.Context, key apikey.Presented, policy ratelimit.Name, limit ratelimit.Limit) (who apikey.Principal, d ratelimit.Decision, err error) {
	if limit.Count == 0 {
		err = s.query("check_key", func() error {
			who, _, err = checkKey(key, func(into ...any) error {
				return s.read.QueryRowContext(ctx, findKey, key.PublicID, int64(s.now())).Scan(into...)
			})
			return err
		})
		return who, d, err
	}
	err = s.mutate(context.WithoutCancel(ctx), "enter", func(t *tx) error {
		now := s.now()
		var lastUsed ratelimit.Instant
		who, lastUsed, err = checkKey(key, func(into ...any) error {
			return t.row(findKey, []any{key.PublicID, int64(now)}, into...)
		})
		if err != nil || who.KeyID == "" {
			return err
		}
		if d, err = s.place(t, policy, limit, who.KeyID); err != nil || !d.Admitted {
			return err
		}
		if now-lastUsed < usedEvery {
			return nil
		}
		return t.exec("UPDATE api_keys SET last_used_at = ? WHERE customer_id = ? AND id = ?", int64(now), who.CustomerID, who.KeyID)
	})
	return who, d, err
}

// checkKey reads the usable key and compares it; a zero Principal means that
// there is none, or another secret.
func checkKey(key apikey.Presented, scan func(...any) error) (apikey.Principal, ratelimit.Instant, error) {
	var hash []byte
	var lastUsed int64
	var who apikey.Principal
	err := scan(&hash, &who.CustomerID, &who.KeyID, &lastUsed, &who.Suspended)
	if errors.Is(err, sql.ErrNoRows) {
		return apikey.Principal{}, 0, nil
	}
	if err != nil || subtle.ConstantTimeCompare(hash, key.Hash[:]) != 1 {
		return apikey.Principal{}, 0, err
	}
	return who, ratelimit.Instant(lastUsed), nil
}

// stillIn refuses a change by a key that was let in and has since ended. An
// operator's change (no key) passes.
func (s *Store) stillIn(t *tx, by apikey.Principal) error {
	if by.KeyID == "" {
		return nil
	}
	var suspended bool
	err := t.row("SELECT c.suspended_at IS NOT NULL FROM api_keys k JOIN customers c ON c.id = k.customer_id WHERE k.customer_id = ? AND k.id = ? AND "+usable,
		[]any{by.CustomerID, by.KeyID, int64(s.now())}, &suspended)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return apikey.Unknown()
	case err == nil && suspended:
		return apikey.Suspended()
	}
	return err
}

const keyColumns = "k.id, k.name, k.prefix, k.created_at, k.last_used_at, k.expires_at"

func scanKey(scan func(...any) error, more ...any) (r apikey.Record, err error) {
	var created int64
	var used, expires sql.NullInt64
	err = scan(append([]any{&r.ID, &r.Name, &r.Prefix, &created, &used, &expires}, more...)...)
	r.CreatedAt, r.LastUsedAt, r.ExpiresAt = instant(created), optional(used), optional(expires)
	return r, err
}

// Keys implements apikey.Store.
func (s *Store) Keys(ctx context.Context, customerID string) (found []apikey.Record, err error) {
	err = s.query("list_keys", func() error {
		rows, err := s.read.QueryContext(ctx, "SELECT "+keyColumns+" FROM api_keys k WHERE customer_id = ? AND revoked_at IS NULL ORDER BY id", customerID)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r, err := scanKey(rows.Scan)
			if err != nil {
				return err
			}
			found = append(found, r)
		}
		return rows.Err()
	})
	return found, err
}

// AddKey implements apikey.Store.
func (s *Store) AddKey(ctx context.Context, by apikey.Principal, key apikey.Issue) error {
	return s.mutate(ctx, "add_key", func(t *tx) error {
		if err := s.stillIn(t, by); err != nil {
			return err
		}
		if !key.ExpiresAt.IsZero() && key.ExpiresAt.UnixMicro() <= int64(s.now()) {
			return fault.Field("expires_at", fault.NotAllowed, "expires_at must be in the future")
		}
		if err := roomForKey(t, by.CustomerID); err != nil {
			return err
		}
		return insertKey(t, by.CustomerID, key)
	})
}

// roomForKey also says when there is no such customer.
func roomForKey(t *tx, customerID string) error {
	var keys, customers int
	err := t.row("SELECT (SELECT count(*) FROM api_keys WHERE customer_id = ?1 AND revoked_at IS NULL), (SELECT count(*) FROM customers WHERE id = ?1)",
		[]any{customerID}, &keys, &customers)
	switch {
	case err != nil:
		return err
	case customers == 0:
		return missing(sql.ErrNoRows)
	case keys >= apikey.MaxKeys:
		return fault.Refused(fmt.Sprintf("There are %d keys already: delete one first.", keys))
	}
	return nil
}

// ReplaceKey implements apikey.Store.
func (s *Store) ReplaceKey(ctx context.Context, by apikey.Principal, oldID string, grace time.Duration, key apikey.Issue) (record apikey.Record, err error) {
	err = s.mutate(ctx, "replace_key", func(t *tx) error {
		if err := s.stillIn(t, by); err != nil {
			return err
		}
		now := int64(s.now())
		var works bool
		old, err := scanKey(func(into ...any) error {
			return t.row("SELECT "+keyColumns+", "+usable+" FROM api_keys k WHERE customer_id = ? AND id = ?", []any{now, by.CustomerID, oldID}, into...)
		}, &works)
		if err != nil {
			return missingKey(err)
		}
		if !works {
			return fault.Refused("The key was revoked or has expired: create a new one.")
		}
		if grace > 0 { // two keys for a while
			if err := roomForKey(t, by.CustomerID); err != nil {
				return err
			}
			end := now + grace.Microseconds()
			err = t.exec("UPDATE api_keys SET expires_at = min(coalesce(expires_at, ?1), ?1) WHERE customer_id = ?2 AND id = ?3", end, by.CustomerID, oldID)
		} else {
			err = t.exec("UPDATE api_keys SET revoked_at = ? WHERE customer_id = ? AND id = ?", now, by.CustomerID, oldID)
		}
		if err != nil {
			return err
		}
		key.Name, key.ExpiresAt = old.Name, old.ExpiresAt
		record = key.Record
		return insertKey(t, by.CustomerID, key)
	})
	return record, err
}

// RevokeKey implements apikey.Store.
func (s *Store) RevokeKey(ctx context.Context, by apikey.Principal, id string) error {
	return s.mutate(ctx, "revoke_key", func(t *tx) error {
		if err := s.stillIn(t, by); err != nil {
			return err
		}
		now := int64(s.now())
		var revoked bool
		err := t.row("SELECT revoked_at IS NOT NULL FROM api_keys WHERE customer_id = ? AND id = ?", []any{by.CustomerID, id}, &revoked)
		if err != nil || revoked {
			return missingKey(err)
		}
		var others int
		err = t.row("SELECT count(*) FROM api_keys k WHERE customer_id = ? AND id <> ? AND "+usable, []any{by.CustomerID, id, now}, &others)
		if err != nil {
			return err
		}
		if others == 0 && by.KeyID != "" {
			return fault.Refused("This is the last usable key: create another one first.")
		}
		return t.exec("UPDATE api_keys SET revoked_at = ? WHERE customer_id = ? AND id = ?", now, by.CustomerID, id)
	})
}

func missingKey(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.Missing("There is no such key.")
	}
	return err
}

// KeyOwner implements apikey.Registry.
func (s *Store) KeyOwner(ctx context.Context, idOrPrefix string) (customerID, id string, err error) {
	err = s.query("find_key", func() error {
		return missingKey(s.read.QueryRowContext(ctx, "SELECT customer_id, id FROM api_keys WHERE id = ?1 OR prefix = ?1", idOrPrefix).Scan(&customerID, &id))
	})
	return customerID, id, err
}
