package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever differs from what a run was told of is found, and nothing else is.
func TestLoadReconcile(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	n := startNode(t, database)
	l := newLoad(t, n.url, strings.Replace(loadPlan, "count: 100", "count: 40", 1))
	if o := finish(t, l.cmd); o.code != exitOK {
		t.Fatalf("exit code %d:\n%s%s", o.code, o.stdout, o.stderr)
	}
	n.drain()
	reconciled := func(dir, database string) outcome {
		return finish(t, gatehouse(t, "load", "reconcile", dir, "--database=sqlite:"+database))
	}
	if o := reconciled(l.out, database); o.code != exitOK || !strings.Contains(strings.Join(strings.Fields(o.stdout), " "), "sign-ups 300 0 300 0 0 0 0") {
		t.Fatalf("exit code %d, want 0 and 300 sign-ups:\n%s%s", o.code, o.stdout, o.stderr)
	}

	changed := func(statements ...string) string {
		copied := copyOf(t, database)
		db := openSQL(t, copied)
		for _, s := range statements {
			if _, err := db.Exec(s); err != nil {
				t.Fatal(err)
			}
		}
		return copied
	}
	const first = "(SELECT id FROM customers ORDER BY id LIMIT 1)"
	for name, tt := range map[string]struct{ database, want string }{
		"one was lost":       {changed("UPDATE customers SET email = 'somebody@else.dev' WHERE id = " + first), "sign-ups, lost: "},
		"one is there twice": {changed("UPDATE customers SET email = (SELECT email FROM customers ORDER BY id DESC LIMIT 1) WHERE id = " + first), "sign-ups, twice: "},
		"a balance is wrong": {changed("UPDATE customers SET credit_balance = 7 WHERE id = " + first), "their ledgers, otherwise wrong: "},
	} {
		if o := reconciled(l.out, tt.database); o.code != exitFailed || !strings.Contains(o.stdout, tt.want) {
			t.Errorf("%s: exit code %d, want 1 and %q:\n%s%s", name, o.code, tt.want, o.stdout, o.stderr)
		}
	}

	file := filepath.Join(l.out, "writes.csv")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(text), "\n")
	for name, tt := range map[string]struct {
		text, want string
		code       int
	}{
		"a run was not told of one":     {strings.Join(append(lines[:50:50], lines[51:]...), ""), "sign-ups, surplus: ", exitFailed},
		"one had no answer":             {strings.Replace(string(text), ",201", ",0", 1), "sign-ups", exitOK},
		"one had none and is not there": {string(text) + "POST /api/v1/customers/onboard,01234567-89ab-4def-8123-456789abcdef,0\n", "sign-ups", exitOK},
		"the file was cut":              {string(text[:len(text)-3]), "", exitUsage},
	} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if o := reconciled(l.out, database); o.code != tt.code || !strings.Contains(o.stdout, tt.want) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s%s", name, o.code, tt.code, tt.want, o.stdout, o.stderr)
		}
	}
	if o := reconciled(t.TempDir(), database); o.code != exitUsage || !strings.Contains(o.stderr, "writes.csv") {
		t.Errorf("an empty folder: exit code %d, want 2: %s", o.code, o.stderr)
	}
}
