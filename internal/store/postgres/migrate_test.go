package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"gatehouse/internal/cluster"
	"gatehouse/internal/store"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/postgres/pgtest"
	"gatehouse/internal/store/storetest"
	"gatehouse/internal/vending"
)

func emptyDatabase(t *testing.T) (url string) {
	t.Helper()
	url, err := pgtest.Need(t).CreateDatabase(t.Context())
	must(t, err)
	return url
}

// refused opens a database that must not be, and returns why not.
func refused(t *testing.T, o postgres.Options, within time.Duration, says ...string) {
	t.Helper()
	err := ends(t, within, func() error {
		s, err := postgres.Open(t.Context(), o)
		if err == nil {
			err = errors.Join(errors.New("it was opened"), s.Close())
		}
		return err
	})
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("it is refused with %q, which does not say %q", err, part)
		}
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("the error says the password: %v", err)
	}
}

// secret is the password in URLs here.
const secret = "s3cret-w0rd"

func TestNodesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	refused(t, postgres.Options{URL: url, Serve: true}, recovery, "no schema", "migrate up", "--auto-migrate")
	stores := make([]*postgres.Store, 3)
	var wg sync.WaitGroup
	for i := range stores {
		wg.Go(func() {
			var err error
			if stores[i], err = postgres.Open(t.Context(), postgres.Options{URL: url, Serve: true, Migrate: true, Cluster: "prod"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range stores {
		if s == nil {
			continue
		}
		if err := serves(t, s); err != nil {
			t.Error(err)
		}
		must(t, s.Close())
	}
	all, err := postgres.Status(t.Context(), url)
	must(t, err)
	for _, m := range all {
		if !m.Applied {
			t.Errorf("%v was not applied", m)
		}
	}
	if n := ask[int](t, url, "SELECT count(*) FROM goose_db_version WHERE version_id > 0"); n != len(all) {
		t.Errorf("%d versions are noted of %d", n, len(all))
	}
}

// A transaction that holds what a migration needs can't hold it up, or those
// who stand behind it, for good.
func TestMigrationsWaitIsBounded(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := node(t, url)
	c := connect(t, url)
	for ask[int](t, url, "SELECT max(version_id) FROM goose_db_version") > 5 { // which made an index of credentials
		_, err := postgres.Down(t.Context(), url)
		must(t, err)
	}
	tx, err := c.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE credentials IN ACCESS SHARE MODE") // as a reader does
	must(t, err)
	done := make(chan error)
	go func() {
		_, err := postgres.Down(context.Background(), url)
		done <- err
	}()
	eventually(t, recovery, func() error {
		if n := ask[int](t, url, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'credentials'::regclass"); n == 0 {
			return errors.New("nobody waits for the table")
		}
		return nil
	})
	// Behind it everybody waits, and is told so in time.
	if _, err := s.Credentials(t.Context(), "anybody"); err != nil {
		wantAway(t, err)
	}
	err = ends(t, 5*time.Second, func() error { return <-done })
	if err == nil || !strings.Contains(err.Error(), "lock") {
		t.Errorf("undone in spite of the lock: %v", err)
	}
	must(t, tx.Rollback(t.Context()))
	eventually(t, recovery, func() error { return serves(t, s) })
	if n := ask[int](t, url, "SELECT count(*) FROM cluster"); n != 1 {
		t.Error("the schema is not whole")
	}
}

func TestMigrationWaitsForItsTurnAndNoLonger(t *testing.T) {
	t.Parallel()
	url := emptyDatabase(t)
	c := connect(t, url)
	tx, err := c.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), "CREATE TABLE customers (other int)") // somebody's, not committed
	must(t, err)
	done := make(chan error)
	go func() { done <- postgres.Up(context.Background(), url) }()
	pause(t.Context(), 4*time.Second) // longer than a try waits
	must(t, tx.Rollback(t.Context()))
	must(t, ends(t, 5*time.Second, func() error { return <-done }))
	must(t, serves(t, node(t, url)))
}

func TestTwoVersionsOnOneDatabase(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	old := node(t, url)
	c := connect(t, url)
	execute(t, c, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (900, true)")
	execute(t, c, "ALTER TABLE customers ADD COLUMN of_later text")
	execute(t, c, "ALTER TABLE rate_windows ADD COLUMN of_later text")
	// The one that runs goes on, and one more can begin.
	must(t, serves(t, old))
	o, _ := newOpening(t, "ada@example.dev")
	must(t, old.Open(t.Context(), o, nil))
	for _, migrate := range []bool{false, true} {
		s := openStore(t, postgres.Options{URL: url, Serve: true, Migrate: migrate})
		if _, err := s.Customer(t.Context(), o.ID); err != nil {
			t.Error(err)
		}
		must(t, s.Close())
	}
	execute(t, c, "UPDATE cluster SET least_schema = 900")
	for _, migrate := range []bool{false, true} {
		refused(t, postgres.Options{URL: url, Serve: true, Migrate: migrate}, recovery, "version 900", "newer version")
	}
}

// A node of an older version sets money aside though the schema is the newest.
func TestOlderNodesHoldMoney(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	c := connect(t, url)
	for _, statement := range storetest.OlderHolds {
		execute(t, c, statement)
	}
	if left := ask[string](t, url, "SELECT string_agg(id || ' ' || lapses_at, ',') FROM holds"); left != "2 3" {
		t.Errorf("what they left is %q", left)
	}
}

func TestOldSchemaIsRefused(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	execute(t, connect(t, url), "UPDATE goose_db_version SET version_id = 0 WHERE version_id > 0")
	refused(t, postgres.Options{URL: url, Serve: true}, recovery, "version 0", "migrate up")
}

func TestClustersDatabaseIsItsOwn(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	// A command that serves nothing gives no name.
	must(t, openStore(t, postgres.Options{URL: url, Cluster: "test"}).Close())
	must(t, openStore(t, postgres.Options{URL: url, Serve: true, Cluster: "prod"}).Close())
	must(t, openStore(t, postgres.Options{URL: url, Serve: true, Cluster: "prod"}).Close())
	must(t, openStore(t, postgres.Options{URL: url}).Close())
	for _, serve := range []bool{false, true} {
		refused(t, postgres.Options{URL: url, Serve: serve, Cluster: "test"}, recovery, `"prod"`, `"test"`)
	}
}

func TestDownIsRefusedWhileANodeServes(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := node(t, url)
	_, err := s.Beat(t.Context(), cluster.Node{ID: "a", Name: "a"})
	must(t, err)
	if m, err := postgres.Down(t.Context(), url); err == nil || !strings.Contains(err.Error(), "1 nodes") {
		t.Errorf("undone is %v, %v", m, err)
	}
	must(t, serves(t, s))
	must(t, s.Leave(t.Context(), "a"))
	must(t, s.Ping(t.Context()))
	for undone := (store.Migration{}); undone.Version != 1; { // all of them, back to nothing
		undone, err = postgres.Down(t.Context(), url)
		must(t, err)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a database without a schema can be used")
	}
	must(t, postgres.Up(t.Context(), url))
	must(t, serves(t, s))
}

func TestLedgerEntriesCannotBeChanged(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	newProbe(t, node(t, url))
	c := connect(t, url)
	for _, change := range []string{"UPDATE ledger_entries SET amount = 1", "UPDATE ledger_entries SET debt = 1", "DELETE FROM ledger_entries", "TRUNCATE ledger_entries"} {
		if _, err := c.Exec(t.Context(), change); err == nil || !strings.Contains(err.Error(), "ledger entries are never") {
			t.Errorf("%s: %v", change, err)
		}
	}
}

// listener answers each connection in its own way.
func listener(t *testing.T, answer func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	var running sync.WaitGroup
	done := make(chan struct{})
	running.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				answer(c)
				select {
				case <-done:
				case <-time.After(recovery):
				}
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() {
		close(done)
		_ = ln.Close()
		running.Wait()
	})
	return ln.Addr().String()
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	there := pgtest.Need(t).Addr()
	closed := listener(t, func(net.Conn) {})
	fails := func(code, message string) func(net.Conn) {
		return func(c net.Conn) {
			b := pgproto3.NewBackend(c, c)
			if _, err := b.ReceiveStartupMessage(); err == nil {
				b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: message})
				_ = b.Flush()
			}
			_ = c.Close()
		}
	}
	for _, tt := range []struct {
		name, url string
		says      []string
	}{
		{"NoURL", "postgres://gatehouse:" + secret + "@host:port/db", []string{"URL"}},
		{"NoURLEither", "postgres://gatehouse:" + secret + "@[::1/db", []string{"URL"}},
		{"BadSetting", "postgres://gatehouse:" + secret + "@" + there + "/db?pool_max_conns=" + secret, []string{"URL"}},
		{"NoSuchHost", "postgres://gatehouse:" + secret + "@nowhere.invalid/db?sslmode=disable", []string{"nowhere.invalid"}},
		{"Refuses", "postgres://gatehouse:" + secret + "@127.0.0.1:1/db?sslmode=disable", []string{"127.0.0.1", "refused"}},
		{"Silent", "postgres://gatehouse:" + secret + "@" + closed + "/db?sslmode=disable", []string{strings.Split(closed, ":")[0]}},
		{"NoPostgreSQL", "postgres://gatehouse:" + secret + "@" + listener(t, func(c net.Conn) {
			_, _ = fmt.Fprint(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = c.Close()
		}) + "/db?sslmode=disable", []string{"127.0.0.1"}},
		{"WrongPassword", "postgres://gatehouse:" + secret + "@" + listener(t, fails("28P01", `password authentication failed for user "gatehouse"`)) + "/db?sslmode=disable",
			[]string{"password authentication failed"}},
		{"NoSuchDatabase", "postgres://gatehouse:" + secret + "@" + there + "/none?sslmode=disable", []string{`"none" does not exist`}},
		{"NoTLS", "postgres://gatehouse:" + secret + "@" + there + "/postgres?sslmode=require", []string{"TLS"}},
		{"TooManyConnections", "postgres://gatehouse:" + secret + "@" + listener(t, fails("53300", "too many clients already")) + "/db?sslmode=disable", []string{"too many clients"}},
	} {
		for _, migrate := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/%t", tt.name, migrate), func(t *testing.T) {
				t.Parallel()
				refused(t, postgres.Options{URL: tt.url, Serve: true, Migrate: migrate}, recovery, tt.says...)
			})
		}
	}
}

