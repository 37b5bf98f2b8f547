package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockFolder makes others who would set a database up in this folder wait
// until unlock: two at once would both find an empty file.
func lockFolder(database string) (unlock func(), err error) {
	folder := filepath.Dir(database)
	f, err := os.Open(folder)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", database, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", folder, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
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
