package records

import (
	"database/sql"
	"errors"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
)

const fixColumns = `id, customer_id, external_id, repository, pull_request, state, paid_by, cents, currency, balance_after, created_at,
	attempt, begun_at, stripe_customer, method, intent, why`

func scanFix(scan Scan, more ...any) (f billing.Fix, err error) {
	var created, begun int64
	err = scan(append([]any{
		&f.ID, &f.CustomerID, &f.ExternalID, &f.Repository, &f.PullRequest, &f.State, &f.PaidBy, &f.Cents, &f.Currency, &f.BalanceAfter, &created,
		&f.Attempt, &begun, &f.StripeCustomer, &f.Method, &f.Intent, &f.Why,
	}, more...)...)
	f.CreatedAt, f.BegunAt = Instant(created), moment(begun)
	return f, err
}

// Fix reads a fix.
func Fix(r Reader, id string) (billing.Fix, error) {
	f, err := scanFix(func(into ...any) error {
		return r.Row("SELECT "+fixColumns+" FROM fixes WHERE id = $1", []any{id}, into...)
	})
	return f, missing(err, "There is no such fix.")
}

// putFix writes a fix as it is now. tried is when a request had the turn to
// charge.
func putFix(t Tx, f billing.Fix, tried int64) error {
	_, err := t.Exec(`INSERT INTO fixes (`+fixColumns+`, tried_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
		ON CONFLICT (id) DO UPDATE SET repository = excluded.repository, pull_request = excluded.pull_request, state = excluded.state, paid_by = excluded.paid_by,
			cents = excluded.cents, currency = excluded.currency, balance_after = excluded.balance_after, created_at = excluded.created_at, attempt = excluded.attempt,
			begun_at = excluded.begun_at, stripe_customer = excluded.stripe_customer, method = excluded.method, intent = excluded.intent, why = excluded.why, tried_at = excluded.tried_at`,
		f.ID, f.CustomerID, f.ExternalID, f.Repository, f.PullRequest, string(f.State), f.PaidBy, f.Cents, f.Currency, f.BalanceAfter, f.CreatedAt.UnixMicro(),
		f.Attempt, microsOf(f.BegunAt), f.StripeCustomer, f.Method, f.Intent, f.Why, tried)
	return err
}

// BeginFix records a fix that a credit pays for, or begins its charge.
func BeginFix(t Tx, o billing.FixOrder) (billing.FixResult, error) {
	now, err := begin(t, apikey.Principal{CustomerID: o.CustomerID, KeyID: o.KeyID})
	if err != nil {
		return billing.FixResult{}, err
	}
	var tried int64
	known, err := scanFix(func(into ...any) error {
		return t.Row("SELECT "+fixColumns+", tried_at FROM fixes WHERE customer_id = $1 AND external_id = $2", []any{o.CustomerID, o.ExternalID}, into...)
	}, &tried)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return billing.FixResult{}, err
	case known.State == billing.FixPending && now-tried >= billing.ChargeTurn.Microseconds():
		_, err := t.Exec("UPDATE fixes SET tried_at = $2 WHERE id = $1", known.ID, now)
		return billing.FixResult{Fix: known, Existing: true, Turn: true}, err
	case known.State == billing.FixUntold:
		return tell(t, known)
	case known.State != billing.FixFailed:
		return billing.FixResult{Fix: known, Existing: true}, nil
	default: // nothing came of it: this is a new try, of the same name here and at Stripe
		o.ID, o.Attempt = known.ID, known.Attempt
	}
	c, err := Customer(t, "id", o.CustomerID, "")
	if err != nil {
		return billing.FixResult{}, err
	}
	o.CreatedAt = Instant(now)
	if c.CreditBalance > 0 {
		o.State, o.PaidBy = billing.FixPaid, billing.ByCredit
		if err := useCredit(t, &o.Fix, c.Plan); err != nil {
			return billing.FixResult{}, err
		}
		return billing.FixResult{Fix: o.Fix}, putFix(t, o.Fix, now)
	}
	method, err := methodOf(t, c.ID)
	if err != nil {
		return billing.FixResult{}, err
	}
	if refusal := cantPay(c, method); refusal != nil {
		return billing.FixResult{}, refusal
	}
	if c.StripeCustomerID == "" || o.CentsByPlan == nil {
		return billing.FixResult{}, noCredits("no charge can be made just now.")
	}
	o.State, o.PaidBy, o.Cents = billing.FixPending, billing.ByCharge, o.CentsByPlan[c.Plan]
	o.Attempt, o.BegunAt, o.StripeCustomer, o.Method = o.Attempt+1, Instant(now), c.StripeCustomerID, method
	if err := putFix(t, o.Fix, now); err != nil {
		return billing.FixResult{}, err
	}
	return billing.FixResult{Fix: o.Fix, Turn: true}, enqueueLater(t, jobs.FixCharge, o.ID, billing.ChargeTurn)
}