// What is wrong with a database when a node runs already passes, as far as the
// node knows, also what an operator must mend.
func TestConnectingThatFailsIsAway(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	c := connect(t, url)
	name := c.Config().Database
	role := "role_" + name
	execute(t, c, "CREATE ROLE "+role+" LOGIN SUPERUSER")
	s := node(t, strings.Replace(url, "//gatehouse@", "//"+role+"@", 1))
	p := newProbe(t, s)
	execute(t, c, "ALTER ROLE "+role+" NOLOGIN") // 28000, as a wrong password is 28P01
	execute(t, c, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = $1", role)
	for range 2 {
		p.wantAllAway(t, s, 2)
	}
	execute(t, c, "ALTER ROLE "+role+" LOGIN")
	t.Logf("serving again after %v", p.wantAllServed(t, s))
}

func TestAuditTrailCannotBeChanged(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	must(t, node(t, url).Report(t.Context(), vending.Report{CustomerID: "c", JobID: "j"}, nil))
	c := connect(t, url)
	for _, change := range []string{"UPDATE audit SET cost = 1", "DELETE FROM audit", "TRUNCATE audit"} {
		if _, err := c.Exec(t.Context(), change); err == nil || !strings.Contains(err.Error(), "the audit trail is never") {
			t.Errorf("%s: %v", change, err)
		}
	}
}

// TestForeignKeysHaveIndexes: as on SQLite.
func TestForeignKeysHaveIndexes(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	var got string
	err := connect(t, url).QueryRow(t.Context(), `SELECT coalesce(string_agg(c.conrelid::regclass || ' ' || c.conname, ', '), '') FROM pg_constraint c
		WHERE c.contype = 'f' AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.conrelid AND i.indpred IS NULL AND i.indkey[0] = c.conkey[1])`).Scan(&got)
	if err != nil || got != "" {
		t.Errorf("without an index are %q, %v", got, err)
	}
}
