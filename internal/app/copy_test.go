package app_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gatehouse/internal/app"
	"gatehouse/internal/store"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/postgres/pgtest"
	"gatehouse/internal/store/sqlite"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// filled is a customer of each sort and a row of each: plain, erased and
// suspended, a load test's; a key that is used, one that is revoked; a ledger
// that goes down; windows, one of which a killed Ping left; jobs that wait, run
// and are dead, of times whose sum is no int64; events of Stripe's, one of which
// was blanked, and what they told; fixes; an answer.
const filled = `
INSERT INTO customers (id, name, email, email_canonical, company, source, subscription_plan, subscription_state, trial_fixes_limit,
	trial_fixes_used, credit_balance, credit_debt, stripe_customer_id, created_at, suspended_at, load_test, erased_at, period_start, period_end, cancels_at_end) VALUES
	('1', 'Ada Łukasiewicz 漢字 😀', 'A.da@l.dev', 'ada@l.dev', 'C "quoted", \N	tab', 's', 'trial', '', 5, 2, 3, 0, 'cus_1', 1763900000000001, NULL, 0, NULL, NULL, NULL, 0),
	('2', '', 'erased-2', 'erased-2', '', 's', 'pro', 'active', 5, 5, 0, 7, NULL, 1763900000000002, 1763900000000003, 0, 1763900000000004, 1763900000000005, 1763900000000006, 1),
	('3', 'n', 'c@load.dev', 'c@load.dev', '', 's', 'trial', '', 5, 0, 5, 0, NULL, 1763900000000005, NULL, 1, NULL, NULL, NULL, 0);
INSERT INTO api_keys (customer_id, id, public_id, hash, prefix, name, created_at, last_used_at, expires_at, retires_at, revoked_at) VALUES
	('1', 'k1', 'p1', x'00ff80', 'gk_live_p1', '', 1, 2, 3, 4, NULL),
	('2', 'k1', 'p2', x'', 'gk_live_p2', 'old', 1, NULL, NULL, NULL, 5);
INSERT INTO ledger_entries (customer_id, number, id, amount, balance_after, debt, source, reference, created_at) VALUES
	('1', 1, 'e1', 5, 5, 0, 'trial_signup', 'signup:1', 1), ('1', 2, 'e2', -2, 3, 0, 'fix', 'fix:1', 2), ('3', 1, 'e3', 5, 5, 0, 'trial_signup', 'signup:3', 1),
	('2', 1, 'e4', 5, 5, 0, 'trial_signup', 'signup:2', 1), ('2', 2, 'e5', -5, 0, 7, 'refund', 'refund:ch_1:100', 2);
INSERT INTO rate_windows (policy, key, stamps) VALUES
	('onboarding', '10.0.0.1', x'000645e6a50f6a01000645e6a50f6a02'), ('api', 'k1', x'0000000000000001'), ('ping', '', randomblob(65536));
INSERT INTO jobs (kind, subject, created_at, due_at, claim, tries, running, dead_at, reason) VALUES
	('welcome_mail', '1', 1, 9000000000000000000, 1, 0, 0, NULL, ''),
	('welcome_mail', '2', 1, 9000000000000000000, 2, 3, 1, NULL, 'no answer'),
	('stripe_customer', '1', 1, 3, 3, 20, 0, 4, 'gone');
INSERT INTO stripe_events (id, type, payload, state, reason, waits_for, customer_id, received_at, decided_at, history) VALUES
	('evt_1', 'invoice.paid', CAST('{"id": "evt_1"}' AS BLOB), 'parked', 'whose?', 'stripe_customer:cus_9', '', 1, 2, 'a' || char(10) || 'b' || char(10)),
	('evt_2', '', x'', 'done', '', '', '2', 3, NULL, 'a' || char(10));
INSERT INTO subscription_facts (subscription_id, event_id, customer_id, kind, at, seen, status, was, pro, cancels_at_end, started, period_start, period_end) VALUES
	('sub_1', 'evt_2', '2', 'updated', 1, 2, 'active', 'past_due', 1, 0, 3, 4, 5);
INSERT INTO pro_prices (id) VALUES ('price_1');
INSERT INTO payment_methods (id, customer_id, attached_at, detached_at) VALUES ('pm_1', '', 0, 1), ('pm_2', '2', 3, 2);
INSERT INTO payments (id, customer_id, intent, cents, credits, refunded, disputed) VALUES ('in_1', '2', 'pi_1', 59900, 60, 12, 3);
INSERT INTO disputes (id, customer_id, payment_id, credits, won) VALUES ('dp_1', '2', 'in_1', 3, 0), ('dp_2', '2', 'in_1', 60, 1);
INSERT INTO fixes (id, customer_id, external_id, repository, pull_request, state, paid_by, cents, currency, balance_after, created_at, attempt, begun_at, tried_at, stripe_customer, method, intent, why) VALUES
	('f1', '1', 'x', 'r', 'p', 'done', 'credit', 0, 'usd', 3, 1, 0, 0, 0, '', '', '', ''), ('f2', '2', 'x', '', '', 'failed', 'charge', 2900, 'usd', 0, 1, 2, 3, 4, 'cus_2', 'pm_2', 'pi_2', 'card_declined');
INSERT INTO reconciler (one, since, until, after_event, begun_at) VALUES (1, 2, 3, 'evt_1', 4);
INSERT INTO grants VALUES ('g1', '1', 31, 32, 33, 34, 'build', '17');
INSERT INTO credentials VALUES ('d1', 'g1', '1', 'k1', 'anthropic', 'tok1', x'0a0b', 35, 36, NULL, 'gateway'), ('d2', 'g1', '1', 'k1', 'openai', 'tok2', x'0c', 35, 36, 37, 'provider_expiry');
INSERT INTO provider_keys VALUES ('d2', 'openai', 'key_1', 37, 1);
INSERT INTO holds (id, grant_id, customer_id, key_id, credential_id, provider, model, micro, lapses_at) VALUES ('h1', 'g1', '1', 'k1', 'd1', 'anthropic', 'claude', 38, 39);
INSERT INTO spending VALUES ('1', 20000, 40), ('1', 20001, 41);
INSERT INTO audit VALUES ('a1', 42, '1', 'k1', 'd1', 'g1', 'call', 'anthropic', 'claude', 1, 43, 44, 45, 1, 'done', ''), ('a2', 46, '1', '', '', '', 'report', 'openai', '', 2, 3, 0, 0, 0, '', 'j');
UPDATE customers SET day_budget = 47 WHERE id = '1';
INSERT INTO outcomes (number, request, body, customer_id, created_at, status, key_id, sealed) VALUES
	(7, x'01', x'02', '1', unixepoch() * 1000000, 201, 'some key', x'00030405');`

