package records

import (
	"database/sql"
	"errors"
	"fmt"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/vending"
)

// CustomerColumns are what ScanCustomer reads.
const CustomerColumns = `id, name, email, company, source, subscription_plan, subscription_state, trial_fixes_limit, trial_fixes_used,
	credit_balance, credit_debt, coalesce(stripe_customer_id, ''), created_at, suspended_at, erased_at, period_start, period_end, cancels_at_end, coalesce(day_budget, 0)`

// ScanCustomer reads a customer, and more columns after its own.
func ScanCustomer(scan Scan, more ...any) (c account.Customer, err error) {
	var created int64
	var suspended, erased, start, end *int64
	err = scan(append([]any{
		&c.ID, &c.Name, &c.Email, &c.Company, &c.Source, &c.Plan, &c.State, &c.TrialFixesLimit, &c.TrialFixesUsed,
		&c.CreditBalance, &c.CreditDebt, &c.StripeCustomerID, &created, &suspended, &erased, &start, &end, &c.CancelsAtEnd, &c.DayBudget,
	}, more...)...)
	c.CreatedAt, c.SuspendedAt, c.ErasedAt = Instant(created), Optional(suspended), Optional(erased)
	c.DayBudget /= vending.MicroPerCent
	c.PeriodStart, c.PeriodEnd = Optional(start), Optional(end)
	return c, err
}

// Customer reads the customer whose column, a name of ours, is value, and more
// columns after the customer's own.
func Customer(r Reader, column, value, more string, into ...any) (account.Customer, error) {
	c, err := ScanCustomer(func(own ...any) error {
		return r.Row("SELECT "+CustomerColumns+more+" FROM customers WHERE "+column+" = $1", []any{value}, own...)
	}, into...)
	return c, missingCustomer(err)
}

func missingCustomer(err error) error { return missing(err, "There is no such customer.") }

// Customers lists customers after an id.
func Customers(r Reader, after string, limit int) ([]account.Customer, error) {
	return List(r, "SELECT "+CustomerColumns+" FROM customers WHERE id > $1 ORDER BY id LIMIT $2", []any{after, limit},
		func(scan Scan) (account.Customer, error) { return ScanCustomer(scan) })
}

// Suspend refuses a customer's keys from at on, if it is not suspended already;
// a zero time ends that.
func Suspend(t Tx, id string, at time.Time) (account.Customer, error) {
	if _, err := t.Lock(id); err != nil {
		return account.Customer{}, err
	}
	c, err := Customer(t, "id", id, "")
	switch {
	case err != nil:
		return c, err
	case !c.ErasedAt.IsZero():
		return c, fault.Refused("The customer was erased.")
	case at.IsZero() != c.SuspendedAt.IsZero():
		us := Micros(at)
		c.SuspendedAt = Optional(us)
		_, err = t.Exec("UPDATE customers SET suspended_at = $2 WHERE id = $1", id, us)
	}
	if err == nil && !at.IsZero() {
		var now int64
		if now, err = t.Now(); err == nil {
			err = endCredentials(t, id, "", now, "its customer was suspended")
		}
	}
	return c, err
}

// SetStripeCustomer notes who a customer is at Stripe.
func SetStripeCustomer(t Tx, id, stripeID string) error {
	if _, err := t.Lock(id); err != nil {
		return err
	}
	c, err := Customer(t, "id", id, "")
	switch {
	case err != nil:
		return err
	case c.StripeCustomerID == stripeID:
		return nil
	case c.StripeCustomerID != "":
		return fault.Refused(fmt.Sprintf("The customer is %s at Stripe already.", c.StripeCustomerID))
	}
	var other string
	err = t.Row("SELECT id FROM customers WHERE stripe_customer_id = $1", []any{stripeID}, &other)
	if err == nil {
		return fault.Refused(fmt.Sprintf("%s at Stripe is customer %s already.", stripeID, other))
	}
	if errors.Is(err, sql.ErrNoRows) {
		_, err = t.Exec("UPDATE customers SET stripe_customer_id = $2 WHERE id = $1", id, stripeID)
	}
	if err == nil {
		err = wake(t, billing.WaitsForStripeCustomer, stripeID)
	}
	return err
}

// Export reads all that is stored of a customer. The reader's must be one
// moment.
func Export(r Reader, id string) (d account.Data, err error) {
	d.Customer, err = Customer(r, "id", id, ", email_canonical, load_test", &d.CanonicalEmail, &d.LoadTest)
	if err != nil {
		return d, err
	}
	d.Keys, err = List(r, "SELECT "+keyColumns+", k.revoked_at FROM api_keys k WHERE k.customer_id = $1 ORDER BY k.id", []any{id}, func(scan Scan) (account.Key, error) {
		var revoked *int64
		r, err := scanKey(scan, &revoked)
		return account.Key{Record: r, RevokedAt: Optional(revoked)}, err
	})
	if err != nil {
		return d, err
	}
	d.Entries, err = List(r, "SELECT "+entryColumns+" FROM ledger_entries WHERE customer_id = $1 ORDER BY number", []any{id}, scanOneEntry)
	if err != nil {
		return d, err
	}
	d.Jobs, err = List(r, "SELECT "+JobColumns+" FROM jobs WHERE subject = $1 ORDER BY kind", []any{id}, ScanJob)
	if err != nil {
		return d, err
	}
	d.Fixes, err = List(r, "SELECT "+fixColumns+" FROM fixes WHERE customer_id = $1 ORDER BY id", []any{id}, func(scan Scan) (billing.Fix, error) { return scanFix(scan) })
	if err != nil {
		return d, err
	}
	d.Methods, err = List(r, "SELECT id FROM payment_methods WHERE customer_id = $1 AND attached_at > detached_at ORDER BY id", []any{id}, Text)
	if err != nil {
		return d, err
	}
	d.Events, err = List(r, "SELECT "+eventColumns+", e.payload"+fromEvents+" WHERE e.customer_id = $1 AND e.customer_id <> '' ORDER BY e.received_at, e.id", []any{id}, func(scan Scan) (billing.StoredEvent, error) {
		var payload []byte
		e, err := scanEvent(scan, &payload)
		e.Payload = payload
		return e, err
	})
	if err != nil {
		return d, err
	}
	d.Credentials, err = List(r, "SELECT "+vendedColumns+fromVended+" WHERE d.customer_id = $1 ORDER BY d.id", []any{id}, func(scan Scan) (vending.Credential, error) { return scanCredential(scan) })
	if err != nil {
		return d, err
	}
	d.Audit, err = List(r, "SELECT "+auditColumns+" FROM audit WHERE customer_id = $1 ORDER BY id", []any{id}, scanAudit)
	return d, err
}
