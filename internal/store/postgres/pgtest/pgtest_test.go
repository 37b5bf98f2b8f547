package pgtest_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/store/postgres/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// server starts one of the test's own.
func server(t *testing.T, o pgtest.Options) *pgtest.Server {
	t.Helper()
	if _, err := pgtest.Find(); err != nil {
		t.Skip(err)
	}
	s, err := pgtest.New(o)
	if err != nil {
		t.Fatal(err)
	}
	closes(t, s)
	return s
}

func closes(t *testing.T, s *pgtest.Server) {
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

// folder makes a folder for servers, from here on.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.Chmod(filepath.Dir(dir), 0o755)) // a server runs as somebody else
	t.Setenv("TMPDIR", dir)
	return dir
}

func database(t *testing.T, s *pgtest.Server) (url string) {
	t.Helper()
	url, err := s.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return url
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do runs a statement on a connection of its own.
func do(ctx context.Context, url, statement string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, statement)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// ask reads one value on a connection of its own.
func ask(t *testing.T, url, question string) (answer string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	must(t, err)
	err = conn.QueryRow(t.Context(), question).Scan(&answer)
	must(t, errors.Join(err, conn.Close(t.Context())))
	return answer
}

const noted = "SELECT string_agg(line, ' ' ORDER BY line) FROM notes"

func TestServerKeepsItsDataOverCrashes(t *testing.T) {
	s := server(t, pgtest.Options{Settings: map[string]string{"max_connections": "17", "application_name": "it's"}})
	url := database(t, s)
	must(t, do(t.Context(), url, "CREATE TABLE notes (line text); INSERT INTO notes VALUES ('a')"))
	must(t, s.Stop("immediate"))
	if err := do(t.Context(), url, "SELECT"); err == nil {
		t.Error("it answers while it is stopped")
	}
	must(t, s.Start())
	must(t, do(t.Context(), url, "INSERT INTO notes VALUES ('b')"))
	must(t, s.Kill())
	must(t, s.Start())
	if got := ask(t, url, noted); got != "a b" {
		t.Errorf("after two crashes it has %q", got)
	}
	if got := ask(t, url, "SELECT current_setting('max_connections') || current_setting('fsync')"); got != "17on" {
		t.Errorf("max_connections and fsync are %s", got)
	}
	if err := s.Start(); err == nil {
		t.Error("it starts twice")
	}
	if err := s.Stop("gently"); err == nil {
		t.Error("it stops in a mode that there is not")
	}
	must(t, s.Stop("fast"))
}

func TestServerThatCannotStartSaysWhy(t *testing.T) {
	if _, err := pgtest.Find(); err != nil {
		t.Skip(err)
	}
	dir := folder(t)
	_, err := pgtest.New(pgtest.Options{Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil || !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("a setting that there is not: %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v, %v", left, err)
	}
}

func TestDatabasesAreApart(t *testing.T) {
	s := pgtest.Need(t)
	one := database(t, s)
	must(t, do(t.Context(), one, "CREATE TABLE notes (line text); INSERT INTO notes VALUES ('a')"))
	other, err := s.CreateFrom(t.Context(), one)
	must(t, err)
	must(t, do(t.Context(), other, "INSERT INTO notes VALUES ('b')"))
	if got := ask(t, one, noted) + ", " + ask(t, other, noted); got != "a, a b" {
		t.Errorf("a database and a copy that has grown: %s", got)
	}
	if got := ask(t, database(t, s), "SELECT count(*)::text FROM pg_tables WHERE schemaname = 'public'"); got != "0" {
		t.Errorf("a new database has %s tables", got)
	}
	if again := pgtest.Need(t); again != s {
		t.Error("the server is not shared")
	}
}

func TestStandbyTakesOver(t *testing.T) {
	primary := server(t, pgtest.Options{Settings: map[string]string{"synchronous_standby_names": "standby"}})
	url := database(t, primary)
	waits, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := do(waits, url, "CREATE TABLE alone ()"); err == nil {
		t.Error("the primary commits without its standby")
	}
	standby, err := primary.Standby(t.Context())
	must(t, err)
	closes(t, standby)
	must(t, do(t.Context(), url, "CREATE TABLE notes (line text); INSERT INTO notes VALUES ('a')"))
	must(t, primary.Kill())
	moved := strings.Replace(url, primary.Addr(), standby.Addr(), 1)
	if err := do(t.Context(), moved, "INSERT INTO notes VALUES ('b')"); err == nil {
		t.Error("a standby takes writes")
	}
	must(t, standby.Promote())
	must(t, do(t.Context(), moved, "INSERT INTO notes VALUES ('c')"))
	if got := ask(t, moved, noted); got != "a c" {
		t.Errorf("the promoted standby has %q", got)
	}
}

func TestFindSaysWhatIsMissing(t *testing.T) {
	t.Setenv("PGBIN", t.TempDir())
	if bin, err := pgtest.Find(); err == nil || !strings.Contains(err.Error(), "PGBIN") {
		t.Errorf("Find = %q, %v", bin, err)
	}
}

func TestProxySpoilsTheNetwork(t *testing.T) {
	s := pgtest.Need(t)
	p := pgtest.NewProxy(t, s.Addr())
	url := p.Through(s.URL("postgres"))
	must(t, do(t.Context(), url, "SELECT"))

	p.Toxic("slow", "latency", map[string]any{"latency": 200})
	began := time.Now()
	must(t, do(t.Context(), url, "SELECT"))
	if took := time.Since(began); took < 200*time.Millisecond {
		t.Errorf("with 200 ms more a way it takes %v", took)
	}
	p.Remove("slow")

	p.ToxicUpstream("hole", "timeout", map[string]any{"timeout": 0})
	lost, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := do(lost, url, "SELECT"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("through a hole: %v", err)
	}
	p.Remove("hole")

	p.Enabled(false)
	if err := do(t.Context(), url, "SELECT"); err == nil {
		t.Error("through a closed proxy it answers")
	}
	p.Enabled(true)
	must(t, do(t.Context(), url, "SELECT"))
}
