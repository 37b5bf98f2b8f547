package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/account"
	"gatehouse/internal/store"
	"gatehouse/internal/store/storetest"
)

// Two customers of a load test, the second known to Stripe, and one other.
const customers = `INSERT INTO customers (id, name, email, email_canonical, company, source, subscription_plan, subscription_state, trial_fixes_limit,
	trial_fixes_used, credit_balance, credit_debt, stripe_customer_id, created_at, suspended_at) VALUES
	('1', 'n', 'A@l.dev', 'a@l.dev', '', 's', 'trial', '', 5, 0, 5, 0, NULL, 0, NULL),
	('2', 'n', 'b@l.dev', 'b@l.dev', '', 's', 'trial', '', 5, 0, 5, 0, 'cus_1', 0, NULL),
	('3', 'n', 'c@m.dev', 'c@m.dev', '', 's', 'trial', '', 5, 0, 5, 0, NULL, 0, NULL);
	INSERT INTO ledger_entries (customer_id, number, id, amount, balance_after, source, reference, created_at) SELECT id, 1, id, 5, 5, 'trial_signup', 'signup:' || id, 0 FROM customers;
	INSERT INTO api_keys SELECT id, id, id, x'00', 'p', '', 0, NULL, NULL, NULL, NULL FROM customers;`

const marked = customers + "UPDATE customers SET load_test = 1"

func wantGuarded(t *testing.T, s *Store) {
	t.Helper()
	err := s.write.do(t.Context(), func(t *tx) error { return t.exec("DELETE FROM ledger_entries WHERE number = 1") })
	if err == nil || !strings.Contains(err.Error(), "ledger entries are never removed") {
		t.Errorf("removing entries: %v", err)
	}
}

func wantLeft(t *testing.T, s *Store, table, want string) {
	t.Helper()
	var got string
	if err := s.read.QueryRowContext(t.Context(), "SELECT coalesce(group_concat(x), '') FROM (SELECT "+table+" ORDER BY 1)").Scan(&got); err != nil || got != want {
		t.Errorf("%s: %q, %v, want %q", table, got, err, want)
	}
}

func TestPurgeKeepsWhomStripeKnowsAndTheGuard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, Options{Path: path})
	execute(t, path, marked)
	got, err := s.PurgeSome(t.Context(), "l.dev", "", 10)
	if want := (account.Purged{Removed: 1, Kept: 1}); err != nil || got != want {
		t.Errorf("purged %+v, %v, want %+v", got, err, want)
	}
	for _, table := range []string{"id AS x FROM customers", "customer_id AS x FROM api_keys", "customer_id AS x FROM ledger_entries"} {
		wantLeft(t, s, table, "2,3")
	}
	wantLeft(t, s, "customer_id AS x FROM purges", "")
	wantGuarded(t, s)
	closed(t, s)
}

// What a step found may have changed before its transaction.
func TestPurgeLooksAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, Options{Path: path})
	execute(t, path, marked)
	got, err := s.purge(t.Context(), "l.dev", `["1","2","3","4"]`)
	if want := (account.Purged{Removed: 1, Kept: 1}); err != nil || got != want {
		t.Errorf("purged %+v, %v, want %+v", got, err, want)
	}
	wantLeft(t, s, "id AS x FROM customers", "2,3")
	closed(t, s)
}

func TestPurgeThatFailsLeavesAllAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, Options{Path: path})
	execute(t, path, marked)
	broken := errors.New("broken")
	err := s.write.do(t.Context(), func(t *tx) error {
		_, err := purge(changes{t, s}, "l.dev", `["1"]`)
		return errors.Join(err, broken)
	})
	if !errors.Is(err, broken) {
		t.Error(err)
	}
	wantLeft(t, s, "id AS x FROM customers", "1,2,3")
	wantLeft(t, s, "customer_id AS x FROM ledger_entries", "1,2,3")
	wantGuarded(t, s)
	closed(t, s)
}

func TestDatabaseOfTheVersionBefore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	closed(t, open(t, Options{Path: path}))
	for undone := (store.Migration{}); undone.Version != 2; {
		var err error
		if undone, err = Down(t.Context(), path); err != nil {
			t.Fatalf("undone %+v, %v", undone, err)
		}
	}
	execute(t, path, customers)
	s := open(t, Options{Path: path})
	wantGuarded(t, s)
	if got, err := s.PurgeSome(t.Context(), "l.dev", "", 10); err != nil || got != (account.Purged{Kept: 2}) {
		t.Errorf("purged %+v, %v, want nobody: they signed up before load tests were marked", got, err)
	}
	closed(t, s)
	if _, err := Down(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if err := tryExecute(t.Context(), path, "DELETE FROM ledger_entries"); err == nil || !strings.Contains(err.Error(), "never removed") {
		t.Errorf("after going back: %v", err)
	}
}

func TestAboutReadsTheSettingsInEffect(t *testing.T) {
	s := open(t, Options{})
	want := map[string]string{
		"journal_mode": "wal", "synchronous": "full", "page_size": "4096", "cache_size": "-8192", "mmap_size": "0", "wal_autocheckpoint": "1000",
	}
	got, err := s.About(t.Context())
	if diff := cmp.Diff(want, got.Settings); err != nil || diff != "" || !strings.HasPrefix(got.Version, "3.") {
		t.Errorf("%+v, %v (-want +got):\n%s", got, err, diff)
	}
	change := func(t *tx) error {
		_, err := t.conn.ExecContext(context.Background(), "PRAGMA cache_size = 7")
		return err
	}
	if err := s.write.do(t.Context(), change); err != nil {
		t.Fatal(err)
	}
	if got, err := s.About(t.Context()); err != nil || got.Settings["cache_size"] != "7" {
		t.Errorf("after a change: %+v, %v", got, err)
	}
	closed(t, s)
}

// A node of an older version sets money aside beside `migrate up`.
func TestOlderNodesHoldMoney(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, Options{Path: path})
	execute(t, path, strings.Join(storetest.OlderHolds, ";"))
	wantLeft(t, s, "id || ' ' || lapses_at AS x FROM holds", "2 3")
	closed(t, s)
}

// execute changes a database behind the store's back.
func execute(t *testing.T, path, statements string) {
	t.Helper()
	if err := tryExecute(t.Context(), path, statements); err != nil {
		t.Fatal(err)
	}
}

func tryExecute(ctx context.Context, path, statements string) error {
	db, err := sql.Open("sqlite", path)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, statements)
	return errors.Join(err, db.Close())
}

// TestForeignKeysHaveIndexes: what a row is referred to by is looked for when it
// goes, and without an index in a whole table, for each row of a purge.
func TestForeignKeysHaveIndexes(t *testing.T) {
	t.Parallel()
	s := open(t, Options{Path: filepath.Join(t.TempDir(), "gatehouse.db")})
	var got string
	err := s.read.QueryRowContext(t.Context(), `SELECT coalesce(group_concat(m.name || '.' || f."from"), '')
		FROM sqlite_schema m, pragma_foreign_key_list(m.name) f WHERE m.type = 'table' AND NOT EXISTS (
			SELECT 1 FROM pragma_index_list(m.name) i, pragma_index_info(i.name) c WHERE NOT i.partial AND c.seqno = 0 AND c.name = f."from")`).Scan(&got)
	if err != nil || got != "" {
		t.Errorf("without an index are %q, %v", got, err)
	}
}
