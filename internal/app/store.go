package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"gatehouse/internal/store"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/sqlite"
)

// Store is what operators' commands work on.
type Store = store.Store

// OpenStore opens the database for an operator's command, beside nodes that
// serve it or without one. The schema must be up to date.
func OpenStore(ctx context.Context, c Config) (Store, error) {
	if c.Database.URL == "" {
		return sqlite.Open(ctx, sqlite.Options{Path: c.Database.File})
	}
	return postgres.Open(ctx, postgres.Options{URL: c.Database.URL, Cluster: c.Cluster})
}

// serveStore opens the database for a node.
func serveStore(ctx context.Context, c Config, observe func(string, time.Duration, error), log *slog.Logger) (Store, error) {
	if c.Database.URL == "" {
		return sqlite.Open(ctx, sqlite.Options{Path: c.Database.File, Serve: true, Migrate: c.AutoMigrate, Observe: observe, Log: log})
	}
	return postgres.Open(ctx, postgres.Options{URL: c.Database.URL, Cluster: c.Cluster, Serve: true, Migrate: c.AutoMigrate, Observe: observe, Log: log})
}

// MigrateUp brings the schema up to date, of a new database too.
func MigrateUp(ctx context.Context, c Config) error {
	if c.Database.URL == "" {
		return sqlite.Up(ctx, c.Database.File)
	}
	return postgres.Up(ctx, c.Database.URL)
}

// Migrations lists the schema's history as far as this version knows it.
func Migrations(ctx context.Context, c Config) (found []store.Migration, err error) {
	list, where := sqlite.Status, c.Database.File
	if c.Database.URL != "" {
		list, where = postgres.Status, c.Database.URL
	}
	if found, err = list(ctx, where); err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return found, nil
}

// MigrateDown undoes the newest migration and returns its name.
func MigrateDown(ctx context.Context, c Config) (string, error) {
	undo, where := sqlite.Down, c.Database.File
	if c.Database.URL != "" {
		undo, where = postgres.Down, c.Database.URL
	}
	undone, err := undo(ctx, where)
	return undone.Name, err
}
