package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"gatehouse/internal/cluster"
	"gatehouse/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrationLocks is how long a migration waits for a lock on a table. While it
// waits, all who want the table stand behind it; after that it fails, and is
// tried again.
const (
	migrationLocks = 3000 // ms
	migrationTries = 5
)

// newest is the schema version that this program knows.
func newest() (version int64) {
	files, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		panic(err) // a pattern of ours
	}
	for _, f := range files {
		n, err := goose.NumericComponent(f)
		if err != nil {
			panic(err)
		}
		version = max(version, n)
	}
	return version
}

// Up applies what is missing, also while nodes of the version before serve the
// database. Others who do so at the same time wait until it is done.
func Up(ctx context.Context, url string) error {
	return withProvider(url, func(db *sql.DB, p *goose.Provider) error {
		have, want, err := p.GetVersions(ctx)
		if err != nil {
			return fmt.Errorf("read the schema's version: %w", err)
		}
		if have >= want { // a newer one: Open decides whether it will do
			return nil
		}
		for try := 1; ; try++ {
			_, err = p.Up(ctx)
			if err == nil || try == migrationTries || sqlState(err) != lockNotAvailable {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("migrate the database: %w", err)
		}
		return nil
	})
}

// Status lists the migrations that this version knows.
func Status(ctx context.Context, url string) (found []store.Migration, err error) {
	err = withProvider(url, func(_ *sql.DB, p *goose.Provider) error {
		all, err := p.Status(ctx)
		for _, m := range all {
			found = append(found, store.Migration{Version: m.Source.Version, Name: m.Source.Path, Applied: m.State == goose.StateApplied})
		}
		return err
	})
	return found, err
}

// Down undoes the newest migration, and loses what it held. No node may serve
// the database meanwhile.
func Down(ctx context.Context, url string) (undone store.Migration, err error) {
	err = withProvider(url, func(db *sql.DB, p *goose.Provider) error {
		var nodes int
		err := db.QueryRowContext(ctx, "SELECT count(*) FROM nodes WHERE beat_at > now_us() - $1", cluster.Gone.Microseconds()).Scan(&nodes)
		if err != nil && sqlState(err) != undefinedTable {
			return fmt.Errorf("look for nodes: %w", err)
		}
		if nodes > 0 {
			return fmt.Errorf("%d nodes serve the database: stop them first", nodes)
		}
		r, err := p.Down(ctx)
		if r != nil {
			undone = store.Migration{Version: r.Source.Version, Name: r.Source.Path}
		}
		return err
	})
	return undone, err
}

func withProvider(url string, run func(*sql.DB, *goose.Provider) error) (err error) {
	pool, err := parseURL(url)
	if err != nil {
		return err
	}
	config := pool.ConnConfig
	config.ConnectTimeout = connectTimeout
	config.RuntimeParams["application_name"] = "gatehouse migrate"
	config.RuntimeParams["lock_timeout"] = fmt.Sprint(migrationLocks)
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	// One at a time migrates; where it dies its lock goes with its connection.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 120))
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, files, goose.WithSlog(slog.New(slog.DiscardHandler)), goose.WithSessionLocker(locker))
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	return run(db, p)
}
