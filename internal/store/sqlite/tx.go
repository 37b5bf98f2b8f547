package sqlite

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"strings"

	driver "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"
)

// tx is the writer's connection with its prepared statements, which live as
// long as it does. Its calls take no context: none could end a statement of a
// group without ending the others', and for one that can end the driver would
// start a goroutine to watch it.
type tx struct {
	conn    *sql.Conn
	stmts   map[string]*sql.Stmt
	changed int64 // rows, in the group under way; none that were only read
	shreds  bool
}

func openTx(db *sql.DB) (*tx, error) {
	conn, err := db.Conn(context.Background())
	if err != nil {
		return nil, err
	}
	return &tx{conn: conn, stmts: make(map[string]*sql.Stmt)}, nil
}

func (t *tx) stmt(query string) (*sql.Stmt, error) {
	if s, ok := t.stmts[query]; ok {
		return s, nil
	}
	s, err := t.conn.PrepareContext(context.Background(), rebind(query))
	if err != nil {
		return nil, err
	}
	t.stmts[query] = s
	return s, nil
}

func (t *tx) exec(query string, args ...any) error {
	_, err := t.change(query, args...)
	return err
}

// change runs a statement and returns how many rows it changed.
func (t *tx) change(query string, args ...any) (int64, error) {
	s, err := t.stmt(query) //nolint:sqlclosecheck // close does, with the connection
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(context.Background(), args...)
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	t.changed += n
	return n, err
}

// row reads one row, or returns sql.ErrNoRows. Its statement changes nothing.
func (t *tx) row(query string, args []any, into ...any) error {
	s, err := t.stmt(query) //nolint:sqlclosecheck // close does, with the connection
	if err != nil {
		return err
	}
	return s.QueryRowContext(context.Background(), args...).Scan(into...)
}

// each reads rows, one call of read for each. The statement may change rows
// and return them: all but a SELECT is taken to have.
func (t *tx) each(query string, args []any, read func(scan func(...any) error) error) error {
	s, err := t.stmt(query) //nolint:sqlclosecheck // close does, with the connection
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), args...)
	if err != nil {
		return err
	}
	if strings.HasPrefix(query, "SELECT") {
		return eachRow(rows, read)
	}
	return eachRow(rows, func(scan func(...any) error) error {
		t.changed++
		return read(scan)
	})
}

// eachRow reads all rows and closes them.
func eachRow(rows *sql.Rows, read func(scan func(...any) error) error) error {
	defer rows.Close()
	for rows.Next() {
		if err := read(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// shred says whether what is removed from here on is overwritten. The setting
// takes effect as its statement is prepared, so it is each time.
func (t *tx) shred(on bool) error {
	if t.shreds == on {
		return nil
	}
	_, err := t.conn.ExecContext(context.Background(), fmt.Sprintf("PRAGMA secure_delete = %t", on))
	t.shreds = on
	return err
}

func (t *tx) rollback() {
	// The transaction may be gone already; then this says so, and the
	// connection is closed in any case.
	_, _ = t.conn.ExecContext(context.Background(), "ROLLBACK")
}

func (t *tx) close() {
	for _, s := range t.stmts {
		_ = s.Close()
	}
	// The pool must not hand out this very connection again.
	_ = t.conn.Raw(func(any) error { return sqldriver.ErrBadConn })
	_ = t.conn.Close()
}

// environmental says whether an error is the disk's, the file's or the
// connection's rather than an operation's own.
func environmental(err error) bool {
	e, ok := errors.AsType[*driver.Error](err)
	if !ok {
		return errors.Is(err, sql.ErrConnDone) || errors.Is(err, sqldriver.ErrBadConn)
	}
	switch e.Code() & 0xff { // the primary code
	case lib.SQLITE_CONSTRAINT, lib.SQLITE_MISMATCH, lib.SQLITE_RANGE, lib.SQLITE_ERROR, lib.SQLITE_TOOBIG, lib.SQLITE_MISUSE:
		return false
	}
	return true
}
