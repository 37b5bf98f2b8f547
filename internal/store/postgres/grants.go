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
// kept, replaced or a provider's own key has one of its own.
func (s *Store) Grant(ctx context.Context, o vending.Order, keep *idempotency.Once[vending.Granted]) (g vending.Granted, err error) {
	if keep != nil || records.Alone(o) {
		return s.Calls.Grant(ctx, o, keep)
	}
	return s.grants.do(ctx, o)
}

type granting = call[vending.Order, vending.Granted]

// granted is what became of one of a group.
type granted struct {
	vending.Granted
	err error
}

func (s *Store) grantGroup(ctx context.Context, group []*granting) {
	if len(group) > 1 {
		start := time.Now()
		all, err := s.grantAll(ctx, group)
		if err == nil || !rolledBack(err) {
			err = s.away(err)
			for i, c := range group {
				s.observe("grant_credentials", time.Since(start), err)
				if err != nil {
					c.answer(vending.Granted{}, err)
				} else if !errors.Is(all[i].err, records.ErrAlone) {
					c.answer(all[i].Granted, all[i].err)
				}
			}
		}
	}
	for _, c := range group {
		if !c.answered.Load() {
			c.answer(s.Calls.Grant(ctx, c.in, nil))
		}
	}
}

// grantAll grants the orders of a group. Their customers are locked in the order of
// their ids, so that two nodes never wait for each other in a circle, and read once
// they are.
func (s *Store) grantAll(ctx context.Context, group []*granting) ([]granted, error) {
	var customers []string
	for _, c := range group {
		customers = append(customers, c.in.By.CustomerID)
	}
	slices.Sort(customers)
	all := make([]granted, len(group))
	err := s.connected(ctx, func(ctx context.Context, conn *pgxpool.Conn) error {
		return inTx(ctx, conn, pgx.TxOptions{}, func(tx pgx.Tx) error {
			var now int64
			payers := make([]records.Payer, len(group))
			read := new(pgx.Batch)
			read.Queue("SELECT 1 FROM customers WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", slices.Compact(customers))
			read.Queue("SELECT now_us()").QueryRow(func(row pgx.Row) error { return row.Scan(&now) })
			for i, c := range group {
				read.Queue(records.PayerQuery, c.in.By.CustomerID, c.in.By.KeyID).QueryRow(func(row pgx.Row) (err error) {
					payers[i], err = records.ScanPayer(row.Scan)
					if _, refused := errors.AsType[*fault.Error](err); refused {
						all[i].err, err = err, nil
					}
					return err
				})
			}
			if err := tx.SendBatch(ctx, read).Close(); err != nil {
				return err
			}
			t := changes{work{ctx, tx}, tx, new(pgx.Batch)}
			for i, c := range group {
				if all[i].err == nil {
					all[i].Granted, all[i].err = records.GrantOfGroup(t, now, payers[i], c.in)
				}
			}
			return t.flush()
		})
	})
	return all, err
}
