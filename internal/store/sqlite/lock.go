package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// setUpPatience is how long a set-up waits for another: a migration.
const setUpPatience = time.Minute

// lockFolder makes others who would set a database up in this folder wait
// until unlock: two at once would both find an empty file.
func lockFolder(ctx context.Context, database string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, setUpPatience)
	defer cancel()
	folder := filepath.Dir(database)
	f, err := os.Open(folder)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", database, err)
	}
	for {
		switch err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
		case err == nil:
			return func() { _ = f.Close() }, nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return nil, errors.Join(fmt.Errorf("lock %s: %w", folder, err), f.Close())
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("another process holds a lock on %s, as one does that sets a database up there: %w", folder, ctx.Err()), f.Close())
		}
	}
}

// lockFile makes this process the one node of a database, by whatever name the
// others know it. The lock is flock's, on the file itself, so that it ends with
// the process however that ends; SQLite's own locks are fcntl's and don't meet
// it. The lock's file must be closed last: closing any descriptor of the file
// drops the process's fcntl locks on it.
func lockFile(database string) (*os.File, error) {
	f, err := os.OpenFile(database, os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", database, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		err = errors.Join(err, f.Close())
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another node serves %s: a SQLite database has one node; stop that one, or name another file with --database", database)
		}
		return nil, fmt.Errorf("lock %s: %w", database, err)
	}
	return f, nil
}
