package app

import (
	"context"
	"fmt"

	"gatehouse/internal/store"
	"gatehouse/internal/store/sqlite"
)

// Store is what operators' commands work on.
type Store = store.Store

// OpenStore opens the database for an operator's command, beside a node that
// serves it or without one. The schema must be up to date.
func OpenStore(ctx context.Context, c Config) (Store, error) {
	return sqlite.Open(ctx, sqlite.Options{Path: c.Database})
}

// Migration is one step of the schema's history.
type Migration struct {
	Version int64  `json:"version"`
	Name    string `json:"name"`
	Applied bool   `json:"applied"`
}

// MigrateUp brings the schema up to date, of a new database too.
func MigrateUp(ctx context.Context, c Config) error { return sqlite.Up(ctx, c.Database) }

// Migrations lists the schema's history as far as this version knows it.
func Migrations(ctx context.Context, c Config) ([]Migration, error) {
	found, err := sqlite.Status(ctx, c.Database)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	all := make([]Migration, 0, len(found))
	for _, m := range found {
		all = append(all, Migration(m))
	}
	return all, nil
}

// MigrateDown undoes the newest migration and returns its name.
func MigrateDown(ctx context.Context, c Config) (string, error) {
	m, err := sqlite.Down(ctx, c.Database)
	return m.Name, err
}
