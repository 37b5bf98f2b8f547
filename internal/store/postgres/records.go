package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/store/records"
)

// queryer is a connection or a transaction.
type queryer interface {
	Query(ctx context.Context, query string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, query string, args ...any) pgx.Row
	Exec(ctx context.Context, query string, args ...any) (pgconn.CommandTag, error)
}

// work is what records does, on a connection or in a transaction.
type work struct {
	ctx context.Context //nolint:containedctx // one call's
	queryer
}

// Row implements records.Reader.
func (w work) Row(query string, args []any, into ...any) error {
	return w.QueryRow(w.ctx, query, args...).Scan(into...)
}

// Each implements records.Reader.
func (w work) Each(query string, args []any, read func(records.Scan) error) error {
	return each(w.ctx, w.queryer, query, args, read)
}

// Now implements records.Reader.
func (w work) Now() (now int64, err error) {
	err = w.Row("SELECT now_us()", nil, &now)
	return now, err
}

// changes is a transaction.
type changes struct{ work }

// Exec implements records.Tx.
func (c changes) Exec(query string, args ...any) (int64, error) {
	done, err := c.queryer.Exec(c.ctx, query, args...)
	return done.RowsAffected(), err
}

// Lock implements records.Tx. A customer that there is not has nobody to wait
// for.
func (c changes) Lock(customerID string) error {
	_, err := c.Exec("SELECT 1 FROM customers WHERE id = $1 FOR NO KEY UPDATE", customerID)
	return err
}

// Latest implements records.Tx: there is one clock.
func (c changes) Latest() (int64, error) { return c.Now() }

// runner runs operations that are the same on all stores.
type runner struct{ s *Store }

// Read implements records.Runner.
func (r runner) Read(ctx context.Context, name string, run func(records.Reader) error) error {
	return r.s.call(ctx, name, func(ctx context.Context, c *pgxpool.Conn) error { return run(work{ctx, c}) })
}

// Write implements records.Runner. What it refuses is rolled back. It may wait
// for locks longer than a lane does.
func (r runner) Write(ctx context.Context, name string, run func(records.Tx) error) error {
	return r.s.call(ctx, name, func(ctx context.Context, c *pgxpool.Conn) error {
		begin := "BEGIN; SET LOCAL lock_timeout = " + milliseconds(patientLocks)
		return inTx(ctx, c, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error { return run(changes{work{ctx, tx}}) })
	})
}

// each reads rows, one call of read for each.
func each(ctx context.Context, q queryer, query string, args []any, read func(records.Scan) error) error {
	rows, err := q.Query(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := read(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
