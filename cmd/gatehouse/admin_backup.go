package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/app"
	"gatehouse/internal/store"
)

// backupNews is how often a backup says how far it is.
const backupNews = 3 * time.Second

// copier is a store that makes copies of itself.
func copier(a adminCall) (store.Copier, error) {
	c, ok := a.store.(store.Copier)
	if !ok {
		return nil, usageError{errors.New("this copies SQLite databases alone: back a PostgreSQL up with its own tools, such as pg_dump")}
	}
	return c, nil
}

func backup() *cobra.Command {
	c := &cobra.Command{
		Use: "backup FILE", Short: "Copy the database to a new file, also beside a node",
		Long: `Copies the database, as it is at one moment, to a new file that only its owner
reads; a node may serve meanwhile. Until it is done the file is called FILE.part.

The copy is fenced: no node serves it before gatehouse admin unfence --yes, so
that it does not mail customers again or let revoked keys in. To restore it,
stop the node, move the database and its -wal and -shm files away, and put a copy
of FILE there. A copy that was made otherwise, by cp or a disk's snapshot, is not
fenced, and one made by cp beside a node may be broken.

The master key is not in it: keep a copy of it elsewhere.`,
	}
	return adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		from, err := copier(a)
		if err != nil {
			return err
		}
		file, last, size := a.args[0], time.Now(), int64(0)
		if file == "" {
			return usageError{errors.New("FILE is empty: name the file to make")}
		}
		made, err := from.Backup(ctx, file, func(done, all int64) {
			size = all
			if time.Since(last) >= backupNews {
				last = time.Now()
				say(c, "%d of %d bytes copied", done, all)
			}
		})
		if err != nil {
			return fmt.Errorf("no backup was made: %w", err)
		}
		t := table{json: map[string]any{
			"file": file, "bytes": size, "copied_at": made.CopiedAt, "customers": made.Customers, "schema_version": made.Schema,
		}}
		t.add("file", file)
		t.add("bytes", strconv.FormatInt(size, 10))
		t.add("copied", when(made.CopiedAt))
		t.add("customers", strconv.FormatInt(made.Customers, 10))
		t.add("schema version", strconv.FormatInt(made.Schema, 10))
		t.add("master key", "not in it: keep a copy of it elsewhere")
		return t.print(c.OutOrStdout(), a.json)
	}, []string{"FILE"})
}

func unfence() *cobra.Command {
	c := &cobra.Command{
		Use: "unfence", Short: "Show what a copy of a database is, and let nodes serve it",
		Long: `Shows what a copy is that gatehouse admin backup made; with --yes it lets nodes
serve it from then on. Before that, see that no node serves what it is a copy of.`,
	}
	yes := c.Flags().Bool("yes", false, "let nodes serve it")
	return adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		from, err := copier(a)
		if err != nil {
			return err
		}
		found, err := from.Contents(ctx)
		if err != nil {
			return err
		}
		if found.CopiedAt.IsZero() {
			t := table{json: map[string]any{"database": a.config.Database.Name(), "fenced": false}}
			t.add(a.config.Database.Name(), "not fenced: nodes may serve it")
			return t.print(c.OutOrStdout(), a.json)
		}
		stats, err := a.store.JobStats(ctx)
		if err != nil {
			return err
		}
		missing, err := app.MissingKeys(ctx, a.config, a.store)
		if err != nil {
			return err
		}
		queued, dead := make(map[string]int), 0
		var waiting []string
		for _, s := range stats {
			dead += s.Dead
			if s.Queued > 0 {
				queued[string(s.Kind)] = s.Queued
				waiting = append(waiting, fmt.Sprintf("%d %s", s.Queued, s.Kind))
			}
		}
		t := table{json: map[string]any{
			"database": a.config.Database.Name(), "fenced": !*yes, "copied_at": found.CopiedAt, "origin": found.Origin, "customers": found.Customers, "schema_version": found.Schema,
			"newest_sign_up": optional(found.NewestSignUp), "newest_ledger_entry": optional(found.NewestEntry),
			"jobs_queued": queued, "jobs_dead": dead, "kept_answers": found.Outcomes, "master_keys_missing": append([]string{}, missing...),
		}}
		t.add("database", a.config.Database.Name())
		t.add("copied", when(found.CopiedAt))
		t.add("of", found.Origin)
		t.add("customers", strconv.FormatInt(found.Customers, 10))
		t.add("schema version", strconv.FormatInt(found.Schema, 10))
		t.add("newest sign-up", when(found.NewestSignUp))
		t.add("newest ledger entry", when(found.NewestEntry))
		t.add("jobs queued", strings.Join(waiting, ", "))
		t.add("jobs dead", strconv.Itoa(dead))
		t.add("kept answers", strconv.FormatInt(found.Outcomes, 10))
		t.add("master keys missing", strings.Join(missing, ", "))
		if err := t.print(c.OutOrStdout(), a.json); err != nil {
			return err
		}
		say(c, "what came after the copy is missing; API keys that were revoked since work again; rate limits count on from then")
		if len(waiting) > 0 {
			say(c, "a node runs the queued jobs: mail that was sent already is sent again, Stripe customers are not made twice")
		}
		if len(missing) > 0 {
			say(c, "kept answers can't be repeated without their master key: put it back as %s, or set GATEHOUSE_MASTER_KEY", a.config.Database.KeyFile())
		}
		if !*yes {
			say(c, "%s is fenced: say --yes to let nodes serve it", a.config.Database.Name())
			return nil
		}
		if err := from.Unfence(ctx); err != nil {
			return err
		}
		say(c, "nodes may serve %s now", a.config.Database.Name())
		return nil
	}, nil)
}
