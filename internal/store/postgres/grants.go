package postgres

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/store/records"
	"gatehouse/internal/vending"
)

// Grant implements vending.Store. Those of a group are one transaction; what is
// kept, replaced or a provider's own key has one of its own, as has what a group
// can't decide: its caller tries again for itself and holds up nobody.
func (s *Store) Grant(ctx context.Context, o vending.Order, keep *idempotency.Once[vending.Granted]) (g vending.Granted, err error) {
	if keep == nil && !records.Alone(o) {
		if g, err = s.grants.do(ctx, o); !errors.Is(err, records.ErrAlone) {
			return g, err
		}
	}
	return s.Calls.Grant(ctx, o, keep)
}

type granting = call[vending.Order, vending.Granted]

// granted is what became of one of a group.
type granted struct {
	vending.Granted
	err error
}

func (s *Store) grantGroup(ctx context.Context, group []*granting) {
	start := time.Now()
	all, err := s.grantAll(ctx, group)
	if err != nil && rolledBack(err) {
		err = records.ErrAlone
	} else {
		err = s.away(err)
	}
	for i, c := range group {
		if err != nil {
			all[i] = granted{err: err}
		}
		if !errors.Is(all[i].err, records.ErrAlone) {
			s.observe("grant_credentials", time.Since(start), all[i].err)
		}
		c.answer(all[i].Granted, all[i].err)
	}
}

// grantAll grants the orders of a group, of customers that nobody has locked, who
// are read once they are.
func (s *Store) grantAll(ctx context.Context, group []*granting) ([]granted, error) {
	var customers []string
	for _, c := range group {
		customers = append(customers, c.in.By.CustomerID)
	}
	all := make([]granted, len(group))
	err := s.connected(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return inTx(ctx, conn, pgx.TxOptions{}, func(tx pgx.Tx) error {
			var now int64
			var locked []string
			payers := make([]records.Payer, len(group))
			read := new(pgx.Batch)
			read.Queue("SELECT id FROM customers WHERE id = ANY($1) FOR NO KEY UPDATE SKIP LOCKED", customers).Query(func(rows pgx.Rows) (err error) {
				locked, err = pgx.CollectRows(rows, pgx.RowTo[string])
				return err
			})
			read.Queue("SELECT now_us()").QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
			for i, c := range group {
				read.Queue(records.PayerQuery, c.in.By.CustomerID, c.in.By.KeyID).QueryRow(func(row pgx.Row) (err error) {
					payers[i], err = records.ScanPayer(row.Scan)
					return all[i].refuse(err)
				})
			}
			if err := tx.SendBatch(ctx, read).Close(); err != nil {
				return err
			}
			t := changes{work{ctx, tx}, tx, new(pgx.Batch)}
			for i, c := range group {
				switch {
				case all[i].err != nil:
					continue
				case !slices.Contains(locked, c.in.By.CustomerID):
					all[i].err = records.ErrAlone
					continue
				}
				g, err := records.GrantOfGroup(t, now, payers[i], c.in)
				if err := all[i].refuse(err); err != nil {
					return err // some of it may be put already
				}
				all[i].Granted = g
			}
			return t.flush()
		})
	})
	return all, err
}

// refuse notes what is the order's own, and returns any other error.
func (g *granted) refuse(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok || errors.Is(err, records.ErrAlone) {
		g.err = err
		return nil
	}
	return err
}
