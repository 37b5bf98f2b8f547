package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAdminBesideNodes runs operators' commands on a PostgreSQL that three
// nodes serve: what they do holds at once on all of them.
func TestAdminBesideNodes(t *testing.T) {
	t.Parallel()
	o := newOutside(t)
	o.toMail.close() // so that there are jobs
	c := newCluster(t, 3, newPostgres(t), o.use())
	a := adminTest{t: t, cluster: c}
	n := c.places[0].alive()
	client := n.client("")
	ada := mustSignUp(t, client, n.url, "ada@customers.dev")
	grace := mustSignUp(t, client, n.url, "grace@customers.dev")
	load := mustSignUp(t, client, n.url, "load@load.gatehouse.internal")
	everywhere := func(what, key string, want int) {
		t.Helper()
		for _, p := range c.places {
			n := p.alive()
			if status, _, err := accountOf(n.client(""), n.url, key); status != want {
				t.Errorf("%s, asked at node %s: %d %v, want %d", what, p.name, status, err, want)
			}
		}
	}

	var customers []struct{ ID, Email string }
	a.json(&customers, "customers", "list", "--json")
	if len(customers) != 3 || customers[0].ID != ada.customerID {
		t.Errorf("customers list: %v", customers)
	}
	a.does("customers", "suspend", "ada@customers.dev")
	everywhere("a suspended customer's key", ada.key, http.StatusForbidden)
	a.does("customers", "resume", ada.customerID)
	everywhere("the key of a customer that was resumed", ada.key, http.StatusOK)

	var made struct {
		ID, Prefix string
		APIKey     string `json:"api_key"`
	}
	for i := range 5 {
		a.json(&made, "keys", "create", ada.customerID, "--name=ci", "--json")
		everywhere("a key that an operator made", made.APIKey, http.StatusOK)
		a.does("keys", "revoke", []string{made.ID, made.Prefix}[i%2])
		everywhere("a key that an operator revoked", made.APIKey, http.StatusUnauthorized)
	}
	everywhere("the customer's other key", ada.key, http.StatusOK)

	if out := a.does("customers", "export", ada.customerID); !strings.Contains(out.stdout, "ada@customers.dev") || strings.Contains(out.stdout, "grace") {
		t.Errorf("customers export: %s", out.stdout)
	}
	if out := a.does("jobs", "list"); !strings.Contains(out.stdout, "welcome_mail") || !strings.Contains(out.stdout, grace.customerID) {
		t.Errorf("jobs list: %s", out.stdout)
	}
	a.does("customers", "erase", grace.customerID, "--yes")
	everywhere("an erased customer's key", grace.key, http.StatusUnauthorized)
	mustSignUp(t, client, n.url, "grace@customers.dev")
	a.does("customers", "purge", "--domain=load.gatehouse.internal")
	everywhere("a purged customer's key", load.key, http.StatusUnauthorized)
	a.does("ledger", "verify")

	var steps []struct{ Applied bool }
	out := finish(t, gatehouse(t, "migrate", "status", "--json", databaseFlag(c.database)))
	if err := json.Unmarshal([]byte(out.stdout), &steps); err != nil || len(steps) == 0 || slices.Contains(steps, struct{ Applied bool }{}) {
		t.Errorf("migrate status: %s%s %v", out.stdout, out.stderr, err)
	}
	if out := finish(t, gatehouse(t, "migrate", "down", "--yes", databaseFlag(c.database))); out.code != exitFailed || !strings.Contains(out.stderr, "3 nodes serve the database") {
		t.Errorf("migrate down beside nodes: exit code %d, %s", out.code, out.stderr)
	}
	file := filepath.Join(t.TempDir(), "backup.db")
	for _, args := range [][]string{{"backup", file}, {"unfence", "--yes"}} {
		if out := a.run(args...); out.code != exitUsage || !strings.Contains(out.stderr, "pg_dump") {
			t.Errorf("admin %v: exit code %d, %s; want %d and what to do", args, out.code, out.stderr, exitUsage)
		}
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a backup that was refused left a file: %v", err)
	}
	o.toMail.open()
	a.does("jobs", "retry", "--all")
	n.awaitDone()
	c.drain()
}

type adminTest struct {
	*cluster
	t *testing.T
}

func (a adminTest) run(args ...string) outcome {
	a.t.Helper()
	return finish(a.t, gatehouse(a.t, append(append([]string{"admin"}, args...), databaseFlag(a.database))...))
}

// does wants it to be done.
func (a adminTest) does(args ...string) outcome {
	a.t.Helper()
	out := a.run(args...)
	if out.code != exitOK {
		a.t.Errorf("admin %v: exit code %d, %s%s", args, out.code, out.stdout, out.stderr)
	}
	return out
}

func (a adminTest) json(into any, args ...string) {
	a.t.Helper()
	out := a.does(args...)
	if err := json.Unmarshal([]byte(out.stdout), into); err != nil {
		a.t.Fatal(fmt.Errorf("admin %v: %w", args, err))
	}
}
