package sqlite

import (
	"context"

	"gatehouse/internal/store"
)

// told are the settings that decide durability and speed.
var told = []string{"journal_mode", "synchronous", "page_size", "cache_size", "mmap_size", "wal_autocheckpoint"}

// levels are what PRAGMA synchronous answers, in words.
var levels = map[string]string{"0": "off", "1": "normal", "2": "full", "3": "extra"}

// About implements store.Store. It asks the writer's own connection, since
// most settings are a connection's.
func (s *Store) About(ctx context.Context) (store.About, error) {
	return mutate(ctx, s, "about", func(t *tx) (store.About, error) {
		about := store.About{Driver: "sqlite", Settings: make(map[string]string)}
		for _, name := range told {
			var value string
			if err := t.row("PRAGMA "+name, nil, &value); err != nil {
				return about, err
			}
			about.Settings[name] = value
		}
		about.Settings["synchronous"] = levels[about.Settings["synchronous"]]
		return about, t.row("SELECT sqlite_version()", nil, &about.Version)
	})
}
