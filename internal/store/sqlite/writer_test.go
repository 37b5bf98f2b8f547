package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/vending"
)

func open(t *testing.T, o Options) *Store {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "test.db")
	}
	o.Serve, o.Migrate = true, true
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closed(t *testing.T, s *Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// hold keeps the writer busy until the returned function is called.
func hold(t *testing.T, s *Store) (release func()) {
	t.Helper()
	busy, done := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.write.do(context.Background(), func(*tx) error { close(busy); <-done; return nil }); err != nil {
			t.Error(err)
		}
	})
	<-busy
	return func() { close(done); wg.Wait() }
}

func wantAway(t *testing.T, err error) {
	t.Helper()
	if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.Unavailable || f.RetryAfter <= 0 {
		t.Errorf("error is %v, want fault unavailable with a time to retry", err)
	}
}

func TestWriteOfACallerThatLeftIsNotDoneLater(t *testing.T) {
	s := open(t, Options{})
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ran := false
	wantAway(t, s.write.do(ctx, func(*tx) error { ran = true; return nil }))
	release()
	closed(t, s) // has run all that was queued
	if ran {
		t.Error("a write was done after its caller was told that it was not")
	}
}

func TestFullQueueRefusesAtOnce(t *testing.T) {
	s := open(t, Options{})
	release := hold(t, s)
	var wg sync.WaitGroup
	refused := make(chan error, 2*maxQueue)
	for range maxQueue + 100 {
		wg.Go(func() {
			if err := s.write.do(context.Background(), func(*tx) error { return nil }); err != nil {
				refused <- err
				if len(refused) == 100 { // as many as there was no room for
					release()
				}
			}
		})
	}
	wg.Wait()
	close(refused)
	n := 0
	for err := range refused {
		wantAway(t, err)
		n++
	}
	if n != 100 {
		t.Errorf("%d writes were refused, want 100", n)
	}
	closed(t, s)
}

func TestClosedStoreIsAway(t *testing.T) {
	s := open(t, Options{})
	closed(t, s)
	wantAway(t, s.write.do(t.Context(), func(*tx) error { return nil }))
}

func TestPanicInAWriteFailsItAlone(t *testing.T) {
	s := open(t, Options{})
	release := hold(t, s) // so that the next two are one group
	errs := make(chan error, 2)
	go func() { errs <- s.write.do(context.Background(), func(*tx) error { panic("oh") }) }()
	good := make(chan error, 1)
	go func() {
		good <- s.write.do(context.Background(), func(t *tx) error {
			return t.exec("INSERT INTO rate_windows (policy, key, stamps) VALUES ('p', 'k', x'00')")
		})
	}()
	release()
	if err := <-errs; err == nil || !strings.Contains(err.Error(), "panic: string at writer_test.go") {
		t.Errorf("the panic came back as %v", err)
	}
	if err := <-good; err != nil {
		t.Errorf("the other write: %v", err)
	}
	var n int
	if err := s.read.QueryRowContext(t.Context(), "SELECT count(*) FROM rate_windows").Scan(&n); err != nil || n != 1 {
		t.Errorf("%d rows, %v, want 1", n, err)
	}
	closed(t, s)
}

// together runs some writes as one group, and returns what each came to.
func together(t *testing.T, s *Store, runs ...func(*tx) error) []error {
	t.Helper()
	release := hold(t, s)
	errs := make([]error, len(runs))
	var wg sync.WaitGroup
	for i, run := range runs {
		wg.Go(func() { errs[i] = s.write.do(context.Background(), run) })
		for len(s.write.queue) <= i { // they run in this order
			runtime.Gosched()
		}
	}
	release()
	wg.Wait()
	return errs
}

// window is a write of one row, that counts how often it ran.
func window(key string, ran *int) func(*tx) error {
	return func(t *tx) error {
		*ran++
		return t.exec("INSERT INTO rate_windows (policy, key, stamps) VALUES ('p', ?, x'00')", key)
	}
}

const windows = "key AS x FROM rate_windows"

