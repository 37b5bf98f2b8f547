package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gatehouse/internal/app"
	"gatehouse/internal/settings"
	"gatehouse/internal/telemetry"
)

func serveCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run a node until SIGTERM or SIGINT",
		Long: `Runs a node until SIGTERM or SIGINT, then drains and exits 0. A second signal
ends it at once with 130. Logs go to standard error.

Secrets are variables, never flags: GATEHOUSE_MASTER_KEY, GATEHOUSE_STRIPE_API_KEY,
GATEHOUSE_STRIPE_WEBHOOK_SECRETS and others, each also as NAME_FILE; gatehouse config
lists all settings.`,
		Args: exactly(),
	}
	load := settingFlags(c.Flags(), nil)
	c.RunE = func(c *cobra.Command, _ []string) error {
		config, _, err := load()
		if err != nil {
			return err
		}
		if err := config.CanServe(); err != nil {
			return usageError{err}
		}
		// A node must not die of a log that nobody reads any more.
		signal.Ignore(syscall.SIGPIPE)
		log, err := telemetry.NewLogger(c.ErrOrStderr(), config.LogFormat, config.LogLevel)
		if err != nil {
			return usageError{err}
		}
		slog.SetDefault(log)
		node, err := app.New(c.Context(), config, version, log)
		if err != nil {
			return err
		}
		return node.Run(c.Context())
	}
	return c
}

// settingFlags adds a flag for each setting, or for those named, and returns
// a function that reads all settings once the flags are parsed.
func settingFlags(flags *pflag.FlagSet, only []string) func() (app.Config, []settings.Value, error) {
	var c app.Config
	file := flags.String("config", "", "YAML file of settings")
	wanted, settable := make(map[string]bool), make(map[string]bool)
	for _, name := range only {
		wanted[name] = true
	}
	for _, s := range c.Settings() {
		if s.Secret || len(only) > 0 && !wanted[s.Name] {
			continue
		}
		usage := s.Help
		if s.Default != "" {
			usage += fmt.Sprintf(" (default %s)", s.Default)
		}
		settable[s.Name] = true
		flags.String(s.Name, "", usage+" ["+s.Env()+"]")
	}
	return func() (app.Config, []settings.Value, error) {
		given := make(map[string]string)
		flags.Visit(func(f *pflag.Flag) {
			if settable[f.Name] {
				given[f.Name] = f.Value.String()
			}
		})
		config, values, err := app.LoadConfig(given, os.Environ(), *file)
		if err != nil {
			err = usageError{err}
		}
		return config, values, err
	}
}
