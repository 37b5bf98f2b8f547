package sqlite

import (
	"context"
	"database/sql"
	"strings"

	"gatehouse/internal/store/records"
)

// rebind writes $1, which SQLite takes for a name, as ?1.
func rebind(query string) string { return strings.ReplaceAll(query, "$", "?") }

// queryer is a pool of connections or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// reader reads beside the writer.
type reader struct {
	ctx context.Context //nolint:containedctx // one call's
	s   *Store
	queryer
}

// Row implements records.Reader.
func (r reader) Row(query string, args []any, into ...any) error {
	return r.QueryRowContext(r.ctx, rebind(query), args...).Scan(into...)
}

// Each implements records.Reader.
func (r reader) Each(query string, args []any, read func(records.Scan) error) error {
	rows, err := r.QueryContext(r.ctx, rebind(query), args...)
	if err != nil {
		return err
	}
	return eachRow(rows, read)
}

// Now implements records.Reader.
func (r reader) Now() (int64, error) { return int64(r.s.now()), nil }

// changes is an operation's part of the writer's transaction.
type changes struct {
	*tx
	s *Store
}

// Row implements records.Reader.
func (c changes) Row(query string, args []any, into ...any) error { return c.row(query, args, into...) }

// Each implements records.Reader.
func (c changes) Each(query string, args []any, read func(records.Scan) error) error {
	return c.each(query, args, read)
}

// Exec implements records.Tx.
func (c changes) Exec(query string, args ...any) (int64, error) { return c.change(query, args...) }

// Put implements records.Tx.
func (c changes) Put(query string, args ...any) error { return c.exec(query, args...) }

// Lock implements records.Tx: nobody else writes meanwhile.
func (c changes) Lock(string) (int64, error) { return c.s.keyClock(), nil }

// LockRow implements records.Tx.
func (c changes) LockRow(_, query string, args []any, into ...any) (int64, error) {
	return c.s.keyClock(), c.row(query, args, into...)
}

// Now implements records.Tx.
func (c changes) Now() (int64, error) { return int64(c.s.now()), nil }

// runner runs operations that are the same on all stores.
type runner struct{ s *Store }

// Read implements records.Runner.
func (r runner) Read(ctx context.Context, name string, run func(records.Reader) error) error {
	return r.s.query(name, func() error { return run(reader{ctx, r.s, r.s.read}) })
}

// Write implements records.Runner. What it removes, or writes elsewhere, may be
// what Stripe told of a customer, who may be erased one day: it leaves nothing.
func (r runner) Write(ctx context.Context, name string, run func(records.Tx) error) error {
	return r.s.transact(ctx, name, true, func(t *tx) error { return run(changes{t, r.s}) })
}
