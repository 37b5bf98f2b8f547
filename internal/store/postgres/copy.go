package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gatehouse/internal/store"
)

// Name is where a database is, without who asks for it and by what password.
func Name(url string) (string, error) {
	c, err := copyConfig(url)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("PostgreSQL %s/%s", net.JoinHostPort(c.Host, strconv.Itoa(int(c.Port))), c.Database), nil
}

// copyConfig is a connection's that works as long as it takes, and waits for
// nobody.
func copyConfig(url string) (*pgx.ConnConfig, error) {
	config, err := parseURL(url)
	if err != nil {
		return nil, err
	}
	c := config.ConnConfig
	maps.Copy(c.RuntimeParams, map[string]string{
		"application_name":                    "gatehouse copy",
		"synchronous_commit":                  "on",
		"lock_timeout":                        "5000", // ms; a node's transactions take less
		"statement_timeout":                   "0",
		"idle_in_transaction_session_timeout": "0",
	})
	return c, nil
}

// Fill copies all of a source into the database at url, which must be up to
// date and empty, and returns what it compared before it committed. All is
// there then, or nothing; with store.ErrMaybeCopied it is not known which.
// progress is told now and then how many rows of a table are copied.
func Fill(ctx context.Context, url string, from store.Source, progress func(table string, done, all int64)) (copied []store.Copied, err error) {
	config, err := copyConfig(url)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	after := context.WithoutCancel(ctx)
	defer func() { _ = conn.Close(after) }() // which ends a transaction that was not committed
	tx, err := conn.Begin(ctx)
	if err != nil {
		return nil, err
	}
	if err := claim(ctx, tx); err != nil {
		return nil, err
	}
	for _, t := range store.Tables() {
		want, err := from.Sums(ctx, t)
		if err != nil {
			return nil, err
		}
		err = fill(ctx, tx, t, from, func(done int64) { progress(t.Name, done, want.Rows) })
		if err != nil {
			return nil, err
		}
		copied = append(copied, store.Copied{Table: t, Sums: want})
	}
	if err := verify(ctx, tx, copied); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := tx.Commit(after); err != nil {
		return nil, fmt.Errorf("%w (%w)", store.ErrMaybeCopied, err)
	}
	return copied, nil
}

// claim keeps all others from writing, and refuses a database that holds
// anything.
func claim(ctx context.Context, tx pgx.Tx) error {
	if err := checkSchema(ctx, tx); err != nil {
		return err
	}
	var names, full []string
	for _, t := range store.Tables() {
		names = append(names, t.Name)
	}
	if _, err := tx.Exec(ctx, "LOCK TABLE "+strings.Join(names, ", ")+" IN EXCLUSIVE MODE"); err != nil {
		return fmt.Errorf("lock the tables of the target: %w", err)
	}
	for _, name := range names {
		var some bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM "+name+")").Scan(&some); err != nil {
			return fmt.Errorf("look into %s of the target: %w", name, err)
		}
		if some {
			full = append(full, name)
		}
	}
	if len(full) > 0 {
		return fmt.Errorf("the target is not empty: there are rows in %s; name an empty database", strings.Join(full, ", "))
	}
	return nil
}

// fill copies one table.
func fill(ctx context.Context, tx pgx.Tx, t store.Table, from store.Source, progress func(done int64)) error {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	next, stop := iter.Pull2(from.Rows(ctx, t))
	defer stop()
	var done int64
	var broken error // the source
	_, err := tx.CopyFrom(ctx, pgx.Identifier{t.Name}, names, pgx.CopyFromFunc(func() ([]any, error) {
		row, err, more := next()
		if !more {
			return nil, nil
		}
		broken = err
		done++
		progress(done)
		return row, err
	}))
	if ctx.Err() != nil { // the driver says only that the connection is closed
		return fmt.Errorf("copy %s: %w", t.Name, ctx.Err())
	}
	if broken != nil {
		return fmt.Errorf("read %s: %w", t.Name, broken)
	}
	if err != nil {
		stop() // so that the source can be asked again
		return fmt.Errorf("copy %s%s: %w", t.Name, refused(ctx, t, from, err), err)
	}
	return nil
}

// refused names the row that PostgreSQL refused, by the number that it gives:
// it has read on since. Where a row refers to one that is not there it gives
// the reference, and no number.
func refused(ctx context.Context, t store.Table, from store.Source, err error) string {
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return ""
	}
	found := regexp.MustCompile("COPY " + t.Name + `\D+(\d+)`).FindStringSubmatch(e.Where) // in any language
	if found == nil {
		if e.Code == foreignKeyViolation {
			return ": " + e.Detail
		}
		return ""
	}
	number, err := strconv.Atoi(found[1])
	if err != nil {
		return ""
	}
	for row, err := range from.Rows(ctx, t) {
		if err != nil {
			return ""
		}
		if number--; number == 0 {
			return ", row " + key(row[:t.Key])
		}
	}
	return ""
}

const foreignKeyViolation = "23503"

func key(values []any) string {
	var parts []string
	for _, v := range values {
		if b, ok := v.([]byte); ok {
			v = hex.EncodeToString(b)
		}
		parts = append(parts, fmt.Sprint(v))
	}
	return strings.Join(parts, " ")
}

// verify compares what is in the target with what was in the source, and then
// each balance and debt with its ledger.
func verify(ctx context.Context, tx pgx.Tx, copied []store.Copied) error {
	var errs []error
	for _, c := range copied {
		got, err := sums(ctx, tx, c.Table)
		if err != nil {
			return fmt.Errorf("add up %s of the target: %w", c.Table.Name, err)
		}
		if got.Rows != c.Sums.Rows {
			errs = append(errs, fmt.Errorf("%s: %d rows in the source, %d in the target", c.Table.Name, c.Sums.Rows, got.Rows))
		}
		for i, column := range c.Table.Columns {
			if want, got := c.Sums.Columns[i], got.Columns[i]; got != want {
				errs = append(errs, fmt.Errorf("%s.%s (%s): %s in the source, %s in the target", c.Table.Name, column.Name, column.Kind, want, got))
			}
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("the copy is not what was copied:\n%w", errors.Join(errs...))
	}
	var customer string
	err := tx.QueryRow(ctx, `SELECT c.id FROM customers c LEFT JOIN (SELECT customer_id, sum(amount) AS total, sum(debt) AS debt FROM ledger_entries GROUP BY customer_id) e
		ON e.customer_id = c.id WHERE c.credit_balance <> coalesce(e.total, 0) OR c.credit_debt <> coalesce(e.debt, 0) LIMIT 1`).Scan(&customer)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("add up the ledgers: %w", err)
	}
	return fmt.Errorf("the ledger of customer %s does not add up to the balance or the debt, here as in the source: see `gatehouse admin ledger verify`", customer)
}

func sums(ctx context.Context, tx pgx.Tx, t store.Table) (s store.Sums, err error) {
	asked := []string{"count(*)"}
	s.Columns = make([]string, len(t.Columns))
	into := []any{&s.Rows}
	for i, c := range t.Columns {
		name := c.Name
		switch c.Kind {
		case store.Text, store.Bytes:
			name = "octet_length(" + name + ")"
		case store.Bool:
			name += "::int"
		case store.Stamps:
			name = "cardinality(" + name + ")"
		case store.Int:
		}
		asked = append(asked, "coalesce(sum("+name+"), 0)::text")
		into = append(into, &s.Columns[i])
	}
	return s, tx.QueryRow(ctx, "SELECT "+strings.Join(asked, ", ")+" FROM "+t.Name).Scan(into...)
}
