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
	"gatehouse/internal/idempotency"
	"gatehouse/internal/ratelimit"
)

// usedEvery is how exact last_used_at is: a write each minute and key.
const usedEvery = int64(time.Minute / time.Microsecond)

const (
	// ends is when a key ends, by its own expiry or by its grace after it was
	// replaced; the largest integer when neither is set.
	ends = "min(coalesce(k.expires_at, 0x7fffffffffffffff), coalesce(k.retires_at, 0x7fffffffffffffff))"
	// usable is the condition for a key that works; its argument is the clock.
	usable = "k.revoked_at IS NULL AND ? < " + ends
)

const findKey = `SELECT k.hash, k.customer_id, k.id, coalesce(k.last_used_at, 0), c.suspended_at IS NOT NULL
	FROM api_keys k JOIN customers c ON c.id = k.customer_id WHERE k.public_id = ? AND ` + usable

// entered is what became of a request with a key.
type entered struct {
	who      apikey.Principal
	decision ratelimit.Decision
}

// Enter implements apikey.Checker. A mere look is a read; otherwise check,
// place and the time of use are one transaction of the writer.
func (s *Store) Enter(ctx context.Context, key apikey.Presented, policy ratelimit.Name, limit ratelimit.Limit) (who apikey.Principal, d ratelimit.Decision, err error) {
	if policy == "" {
		err = s.query("check_key", func() error {
			who, _, err = checkKey(key, func(into ...any) error {
				return s.read.QueryRowContext(ctx, findKey, key.PublicID, s.keyClock()).Scan(into...)
			})
			return err
		})
		return who, d, err
	}
	e, err := mutate(context.WithoutCancel(ctx), s, "enter", func(t *tx) (entered, error) {
		now := s.keyClock()
		who, lastUsed, err := checkKey(key, func(into ...any) error {
			return t.row(findKey, []any{key.PublicID, now}, into...)
		})
		if err != nil || who.KeyID == "" {
			return entered{}, err
		}
		e := entered{who: who}
		if limit.Count > 0 {
			if e.decision, err = s.place(t, policy, limit, who.KeyID); err != nil || !e.decision.Admitted {
				return e, err
			}
		}
		if now-lastUsed >= usedEvery {
			err = t.exec("UPDATE api_keys SET last_used_at = ? WHERE customer_id = ? AND id = ?", now, who.CustomerID, who.KeyID)
		}
		return e, err
	})
	return e.who, e.decision, err
}

// checkKey reads the usable key and compares it; a zero Principal means that
// there is none, or another secret.
func checkKey(key apikey.Presented, scan func(...any) error) (apikey.Principal, int64, error) {
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
	return who, lastUsed, nil
}

// stillIn refuses a change by a key that was let in and has since ended. An
// operator's change (no key) passes.
func (s *Store) stillIn(t *tx, by apikey.Principal) error {
	if by.KeyID == "" {
		return nil
	}
	var suspended bool
	err := t.row("SELECT c.suspended_at IS NOT NULL FROM api_keys k JOIN customers c ON c.id = k.customer_id WHERE k.customer_id = ? AND k.id = ? AND "+usable,
		[]any{by.CustomerID, by.KeyID, s.keyClock()}, &suspended)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return apikey.Unknown()
	case err == nil && suspended:
		return apikey.Suspended()
	}
	return err
}

const keyColumns = "k.id, k.name, k.prefix, k.created_at, k.last_used_at, nullif(" + ends + ", 0x7fffffffffffffff)"

func scanKey(scan func(...any) error) (r apikey.Record, err error) {
	var created int64
	var used, expires sql.NullInt64
	err = scan(&r.ID, &r.Name, &r.Prefix, &created, &used, &expires)
	r.CreatedAt, r.LastUsedAt, r.ExpiresAt = instant(created), optional(used), optional(expires)
	return r, err
}

