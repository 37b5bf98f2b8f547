package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"gatehouse/internal/cluster"
	"gatehouse/internal/store/records"
)

// join refuses a database of another schema or cluster, and gives one that has
// no name yet this cluster's.
func (s *Store) join(ctx context.Context, o Options) error {
	return s.connected(ctx, func(ctx context.Context, c *pgxpool.Conn) error {
		if err := checkSchema(ctx, c); err != nil {
			return err
		}
		if o.Serve && o.Cluster != "" {
			if _, err := c.Exec(ctx, "UPDATE cluster SET name = $1 WHERE name = ''", o.Cluster); err != nil {
				return fmt.Errorf("name the cluster: %w", err)
			}
		}
		var name string
		if err := c.QueryRow(ctx, "SELECT name FROM cluster").Scan(&name); err != nil {
			return fmt.Errorf("read the cluster's name: %w", err)
		}
		var unsafe string
		err := c.QueryRow(ctx, "SELECT coalesce(string_agg(name, ', '), '') FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'").Scan(&unsafe)
		if err != nil {
			return fmt.Errorf("read the server's settings: %w", err)
		}
		var encoding string
		if err := c.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding); err != nil || encoding != "UTF8" {
			return errors.Join(err, fmt.Errorf("the database's encoding is %q, and names need UTF8: make one with it", encoding))
		}
		if unsafe != "" {
			s.log.WarnContext(ctx, "the database loses acknowledged writes when its machine fails", "off", unsafe)
		}
		if o.Cluster != "" && name != "" && name != o.Cluster {
			return fmt.Errorf("the database is the cluster %q's, and this is of %q: name another database with --database, or the cluster with --cluster", name, o.Cluster)
		}
		return nil
	})
}

// forgotten is for how long the row of a node that died is kept: for who wants
// to know what was there.
const forgotten = int64(3600_000_000)

// Beat implements cluster.Store.
func (s *Store) Beat(ctx context.Context, n cluster.Node) (v cluster.View, err error) {
	limits, err := json.Marshal(n.Limits, json.Deterministic(true))
	if err != nil {
		return v, err
	}
	err = s.call(ctx, "beat", func(ctx context.Context, c *pgxpool.Conn) error {
		v = cluster.View{}
		b := new(pgx.Batch)
		b.Queue(`INSERT INTO nodes (id, name, version, limits, beat_at) VALUES ($1, $2, $3, $4, now_us())
			ON CONFLICT (id) DO UPDATE SET name = excluded.name, version = excluded.version, limits = excluded.limits, beat_at = now_us()`,
			n.ID, n.Name, n.Version, string(limits))
		b.Queue("DELETE FROM nodes WHERE id IN (SELECT id FROM nodes WHERE beat_at < now_us() - $1 FOR UPDATE SKIP LOCKED)", forgotten)
		// What lies ahead was stamped before the clock was set back.
		b.Queue("SELECT id, name, version, limits FROM nodes WHERE abs(now_us() - beat_at) < $1", cluster.Gone.Microseconds()).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				var one cluster.Node
				var limits string
				if err := rows.Scan(&one.ID, &one.Name, &one.Version, &limits); err != nil {
					return err
				}
				if err := json.Unmarshal([]byte(limits), &one.Limits); err != nil { // of another version
					one.Limits = nil
				}
				v.Nodes = append(v.Nodes, one)
			}
			return rows.Err()
		})
		b.Queue("SELECT now_us()").QueryRow(func(row pgx.Row) error {
			var now int64
			err := row.Scan(&now)
			v.Now = records.Instant(now)
			return err
		})
		return c.SendBatch(ctx, b).Close()
	})
	slices.SortFunc(v.Nodes, func(a, b cluster.Node) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID))
	})
	return v, err
}

// Leave implements cluster.Store.
func (s *Store) Leave(ctx context.Context, id string) error {
	return s.call(ctx, "leave", func(ctx context.Context, c *pgxpool.Conn) error {
		_, err := c.Exec(ctx, "DELETE FROM nodes WHERE id = $1", id)
		return err
	})
}

// checkSchema refuses a schema that this program can't use.
func checkSchema(ctx context.Context, c queryer) error {
	var have, least int64
	err := c.QueryRow(ctx, "SELECT (SELECT max(version_id) FROM goose_db_version WHERE is_applied), least_schema FROM cluster").Scan(&have, &least)
	want := newest()
	switch {
	case sqlState(err) == undefinedTable, errors.Is(err, pgx.ErrNoRows):
		return errors.New("the database has no schema of Gatehouse's yet: run `gatehouse migrate up`, or `gatehouse serve` with --auto-migrate")
	case err != nil:
		return fmt.Errorf("read the schema's version: %w", err)
	case have < want:
		return fmt.Errorf("the database has schema version %d and this gatehouse needs %d: run `gatehouse migrate up`", have, want)
	case least > want:
		return fmt.Errorf("the database has schema version %d, which needs a gatehouse that knows at least %d, and this one knows only %d: use a newer version", have, least, want)
	}
	return nil
}
