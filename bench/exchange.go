package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/store"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/sqlite"
	"gatehouse/internal/vending"
)

// exchangers is how many customers exchange, in turn: each may do so 60 times a
// minute.
const exchangers = 1024

// openExchangers signs them up.
func openExchangers(ctx context.Context, s store.Store) (customers []account.Opening, err error) {
	if customers, err = openings(exchangers); err == nil {
		_, err = together(len(customers), func(_, i int) error { return s.Open(ctx, customers[i], nil) })
	}
	return customers, err
}

// orders are exchanges, each of one provider.
func orders(by []account.Opening, n int) ([]vending.Order, error) {
	rows := make([]vending.Order, n)
	for i := range rows {
		id, err1 := uuid.NewV7()
		credential, err2 := uuid.NewV7()
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		_, presented := apikey.GenerateToken(apikey.Live)
		who := by[i%len(by)]
		rows[i] = vending.Order{
			ID: id.String(), By: apikey.Principal{CustomerID: who.ID, KeyID: who.Key.ID}, TTL: vending.DefaultTTL, Job: "build", Run: "17 of bench",
			Issues: []vending.Issue{{ID: credential.String(), Provider: vending.OpenAI, Presented: presented}},
		}
	}
	return rows, nil
}

// exchange has 64 callers exchange, and returns how many do a second. Who finds
// no connection within the store's patience, as on a machine that does much else,
// is told so, and counts for nothing.
func exchange(ctx context.Context, s store.Store, rows []vending.Order) (float64, error) {
	var away atomic.Int64
	rate, err := together(len(rows), func(_, i int) error {
		_, err := s.Grant(ctx, rows[i], nil)
		if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Unavailable {
			away.Add(1)
			return nil
		}
		return err
	})
	if n := away.Load(); n > 0 {
		fmt.Printf("  %d of %d exchanges were answered 503\n", n, len(rows))
	}
	return rate * (1 - float64(away.Load())/float64(len(rows))), err
}

// benchExchange lets 64 goroutines exchange in the store, without HTTP, and
// inserts the same rows raw, in turns, as benchWebhooks does. Making the tokens
// is not counted.
func benchExchange(ctx context.Context, o options) error {
	if err := exchangeInSQLite(ctx, o); err != nil {
		return err
	}
	c, err := o.startPostgres()
	if err != nil {
		return err
	}
	return errors.Join(exchangeInPostgres(ctx, o, c), c.Close())
}

func exchangeInSQLite(ctx context.Context, o options) error {
	s, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(o.dir, "exchange.db"), Serve: true, Migrate: true})
	if err != nil {
		return err
	}
	raw, err := newRawInserts(ctx, filepath.Join(o.dir, "rawexchange.db"))
	if err != nil {
		return err
	}
	customers, err := openExchangers(ctx, s)
	if err != nil {
		return err
	}
	if err := raw.insert(customers); err != nil {
		return err
	}
	grants, err1 := raw.db.PrepareContext(ctx, "INSERT INTO grants (id, customer_id, created_at, ttl, cap, spent, github_job, github_run) VALUES (?, ?, ?, ?, 0, 0, ?, ?)")
	credentials, err2 := raw.db.PrepareContext(ctx, "INSERT INTO credentials (id, grant_id, customer_id, key_id, provider, public_id, hash, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)")
	trail, err3 := raw.db.PrepareContext(ctx, `INSERT INTO audit (id, at, customer_id, key_id, credential_id, grant_id, action, provider, model, requests, input_tokens, output_tokens, cost, estimated, outcome, job)
		VALUES (?, ?, ?, ?, ?, ?, 'grant', ?, '', 0, 0, 0, 0, 0, '', '')`)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	insert := func(rows []vending.Order) error {
		tx, err := raw.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		grants, credentials, trail := tx.StmtContext(ctx, grants), tx.StmtContext(ctx, credentials), tx.StmtContext(ctx, trail)
		for _, r := range rows {
			now, i := time.Now().UnixMicro(), r.Issues[0]
			_, err1 := grants.ExecContext(ctx, r.ID, r.By.CustomerID, now, r.TTL.Microseconds(), r.Job, r.Run)
			_, err2 := credentials.ExecContext(ctx, i.ID, r.ID, r.By.CustomerID, r.By.KeyID, string(i.Provider), i.PublicID, i.Hash[:], now, now+r.TTL.Microseconds())
			_, err3 := trail.ExecContext(ctx, r.ID, now, r.By.CustomerID, r.By.KeyID, i.ID, r.ID, string(i.Provider))
			if err := errors.Join(err1, err2, err3); err != nil {
				return errors.Join(err, tx.Rollback())
			}
		}
		return tx.Commit()
	}
	rows := func(n int) ([]vending.Order, error) { return orders(customers, n) }
	err = byRaw(o, "exchanges", rows, insert, func(rows []vending.Order) (float64, error) { return exchange(ctx, s, rows) })
	return errors.Join(err, s.Close(), grants.Close(), credentials.Close(), trail.Close(), raw.db.Close())
}

// exchangeScript is one statement that writes an exchange, as pgbench runs it, of
// one of the customers that exchangersScript makes.
const exchangeScript = `\set c random(1, 1024)
WITH g AS (
	INSERT INTO grants (id, customer_id, created_at, ttl, cap, spent, github_job, github_run)
	SELECT u.id, 'c' || CAST(:c AS text), now_us(), 3600000000, 0, 0, 'build', '17 of bench'
	FROM (SELECT gen_random_uuid()::text AS id OFFSET 0) u RETURNING id, customer_id, created_at
), d AS (
	INSERT INTO credentials (id, grant_id, customer_id, key_id, provider, public_id, hash, created_at, expires_at)
	SELECT 'd' || id, id, customer_id, 'k' || id, 'openai', left(md5(id), 12), sha256(id::bytea), created_at, created_at + 3600000000 FROM g
)
INSERT INTO audit (id, at, customer_id, key_id, credential_id, grant_id, action, provider, model, requests, input_tokens, output_tokens, cost, estimated, outcome, job)
SELECT 'a' || id, created_at, customer_id, 'k' || id, 'd' || id, id, 'grant', 'openai', '', 0, 0, 0, 0, FALSE, '', '' FROM g;
`

const exchangersScript = `INSERT INTO customers (id, name, email, email_canonical, company, source, subscription_plan, subscription_state,
	trial_fixes_limit, trial_fixes_used, credit_balance, credit_debt, created_at)
SELECT 'c' || n, 'Load Test', n || '@bench.example.dev', n || '@bench.example.dev', '', 'direct', 'trial', '', 5, 0, 5, 0, now_us() FROM generate_series(1, 1024) n`

// exchangersIn is a new database with customers that pgbench can name.
func (c cluster) exchangersIn(ctx context.Context) (url string, err error) {
	if url, err = c.database(ctx); err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, exchangersScript)
	return url, errors.Join(err, conn.Close(ctx))
}

func exchangeInPostgres(ctx context.Context, o options, c cluster) error {
	return c.byPgbench(ctx, o, "exchanges", exchangeScript, c.exchangersIn, func(s *postgres.Store) (float64, error) {
		customers, err := openExchangers(ctx, s)
		if err != nil {
			return 0, err
		}
		rows, err := orders(customers, 128*signUpClients)
		if err != nil {
			return 0, err
		}
		return exchange(ctx, s, rows)
	})
}