// move is one source and one target.
type move struct {
	path, url string
	pg        *pgx.Conn
}

func newMove(t *testing.T) *move {
	t.Helper()
	server := pgtest.Need(t)
	url, err := server.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := &move{path: filepath.Join(t.TempDir(), "test.db"), url: url}
	if err := sqlite.Up(t.Context(), m.path); err != nil {
		t.Fatal(err)
	}
	m.change(t, filled)
	if m.pg, err = pgx.Connect(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.pg.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// change changes the source behind its store's back.
func (m *move) change(t *testing.T, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", m.path)
	if err == nil {
		_, err = db.ExecContext(t.Context(), statements)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// prepare brings the target up to date, and changes it.
func (m *move) prepare(t *testing.T, statements string) {
	t.Helper()
	if err := postgres.Up(t.Context(), m.url); err != nil {
		t.Fatal(err)
	}
	if _, err := m.pg.Exec(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
}

func (m *move) copy(ctx context.Context, progress func(string, int64, int64)) (app.Copied, error) {
	return app.CopyToPostgres(ctx, app.Config{Database: app.Database{File: m.path}}, m.url, progress)
}

func quietly(string, int64, int64) {}

// refused wants a copy to fail with a text.
func (m *move) refused(t *testing.T, want ...string) {
	t.Helper()
	_, err := m.copy(t.Context(), quietly)
	if err == nil {
		t.Fatal("it was copied")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("it says %q, want %q in it", err, w)
		}
	}
}

// origin is what the source's fence says; "": there is none.
func (m *move) origin(t *testing.T) string {
	t.Helper()
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: m.path})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Contents(t.Context())
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return c.Origin
}

// untouched wants the target empty, and the source to be served.
func (m *move) untouched(t *testing.T) {
	t.Helper()
	for _, table := range store.Tables() {
		if rows := m.target(t, table.Name); len(rows) > 0 {
			t.Errorf("%d rows are in %s", len(rows), table.Name)
		}
	}
	s, err := sqlite.Open(t.Context(), sqlite.Options{Path: m.path, Serve: true})
	if err != nil {
		t.Fatalf("no node may serve the source: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// byKey orders a table by its first two columns, where it has two.
func byKey(table string) string {
	if table == "pro_prices" {
		return " ORDER BY 1"
	}
	return " ORDER BY 1, 2"
}

// target is all that a table of the target holds, by column.
func (m *move) target(t *testing.T, table string) []map[string]any {
	t.Helper()
	rows, err := m.pg.Query(t.Context(), "SELECT * FROM "+table+byKey(table))
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// source is all that a table of the source holds, as the target should.
func (m *move) source(t *testing.T, table string) (all []map[string]any) {
	t.Helper()
	db, err := sql.Open("sqlite", m.path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), "SELECT * FROM "+table+byKey(table))
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		values, into := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		row := make(map[string]any)
		for i, name := range names {
			if b, ok := values[i].([]byte); ok && b == nil { // empty, and not NULL
				values[i] = []byte{}
			}
			row[name] = values[i]
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, row := range all {
		switch table {
		case "customers":
			row["load_test"], row["cancels_at_end"] = row["load_test"] == int64(1), row["cancels_at_end"] == int64(1)
		case "subscription_facts":
			row["pro"], row["cancels_at_end"] = row["pro"] == int64(1), row["cancels_at_end"] == int64(1)
		case "reconciler":
			row["one"] = int32(1)
		case "disputes":
			row["won"] = row["won"] == int64(1)
		case "provider_keys":
			row["doomed"] = row["doomed"] == int64(1)
		case "audit":
			row["estimated"] = row["estimated"] == int64(1)
		case "jobs":
			row["running"] = false
		case "rate_windows":
			stamps := []any{}
			for b := row["stamps"].([]byte); len(b) > 0; b = b[8:] {
				stamps = append(stamps, int64(binary.BigEndian.Uint64(b)))
			}
			row["stamps"], row["granted"] = stamps, int32(1)
		case "outcomes":
			delete(row, "number")
		}
	}
	return slices.DeleteFunc(all, func(row map[string]any) bool { return row["policy"] == "ping" })
}

func TestCopyBringsEverythingAndLeavesTheSourceFenced(t *testing.T) {
	m := newMove(t)
	last := make(map[string][2]int64)
	did, err := m.copy(t.Context(), func(table string, done, all int64) { last[table] = [2]int64{done, all} })
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]int64{"customers": {3, 3}, "api_keys": {2, 2}, "ledger_entries": {5, 5}, "rate_windows": {2, 2}, "jobs": {3, 3}, "outcomes": {1, 1},
		"stripe_events": {2, 2}, "subscription_facts": {1, 1}, "pro_prices": {1, 1}, "payment_methods": {2, 2}, "payments": {1, 1}, "disputes": {2, 2}, "fixes": {2, 2}, "reconciler": {1, 1},
		"grants": {1, 1}, "credentials": {2, 2}, "provider_keys": {1, 1}, "holds": {1, 1}, "spending": {2, 2}, "audit": {2, 2}}
	if diff := cmp.Diff(want, last); diff != "" {
		t.Errorf("progress (-want +got):\n%s", diff)
	}
	for _, c := range did.Tables {
		if diff := cmp.Diff(m.source(t, c.Table.Name), m.target(t, c.Table.Name)); diff != "" {
			t.Errorf("%s (-source +target):\n%s", c.Table.Name, diff)
		}
		if c.Sums.Rows != want[c.Table.Name][0] {
			t.Errorf("%s: said to be %d rows", c.Table.Name, c.Sums.Rows)
		}
	}
	sums := map[string]string{"customers.credit_balance": "8", "customers.load_test": "1", "customers.cancels_at_end": "1", "ledger_entries.amount": "8", "ledger_entries.debt": "7", "stripe_events.payload": "15", "jobs.due_at": "18000000000000000003", "jobs.running": "0", "rate_windows.stamps": "3", "outcomes.sealed": "4"}
	for _, c := range did.Tables {
		for i, column := range c.Table.Columns {
			if want, ok := sums[c.Table.Name+"."+column.Name]; ok && c.Sums.Columns[i] != want {
				t.Errorf("%s.%s: %s, want %s", c.Table.Name, column.Name, c.Sums.Columns[i], want)
			}
		}
	}
	if did.KeyFile != "" || !slices.Equal(did.MissingKeys, []string{"some key"}) {
		t.Errorf("master keys: %+v", did)
	}
	if _, err := sqlite.Open(t.Context(), sqlite.Options{Path: m.path, Serve: true}); err == nil || !strings.Contains(err.Error(), "moved to PostgreSQL") {
		t.Errorf("a node on the source is told %v", err)
	}

	m.refused(t, "moved to "+did.To, "admin unfence") // a second time
	if got := m.origin(t); got != "moved to "+did.To {
		t.Errorf("the fence says %q", got)
	}
}

// A column that a migration adds must not stay behind in silence.
func TestCopyKnowsEveryColumn(t *testing.T) {
	m := newMove(t)
	m.prepare(t, "")
	var known, there []string
	for _, table := range store.Tables() {
		for _, c := range table.Columns {
			known = append(known, table.Name+"."+c.Name)
		}
	}
	rows, err := m.pg.Query(t.Context(), `SELECT table_name || '.' || column_name FROM information_schema.columns WHERE table_schema = 'public'
		AND table_name NOT IN ('goose_db_version', 'purges', 'nodes', 'cluster')`)
	if err != nil {
		t.Fatal(err)
	}
	if there, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		t.Fatal(err)
	}
	slices.Sort(known)
	slices.Sort(there)
	if diff := cmp.Diff(there, known); diff != "" {
		t.Errorf("PostgreSQL's columns (-there +copied):\n%s", diff)
	}
	m.change(t, `CREATE TABLE columns AS SELECT t.name || '.' || c.name AS name FROM sqlite_schema t, pragma_table_info(t.name) c
		WHERE t.type = 'table' AND t.name NOT IN ('goose_db_version', 'sqlite_sequence', 'purges', 'fence')`)
	there = nil
	for _, row := range m.source(t, "(SELECT name, 0 FROM columns)") {
		there = append(there, row["name"].(string))
	}
	known = append(slices.DeleteFunc(known, func(name string) bool { return name == "rate_windows.granted" }), "outcomes.number")
	slices.Sort(known)
	slices.Sort(there)
	if diff := cmp.Diff(there, known); diff != "" {
		t.Errorf("SQLite's columns (-there +copied):\n%s", diff)
	}
}

func TestCopyThatFailsChangesNothing(t *testing.T) {
	tests := []struct {
		name, source, target string
		says                 []string
	}{
		{"a text with NUL", "UPDATE customers SET company = 'a' || char(0) || 'b' WHERE id = '2'", "", []string{"copy customers, row 2: ", "0x00"}},
		{"no UTF-8", "UPDATE jobs SET reason = CAST(x'ff' AS TEXT) WHERE subject = '2'", "", []string{"copy jobs, row welcome_mail 2: ", "UTF8"}},
		{"a text too long for an index", "UPDATE outcomes SET request = randomblob(9000)", "", []string{"copy outcomes, row ", "index"}},
		{"a key of nobody", "INSERT INTO api_keys SELECT '9', id, 'p9', hash, prefix, name, 1, 1, 1, 1, 1 FROM api_keys WHERE customer_id = '1'", "", []string{"copy api_keys: ", "(customer_id)=(9)"}},
		{"a ledger that does not add up", "UPDATE customers SET credit_balance = 4 WHERE id = '3'", "", []string{"ledger of customer 3 does not add up"}},
		{"a debt that does not add up", "UPDATE customers SET credit_debt = 4 WHERE id = '3'", "", []string{"ledger of customer 3 does not add up"}},
		{"a value that is changed on its way", "", altered("api_keys", "NEW.revoked_at = NEW.revoked_at + 1; RETURN NEW"), []string{"api_keys.revoked_at (int): 5 in the source, 6 in the target"}},
		{"a byte that is lost", "", altered("outcomes", `NEW.sealed = '\x000304'; RETURN NEW`), []string{"outcomes.sealed (bytes): 4 in the source, 3 in the target"}},
		{"a stamp that is lost", "", altered("rate_windows", "NEW.stamps = NEW.stamps[1:1]; RETURN NEW"), []string{"rate_windows.stamps (stamps): 3 in the source, 2 in the target"}},
		{"a mark that is lost", "", altered("customers", "NEW.load_test = false; RETURN NEW"), []string{"customers.load_test (bool): 1 in the source, 0 in the target"}},
		{"a row that is lost", "", altered("jobs", "RETURN NULL"), []string{"jobs: 3 rows in the source, 0 in the target"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMove(t)
			m.change(t, tt.source)
			m.prepare(t, tt.target)
			m.refused(t, tt.says...)
			m.untouched(t)
		})
	}
	t.Run("a signal", func(t *testing.T) {
		m := newMove(t)
		ctx, cancel := context.WithCancel(t.Context())
		_, err := m.copy(ctx, func(table string, _, _ int64) {
			if table == "outcomes" {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
		m.untouched(t)
	})
}

// altered is a trigger that changes what is written to a table.
func altered(table, how string) string {
	return "CREATE FUNCTION alter_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN " + how + "; END $$; CREATE TRIGGER alter_it BEFORE INSERT ON " + table + " FOR EACH ROW EXECUTE FUNCTION alter_it()"
}

func TestCopyIntoWhatIsNotEmptyIsRefused(t *testing.T) {
	for _, row := range []string{"outcomes VALUES ('\\x00', '\\x00', '', 0, 0, '', '\\x00')", "rate_windows VALUES ('p', 'k', '{1}', 1)"} {
		table, _, _ := strings.Cut(row, " ")
		t.Run(table, func(t *testing.T) {
			m := newMove(t)
			m.prepare(t, "INSERT INTO "+row)
			m.refused(t, "the target is not empty: there are rows in "+table)
			if got := m.origin(t); got != "" {
				t.Errorf("the source's fence says %q", got)
			}
		})
	}
}

func TestCopyOfWhatIsServedIsRefused(t *testing.T) {
	m := newMove(t)
	node, err := sqlite.Open(t.Context(), sqlite.Options{Path: m.path, Serve: true})
	if err != nil {
		t.Fatal(err)
	}
	m.refused(t, "another node serves")
	if err := node.Close(); err != nil {
		t.Error(err)
	}
	m.untouched(t)
}

func TestCopyOfAFencedCopyIsRefused(t *testing.T) {
	m := newMove(t)
	m.change(t, "INSERT INTO fence VALUES (1, 0, 'first.db')")
	m.refused(t, "is a copy of first.db", "admin unfence")
	if got := m.origin(t); got != "first.db" {
		t.Errorf("the fence says %q", got)
	}
}

// A run that was killed leaves its fence, and another goes on; but only to the
// database that may hold all by now.
func TestCopyAfterOneThatWasKilled(t *testing.T) {
	m := newMove(t)
	m.change(t, "INSERT INTO fence VALUES (1, 0, 'being moved to PostgreSQL elsewhere:5432/gatehouse')")
	m.refused(t, "being moved to PostgreSQL elsewhere:5432/gatehouse")

	name, err := postgres.Name(m.url)
	if err != nil {
		t.Fatal(err)
	}
	m.change(t, "UPDATE fence SET origin = 'being moved to "+name+"'")
	m.prepare(t, "INSERT INTO rate_windows VALUES ('p', 'k', '{1}', 1)")
	m.refused(t, "not empty", "stays fenced", "admin unfence")
	if got := m.origin(t); got != "being moved to "+name {
		t.Errorf("the fence says %q", got)
	}
	m.prepare(t, "DELETE FROM rate_windows")
	if _, err := m.copy(t.Context(), quietly); err != nil {
		t.Error(err)
	}
	if got := m.origin(t); got != "moved to "+name {
		t.Errorf("the fence says %q", got)
	}
}

// Where the commit's outcome is not known, no node may serve the source.
func TestCopyWhoseCommitFailsStaysFenced(t *testing.T) {
	m := newMove(t)
	m.prepare(t, `CREATE FUNCTION fail_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'too late'; END $$;
		CREATE CONSTRAINT TRIGGER fail_it AFTER INSERT ON jobs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION fail_it()`)
	m.refused(t, store.ErrMaybeCopied.Error(), "too late", "stays fenced", "admin unfence")
	if got := m.origin(t); !strings.HasPrefix(got, "being moved to PostgreSQL ") {
		t.Errorf("the fence says %q", got)
	}
}

// What can't be reached, or is no URL, is told without the password.
func TestCopyTellsNoPassword(t *testing.T) {
	m := newMove(t)
	for _, url := range []string{
		"postgres://u:geheim@127.0.0.1:1/db", "postgres://u:geheim@host:port/db", "postgres://u:ge heim@h/db", "postgres://u:geheim%@h/db",
		strings.Replace(m.url, "@", ":geheim@", 1) + "_not",
	} {
		m.url = url
		_, err := m.copy(t.Context(), quietly)
		if err == nil || strings.Contains(err.Error(), "heim") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if got := m.origin(t); got != "" {
		t.Errorf("the source's fence says %q", got)
	}
}
