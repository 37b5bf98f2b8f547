package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
)

// Options say how a database is opened.
type Options struct {
	// Path is the database's file.
	Path string
	// Serve makes this the one node of the file: a second one is refused.
	Serve bool
	// Migrate brings the schema up to date. Without it an older schema is an
	// error; a newer one is an error always. Only a node and a migration make
	// a file where there is none.
	Migrate bool
	// Clock is the store's time; nil is the process's clock.
	Clock func() time.Time
	// Observe is told how long each call took, by its name; nil: nobody is.
	Observe func(call string, took time.Duration, err error)
	// Log is where the store says that writing fails, and that it works again.
	Log *slog.Logger
}

// Store is an open database.
type Store struct {
	read    *sql.DB
	write   *writer
	lock    *os.File // nil unless serving
	clock   func() time.Time
	observe func(string, time.Duration, error)
}

// applicationID marks a file as Gatehouse's ("gate"), so that another
// program's database is not written into.
const applicationID = 0x67617465

const (
	// readers is how many reads run at once; with more, they only share cores.
	readers = 4
	// busyTimeout is how long the node waits for an operator's command, and
	// a command for the node: groups take milliseconds.
	busyTimeout = 5 * time.Second
)

// Open opens the database at o.Path. The caller closes it.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	s := &Store{clock: o.Clock, observe: o.Observe}
	if s.clock == nil {
		s.clock = processClock()
	}
	if s.observe == nil {
		s.observe = func(string, time.Duration, error) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	path := o.Path
	if err := prepareFile(path, o.Serve || o.Migrate); err != nil {
		return nil, err
	}
	if o.Serve {
		if s.lock, err = lockFile(path); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				err = errors.Join(err, s.lock.Close())
			}
		}()
	}
	writeDB, err := openPool(path, 1,
		"journal_mode(wal)", "synchronous(full)", "foreign_keys(on)",
		"cache_size(-8192)", "journal_size_limit(67108864)")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, writeDB.Close())
		}
	}()
	if err := checkOwner(ctx, writeDB, path); err != nil {
		return nil, err
	}
	if err := migrate(ctx, writeDB, path, o.Migrate); err != nil {
		return nil, err
	}
	if s.read, err = openPool(path, readers, "query_only(on)"); err != nil {
		return nil, err
	}
	s.write = newWriter(writeDB, o.Log)
	return s, nil
}

// Close finishes the writes that have queued and closes the database.
func (s *Store) Close() error {
	err := errors.Join(s.write.close(), s.read.Close())
	if s.lock != nil {
		err = errors.Join(err, s.lock.Close())
	}
	return err
}

// Ping says whether the database can be read and, as far as the last write
// shows, written. After a write that failed it tries one.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	if err := s.read.QueryRowContext(ctx, "SELECT 1 FROM goose_db_version LIMIT 1").Scan(&one); err != nil {
		return fmt.Errorf("read the database: %w", err)
	}
	if !s.write.failing.Load() {
		return nil
	}
	// It takes as many pages as a sign-up, or more; and random ones, since
	// SQLite does not write what is there already.
	err := s.write.do(ctx, func(t *tx) error {
		return t.exec("INSERT INTO rate_windows (policy, key, stamps) VALUES ('ping', '', randomblob(65536)) ON CONFLICT DO UPDATE SET stamps = excluded.stamps")
	})
	if err != nil {
		return err
	}
	s.write.works()
	return s.write.do(ctx, func(t *tx) error { return t.exec("DELETE FROM rate_windows WHERE policy = 'ping'") })
}

// now is the store's clock as a rate window counts it.
func (s *Store) now() ratelimit.Instant { return ratelimit.Instant(s.clock().UnixMicro()) }

// timed runs one call of the store and tells the observer.
func (s *Store) timed(call string, run func() error) error {
	start := time.Now()
	err := run()
	s.observe(call, time.Since(start), err)
	return err
}

// mutate is one writing call.
func (s *Store) mutate(ctx context.Context, call string, run func(*tx) error) error {
	return s.timed(call, func() error { return s.write.do(ctx, run) })
}

// query is one reading call; what keeps the file from being read makes it
// fault.Unavailable.
func (s *Store) query(call string, run func() error) error {
	return s.timed(call, func() error {
		err := run()
		if err != nil && (environmental(err) || errors.Is(err, context.DeadlineExceeded)) {
			return fault.Away(err)
		}
		return err
	})
}

// processClock is the wall clock at its first use, moved on by the monotonic
// clock: a step of the wall clock does not reach it.
func processClock() func() time.Time {
	start := time.Now()
	return func() time.Time { return start.Add(time.Since(start)) }
}

// prepareFile makes sure that the file exists, and that a new one can be read
// by its owner alone: it holds customers' addresses.
func prepareFile(path string, create bool) error {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, os.ErrNotExist) && !create {
		return fmt.Errorf("there is no database at %s: `gatehouse serve` makes one, or name another with --database", path)
	}
	if err != nil {
		return fmt.Errorf("database %s can't be written: %w", path, err)
	}
	return f.Close()
}

func openPool(path string, conns int, pragmas ...string) (*sql.DB, error) {
	path, err := filepath.Abs(path) // a URL's path must be
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	q := url.Values{"_txlock": {"immediate"}, "_time_format": {"sqlite"}}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))
	for _, p := range pragmas {
		q.Add("_pragma", p)
	}
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// checkOwner refuses a database that holds another program's tables, and
// marks an empty one as ours.
func checkOwner(ctx context.Context, db *sql.DB, path string) error {
	var id, tables int
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return fmt.Errorf("%s is not a database that can be used: %w", path, err)
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_schema").Scan(&tables); err != nil {
		return fmt.Errorf("%s is not a database that can be used: %w", path, err)
	}
	switch {
	case id == applicationID:
		return nil
	case id != 0 || tables > 0:
		return fmt.Errorf("%s is another program's database: name a file of Gatehouse's own with --database", path)
	}
	if _, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
		return fmt.Errorf("mark %s: %w", path, err)
	}
	return nil
}
