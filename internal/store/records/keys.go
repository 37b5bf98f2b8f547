package records

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
)

// usable is the condition for a key that works; $1 is the clock.
const usable = "k.revoked_at IS NULL AND (k.expires_at IS NULL OR $1 < k.expires_at) AND (k.retires_at IS NULL OR $1 < k.retires_at)"

// keyEnds is when a key ends, by its own expiry or by its grace after it was
// replaced; null: it does not.
const keyEnds = "CASE WHEN k.retires_at IS NULL OR k.expires_at < k.retires_at THEN k.expires_at ELSE k.retires_at END"

const keyColumns = "k.id, k.name, k.prefix, k.created_at, k.last_used_at, " + keyEnds

func scanKey(scan Scan, more ...any) (r apikey.Record, err error) {
	var created int64
	var used, expires *int64
	err = scan(append([]any{&r.ID, &r.Name, &r.Prefix, &created, &used, &expires}, more...)...)
	r.CreatedAt, r.LastUsedAt, r.ExpiresAt = Instant(created), Optional(used), Optional(expires)
	return r, err
}

// Keys lists a customer's unrevoked keys.
func Keys(r Reader, customerID string) ([]apikey.Record, error) {
	return List(r, "SELECT "+keyColumns+" FROM api_keys k WHERE k.customer_id = $1 AND k.revoked_at IS NULL ORDER BY k.id", []any{customerID},
		func(scan Scan) (apikey.Record, error) { return scanKey(scan) })
}

// KeyOwner finds a key by its id or prefix.
func KeyOwner(r Reader, idOrPrefix string) (customerID, id string, err error) {
	err = r.Row("SELECT customer_id, id FROM api_keys WHERE id = $1 OR prefix = $1", []any{idOrPrefix}, &customerID, &id)
	return customerID, id, missingKey(err)
}

func missingKey(err error) error { return missing(err, "There is no such key.") }

// begin locks the customer whose keys are to be changed, reads the clock, and
// refuses a change by a key that was let in and has since ended. An operator's
// change (no key) passes.
func begin(t Tx, by apikey.Principal) (now int64, err error) {
	if now, err = t.Lock(by.CustomerID); err != nil || by.KeyID == "" {
		return now, err
	}
	var suspended bool
	err = t.Row("SELECT c.suspended_at IS NOT NULL FROM api_keys k JOIN customers c ON c.id = k.customer_id WHERE k.customer_id = $2 AND k.id = $3 AND "+usable,
		[]any{now, by.CustomerID, by.KeyID}, &suspended)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return now, apikey.Unknown()
	case err == nil && suspended:
		return now, apikey.Suspended()
	}
	return now, err
}

// AddKey stores a key.
func AddKey(t Tx, by apikey.Principal, key apikey.Issue) (apikey.Record, error) {
	now, err := begin(t, by)
	if err != nil {
		return key.Record, err
	}
	if !key.ExpiresAt.IsZero() && key.ExpiresAt.UnixMicro() <= now {
		return key.Record, fault.Field("expires_at", fault.NotAllowed, "expires_at must be in the future")
	}
	if err := roomForKey(t, now, by.CustomerID, apikey.MaxKeys); err != nil {
		return key.Record, err
	}
	return key.Record, InsertKey(t, by.CustomerID, key)
}

