package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"math/big"
	"strings"

	"gatehouse/internal/store"
)

// What the fence of a database says that goes, or is gone, to another kind of
// database; that one's name follows.
const (
	moving = "being moved to "
	moved  = "moved to "
)

// Move lets run copy the database at path, as it is at one moment, to the
// database named to. No node serves it meanwhile, nor after run succeeded: it is
// fenced first, and a run that failed takes its fence away again. A fence stays
// where a run was killed, which another to the same database may follow; and
// where run fails with store.ErrMaybeCopied, or with any error in such a second
// run, since the first may have succeeded.
func Move(ctx context.Context, path, to string, run func(store.Source) error) (err error) {
	if err := prepareFile(path, false); err != nil {
		return err
	}
	lock, err := lockFile(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // last: see lockFile
	s, err := Open(ctx, Options{Path: path})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	found, err := s.Contents(ctx)
	if err != nil {
		return fmt.Errorf("look for a fence in %s: %w", path, err)
	}
	if s.fenced && found.Origin != moving+to {
		return notFenced(ctx, path)
	}
	if err := s.sign(ctx, moving+to); err != nil {
		return fmt.Errorf("fence %s: %w", path, err)
	}
	err = readOnce(ctx, path, run)
	after := context.WithoutCancel(ctx) // a signal ends run, not this
	switch {
	case err == nil:
		if err := s.sign(after, moved+to); err != nil {
			return fmt.Errorf("all is copied, but the fence of %s still says that it is %s: %w", path, moving+to, err)
		}
		return nil
	case s.fenced || errors.Is(err, store.ErrMaybeCopied):
		return fmt.Errorf("%w\n%s stays fenced: if that database holds no customers, `gatehouse admin unfence --database sqlite:%[2]s --yes` lets nodes serve the file again", err, path)
	}
	return errors.Join(err, s.Unfence(after))
}

// sign fences the database, or changes what its fence says.
func (s *Store) sign(ctx context.Context, origin string) error {
	return s.write.do(ctx, func(t *tx) error {
		return t.exec("INSERT INTO fence VALUES (1, ?, ?) ON CONFLICT DO UPDATE SET origin = excluded.origin", s.clock().UnixMicro(), origin)
	})
}

// readOnce reads in one transaction. It takes the writers' lock, so that a
// command that was begun before the fence does not change what is copied
// already.
func readOnce(ctx context.Context, path string, run func(store.Source) error) (err error) {
	db, err := openPool(path, 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	t, err := db.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer func() { _ = t.Rollback() }() // it only read
	return run(source{t})
}

type source struct{ tx *sql.Tx }

// Where a column is not copied as it is stored.
var copiedAs = map[string]string{
	"jobs.running":         "0", // who ran it is gone; it is due again when its lease ends
	"rate_windows.granted": "1", // of no meaning between two statements
}

func copiedColumns(t store.Table) (all []string) {
	for _, c := range t.Columns {
		if as, ok := copiedAs[t.Name+"."+c.Name]; ok {
			all = append(all, as)
		} else {
			all = append(all, c.Name)
		}
	}
	return all
}

// copiedFrom leaves out what Ping wrote, if it was killed.
func copiedFrom(t store.Table) string {
	if t.Name == "rate_windows" {
		return " FROM rate_windows WHERE policy <> 'ping'"
	}
	return " FROM " + t.Name
}

// Sums implements store.Source. Halves are added up: a few thousand times would
// overflow SQLite's sum.
func (s source) Sums(ctx context.Context, t store.Table) (sums store.Sums, err error) {
	asked := []string{"count(*)"}
	halves := make([]int64, 2*len(t.Columns))
	into := []any{&sums.Rows}
	for i, name := range copiedColumns(t) {
		switch t.Columns[i].Kind {
		case store.Text, store.Bytes:
			name = "octet_length(" + name + ")"
		case store.Stamps:
			name = "octet_length(" + name + ") / 8"
		case store.Int, store.Bool:
		}
		asked = append(asked, fmt.Sprintf("coalesce(sum((%s) >> 32), 0), coalesce(sum((%[1]s) & 0xffffffff), 0)", name))
		into = append(into, &halves[2*i], &halves[2*i+1])
	}
	if err := s.tx.QueryRowContext(ctx, "SELECT "+strings.Join(asked, ", ")+copiedFrom(t)).Scan(into...); err != nil {
		return sums, fmt.Errorf("add up %s: %w", t.Name, err)
	}
	for i := range t.Columns {
		sum := new(big.Int).Lsh(big.NewInt(halves[2*i]), 32)
		sums.Columns = append(sums.Columns, sum.Add(sum, big.NewInt(halves[2*i+1])).String())
	}
	return sums, nil
}

// Rows implements store.Source.
func (s source) Rows(ctx context.Context, t store.Table) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		//nolint:gosec // names of ours
		rows, err := s.tx.QueryContext(ctx, "SELECT "+strings.Join(copiedColumns(t), ", ")+copiedFrom(t)+" ORDER BY "+strings.Join(copiedColumns(t)[:t.Key], ", "))
		if err != nil {
			yield(nil, err)
			return
		}
		defer rows.Close()
		row := make([]any, len(t.Columns))
		into := make([]any, len(row))
		for i := range row {
			into[i] = &row[i]
		}
		for rows.Next() {
			if err := rows.Scan(into...); err != nil {
				yield(nil, err)
				return
			}
			for i, c := range t.Columns {
				switch v := row[i].(type) {
				case int64:
					if c.Kind == store.Bool {
						row[i] = v != 0
					}
				case []byte:
					if c.Kind == store.Stamps {
						row[i] = plainStamps(v)
					} else if v == nil { // the driver's empty blob; NULL has no type
						row[i] = []byte{}
					}
				}
			}
			if !yield(row, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, err)
		}
	}
}

func plainStamps(blob []byte) []int64 {
	stamps := make([]int64, 0, len(blob)/8)
	for _, at := range decodeStamps(blob) {
		stamps = append(stamps, int64(at))
	}
	return stamps
}
