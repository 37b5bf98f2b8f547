package records

import (
	"cmp"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/vending"
)

// vendedColumns are of credentials d and their grants g.
const vendedColumns = `d.id, d.provider, d.created_at, d.expires_at, d.revoked_at, d.key_id, g.github_job, g.github_run, d.customer_id,
	d.enforcement, d.enforcement <> 'gateway' AND EXISTS (SELECT 1 FROM provider_keys p WHERE p.id = d.id)`

const fromVended = " FROM credentials d JOIN grants g ON g.id = d.grant_id"

func scanCredential(scan Scan, more ...any) (c vending.Credential, err error) {
	var created, expires int64
	var revoked *int64
	err = scan(append([]any{&c.ID, &c.Provider, &created, &expires, &revoked, &c.KeyID, &c.Job, &c.Run, &c.CustomerID, &c.Enforcement, &c.Remains}, more...)...)
	c.CreatedAt, c.ExpiresAt, c.RevokedAt = Instant(created), Instant(expires), Optional(revoked)
	return c, err
}

func credential(r Reader, id string, more ...any) (vending.Credential, error) {
	c, err := scanCredential(func(into ...any) error {
		return r.Row("SELECT "+vendedColumns+", d.grant_id, g.ttl"+fromVended+" WHERE d.id = $1", []any{id}, into...)
	}, more...)
	return c, missing(err, "There is no such credential.")
}

// Grant commits a grant with its credentials, or replaces one of them.
func Grant(t Tx, o vending.Order) (vending.Granted, error) {
	now, owner, err := mayUse(t, o.By)
	if err != nil {
		return vending.Granted{}, err
	}
	return grantTo(t, now, owner, o)
}

// Alone says whether an order is granted in a transaction of its own.
func Alone(o vending.Order) bool {
	return o.Replace != "" || slices.ContainsFunc(o.Issues, func(i vending.Issue) bool { return i.Key != nil })
}

// ErrAlone is an order of a group's that has to be granted by Grant.
var ErrAlone = errors.New("it is decided alone")

// GrantOfGroup grants an order that is not Alone, of a payer that is locked and
// was read since. It only puts, so that a group of them costs one round trip.
func GrantOfGroup(t Tx, now int64, p Payer, o vending.Order) (vending.Granted, error) {
	err := p.check(now)
	switch {
	case err != nil:
		return vending.Granted{}, err
	case p.CreditBalance == 0:
		return vending.Granted{}, ErrAlone
	}
	return grantTo(t, now, p, o)
}

func grantTo(t Tx, now int64, owner Payer, o vending.Order) (g vending.Granted, err error) {
	grant, ttl := o.ID, o.TTL.Microseconds()
	if o.Replace != "" {
		if grant, ttl, err = replaceCredential(t, &o, now); err != nil {
			return g, err
		}
	} else if err := t.Put("INSERT INTO grants (id, customer_id, created_at, ttl, cap, spent, github_job, github_run) VALUES ($1, $2, $3, $4, $5, 0, $6, $7)",
		grant, owner.ID, now, ttl, o.Cap, o.Job, o.Run); err != nil {
		return g, err
	}
	g.Balance = owner.CreditBalance
	if Instant(now).Before(owner.PeriodEnd) {
		g.ResetAt = owner.PeriodEnd
	}
	for _, i := range o.Issues {
		enforcement, expires := vending.ByGateway, now+ttl
		if i.Key != nil {
			enforcement, expires = i.Key.Enforcement, i.Key.ExpiresAt.UnixMicro()
			if err := grantKey(t, owner.ID, i, expires); err != nil {
				return g, err
			}
		}
		if err := t.Put("INSERT INTO credentials (id, grant_id, customer_id, key_id, provider, public_id, hash, created_at, expires_at, enforcement) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
			i.ID, grant, owner.ID, o.By.KeyID, string(i.Provider), i.PublicID, i.Hash[:], now, expires, string(enforcement)); err != nil {
			return g, err
		}
		g.Credentials = append(g.Credentials, vending.Credential{
			ID: i.ID, Provider: i.Provider, CreatedAt: Instant(now), ExpiresAt: Instant(expires), KeyID: o.By.KeyID, Job: o.Job, Run: o.Run, CustomerID: owner.ID,
			Enforcement: enforcement, Remains: i.Key != nil,
		})
		row := vending.Audit{At: Instant(now), CustomerID: owner.ID, KeyID: o.By.KeyID, CredentialID: i.ID, GrantID: grant, Action: vending.Granting, Provider: i.Provider, Outcome: string(enforcement)}
		if err := audit(t, row); err != nil {
			return g, err
		}
	}
	return g, nil
}

