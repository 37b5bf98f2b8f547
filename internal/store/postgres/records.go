package postgres

import (
	"context"
	"errors"

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

// changes is a transaction. What is put goes to the database at once, in one round
// trip, before anything else does.
type changes struct {
	work
	tx  pgx.Tx
	put *pgx.Batch
}

func (c changes) flush() error {
	if c.put.Len() == 0 {
		return nil
	}
	err := c.tx.SendBatch(c.ctx, c.put).Close()
	*c.put = pgx.Batch{}
	return err
}

// Put implements records.Tx.
func (c changes) Put(query string, args ...any) error {
	c.put.Queue(query, args...)
	return nil
}

// Row implements records.Reader.
func (c changes) Row(query string, args []any, into ...any) error {
	if err := c.flush(); err != nil {
		return err
	}
	return c.work.Row(query, args, into...)
}

// Each implements records.Reader.
func (c changes) Each(query string, args []any, read func(records.Scan) error) error {
	if err := c.flush(); err != nil {
		return err
	}
	return c.work.Each(query, args, read)
}

// Exec implements records.Tx.
func (c changes) Exec(query string, args ...any) (int64, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	done, err := c.queryer.Exec(c.ctx, query, args...)
	return done.RowsAffected(), err
}

// Lock implements records.Tx. A customer that there is not has nobody to wait for.
// The clock is read above the lock, and so after it; there is one.
func (c changes) Lock(customerID string) (latest int64, err error) {
	return latest, c.Row(lockAndClock, []any{customerID}, &latest)
}

const lockAndClock = "SELECT now_us() FROM (SELECT 1) one LEFT JOIN (SELECT 1 FROM customers WHERE id = $1 FOR NO KEY UPDATE) locked ON TRUE"

// LockRow implements records.Tx, in one round trip. Each statement of a batch sees
// what was committed when it began.
func (c changes) LockRow(customerID, query string, args []any, into ...any) (latest int64, err error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	both := new(pgx.Batch)
	both.Queue(lockAndClock, customerID)
	both.Queue(query, args...)
	results := c.tx.SendBatch(c.ctx, both)
	if err = results.QueryRow().Scan(&latest); err == nil {
		err = results.QueryRow().Scan(into...)
	}
	return latest, errors.Join(err, results.Close())
}

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
		return inTx(ctx, c, pgx.TxOptions{BeginQuery: begin}, func(tx pgx.Tx) error {
			t := changes{work{ctx, tx}, tx, new(pgx.Batch)}
			if err := run(t); err != nil {
				return err
			}
			return t.flush()
		})
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
