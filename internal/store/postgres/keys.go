package postgres

import (
	"context"
	"database/sql"
	"errors"

	"gatehouse/internal/apikey"
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
	who, err := records.Read(ctx, runner{s}, "check_key", func(r records.Reader) (who apikey.Principal, err error) {
		err = r.Row(`SELECT k.customer_id, k.id, c.suspended_at IS NOT NULL FROM api_keys k JOIN customers c ON c.id = k.customer_id
			WHERE k.public_id = $1 AND k.hash = $2 AND `+usable, []any{key.PublicID, key.Hash[:]}, &who.CustomerID, &who.KeyID, &who.Suspended)
		if errors.Is(err, sql.ErrNoRows) {
			return apikey.Principal{}, nil
		}
		return who, err
	})
	return who, ratelimit.Decision{}, err
}
