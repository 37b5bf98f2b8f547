package sqlite_test

import (
	"database/sql"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store/sqlite"
)

// clients is how many sign up at once, and how many rows' worth of sign-ups
// the raw inserts commit at once.
const clients = 64

func opening(n int64) account.Opening {
	at := time.Now().UTC().Truncate(time.Microsecond)
	id, entry := uuid.Must(uuid.NewV7()).String(), uuid.Must(uuid.NewV7()).String()
	_, issue, err := apikey.NewIssue(apikey.Live, "default", at, time.Time{})
	if err != nil {
		panic(err)
	}
	mail := fmt.Sprintf("load-%d-%s@bench.example.org", n, id)
	return account.Opening{
		Customer: account.Customer{
			ID: id, Name: "Load Test", Email: mail, Source: "direct", Plan: account.Trial,
			TrialFixesLimit: billing.TrialFixes, CreditBalance: billing.TrialCredits, CreatedAt: at,
		},
		CanonicalEmail: mail, Key: issue,
		Grant: billing.Entry{
			ID: entry, Number: 1, Amount: billing.TrialCredits, BalanceAfter: billing.TrialCredits,
			Source: billing.TrialSignUp, Reference: billing.SignUpReference(id), CreatedAt: at,
		},
	}
}

// BenchmarkSignUpAgainstRaw compares durable sign-ups by 64 clients with the
// same rows inserted raw, 64 sign-ups a transaction, by one connection that
// does nothing else: same schema, same disk, same settings, in turns in one
// run. "ratio" is the store's rate by the raw rate, the median over rounds.
func BenchmarkSignUpAgainstRaw(b *testing.B) {
	const round = 4096 // sign-ups
	dir := b.TempDir()
	store := openStore(b, filepath.Join(dir, "store.db"))
	openStore(b, filepath.Join(dir, "raw.db")) // for its schema
	raw, err := sql.Open("sqlite", "file:"+filepath.Join(dir, "raw.db")+
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)&_pragma=foreign_keys(on)&_pragma=cache_size(-8192)")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = raw.Close() })
	raw.SetMaxOpenConns(1)
	var ratios, rawRates, storeRates []float64
	for b.Loop() {
		rows := make([]account.Opening, 2*round)
		for i := range rows {
			rows[i] = opening(int64(i))
		}
		start := time.Now()
		for i := 0; i < round; i += clients {
			insertRaw(b, raw, rows[i:i+clients])
		}
		rawRate := round / time.Since(start).Seconds()

		start = time.Now()
		var next atomic.Int64
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for i := next.Add(1) - 1; i < round; i = next.Add(1) - 1 {
					if err := store.Open(b.Context(), rows[round+i]); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		storeRate := round / time.Since(start).Seconds()
		rawRates, storeRates = append(rawRates, rawRate), append(storeRates, storeRate)
		ratios = append(ratios, storeRate/rawRate)
	}
	b.ReportMetric(median(rawRates), "raw/s")
	b.ReportMetric(median(storeRates), "store/s")
	b.ReportMetric(median(ratios), "ratio")
}

func insertRaw(b *testing.B, db *sql.DB, rows []account.Opening) {
	b.Helper()
	tx, err := db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	prepare := func(q string) *sql.Stmt {
		s, err := tx.Prepare(q)
		if err != nil {
			b.Fatal(err)
		}
		return s
	}
	customers := prepare(`INSERT INTO customers (id, name, email, email_canonical, company, source, subscription_plan, subscription_state,
		trial_fixes_limit, trial_fixes_used, credit_balance, credit_debt, created_at) VALUES (?, ?, ?, ?, '', ?, ?, '', ?, 0, ?, 0, ?)`)
	keys := prepare(`INSERT INTO api_keys (customer_id, id, public_id, hash, prefix, name, created_at, expires_at) VALUES (?, ?, ?, ?, ?, ?, ?, NULL)`)
	entries := prepare(`INSERT INTO ledger_entries (customer_id, number, id, amount, balance_after, source, reference, created_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
	exec := func(s *sql.Stmt, args ...any) {
		if _, err := s.Exec(args...); err != nil {
			b.Fatal(err)
		}
	}
	for _, o := range rows {
		at := o.CreatedAt.UnixMicro()
		exec(customers, o.ID, o.Name, o.Email, o.CanonicalEmail, o.Source, string(o.Plan), o.TrialFixesLimit, o.CreditBalance, at)
		exec(keys, o.ID, o.Key.ID, o.Key.PublicID, o.Key.Hash[:], o.Key.Prefix, o.Key.Name, at)
		exec(entries, o.ID, o.Grant.Number, o.Grant.ID, o.Grant.Amount, o.Grant.BalanceAfter, string(o.Grant.Source), o.Grant.Reference, at)
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkTake is how many decisions a second 64 callers get, all admitted:
// one key each time, or one of so many.
func BenchmarkTake(b *testing.B) {
	for _, keys := range []int64{1, 100, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			store := openStore(b, filepath.Join(b.TempDir(), "limits.db"))
			limit := ratelimit.Limit{Count: 10, Window: time.Minute}
			var n atomic.Int64
			b.SetParallelism(clients / 2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					key := fmt.Sprintf("127.%d", n.Add(1)*7919%keys)
					if _, err := store.Take(b.Context(), ratelimit.Onboarding, limit, key); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

func openStore(tb testing.TB, path string) *sqlite.Store {
	tb.Helper()
	s, err := sqlite.Open(tb.Context(), sqlite.Options{Path: path, Serve: true, Migrate: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}
