package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/app"
)

func adminCommand() *cobra.Command {
	c := group("admin", "Look at customers, keys, credentials, ledgers, events and jobs, change and back them up, on the database itself",
		customersCommand(), keysCommand(), credentialsCommand(), auditCommand(), ledgerCommand(), webhooksCommand(), jobsCommand(), backup(), unfence(), copyCommand())
	c.Long = "Works on the database itself: whether or not a node serves it, and at once for\none that does."
	return c
}

// adminCommandOn is a command on the store, which it opens and closes.
func adminCommandOn(c *cobra.Command, run func(ctx context.Context, c *cobra.Command, a adminCall) error, args []string) *cobra.Command {
	return adminCommandChecked(c, func(app.Config) error { return nil }, run, args...)
}

// adminCommandChecked is one that looks at the settings before the store is
// opened.
func adminCommandChecked(c *cobra.Command, check func(app.Config) error, run func(ctx context.Context, c *cobra.Command, a adminCall) error, args ...string) *cobra.Command {
	c.Args = exactly(args...)
	load := settingFlags(c.Flags(), []string{"database", "cluster", "mode"})
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, given []string) (err error) {
		config, _, err := load()
		if err != nil {
			return err
		}
		if err := check(config); err != nil {
			return err
		}
		store, err := app.OpenStore(c.Context(), config)
		if err != nil {
			return err
		}
		defer func() {
			if cerr := store.Close(); err == nil {
				err = cerr
			}
		}()
		return run(c.Context(), c, adminCall{config: config, store: store, args: given, json: *asJSON})
	}
	return c
}

// adminCall is what an admin command works with.
type adminCall struct {
	config app.Config
	store  app.Store
	args   []string
	json   bool
}

// say tells the operator something beside the result.
func say(c *cobra.Command, format string, args ...any) {
	fmt.Fprintf(c.ErrOrStderr(), "gatehouse: "+format+"\n", args...)
}

func when(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// optional is null in JSON where there is none.
func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func optionalText(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func optionalNumber(n int64) *int64 {
	if n == 0 {
		return nil
	}
	return &n
}