// Payer is a customer as one of its keys asks for credentials.
type Payer struct {
	account.Customer
	keyEnds *int64 // nil: there is no such key
}

// PayerQuery reads a payer: its arguments are a customer and a key.
const PayerQuery = "SELECT " + CustomerColumns + ", (SELECT coalesce(" + keyEnds + ", 9223372036854775807) FROM api_keys k WHERE k.customer_id = customers.id AND k.id = $2 AND k.revoked_at IS NULL) FROM customers WHERE id = $1"

// ScanPayer reads one.
func ScanPayer(scan Scan) (p Payer, err error) {
	p.Customer, err = ScanCustomer(scan, &p.keyEnds)
	if errors.Is(err, sql.ErrNoRows) {
		err = apikey.Unknown()
	}
	return p, err
}

// check refuses a key that was let in and has since ended.
func (p Payer) check(now int64) error {
	switch {
	case p.keyEnds == nil || now >= *p.keyEnds:
		return apikey.Unknown()
	case !p.SuspendedAt.IsZero():
		return apikey.Suspended()
	}
	return nil
}

// mayUse begins what a customer's key asks for, which takes credits or a way to
// pay.
func mayUse(t Tx, by apikey.Principal) (now int64, p Payer, err error) {
	p, err = ScanPayer(func(own ...any) error {
		now, err = t.LockRow(by.CustomerID, PayerQuery, []any{by.CustomerID, by.KeyID}, own...)
		return err
	})
	if err == nil {
		err = p.check(now)
	}
	if err != nil || p.CreditBalance > 0 {
		return now, p, err
	}
	method, err := methodOf(t, p.ID)
	if err == nil {
		err = cantPay(p.Customer, method)
	}
	return now, p, err
}

// replaceCredential ends a credential that is about to end, for one of the same
// grant and life.
func replaceCredential(t Tx, o *vending.Order, now int64) (grant string, ttl int64, err error) {
	old, grant, ttl, err := replaceable(t, o, now)
	if err != nil {
		return "", 0, err
	}
	return grant, ttl, endCredential(t, old, grant, o.By.KeyID, now, "replaced")
}

// replaceable finds the credential that an order may replace, and notes whose and
// for what the new ones are.
func replaceable(t Tx, o *vending.Order, now int64) (old vending.Credential, grant string, ttl int64, err error) {
	old, err = credential(t, o.Replace, &grant, &ttl)
	switch {
	case err != nil:
	case old.CustomerID != o.By.CustomerID:
		err = missing(sql.ErrNoRows, "There is no such credential.")
	case !old.RevokedAt.IsZero() || !Instant(now).Before(old.ExpiresAt):
		err = fault.Refused("The credential has ended: exchange the API key for a new one.")
	case old.ExpiresAt.Sub(Instant(now)) > vending.RefreshWithin:
		err = fault.Refused("It is too early: a credential may be refreshed in the last five minutes of its life.")
	}
	o.Issues, o.Job, o.Run = slices.Clone(o.Issues), old.Job, old.Run
	for i := range o.Issues {
		o.Issues[i].Provider = old.Provider
	}
	return old, grant, ttl, err
}

func endCredential(t Tx, c vending.Credential, grant, keyID string, now int64, why string) error {
	if _, err := t.Exec("UPDATE credentials SET revoked_at = $2 WHERE id = $1", c.ID, now); err != nil {
		return err
	}
	if _, err := t.Exec("UPDATE provider_keys SET sweep_at = $2 WHERE id = $1", c.ID, now); err != nil {
		return err
	}
	return audit(t, vending.Audit{At: Instant(now), CustomerID: c.CustomerID, KeyID: keyID, CredentialID: c.ID, GrantID: grant, Action: vending.Revoking, Provider: c.Provider, Outcome: why})
}

