package postgres_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/store"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/postgres/pgtest"
	"gatehouse/internal/store/storetest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func TestConformance(t *testing.T) {
	storetest.Run(t, func(tb testing.TB) storetest.Backend {
		url := newDatabase(tb)
		var open *postgres.Store
		reopen := func(tb testing.TB) store.Store {
			tb.Helper()
			if open != nil {
				if err := open.Close(); err != nil {
					tb.Error(err)
				}
			}
			open = openStore(tb, postgres.Options{URL: url, Serve: true})
			return open
		}
		s := reopen(tb)
		tb.Cleanup(func() {
			if err := open.Close(); err != nil {
				tb.Error(err)
			}
		})
		clock := storetest.NewClock()
		clock.Lend(replaceClock(tb, url))
		control := connect(tb, url)
		crash := func(tb testing.TB) {
			tb.Helper()
			execute(tb, control, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gatehouse' AND datname = current_database()")
		}
		return storetest.Backend{Store: s, Clock: clock, Reopen: reopen, Crash: crash, KeepsErased: true}
	})
}

// migrated is a database with the schema and nothing else: to copy one takes a
// fraction of what its migrations do.
var migrated struct {
	once sync.Once
	url  string
	err  error
}

// newDatabase is a database of its own with the schema in it.
func newDatabase(tb testing.TB) (url string) {
	tb.Helper()
	server := pgtest.Need(tb)
	m := &migrated
	m.once.Do(func() {
		if m.url, m.err = server.CreateDatabase(context.Background()); m.err == nil {
			m.err = postgres.Up(context.Background(), m.url)
		}
	})
	url, err := server.CreateFrom(tb.Context(), m.url)
	if err = errors.Join(m.err, err); err != nil {
		tb.Fatal(err)
	}
	return url
}

func openStore(tb testing.TB, o postgres.Options) *postgres.Store {
	tb.Helper()
	s, err := postgres.Open(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// connect returns a connection beside the store's.
func connect(tb testing.TB, url string) *pgx.Conn {
	tb.Helper()
	c, err := pgx.Connect(tb.Context(), url)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func execute(tb testing.TB, c *pgx.Conn, statement string, args ...any) {
	tb.Helper()
	if _, err := c.Exec(context.Background(), statement, args...); err != nil {
		tb.Fatal(err)
	}
}

// replaceClock gives a database a clock that stands where it is set.
func replaceClock(tb testing.TB, url string) (set func(time.Time)) {
	tb.Helper()
	c := connect(tb, url)
	execute(tb, c, "CREATE TABLE tests_clock (at bigint)")
	execute(tb, c, "INSERT INTO tests_clock VALUES (0)")
	execute(tb, c, "CREATE OR REPLACE FUNCTION now_us() RETURNS bigint LANGUAGE sql VOLATILE AS 'SELECT at FROM tests_clock'")
	return func(at time.Time) {
		tb.Helper()
		execute(tb, c, "UPDATE tests_clock SET at = $1", at.UnixMicro())
	}
}