// Keys implements apikey.Store.
func (s *Store) Keys(ctx context.Context, customerID string) (found []apikey.Record, err error) {
	err = s.each(ctx, "list_keys", "SELECT "+keyColumns+" FROM api_keys k WHERE k.customer_id = ? AND k.revoked_at IS NULL ORDER BY k.id", []any{customerID}, func(scan func(...any) error) error {
		r, err := scanKey(scan)
		found = append(found, r)
		return err
	})
	return found, err
}

// AddKey implements apikey.Store.
func (s *Store) AddKey(ctx context.Context, by apikey.Principal, key apikey.Issue, keep *idempotency.Once[apikey.Record]) error {
	_, err := once(ctx, s, "add_key", by.CustomerID, keep, func(t *tx) (apikey.Record, error) {
		if err := s.stillIn(t, by); err != nil {
			return key.Record, err
		}
		if !key.ExpiresAt.IsZero() && key.ExpiresAt.UnixMicro() <= s.keyClock() {
			return key.Record, fault.Field("expires_at", fault.NotAllowed, "expires_at must be in the future")
		}
		if err := s.roomForKey(t, by.CustomerID, apikey.MaxKeys); err != nil {
			return key.Record, err
		}
		return key.Record, insertKey(t, by.CustomerID, key)
	})
	return err
}

// roomForKey refuses a key beyond the customer's most unrevoked ones, or
// beyond those of a day. It also says when there is no such customer.
func (s *Store) roomForKey(t *tx, customerID string, most int) error {
	// Ids begin with the time they were made at, so those of the last day
	// are the end of the customer's part of the primary key.
	dayAgo := s.clock().Add(-24 * time.Hour).UnixMilli()
	var keys, made, customers, erased int
	err := t.row(`SELECT (SELECT count(*) FROM api_keys WHERE customer_id = ?1 AND revoked_at IS NULL),
		(SELECT count(*) FROM api_keys WHERE customer_id = ?1 AND id > ?2), (SELECT count(*) FROM customers WHERE id = ?1),
		(SELECT count(erased_at) FROM customers WHERE id = ?1)`,
		[]any{customerID, fmt.Sprintf("%08x-%04x", dayAgo>>16, dayAgo&0xffff)}, &keys, &made, &customers, &erased)
	switch {
	case err != nil:
		return err
	case customers == 0:
		return missing(sql.ErrNoRows)
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
	return once(ctx, s, "replace_key", by.CustomerID, keep, func(t *tx) (apikey.Record, error) {
		if err := s.stillIn(t, by); err != nil {
			return apikey.Record{}, err
		}
		now := s.keyClock()
		var works bool
		var expires sql.NullInt64
		replacement := key
		err := t.row("SELECT k.name, k.expires_at, "+usable+" FROM api_keys k WHERE k.customer_id = ? AND k.id = ?",
			[]any{now, by.CustomerID, oldID}, &replacement.Name, &expires, &works)
		if err != nil {
			return apikey.Record{}, missingKey(err)
		}
		if !works {
			return apikey.Record{}, fault.Refused("The key was revoked or has expired: create a new one.")
		}
		replacement.ExpiresAt = optional(expires)
		retire, most := "UPDATE api_keys SET revoked_at = ?1 WHERE customer_id = ?2 AND id = ?3", apikey.MaxKeys+1
		if grace > 0 { // two keys for a while
			retire, most = "UPDATE api_keys SET retires_at = min(coalesce(retires_at, ?1), ?1) WHERE customer_id = ?2 AND id = ?3", apikey.MaxKeys
		}
		if err := s.roomForKey(t, by.CustomerID, most); err != nil {
			return apikey.Record{}, err
		}
		if err := t.exec(retire, now+grace.Microseconds(), by.CustomerID, oldID); err != nil {
			return apikey.Record{}, err
		}
		return replacement.Record, insertKey(t, by.CustomerID, replacement)
	})
}

// RevokeKey implements apikey.Store.
func (s *Store) RevokeKey(ctx context.Context, by apikey.Principal, id string) error {
	return s.change(ctx, "revoke_key", func(t *tx) error {
		if err := s.stillIn(t, by); err != nil {
			return err
		}
		now := s.keyClock()
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