// endCredentials ends what a key's, or with "" all of a customer's, credentials
// still are.
func endCredentials(t Tx, customerID, keyID string, now int64, why string) error {
	return endThose(t, "(CAST($2 AS text) = '' OR key_id = $2)", customerID, keyID, now, why)
}

// endThose ends a customer's credentials of a condition. There may be a hundred
// thousand: the rows of the trail have one id, and each its credential's after it.
func endThose(t Tx, those, customerID, keyID string, now int64, why string) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	alive := "customer_id = $1 AND " + those + " AND revoked_at IS NULL AND expires_at > $3"
	if _, err := t.Exec("UPDATE provider_keys SET sweep_at = $3 WHERE id IN (SELECT id FROM credentials WHERE "+alive+" AND enforcement <> 'gateway')", customerID, keyID, now); err != nil {
		return err
	}
	_, err = t.Exec("INSERT INTO audit ("+auditColumns+`, job) SELECT CAST($4 AS text) || '-' || id, CAST($3 AS bigint), customer_id, $2, id, grant_id, $5, provider, '', 0, 0, 0, 0, FALSE, $6, ''
		FROM credentials WHERE `+alive, customerID, keyID, now, id.String(), string(vending.Revoking), why)
	if err == nil {
		_, err = t.Exec("UPDATE credentials SET revoked_at = $3 WHERE "+alive, customerID, keyID, now)
	}
	return err
}

// Credentials lists a customer's credentials that have not ended by their time.
func Credentials(r Reader, customerID string) ([]vending.Credential, error) {
	now, err := r.Now()
	if err != nil {
		return nil, err
	}
	return List(r, "SELECT "+vendedColumns+fromVended+" WHERE d.customer_id = $1 AND d.expires_at > $2 ORDER BY d.id", []any{customerID, now},
		func(scan Scan) (vending.Credential, error) { return scanCredential(scan) })
}

// RevokeCredential ends a credential of a key's customer; of anybody's where by
// names none.
func RevokeCredential(t Tx, by apikey.Principal, id string) error {
	var grant string
	c, err := credential(t, id, &grant, new(int64))
	if err == nil && by.CustomerID == "" {
		by.CustomerID = c.CustomerID
	}
	if err != nil || c.CustomerID != by.CustomerID {
		return missing(cmp.Or(err, sql.ErrNoRows), "There is no such credential.")
	}
	now, err := begin(t, by)
	if err != nil {
		return err
	}
	c, err = credential(t, id, &grant, new(int64))
	switch {
	case err != nil:
		return err
	case !c.RevokedAt.IsZero() && Instant(now).Before(c.ExpiresAt):
		// Whether nodes heard of it is not known: the one who asks again may have
		// been told that nobody knows what became of the first time.
		_, err = t.Exec("UPDATE credentials SET revoked_at = $2 WHERE id = $1", id, now)
		return err
	case !c.RevokedAt.IsZero():
		return nil
	}
	return endCredential(t, c, grant, by.KeyID, now, "deleted")
}

// Lease finds a token that works.
func Lease(r Reader, token apikey.Presented) (l vending.Lease, err error) {
	now, err := r.Now()
	if err != nil {
		return l, err
	}
	var expires int64
	err = r.Row(`SELECT d.id, d.customer_id, d.key_id, d.grant_id, d.provider, d.expires_at, g.cap > 0 OR c.day_budget IS NOT NULL`+fromVended+`
		JOIN customers c ON c.id = d.customer_id JOIN api_keys k ON k.customer_id = d.customer_id AND k.id = d.key_id AND k.revoked_at IS NULL WHERE d.public_id = $1 AND d.hash = $2 AND d.enforcement = 'gateway' AND d.revoked_at IS NULL AND d.expires_at > $3 AND c.suspended_at IS NULL`,
		[]any{token.PublicID, token.Hash[:], now}, &l.CredentialID, &l.CustomerID, &l.KeyID, &l.GrantID, &l.Provider, &expires, &l.Capped)
	l.ExpiresAt = Instant(expires)
	return l, missing(err, "There is no such token.")
}

// Revoked lists the tokens that were revoked in the last while.
func Revoked(r Reader, since time.Duration) ([]string, error) {
	now, err := r.Now()
	if err != nil {
		return nil, err
	}
	return List(r, "SELECT public_id FROM credentials WHERE revoked_at > $1", []any{now - since.Microseconds()}, Text)
}
