package postgres

import (
	"context"

	"gatehouse/internal/store"
	"gatehouse/internal/store/records"
)

// About implements store.Store.
func (s *Store) About(ctx context.Context) (store.About, error) {
	about := store.About{Driver: "postgres", Settings: make(map[string]string)}
	// Those that decide durability and speed.
	rows, err := records.Read(ctx, runner{s}, "about", func(r records.Reader) ([][2]string, error) {
		return records.List(r, `SELECT name, coalesce(nullif(current_setting(name), ''), 'none') FROM unnest(ARRAY['server_version', 'fsync', 'full_page_writes',
			'synchronous_commit', 'synchronous_standby_names', 'shared_buffers', 'max_connections', 'wal_level']) AS name`, nil,
			func(scan records.Scan) (setting [2]string, err error) {
				err = scan(&setting[0], &setting[1])
				return setting, err
			})
	})
	for _, r := range rows {
		about.Settings[r[0]] = r[1]
	}
	about.Version = about.Settings["server_version"]
	delete(about.Settings, "server_version")
	return about, err
}
