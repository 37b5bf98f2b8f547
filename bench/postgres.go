package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/postgres/pgtest"
)

// cluster is a PostgreSQL of the measurement's own, on the disk that is to be
// measured, with its durability as it is by default.
type cluster struct{ *pgtest.Server }

func (o options) startPostgres() (c cluster, err error) {
	before := os.Getenv("TMPDIR")
	// Where the server's folder is made; it may run as another user.
	if err := errors.Join(os.Setenv("TMPDIR", o.dir), os.Chmod(o.dir, 0o755)); err != nil {
		return c, err
	}
	c.Server, err = pgtest.New(pgtest.Options{Settings: map[string]string{
		"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "15min",
	}})
	return c, errors.Join(err, os.Setenv("TMPDIR", before))
}

// database makes one with the schema.
func (c cluster) database(ctx context.Context) (url string, err error) {
	if url, err = c.CreateDatabase(ctx); err != nil {
		return "", err
	}
	return url, postgres.Up(ctx, url)
}

// nodes opens a database as so many nodes would.
func nodes(ctx context.Context, url string, n int) (all []*postgres.Store, err error) {
	for range n {
		s, err := postgres.Open(ctx, postgres.Options{URL: url, Serve: true})
		if err != nil {
			return all, errors.Join(err, closeAll(all))
		}
		all = append(all, s)
	}
	return all, nil
}

func closeAll(all []*postgres.Store) (err error) {
	for _, s := range all {
		err = errors.Join(err, s.Close())
	}
	return err
}

// walSince is how much log was written since at, and where it is now.
func walSince(ctx context.Context, c *pgx.Conn, at string) (bytes float64, now string, err error) {
	err = c.QueryRow(ctx, "SELECT pg_current_wal_lsn()::text, pg_wal_lsn_diff(pg_current_wal_lsn(), $1::text::pg_lsn)::float8", at).Scan(&now, &bytes)
	return bytes, now, err
}

// signUpScript is one statement that writes the rows of a sign-up with both of
// its jobs, as pgbench runs it.
const signUpScript = `WITH c AS (
	INSERT INTO customers (id, name, email, email_canonical, company, source, subscription_plan, subscription_state,
		trial_fixes_limit, trial_fixes_used, credit_balance, credit_debt, created_at)
	SELECT u.id, 'Load Test', u.id || '@bench.example.dev', u.id || '@bench.example.dev', '', 'direct', 'trial', '', 5, 0, 5, 0, now_us()
	FROM (SELECT gen_random_uuid()::text AS id OFFSET 0) u RETURNING id, created_at
), k AS (
	INSERT INTO api_keys (customer_id, id, public_id, hash, prefix, name, created_at)
	SELECT id, 'k' || id, left(md5(id), 12), sha256(id::bytea), 'gk_live_' || left(md5(id), 12), 'default', created_at FROM c
), e AS (
	INSERT INTO ledger_entries (customer_id, number, id, amount, balance_after, source, reference, created_at)
	SELECT id, 1, 'e' || id, 5, 5, 'trial_signup', 'signup:' || id, created_at FROM c
)
INSERT INTO jobs (kind, subject, created_at, due_at, claim) SELECT kind, id, created_at, created_at, created_at
FROM c, (VALUES ('stripe_customer'), ('welcome_mail')) AS j(kind);
`

// pgbench runs the script in a database with so many clients, and returns the
// transactions a second.
func pgbench(ctx context.Context, dir, url, script string, clients int, length time.Duration) (float64, error) {
	bin, err := pgtest.Find()
	if err != nil {
		return 0, err
	}
	file := filepath.Join(dir, "script.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return 0, err
	}
	// pgbench is not in every Debian package of the server's own.
	out, err := exec.CommandContext(ctx, filepath.Join(bin, "pgbench"), "-n", "-M", "prepared", "-f", file,
		"-c", strconv.Itoa(clients), "-j", "2", "-T", strconv.Itoa(max(1, int(length.Seconds()))), url).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	if strings.Contains(string(out), "actually processed: 0\n") {
		return 0, nil // many clients on a busy machine take a while to prepare
	}
	for line := range strings.Lines(string(out)) {
		var tps float64
		if n, _ := fmt.Sscanf(line, "tps = %f", &tps); n == 1 {
			return tps, nil
		}
	}
	return 0, fmt.Errorf("pgbench said no tps: %s", out)
}

// bestClients is pgbench's best client count for a script here, each tried in a
// database of its own.
func bestClients(ctx context.Context, o options, database func(context.Context) (string, error), script string) (best int, err error) {
	highest := 0.0
	for _, n := range []int{4, 8, 16, 32, 64} {
		url, err := database(ctx)
		if err != nil {
			return 0, err
		}
		tps, err := pgbench(ctx, o.dir, url, script, n, o.slice)
		if err != nil {
			return 0, err
		}
		fmt.Printf("  pgbench, %2d clients: %6.0f/s\n", n, tps)
		if tps > highest {
			best, highest = n, tps
		}
	}
	return best, nil
}