func TestRefusalUndoesWhatItHadWritten(t *testing.T) {
	refusal := fault.Refused("on second thoughts")
	refused := func(ran *int, write string) func(*tx) error {
		return func(t *tx) error {
			*ran++
			err := t.each(write, nil, func(scan func(...any) error) error { return scan(new(string)) })
			return errors.Join(err, t.exec("UPDATE rate_windows SET stamps = x'01'"), refusal)
		}
	}
	for name, write := range map[string]string{
		"a row":                "INSERT INTO rate_windows (policy, key, stamps) VALUES ('p', 'refused', x'00') RETURNING key",
		"what is another's":    "SELECT key FROM rate_windows",
		"rows that it returns": "DELETE FROM rate_windows RETURNING key",
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Options{})
			var before, within, after int
			if err := s.write.do(t.Context(), window("before", &before)); err != nil {
				t.Fatal(err)
			}
			if err := s.write.do(t.Context(), refused(&within, write)); !errors.Is(err, refusal) {
				t.Errorf("alone it comes back as %v", err)
			}
			wantLeft(t, s, windows, "before")
			before, within = 0, 0
			errs := together(t, s, window("a", &before), refused(&within, write), window("b", &after))
			if errs[0] != nil || !errors.Is(errs[1], refusal) || errs[2] != nil {
				t.Errorf("of a group they come back as %v", errs)
			}
			if before != 2 || within != 2 || after != 1 {
				t.Errorf("they ran %d, %d and %d times", before, within, after)
			}
			wantLeft(t, s, windows, "a,b,before")
			wantLeft(t, s, "DISTINCT hex(stamps) AS x FROM rate_windows", "00")
			if s.write.failing.Load() {
				t.Error("a refusal is taken for a disk that fails")
			}
			closed(t, s)
		})
	}
}

// Nearly all refusals are such: their group is committed as it is.
func TestRefusalThatWroteNothingKeepsItsGroup(t *testing.T) {
	s := open(t, Options{})
	var ran, others int
	if err := s.write.do(t.Context(), window("before", &others)); err != nil {
		t.Fatal(err)
	}
	refusal := fault.Refused("no")
	errs := together(t, s, window("a", &others), func(t *tx) error {
		ran++
		var n int
		return errors.Join(
			t.row("SELECT count(*) FROM rate_windows", nil, &n),
			t.each("SELECT key FROM rate_windows", nil, func(scan func(...any) error) error { return scan(new(string)) }),
			t.exec("INSERT INTO rate_windows (policy, key, stamps) VALUES ('p', 'before', x'01') ON CONFLICT DO NOTHING"),
			t.exec("DELETE FROM rate_windows WHERE key = 'none'"),
			refusal)
	}, window("b", &others))
	if errs[0] != nil || !errors.Is(errs[1], refusal) || errs[2] != nil || ran != 1 || others != 3 {
		t.Errorf("they come back as %v; the refused ran %d times, and the others %d", errs, ran, others)
	}
	wantLeft(t, s, windows, "a,b,before")
	closed(t, s)
}

func TestAcknowledgedWritesAreSynced(t *testing.T) {
	s := open(t, Options{})
	err := s.write.do(t.Context(), func(t *tx) error {
		var journal string
		var synchronous, foreignKeys int
		err := errors.Join(
			t.row("PRAGMA journal_mode", nil, &journal),
			t.row("PRAGMA synchronous", nil, &synchronous),
			t.row("PRAGMA foreign_keys", nil, &foreignKeys))
		if journal != "wal" || synchronous != 2 || foreignKeys != 1 {
			err = errors.Join(err, errors.New("the writer is not set to be durable"))
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	closed(t, s)
}

// A disk that hangs is an operator's transaction that does not end.
func TestCallerThatGaveUpSeesNothingOfALateWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writer{log: slog.New(slog.DiscardHandler), queue: make(chan *op, maxQueue), stop: make(chan struct{}), stopped: make(chan struct{})}
		s := &Store{write: w, clock: time.Now, wall: time.Now, observe: func(string, time.Duration, error) {}}
		go func() { // a writer that takes longer than callers wait
			o := <-w.queue
			o.claim()
			<-time.After(2 * opTimeout)
			o.done <- o.run(new(tx))
			close(w.stopped)
		}()
		d, err := mutate(t.Context(), s, "take", func(*tx) (ratelimit.Decision, error) {
			return ratelimit.Decision{Admitted: true}, nil
		})
		wantAway(t, err)
		if d.Admitted {
			t.Error("a caller that was told that the store is away was let in")
		}
		if !w.failing.Load() {
			t.Error("a disk that hangs is not noticed")
		}
		<-w.stopped
		if d.Admitted {
			t.Error("the late write reached its caller")
		}
	})
}

