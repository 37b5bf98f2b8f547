package main

import (
	"fmt"
	"testing"
)

// crowd signs up customers in a database that is served or not, faster than
// clients could: so many of a load test, and half as many others among them.
func crowd(t *testing.T, database string, n int) {
	t.Helper()
	db := openSQL(t, database)
	for _, statement := range []string{
		fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
			INSERT INTO customers (id, name, email, email_canonical, company, source, subscription_plan, subscription_state, trial_fixes_limit, trial_fixes_used, credit_balance, credit_debt, stripe_customer_id, created_at, suspended_at, load_test) SELECT printf('%%08d', i), 'n', e, e, '', 's', 'trial', '', 5, 0, 5, 0, NULL, 0, NULL, i %% 3 > 0 FROM
			(SELECT i, printf('u%%d@%%s', i, iif(i %% 3, 'load.gatehouse.internal', 'customers.dev')) AS e FROM n)`, n+n/2),
		"INSERT INTO ledger_entries SELECT id, 1, id, 5, 5, 'trial_signup', 'signup:' || id, 0, 0 FROM customers",
		"INSERT INTO api_keys SELECT id, id, id, x'00', 'p', '', 0, NULL, NULL, NULL, NULL FROM customers",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
}

// A purge may be killed at any moment beside a node that serves: no customer
// is half gone, nobody else is touched, and the next purge does the rest.
func TestPurgeKilledOnItsWay(t *testing.T) {
	t.Parallel()
	needLinux(t)
	const customers = 4000 // many steps
	n := startNode(t, newDatabase(t))
	crowd(t, n.database, customers)
	args := []string{"admin", "customers", "purge", "--domain=load.gatehouse.internal", "--database=sqlite:" + n.database}

	p := launch(t, gatehouse(t, args...))
	p.plain = true // it is no node
	p.awaitLog("")
	p.kill()
	mustSignUp(t, n.client(""), n.url, "beside@customers.dev")
	db := openSQL(t, n.database)
	left, err := column(db, "SELECT count(*) FROM customers")
	if err != nil {
		t.Fatal(err)
	}
	if left[0] == fmt.Sprint(customers/2+1) {
		t.Log("the purge was done before it was killed: this time nothing was shown")
	}
	for _, table := range []string{"api_keys", "ledger_entries"} {
		got, err := column(db, "SELECT count(*) FROM "+table+" JOIN customers c ON c.id = customer_id")
		if err != nil || got[0] != left[0] {
			t.Errorf("%s of %v customers of %s, %v", table, got, left[0], err)
		}
	}
	mustBeWhole(t, n.database, left[0])

	c := finish(t, gatehouse(t, args...))
	if c.code != exitOK {
		t.Errorf("again: %+v", c)
	}
	mustBeWhole(t, n.database, fmt.Sprint(customers/2+1))
	n.drain()
}

// mustBeWhole checks that there are so many customers whose ledgers add up.
func mustBeWhole(t *testing.T, database, customers string) {
	t.Helper()
	c := finish(t, gatehouse(t, "admin", "ledger", "verify", "--database=sqlite:"+database))
	if want := fmt.Sprintf("%[1]s customers with %[1]s entries: all add up\n", customers); c.code != exitOK || c.stdout != want {
		t.Errorf("%d: %s%s, want %s", c.code, c.stdout, c.stderr, want)
	}
}
