package main

import (
	"database/sql"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5/stdlib"

	"gatehouse/internal/store/postgres/pgtest"
)

// openSQL opens a database as another program would: not through our store,
// whose driver is linked into this binary.
func openSQL(t testing.TB, database string) *sql.DB {
	t.Helper()
	driver, name := "sqlite", (&url.URL{Scheme: "file", Path: database, RawQuery: "_pragma=busy_timeout(10000)"}).String()
	if onPostgres(database) {
		driver, name = "pgx", database
	}
	db, err := sql.Open(driver, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // it may be closed already
	return db
}

// told is what clients know of one sign-up.
type told struct {
	call
	moreKeys bool   // a second key was asked for
	revoked  string // a key whose end was acknowledged
}

// auditDatabase holds what is in a database against what clients know. The
// map has every address that anybody ever tried to sign up.
func auditDatabase(db *sql.DB, known map[string]told) (found []string, err error) {
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	found, err = auditForm(db)
	if err != nil {
		return nil, err
	}
	rows, err := db.Query(`SELECT id, email, credit_balance,
		(SELECT count(*) FROM api_keys WHERE customer_id = c.id),
		(SELECT count(*) FROM ledger_entries WHERE customer_id = c.id),
		(SELECT coalesce(sum(amount), 0) FROM ledger_entries WHERE customer_id = c.id)
		FROM customers c`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	there := make(map[string]bool)
	for rows.Next() {
		var id, email string
		var balance, keys, entries, sum int
		if err := rows.Scan(&id, &email, &balance, &keys, &entries, &sum); err != nil {
			return nil, err
		}
		who, tried := known[email]
		switch {
		case !tried:
			say("%s: nobody signed this address up", email)
		case there[email]:
			say("%s: is there twice", email)
		case who.answered() && who.customerID != id:
			say("%s: is customer %s, and the client was told %q", email, id, who.customerID)
		}
		there[email] = true
		if keys != 1 && (keys != 2 || !who.moreKeys) {
			say("%s: has %d keys", email, keys)
		}
		if entries != 1 || balance != 5 || sum != 5 {
			say("%s: has %d ledger entries of %d credits and a balance of %d", email, entries, sum, balance)
		}
	}
	for email, who := range known {
		if who.customerID != "" && !there[email] {
			say("%s: was acknowledged as customer %s and is gone", email, who.customerID)
		}
	}
	slices.Sort(found)
	return found, rows.Err()
}

// auditForm finds what no database should hold, whoever wrote it.
func auditForm(db *sql.DB) (found []string, err error) {
	queries := []string{
		"SELECT integrity_check FROM pragma_integrity_check WHERE integrity_check <> 'ok'",
		`SELECT "table" || ' has a row without its ' || parent FROM pragma_foreign_key_check`,
	}
	if _, ok := db.Driver().(*stdlib.Driver); ok {
		queries = []string{
			"SELECT 'api_keys has a row without its customers' FROM api_keys WHERE customer_id NOT IN (SELECT id FROM customers)",
			"SELECT 'ledger_entries has a row without its customers' FROM ledger_entries WHERE customer_id NOT IN (SELECT id FROM customers)",
		}
	}
	for _, query := range queries {
		some, err := column(db, query)
		if err != nil {
			return nil, fmt.Errorf("check the database's form: %w", err)
		}
		found = append(found, some...)
	}
	return found, nil
}

// column reads the first column of a query as text.
func column(db *sql.DB, query string) (values []string, err error) {
	rows, err := db.Query(query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, rows.Err()
}

// mustAudit fails the test for whatever auditDatabase finds. It may look
// beside a running node.
func mustAudit(t testing.TB, path string, known map[string]told) {
	t.Helper()
	db := openSQL(t, path)
	found, err := auditDatabase(db, known)
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatalf("audit of %s: %v", path, err)
	}
	for _, f := range found {
		t.Error("audit: " + f)
	}
}

// copyFile copies a file that nobody writes.
func copyFile(t testing.TB, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// copyOf copies a database that nobody is connected to.
func copyOf(t testing.TB, database string) string {
	t.Helper()
	if onPostgres(database) {
		made, err := pgtest.Need(t).CreateFrom(t.Context(), database)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	copyFile(t, database, path)
	return path
}

func TestTheAuditItself(t *testing.T) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		database, known := audited(t, newDatabase(t))
		auditFinds(t, database, known)
		tornPage(t, database, known)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		database, known := audited(t, newPostgres(t))
		auditFinds(t, database, known)
	})
}

// audited makes a database in which all is well.
func audited(t *testing.T, database string) (string, map[string]told) {
	t.Helper()
	n := startNode(t, database)
	known := make(map[string]told)
	for i := range 5 {
		c := mustSignUp(t, n.client(""), n.url, fmt.Sprintf("audit-%d@customers.dev", i))
		known[c.email] = told{call: c}
	}
	known["never-answered@customers.dev"] = told{}
	n.drain()
	mustAudit(t, database, known)
	return database, known
}

// auditFinds breaks copies of a database in many ways.
func auditFinds(t *testing.T, database string, known map[string]told) {
	t.Helper()
	tests := []struct {
		name, change string
		onPostgres   string // the change there, where it is another
		lie          func(map[string]told)
	}{
		{name: "a key is gone", change: "DELETE FROM api_keys WHERE id = (SELECT min(id) FROM api_keys)"},
		{name: "a key too many", change: "INSERT INTO api_keys (customer_id, id, public_id, hash, prefix, name, created_at) SELECT customer_id, 'x', 'x', hash, prefix, name, created_at FROM api_keys LIMIT 1"},
		{name: "an entry is gone", change: "DROP TRIGGER ledger_entries_never_vanish; DELETE FROM ledger_entries WHERE customer_id = (SELECT min(id) FROM customers)",
			onPostgres: "DROP TRIGGER ledger_entries_never_change ON ledger_entries; DELETE FROM ledger_entries WHERE customer_id = (SELECT min(id) FROM customers)"},
		{name: "an entry doubled", change: "INSERT INTO ledger_entries SELECT customer_id, 2, 'x', 5, 10, source, 'x', created_at, 0 FROM ledger_entries LIMIT 1"},
		{name: "a balance moved", change: "UPDATE customers SET credit_balance = 6 WHERE id = (SELECT max(id) FROM customers)"},
		{name: "a key without its customer", change: "UPDATE api_keys SET customer_id = 'x' WHERE id = (SELECT min(id) FROM api_keys)",
			onPostgres: "ALTER TABLE api_keys DISABLE TRIGGER ALL; UPDATE api_keys SET customer_id = 'x' WHERE id = (SELECT min(id) FROM api_keys)"},
		{name: "a customer that nobody signed up", lie: func(known map[string]told) { delete(known, "audit-1@customers.dev") }},
		{name: "an acknowledged customer is gone", lie: func(known map[string]told) {
			known["lost@customers.dev"] = told{call: call{email: "lost@customers.dev", status: 201, customerID: "lost"}}
		}},
		{name: "a customer who was told another id", lie: func(known map[string]told) {
			known["audit-1@customers.dev"] = told{call: call{status: 201, customerID: "other"}}
		}},
		{name: "a customer who was refused", lie: func(known map[string]told) {
			known["audit-1@customers.dev"] = told{call: call{status: 429}}
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			change := test.change
			if onPostgres(database) && test.onPostgres != "" {
				change = test.onPostgres
			}
			db := openSQL(t, copyOf(t, database))
			if _, err := db.Exec(change); change != "" && err != nil {
				t.Fatal(err)
			}
			changed := maps.Clone(known)
			if test.lie != nil {
				test.lie(changed)
			}
			found, err := auditDatabase(db, changed)
			if err != nil {
				t.Fatal(err)
			}
			if len(found) == 0 {
				t.Error("the audit found nothing")
			}
		})
	}

}

func tornPage(t *testing.T, database string, known map[string]told) {
	t.Helper()
	t.Run("a page is torn", func(t *testing.T) {
		path := copyOf(t, database)
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt(make([]byte, 2048), 4096*3); err != nil {
			t.Fatal(err)
		}
		if found, err := auditDatabase(openSQL(t, path), known); err == nil && len(found) == 0 {
			t.Error("the audit found nothing")
		}
	})
}
