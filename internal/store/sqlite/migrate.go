package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"

	"gatehouse/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

func newProvider(db *sql.DB) (*goose.Provider, error) {
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, sub, goose.WithSlog(slog.New(slog.DiscardHandler)))
}

// migrate refuses a database of a newer version, and brings an older one up
// to date if it may.
func migrate(ctx context.Context, db *sql.DB, path string, may bool) error {
	p, err := newProvider(db)
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	have, want, err := p.GetVersions(ctx)
	if err != nil {
		return fmt.Errorf("read the schema version of %s: %w", path, err)
	}
	switch {
	case have > want:
		return fmt.Errorf("%s has schema version %d and this gatehouse knows only %d: it was written by a newer version; use that one", path, have, want)
	case have == want:
		return nil
	case !may:
		return fmt.Errorf("%s has schema version %d and this gatehouse needs %d: run `gatehouse migrate up`", path, have, want)
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate %s: %w", path, err)
	}
	return nil
}

// Up applies what is missing, to a new file too. It does not wait for a node
// that serves the file: old and new schema serve beside each other for one
// version.
func Up(ctx context.Context, path string) error {
	s, err := Open(ctx, Options{Path: path, Migrate: true})
	if err != nil {
		return err
	}
	return s.Close()
}

// Status lists the migrations this version knows.
func Status(ctx context.Context, path string) (_ []store.Migration, err error) {
	var found []store.Migration
	err = withProvider(ctx, path, func(p *goose.Provider) error {
		all, err := p.Status(ctx)
		for _, m := range all {
			found = append(found, store.Migration{Version: m.Source.Version, Name: m.Source.Path, Applied: m.State == goose.StateApplied})
		}
		return err
	})
	return found, err
}

// Down undoes the newest migration, and loses what it held. No node may serve
// the file meanwhile.
func Down(ctx context.Context, path string) (_ store.Migration, err error) {
	var undone store.Migration
	if err := prepareFile(path, false); err != nil {
		return undone, err
	}
	lock, err := lockFile(path)
	if err != nil {
		return undone, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := notFenced(ctx, path); err != nil { // the mark would go with its table
		return undone, err
	}
	err = withProvider(ctx, path, func(p *goose.Provider) error {
		r, err := p.Down(ctx)
		if r != nil {
			undone = store.Migration{Version: r.Source.Version, Name: r.Source.Path}
		}
		return err
	})
	return undone, err
}

func withProvider(ctx context.Context, path string, run func(*goose.Provider) error) (err error) {
	if err := prepareFile(path, false); err != nil {
		return err
	}
	if _, err := checkOwner(ctx, path, false); err != nil {
		return err
	}
	db, err := openPool(path, 1, "foreign_keys(on)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	p, err := newProvider(db)
	if err != nil {
		return err
	}
	return run(p)
}
