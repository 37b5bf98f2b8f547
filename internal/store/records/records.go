package records

import (
	"database/sql"
	"errors"
	"time"

	"gatehouse/internal/fault"
)

// Scan reads one row.
type Scan = func(into ...any) error

// Reader reads. Within a transaction it sees what the transaction wrote.
type Reader interface {
	// Row reads one row, or returns sql.ErrNoRows.
	Row(query string, args []any, into ...any) error
	// Each reads rows, one call of read for each.
	Each(query string, args []any, read func(Scan) error) error
	// Now is the store's clock when it is called, in microseconds.
	Now() (int64, error)
}

// Tx is a transaction. An operation that fails has no effect.
type Tx interface {
	Reader
	// Exec runs a statement and returns how many rows it changed.
	Exec(query string, args ...any) (int64, error)
	// Put runs a statement whose result nobody looks at: at the latest before the
	// next call of another kind, which may return its error, or before the commit.
	Put(query string, args ...any) error
	// Lock makes others who would change what is the customer's wait until the
	// transaction ends. latest is then the clock by which keys end: Now, or a clock
	// that is ahead of it.
	Lock(customerID string) (latest int64, err error)
	// LockRow is Lock and then Row, which sees what others did before they let go.
	LockRow(customerID, query string, args []any, into ...any) (latest int64, err error)
}

// List reads rows into a slice.
func List[T any](r Reader, query string, args []any, read func(Scan) (T, error)) (found []T, err error) {
	err = r.Each(query, args, func(scan Scan) error {
		v, err := read(scan)
		found = append(found, v)
		return err
	})
	return found, err
}

// Text reads a row of one text.
func Text(scan Scan) (s string, err error) {
	err = scan(&s)
	return s, err
}

// missing says that there is no such thing, where no row was found.
func missing(err error, message string) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.Missing(message)
	}
	return err
}

// Instant is a time as it is stored: in microseconds.
func Instant(us int64) time.Time { return time.UnixMicro(us).UTC() }

// Optional is a time that may be absent.
func Optional(us *int64) time.Time {
	if us == nil {
		return time.Time{}
	}
	return Instant(*us)
}

// Micros stores a time that may be absent.
func Micros(t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	us := t.UnixMicro()
	return &us
}
