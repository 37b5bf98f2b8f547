package sqlite

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

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

// lockFile makes this process the one node of a database. The lock is a file
// beside it, held by flock, so that it ends with the process however that
// ends; the database itself must not be opened and closed by other means than
// SQLite's, which would drop SQLite's own locks.
func lockFile(database string) (*os.File, error) {
	target, err := filepath.EvalSymlinks(database)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", database, err)
	}
	path := target + ".lock"
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", database, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(path)
		err = errors.Join(err, f.Close())
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another node (process %s) serves %s: a SQLite database has one node; stop that one, or name another file with --database", strings.TrimSpace(string(holder)), target)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0) // only for the message above
	}
	return f, nil
}
