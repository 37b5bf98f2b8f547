package records

import "gatehouse/internal/account"

// unknownToStripe are customers without an id there, or with one that a load test
// made up: a real one has no second underscore.
const unknownToStripe = "(stripe_customer_id IS NULL OR stripe_customer_id LIKE 'cus!_load%!_%' ESCAPE '!')"

// Purge removes those of some customers that are still at a domain, signed up
// as a load test's, and are unknown to Stripe. chosen says in SQL which customers
// are meant, and domain which is an address's; their arguments come from $2 on,
// after the domain. What the table purges names may lose its ledger, and it
// names nobody outside this transaction.
func Purge(t Tx, at, domain, chosen string, args ...any) (done account.Purged, err error) {
	args = append([]any{at}, args...)
	from := " FROM customers WHERE " + domain + " = $1 AND id IN (" + chosen + ")"
	if _, err := t.Exec("INSERT INTO purges SELECT id"+from+" AND load_test AND "+unknownToStripe, args...); err != nil {
		return done, err
	}
	for _, removal := range []string{
		"DELETE FROM api_keys WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM jobs WHERE kind IN ('welcome_mail', 'stripe_customer') AND subject IN (SELECT customer_id FROM purges)",
		"DELETE FROM jobs WHERE kind = 'stripe_event' AND subject IN (SELECT e.id FROM stripe_events e JOIN purges p ON p.customer_id = e.customer_id WHERE e.customer_id <> '')",
		"DELETE FROM stripe_events WHERE customer_id <> '' AND customer_id IN (SELECT customer_id FROM purges)", // by an index of those alone
		"DELETE FROM outcomes WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM subscription_facts WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM payment_methods WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM disputes WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM payments WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM jobs WHERE kind = 'fix_charge' AND subject IN (SELECT f.id FROM fixes f JOIN purges p ON p.customer_id = f.customer_id)",
		"DELETE FROM fixes WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM holds WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM spending WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM audit WHERE customer_id IN (SELECT customer_id FROM purges)",
		"UPDATE provider_keys SET sweep_at = 0 WHERE id IN (SELECT d.id FROM credentials d JOIN purges p ON p.customer_id = d.customer_id)",
		"DELETE FROM credentials WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM grants WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM ledger_entries WHERE customer_id IN (SELECT customer_id FROM purges)",
		"DELETE FROM customers WHERE id IN (SELECT customer_id FROM purges)",
	} {
		if _, err := t.Exec(removal); err != nil {
			return done, err
		}
	}
	removed, err := t.Exec("DELETE FROM purges")
	if err != nil {
		return done, err
	}
	done.Removed = int(removed)
	return done, t.Row("SELECT count(*)"+from, args, &done.Kept)
}