// cantPay is why a customer without credits has no way to pay.
func cantPay(c account.Customer, method string) error {
	switch {
	case method == "":
		return noCredits("add a payment method, or subscribe to Pro.")
	case !billing.CanPay(c.State):
		return noCredits("the subscription's last payment failed: settle it first.")
	}
	return nil
}

func noCredits(why string) error {
	return &fault.Error{Kind: fault.Forbidden, Code: "USAGE_LIMIT_EXCEEDED", Message: "There are no credits left: " + why}
}

// useCredit takes a credit for a fix.
func useCredit(t Tx, f *billing.Fix, plan billing.Plan) error {
	p, err := openPurse(t, f.CustomerID)
	if err == nil {
		err = p.post(-1, 0, billing.UsedForFix, "fix:"+f.ID)
	}
	if err == nil && plan == billing.Trial {
		_, err = t.Exec("UPDATE customers SET trial_fixes_used = trial_fixes_used + 1 WHERE id = $1", f.CustomerID)
	}
	if err == nil {
		f.BalanceAfter = p.balance
	}
	return err
}

// SettleFix writes what became of an attempt to charge.
func SettleFix(t Tx, o billing.FixOutcome) (billing.FixResult, error) {
	f, err := Fix(t, o.FixID)
	if err == nil {
		_, err = t.Lock(f.CustomerID)
	}
	if err == nil {
		f, err = Fix(t, o.FixID) // as it is now that nobody else changes it
	}
	switch {
	case err == nil && f.State == billing.FixUntold && o.Told:
		return tell(t, f)
	case err != nil || f.State != billing.FixPending || f.Attempt != o.Attempt:
		return billing.FixResult{Fix: f, Existing: true}, err
	}
	f.Intent, f.Why, f.State = o.Intent, o.Why, billing.FixUntold
	switch {
	case o.Paid:
		f.State = billing.FixPaid
		err = payForFix(t, &f)
	case o.Told:
		f.State = billing.FixFailed
	}
	if err == nil {
		err = putFix(t, f, 0)
	}
	if err == nil {
		_, err = t.Exec("DELETE FROM jobs WHERE kind = $1 AND subject = $2", string(jobs.FixCharge), f.ID)
	}
	return billing.FixResult{Fix: f}, err
}

// tell notes that somebody hears of a refusal.
func tell(t Tx, f billing.Fix) (billing.FixResult, error) {
	f.State = billing.FixFailed
	_, err := t.Exec("UPDATE fixes SET state = $2 WHERE id = $1", f.ID, string(f.State))
	return billing.FixResult{Fix: f, Existing: true}, err
}

// payForFix buys one credit, which is used for the fix at once. No debt has a
// share in it: it was bought for this.
func payForFix(t Tx, f *billing.Fix) error {
	p, err := openPurse(t, f.CustomerID)
	if err == nil {
		err = p.post(1, 0, billing.BoughtFix, "charge:"+f.Intent)
	}
	if err == nil {
		_, err = pay(t, p, billing.Payment{ID: f.Intent, Intent: f.Intent, Cents: f.Cents, Credits: 1, Source: billing.BoughtFix})
	}
	if err == nil {
		err = useCredit(t, f, "")
	}
	return err
}

// FixesBetween counts a customer's fixes.
func FixesBetween(r Reader, customerID string, start, end time.Time) (n int64, err error) {
	err = r.Row("SELECT count(*) FROM fixes WHERE customer_id = $1 AND created_at >= $2 AND created_at < $3 AND state = 'done'",
		[]any{customerID, start.UnixMicro(), end.UnixMicro()}, &n)
	return n, err
}
