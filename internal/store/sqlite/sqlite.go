package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store/records"
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
	records.Calls
	path    string
	fenced  bool // a copy, in which nothing is changed
	read    *sql.DB
	write   *writer
	lock    *os.File // nil unless serving
	clock   func() time.Time
	wall    func() time.Time // see keyClock
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
	// It must be well below opTimeout, which counts this wait.
	busyTimeout = 2 * time.Second
)

// Open opens the database at o.Path. The caller closes it.
func Open(ctx context.Context, o Options) (_ *Store, err error) {
	s := &Store{path: o.Path, clock: o.Clock, wall: o.Clock, observe: o.Observe}
	s.Calls = records.NewCalls(runner{s})
	if o.Clock == nil {
		s.clock, s.wall = processClock(), time.Now
	}
	if s.observe == nil {
		s.observe = func(string, time.Duration, error) {}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	path := o.Path
	mayMake := o.Serve || o.Migrate
	if mayMake { // one process at a time sets a database up
		unlock, err := lockFolder(ctx, path)
		if err != nil {
			return nil, err
		}
		defer unlock()
	}
	if err := prepareFile(path, mayMake); err != nil {
		return nil, err
	}
	isNew, err := checkOwner(ctx, path, mayMake) // before anything is written
	if err != nil {
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
		if err := notFenced(ctx, path); err != nil {
			return nil, err
		}
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
	if isNew {
		if _, err := writeDB.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", applicationID)); err != nil {
			return nil, fmt.Errorf("mark %s: %w", path, err)
		}
	}
	if err := migrate(ctx, writeDB, path, o.Migrate); err != nil {
		return nil, err
	}
	if s.read, err = openPool(path, readers, "query_only(on)"); err != nil {
		return nil, err
	}
	if err := s.read.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM fence)").Scan(&s.fenced); err != nil {
		return nil, errors.Join(fmt.Errorf("look for a fence in %s: %w", path, err), s.read.Close())
	}
	s.write = newWriter(writeDB, o.Log)
	if o.Serve {
		if err := s.takeOver(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("take over the jobs of %s: %w", path, err), s.write.close(), s.read.Close())
		}
	}
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

// InUse is how many connections are busy that read.
func (s *Store) InUse() int { return s.read.Stats().InUse }

// Ping says whether the database can be read and, as far as the last write
// shows, written. After a write that failed it tries one.
func (s *Store) Ping(ctx context.Context) error {
	var one int
	if err := s.read.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT 1 FROM customers LIMIT 1)").Scan(&one); err != nil {
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

// keyClock decides whether a key has ended, in microseconds: the store's
// clock, or the wall clock where that is ahead of it (after a step forward,
// or a pause of the machine). Windows must not free early; keys must not
// live on.
func (s *Store) keyClock() int64 { return max(int64(s.now()), s.wall().UnixMicro()) }

// timed runs one call of the store and tells the observer.
func (s *Store) timed(call string, run func() error) error {
	start := time.Now()
	err := run()
	s.observe(call, time.Since(start), err)
	return err
}

// change is one writing call.
func (s *Store) change(ctx context.Context, call string, run func(*tx) error) error {
	return s.transact(ctx, call, false, run)
}

// transact is one writing call, in which what is removed is overwritten or not.
func (s *Store) transact(ctx context.Context, call string, shreds bool, run func(*tx) error) error {
	if s.fenced {
		return fault.Refused("The database is a fenced copy, and nothing is changed in it: `gatehouse admin unfence --database sqlite:" + s.path + "` shows what it is.")
	}
	return s.timed(call, func() error {
		return s.write.do(ctx, func(t *tx) error {
			if err := t.shred(shreds); err != nil {
				return err
			}
			return run(t)
		})
	})
}

// mutate is one writing call with a result. A caller that gave up gets the
// zero result, and looks at nothing that the writer may still write to.
func mutate[T any](ctx context.Context, s *Store, call string, run func(*tx) (T, error)) (T, error) {
	var committed T
	err := s.change(ctx, call, func(t *tx) error {
		result, err := run(t)
		if err == nil {
			committed = result
		}
		return err
	})
	if err != nil {
		var none T
		return none, err
	}
	return committed, nil
}

// query is one reading call; what keeps the file from being read makes it
// fault.Unavailable.
func (s *Store) query(call string, run func() error) error {
	return s.timed(call, func() error {
		err := run()
		if err != nil && (environmental(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
			return fault.Away(err)
		}
		return err
	})
}

// each is a reading call of many rows, one call of read for each.
func (s *Store) each(ctx context.Context, call, query string, args []any, read func(scan func(...any) error) error) error {
	return s.query(call, func() error {
		rows, err := s.read.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		return eachRow(rows, read)
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
	if err == nil { // SQLite makes files beside it
		err = unix.Access(filepath.Dir(path), unix.W_OK)
	}
	var about unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &about)
	}
	if f != nil {
		err = errors.Join(err, f.Close())
	}
	switch {
	case err != nil:
		return fmt.Errorf("database %s can't be written: %w", path, err)
	case about.Nlink > 1:
		// SQLite keeps its log beside the name it was given: writes made under
		// another name would be lost.
		return fmt.Errorf("database %s has %d names (hard links), and a database must have one: remove the others", path, about.Nlink)
	}
	return strangersLog(path)
}

// strangersLog refuses a log that is another database's: SQLite would write it
// into this one. A copy says in its head that it has none (byte 18 is 1), and a
// database that was ever opened here that it has one.
func strangersLog(path string) error {
	about, err := os.Stat(path + "-wal")
	if err != nil || about.Size() == 0 {
		return nil // there is none
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	var head [19]byte
	if _, err := io.ReadFull(f, head[:]); err != nil || head[18] != 1 {
		return nil // it is empty, or no database, which is found later
	}
	return fmt.Errorf("%s-wal is not of %[1]s, but of a database that was there before: remove %[1]s-wal and %[1]s-shm", path)
}

// address is a file as the driver wants it named, with how it is to be opened.
func address(path string, pragmas ...string) (string, error) {
	path, err := filepath.Abs(path) // a URL's path must be
	if err != nil {
		return "", fmt.Errorf("open %s: %w", path, err)
	}
	q := url.Values{"mode": {"rw"}, "_txlock": {"immediate"}, "_time_format": {"sqlite"}}
	q.Add("_pragma", fmt.Sprintf("busy_timeout(%d)", busyTimeout.Milliseconds()))
	for _, p := range pragmas {
		q.Add("_pragma", p)
	}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String(), nil
}

func openPool(path string, conns int, pragmas ...string) (*sql.DB, error) {
	name, err := address(path, pragmas...)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(conns)
	db.SetMaxIdleConns(conns)
	return db, nil
}

// checkOwner refuses a database that is not ours; an empty one will do where
// it may be made ours, and is said to be new. It only reads.
func checkOwner(ctx context.Context, path string, mayBeEmpty bool) (isNew bool, err error) {
	db, err := openPool(path, 1)
	if err != nil {
		return false, err
	}
	defer db.Close()
	var id, tables int
	err = db.QueryRowContext(ctx, "SELECT application_id, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id").Scan(&id, &tables)
	switch {
	case err != nil:
		return false, fmt.Errorf("%s is not a database that can be used: %w", path, err)
	case id == applicationID:
		return false, nil
	case id != 0 || tables > 0:
		return false, fmt.Errorf("%s is another program's database: name a file of Gatehouse's own with --database", path)
	case !mayBeEmpty:
		return false, fmt.Errorf("%s is empty: `gatehouse serve` or `gatehouse migrate up` makes a database of it", path)
	}
	return true, nil
}