// InsertKey writes a key's row.
func InsertKey(t Tx, customerID string, k apikey.Issue) error {
	_, err := t.Exec("INSERT INTO api_keys (customer_id, id, public_id, hash, prefix, name, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		customerID, k.ID, k.PublicID, k.Hash[:], k.Prefix, k.Name, k.CreatedAt.UnixMicro(), Micros(k.ExpiresAt))
	return err
}

// roomForKey refuses a key beyond the customer's most unrevoked ones, or
// beyond those of a day. It also says when there is no such customer.
func roomForKey(t Tx, now int64, customerID string, most int) error {
	// Ids begin with the time they were made at, so those of the last days are the
	// end of the customer's part of the primary key. That time is the node's,
	// which may be two days wrong; created_at is the store's.
	day := 24 * time.Hour
	since := Instant(now).Add(-3 * day).UnixMilli()
	var keys, made, customers, erased int
	err := t.Row(`SELECT (SELECT count(*) FROM api_keys WHERE customer_id = $1 AND revoked_at IS NULL),
		(SELECT count(*) FROM api_keys WHERE customer_id = $1 AND id > $2 AND created_at > $3), count(*), count(erased_at) FROM customers WHERE id = $1`,
		[]any{customerID, fmt.Sprintf("%08x-%04x", since>>16, since&0xffff), now - day.Microseconds()}, &keys, &made, &customers, &erased)
	switch {
	case err != nil:
		return err
	case customers == 0:
		return missingCustomer(sql.ErrNoRows)
	case erased > 0:
		return fault.Refused("The customer was erased.")
	case keys >= most:
		return fault.Refused(fmt.Sprintf("There are %d keys already: delete one first.", keys))
	case made >= apikey.MaxKeysADay:
		return fault.Refused(fmt.Sprintf("%d keys were made within a day: try again tomorrow.", made))
	}
	return nil
}

// ReplaceKey stores a key in another's stead, which works for the grace.
func ReplaceKey(t Tx, by apikey.Principal, oldID string, grace time.Duration, key apikey.Issue) (apikey.Record, error) {
	now, err := begin(t, by)
	if err != nil {
		return apikey.Record{}, err
	}
	var works bool
	var expires *int64
	err = t.Row("SELECT k.name, k.expires_at, "+usable+" FROM api_keys k WHERE k.customer_id = $2 AND k.id = $3", []any{now, by.CustomerID, oldID}, &key.Name, &expires, &works)
	if err != nil {
		return apikey.Record{}, missingKey(err)
	}
	if !works {
		return apikey.Record{}, fault.Refused("The key was revoked or has expired: create a new one.")
	}
	key.ExpiresAt = Optional(expires)
	retire, most := "UPDATE api_keys SET revoked_at = $1 WHERE customer_id = $2 AND id = $3", apikey.MaxKeys+1
	if grace > 0 { // two keys for a while
		retire, most = "UPDATE api_keys SET retires_at = CASE WHEN retires_at < $1 THEN retires_at ELSE $1 END WHERE customer_id = $2 AND id = $3", apikey.MaxKeys
	}
	if err := roomForKey(t, now, by.CustomerID, most); err != nil {
		return apikey.Record{}, err
	}
	if _, err := t.Exec(retire, now+grace.Microseconds(), by.CustomerID, oldID); err != nil {
		return apikey.Record{}, err
	}
	if grace == 0 {
		if err := endCredentials(t, by.CustomerID, oldID, now, "its key was replaced"); err != nil {
			return apikey.Record{}, err
		}
	}
	return key.Record, InsertKey(t, by.CustomerID, key)
}

// RevokeKey ends a key.
func RevokeKey(t Tx, by apikey.Principal, id string) error {
	now, err := begin(t, by)
	if err != nil {
		return err
	}
	var revoked bool
	err = t.Row("SELECT revoked_at IS NOT NULL FROM api_keys WHERE customer_id = $1 AND id = $2", []any{by.CustomerID, id}, &revoked)
	if err != nil || revoked {
		return missingKey(err)
	}
	var others int
	err = t.Row("SELECT count(*) FROM api_keys k WHERE customer_id = $2 AND id <> $3 AND "+usable, []any{now, by.CustomerID, id}, &others)
	if err != nil {
		return err
	}
	if others == 0 && by.KeyID != "" {
		return fault.Refused("This is the last usable key: create another one first.")
	}
	if _, err = t.Exec("UPDATE api_keys SET revoked_at = $1 WHERE customer_id = $2 AND id = $3", now, by.CustomerID, id); err != nil {
		return err
	}
	return endCredentials(t, by.CustomerID, id, now, "its key was revoked")
}