func TestLedgerEntriesCannotBeChanged(t *testing.T) {
	s := open(t, Options{})
	for _, change := range []string{"UPDATE ledger_entries SET amount = 1", "UPDATE ledger_entries SET debt = 1", "DELETE FROM ledger_entries"} {
		err := s.write.do(t.Context(), func(t *tx) error {
			return errors.Join(
				t.exec("INSERT OR IGNORE INTO customers VALUES ('c', 'n', 'e', 'e', '', 's', 'trial', '', 5, 0, 5, 0, NULL, 0, NULL, 0, NULL, NULL, NULL, 0, NULL)"),
				t.exec("INSERT INTO ledger_entries VALUES ('c', 1, 'i', 5, 5, 'trial_signup', 'signup:c', 0, 0)"),
				t.exec(change))
		})
		if err == nil || !strings.Contains(err.Error(), "ledger entries are never") {
			t.Errorf("%s: %v", change, err)
		}
	}
	closed(t, s)
}

func TestAuditTrailCannotBeChanged(t *testing.T) {
	s := open(t, Options{})
	if err := s.Report(t.Context(), vending.Report{CustomerID: "c", JobID: "j"}, nil); err != nil {
		t.Fatal(err)
	}
	for _, change := range []string{"UPDATE audit SET cost = 1", "DELETE FROM audit"} {
		err := s.write.do(t.Context(), func(t *tx) error { return t.exec(change) })
		if err == nil || !strings.Contains(err.Error(), "the audit trail is never") {
			t.Errorf("%s: %v", change, err)
		}
	}
	closed(t, s)
}

func TestSecondNodeIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	s := open(t, Options{Path: path})
	if _, err := Open(t.Context(), Options{Path: path, Serve: true, Migrate: true}); err == nil || !strings.Contains(err.Error(), "another node") {
		t.Errorf("second node: %v", err)
	}
	operator, err := Open(t.Context(), Options{Path: path})
	if err != nil {
		t.Fatalf("an operator's command: %v", err)
	}
	if err := operator.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	closed(t, operator)
	closed(t, s)
	closed(t, open(t, Options{Path: path}))
}

func TestForeignAndNewerDatabasesAreRefused(t *testing.T) {
	tests := []struct {
		name, statement, want string
	}{
		{"another program's tables", "CREATE TABLE theirs (x)", "another program's"},
		{"another program's mark", "PRAGMA application_id = 7", "another program's"},
		{"a newer schema", "", "newer version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "test.db")
			statement := tt.statement
			if statement == "" {
				closed(t, open(t, Options{Path: path}))
				statement = "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, 1)"
			}
			db, err := sql.Open("sqlite", path)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(t.Context(), Options{Path: path, Serve: true, Migrate: true}); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("opening: %v, want %q", err, tt.want)
			}
		})
	}
}

func TestManyAtOnceSetOneDatabaseUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := Up(t.Context(), path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	closed(t, open(t, Options{Path: path}))
}

func TestMigrateDownAndUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "test.db")
	closed(t, open(t, Options{Path: path}))
	if _, err := Down(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Path: path}); err == nil || !strings.Contains(err.Error(), "migrate up") {
		t.Errorf("opening an older schema without leave to migrate: %v", err)
	}
	if err := Up(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	all, err := Status(t.Context(), path)
	if err != nil || len(all) == 0 || !all[len(all)-1].Applied {
		t.Errorf("status %+v, %v", all, err)
	}
}
