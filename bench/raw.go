package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/store/sqlite"
)

// opening is what the n-th sign-up writes.
func opening(n int) (account.Opening, error) {
	id, err1 := uuid.NewV7()
	entry, err2 := uuid.NewV7()
	at := time.Now().UTC().Truncate(time.Microsecond)
	_, issue, err3 := apikey.NewIssue(apikey.Live, "default", at, time.Time{})
	mail := fmt.Sprintf("load-%d-%s@bench.example.dev", n, id)
	return account.Opening{
		Customer: account.Customer{
			ID: id.String(), Name: "Load Test", Email: mail, Source: "direct", Plan: billing.Trial,
			TrialFixesLimit: 5, CreditBalance: 5, CreatedAt: at,
		},
		CanonicalEmail: mail, Key: issue, Jobs: followUps,
		Grant: billing.Entry{
			ID: entry.String(), Number: 1, Amount: 5, BalanceAfter: 5,
			Source: billing.TrialSignUp, Reference: billing.SignUpReference(id.String()), CreatedAt: at,
		},
	}, errors.Join(err1, err2, err3)
}

func openings(n int) (rows []account.Opening, err error) {
	rows = make([]account.Opening, n)
	for i := range rows {
		if rows[i], err = opening(i); err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// openRaw opens a new database with Gatehouse's schema and with the settings
// of its writer.
func openRaw(ctx context.Context, path string) (*sql.DB, error) {
	s, err := sqlite.Open(ctx, sqlite.Options{Path: path, Serve: true, Migrate: true})
	if err != nil {
		return nil, err
	}
	if err := s.Close(); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=foreign_keys(on)&_pragma=cache_size(-8192)&_pragma=journal_size_limit(67108864)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	return db, nil
}

// rawInserts are the statements of a sign-up, prepared once.
type rawInserts struct {
	db                             *sql.DB
	customers, keys, entries, jobs *sql.Stmt
}

func newRawInserts(ctx context.Context, path string) (r *rawInserts, err error) {
	r = &rawInserts{}
	if r.db, err = openRaw(ctx, path); err != nil {
		return nil, err
	}
	prepare := func(query string) *sql.Stmt {
		s, perr := r.db.Prepare(query)
		err = errors.Join(err, perr)
		return s
	}
	r.customers = prepare(`INSERT INTO customers (id, name, email, email_canonical, company, source, subscription_plan, subscription_state,
		trial_fixes_limit, trial_fixes_used, credit_balance, credit_debt, created_at) VALUES (?, ?, ?, ?, '', ?, ?, '', ?, 0, ?, 0, ?)`)
	r.keys = prepare(`INSERT INTO api_keys (customer_id, id, public_id, hash, prefix, name, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, NULL)`)
	r.entries = prepare(`INSERT INTO ledger_entries (customer_id, number, id, amount, balance_after, source, reference, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	r.jobs = prepare(`INSERT INTO jobs (kind, subject, created_at, due_at, claim) VALUES (?1, ?2, ?3, ?3, ?3)`)
	return r, err
}

// insert commits the rows of some sign-ups as one transaction.
func (r *rawInserts) insert(rows []account.Opening) error {
	tx, err := r.db.Begin()
	if err != nil {
		return err
	}
	customers, keys, entries, jobs := tx.Stmt(r.customers), tx.Stmt(r.keys), tx.Stmt(r.entries), tx.Stmt(r.jobs)
	for _, o := range rows {
		at := o.CreatedAt.UnixMicro()
		_, err1 := customers.Exec(o.ID, o.Name, o.Email, o.CanonicalEmail, o.Source, string(o.Plan), o.TrialFixesLimit, o.CreditBalance, at)
		_, err2 := keys.Exec(o.ID, o.Key.ID, o.Key.PublicID, o.Key.Hash[:], o.Key.Prefix, o.Key.Name, at)
		_, err3 := entries.Exec(o.ID, o.Grant.Number, o.Grant.ID, o.Grant.Amount, o.Grant.BalanceAfter, string(o.Grant.Source), o.Grant.Reference, at)
		err := errors.Join(err1, err2, err3)
		for _, kind := range o.Jobs {
			_, jerr := jobs.Exec(string(kind), o.ID, at)
			err = errors.Join(err, jerr)
		}
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// insertFor inserts raw for so long, group sign-ups a transaction, and
// returns the sign-ups a second. Making the rows is not counted.
func insertFor(ctx context.Context, path string, group int, length time.Duration) (rate float64, err error) {
	r, err := newRawInserts(ctx, path)
	if err != nil {
		return 0, err
	}
	var n int
	var took time.Duration
	for took < length && ctx.Err() == nil {
		rows, err := openings(16 * group)
		if err != nil {
			return 0, err
		}
		start := time.Now()
		for i := 0; i < len(rows); i += group {
			if err := r.insert(rows[i : i+group]); err != nil {
				return 0, err
			}
		}
		took += time.Since(start)
		n += len(rows)
	}
	return float64(n) / took.Seconds(), r.db.Close()
}

// fill makes a database of so many customers.
func fill(ctx context.Context, path string, customers int) error {
	r, err := newRawInserts(ctx, path)
	if err != nil {
		return err
	}
	for n := 0; n < customers; n += 1000 {
		rows, err := openings(1000)
		if err != nil {
			return err
		}
		if err := r.insert(rows); err != nil {
			return err
		}
	}
	return r.db.Close()
}
