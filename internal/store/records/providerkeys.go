package records

import (
	"database/sql"
	"errors"
	"slices"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/vending"
)

// BeginKeys writes down which keys providers are about to be asked for.
func BeginKeys(t Tx, o vending.Order, makers []vending.Provider) (begun []vending.Intent, err error) {
	now, owner, err := mayUse(t, o.By)
	if err != nil {
		return nil, err
	}
	life := o.TTL
	if o.Replace != "" {
		old, _, ttl, err := replaceable(t, &o, now)
		if err != nil || old.Enforcement == vending.ByGateway {
			return nil, err
		}
		life = time.Duration(ttl) * time.Microsecond
	}
	if budgeted, err := hasBudget(t, owner.ID); err != nil || budgeted {
		return nil, err
	}
	for _, i := range o.Issues {
		if !slices.Contains(makers, i.Provider) {
			continue
		}
		if err := t.Put("INSERT INTO provider_keys (id, provider, key_id, sweep_at, doomed) VALUES ($1, $2, '', $3, FALSE)",
			i.ID, string(i.Provider), now+vending.KeyPatience.Microseconds()); err != nil {
			return nil, err
		}
		begun = append(begun, vending.Intent{ID: i.ID, Provider: i.Provider, Life: life, ExpiresAt: Instant(now).Add(life)})
	}
	return begun, nil
}

func hasBudget(r Reader, customerID string) (has bool, err error) {
	return has, r.Row("SELECT day_budget IS NOT NULL FROM customers WHERE id = $1", []any{customerID}, &has)
}

// grantKey makes a key that a provider made a credential's, if it is not doomed
// meanwhile, nor its customer bounded by a budget.
func grantKey(t Tx, customerID string, i vending.Issue, expires int64) error {
	budgeted, err := hasBudget(t, customerID)
	if err != nil {
		return err
	}
	n, err := t.Exec("UPDATE provider_keys SET key_id = $2, sweep_at = $3 WHERE id = $1 AND key_id = '' AND NOT doomed", i.ID, i.Key.ID, expires)
	if err == nil && (n == 0 || budgeted) {
		err = &fault.Error{
			Kind: fault.Unavailable, Code: "UNAVAILABLE", RetryAfter: time.Second,
			Message: "The provider took too long, or what may be spent changed meanwhile. Try again.",
		}
	}
	return err
}

// AbandonKeys lets go of keys that were not granted. One that was, since the
// grant's outcome was not known, is left alone. One whose intent was swept while
// the provider took its time is noted anew.
func AbandonKeys(t Tx, keys []vending.Leftover) error {
	now, err := t.Now()
	for _, k := range keys {
		switch {
		case err != nil:
		case k.KeyID == "":
			_, err = t.Exec("DELETE FROM provider_keys WHERE id = $1 AND key_id = ''", k.ID)
		default:
			_, err = t.Exec(`INSERT INTO provider_keys (id, provider, key_id, sweep_at, doomed) VALUES ($1, $2, $3, $4, FALSE)
				ON CONFLICT (id) DO UPDATE SET key_id = excluded.key_id, sweep_at = excluded.sweep_at WHERE provider_keys.key_id = ''`, k.ID, string(k.Provider), k.KeyID, now)
		}
	}
	return err
}

// dueKeys are keys to be deleted that have no job, be it a dead one.
const dueKeys = " FROM provider_keys WHERE sweep_at <= $1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE kind = 'provider_key' AND subject = provider_keys.id) ORDER BY id LIMIT $2"

// QueueKeys queues a job for each key that is to be deleted.
func QueueKeys(t Tx, limit int) (int64, error) {
	now, err := t.Now()
	if err != nil {
		return 0, err
	}
	return t.Exec("INSERT INTO jobs (kind, subject, created_at, due_at, claim) SELECT 'provider_key', id, CAST($1 AS bigint), CAST($1 AS bigint), CAST($1 AS bigint)"+dueKeys+" ON CONFLICT DO NOTHING", now, limit)
}

// KeysDue says whether there is anything to queue, which there mostly is not.
func KeysDue(r Reader) (bool, error) {
	now, err := r.Now()
	if err != nil {
		return false, err
	}
	due, err := List(r, "SELECT id"+dueKeys, []any{now, 1}, Text)
	return len(due) > 0, err
}

// DoomKey says whether a key is to be deleted, and makes sure that it stays so.
func DoomKey(t Tx, id string) (p vending.Provider, keyID string, doomed bool, err error) {
	now, err := t.Now()
	if err != nil {
		return "", "", false, err
	}
	if _, err := t.Exec("UPDATE provider_keys SET doomed = TRUE WHERE id = $1 AND sweep_at <= $2", id, now); err != nil {
		return "", "", false, err
	}
	err = t.Row("SELECT provider, key_id, doomed FROM provider_keys WHERE id = $1", []any{id}, &p, &keyID, &doomed)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil // another was faster
	}
	return p, keyID, doomed, err
}

// ForgetKey notes that a key is no more, unless another id of it came to light
// meanwhile; in the trail, where its credential was revoked.
func ForgetKey(t Tx, id, keyID string) error {
	now, err := t.Now()
	if err != nil {
		return err
	}
	var grant string
	c, err := credential(t, id, &grant, new(int64))
	if _, missing := errors.AsType[*fault.Error](err); err != nil && !missing {
		return err
	}
	n, err := t.Exec("DELETE FROM provider_keys WHERE id = $1 AND key_id = $2", id, keyID)
	if err != nil || n == 0 || c.RevokedAt.IsZero() {
		return err
	}
	return audit(t, vending.Audit{At: Instant(now), CustomerID: c.CustomerID, KeyID: c.KeyID, CredentialID: id, GrantID: grant, Action: vending.Revoking, Provider: c.Provider, Outcome: "gone at the provider"})
}
