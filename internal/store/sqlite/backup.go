package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	driver "modernc.org/sqlite"

	"gatehouse/internal/store"
	"gatehouse/internal/store/records"
)

// copyStep is how many pages are copied between two looks at whether to go on:
// 2 MiB, some ms.
const copyStep = 512

// Backup implements store.Copier. The copy is read in one transaction, which
// holds up no writer; only the log can't be emptied meanwhile. SQLite's backup
// takes half the time that VACUUM INTO does. Until the copy is fenced and on
// the disk it has another name, so that no file of the name is ever served by
// mistake, or half.
func (s *Store) Backup(ctx context.Context, file string, progress func(done, all int64)) (c store.Contents, err error) {
	if err := mustBeFree(file); err != nil {
		return c, err
	}
	part := file + ".part"
	f, err := os.OpenFile(part, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return c, fmt.Errorf("%s is there: another backup writes it, or one that was killed left it; if none runs, remove it", part)
	}
	if err != nil {
		return c, fmt.Errorf("make %s: %w", part, err)
	}
	defer func() {
		err = errors.Join(err, f.Close()) // not earlier: it would drop SQLite's locks
		if err != nil {
			for _, end := range []string{"", "-journal", "-wal", "-shm"} {
				if gone := os.Remove(part + end); !errors.Is(gone, os.ErrNotExist) {
					err = errors.Join(err, gone)
				}
			}
		}
	}()
	at := s.clock()
	if err := s.copyTo(ctx, part, progress); err != nil {
		return c, fmt.Errorf("copy to %s: %w", part, err)
	}
	if c, err = fence(ctx, part, filepath.Base(s.path), at); err != nil {
		return c, fmt.Errorf("mark %s as a copy: %w", part, err)
	}
	if err := errors.Join(f.Sync(), mustBeFree(file)); err != nil {
		return c, err
	}
	if err := os.Rename(part, file); err != nil {
		return c, err
	}
	folder, err := os.Open(filepath.Dir(file))
	if err != nil {
		return c, err
	}
	return c, errors.Join(folder.Sync(), folder.Close())
}

func mustBeFree(file string) error {
	_, err := os.Lstat(file)
	if err == nil {
		return fmt.Errorf("%s is there already: name a new file", file)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// copyTo copies the database, as it is at one moment, page by page.
func (s *Store) copyTo(ctx context.Context, path string, progress func(done, all int64)) (err error) {
	to, err := address(path, "journal_mode(off)") // a copy that fails is thrown away
	if err != nil {
		return err
	}
	from, err := s.read.Conn(ctx)
	if err != nil {
		return err
	}
	defer from.Close()
	if _, err := from.ExecContext(ctx, "BEGIN"); err != nil {
		return err
	}
	defer func() {
		_, ended := from.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
		err = errors.Join(err, ended)
	}()
	// The transaction begins with its first read; in one that has begun, others'
	// commits don't make the copy start anew.
	var pages, size int64
	if err := from.QueryRowContext(ctx, "SELECT page_count, page_size FROM pragma_page_count, pragma_page_size, (SELECT count(*) FROM fence)").Scan(&pages, &size); err != nil {
		return err
	}
	return from.Raw(func(conn any) (err error) {
		b, err := conn.(interface {
			NewBackup(to string) (*driver.Backup, error)
		}).NewBackup(to)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.Finish()) }()
		for more := true; more; {
			if err := ctx.Err(); err != nil {
				return err
			}
			if more, err = b.Step(copyStep); err != nil {
				return err
			}
			progress((pages-int64(b.Remaining()))*size, pages*size)
		}
		return nil
	})
}

// fence marks a copy, and says what is in it. A copy of a copy keeps its mark:
// it is as old.
func fence(ctx context.Context, path, origin string, at time.Time) (c store.Contents, err error) {
	db, err := openPool(path, 1, "journal_mode(delete)", "synchronous(full)") // without a log: the mark is in the file itself
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if _, err := db.ExecContext(ctx, "INSERT INTO fence VALUES (1, ?, ?) ON CONFLICT DO NOTHING", at.UnixMicro(), origin); err != nil {
		return c, err
	}
	return contents(ctx, db, at)
}

// Contents implements store.Copier.
func (s *Store) Contents(ctx context.Context) (c store.Contents, err error) {
	err = s.query("contents", func() (err error) {
		c, err = contents(ctx, s.read, s.clock())
		return err
	})
	return c, err
}

func contents(ctx context.Context, db *sql.DB, now time.Time) (c store.Contents, err error) {
	var signUp, entry, copied *int64
	err = db.QueryRowContext(ctx, `SELECT (SELECT max(version_id) FROM goose_db_version WHERE is_applied), (SELECT count(*) FROM customers),
		(SELECT max(created_at) FROM customers), (SELECT max(created_at) FROM ledger_entries),
		(SELECT count(*) FROM outcomes WHERE created_at > ?), (SELECT copied_at FROM fence), coalesce((SELECT origin FROM fence), '')`, now.UnixMicro()-records.Life).
		Scan(&c.Schema, &c.Customers, &signUp, &entry, &c.Outcomes, &copied, &c.Origin)
	c.NewestSignUp, c.NewestEntry, c.CopiedAt = records.Optional(signUp), records.Optional(entry), records.Optional(copied)
	return c, err
}

// Unfence implements store.Copier.
func (s *Store) Unfence(ctx context.Context) error {
	err := s.timed("unfence", func() error {
		return s.write.do(ctx, func(t *tx) error { return t.exec("DELETE FROM fence") })
	})
	s.fenced = s.fenced && err != nil
	return err
}

// notFenced refuses a copy, before anything is written to it. A database of an
// older version has no such table.
func notFenced(ctx context.Context, path string) (err error) {
	db, err := openPool(path, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var can bool
	if err := db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'fence')").Scan(&can); err != nil || !can {
		return err
	}
	var at int64
	var origin string
	err = db.QueryRowContext(ctx, "SELECT copied_at, origin FROM fence").Scan(&at, &origin)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("read the fence of %s: %w", path, err)
	case strings.HasPrefix(origin, moving), strings.HasPrefix(origin, moved):
		return fmt.Errorf("%s is fenced since %s, %s, and is not served: if that database is empty or given up, `gatehouse admin unfence --database sqlite:%[1]s` shows what is in this one, and with --yes lets nodes serve it",
			path, records.Instant(at).Format(time.RFC3339), origin)
	}
	return fmt.Errorf("%s is a copy of %s made at %s, and is not served before you say so: `gatehouse admin unfence --database sqlite:%[1]s` shows what it is, and with --yes lets nodes serve it",
		path, origin, records.Instant(at).Format(time.RFC3339))
}
