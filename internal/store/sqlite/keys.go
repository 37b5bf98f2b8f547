package sqlite

import (
	"context"
	"crypto/subtle"
	"database/sql"
	"errors"
	"time"

	"gatehouse/internal/apikey"
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
