package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"gatehouse/internal/fault"
	"gatehouse/internal/nearest"
)

// version is set by the build.
var version = "dev"

// The exit codes of the contract.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnknown     = 3
	exitInterrupted = 130
)

// usageError is a wrong flag, command, argument or setting: nothing was done.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// inconclusive is a load run that did not measure what it set out to.
type inconclusive struct{ error }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program but for the process: it returns the exit code.
func run(args []string, out, errOut io.Writer) int {
	ctx, stop := interruptible(errOut)
	defer stop()
	root := newRoot(out, errOut)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	text := err.Error()
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Err == nil {
		text = f.Message
	}
	for line := range strings.SplitSeq(text, "\n") {
		fmt.Fprintln(errOut, "gatehouse: "+line)
	}
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintln(errOut, "gatehouse: see gatehouse --help, or --help after a command")
		return exitUsage
	}
	if errors.Is(err, context.Canceled) { // nothing but a signal cancels
		return exitInterrupted
	}
	if _, ok := err.(inconclusive); ok { //nolint:errorlint // joined with another error it is a failure
		return exitUnknown
	}
	return exitFailed
}

// interruptible returns a context that the first SIGINT or SIGTERM ends; the
// second ends the process at once.
func interruptible(errOut io.Writer) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		<-signals
		cancel()
		<-signals
		told := make(chan struct{})
		go func() {
			defer close(told)
			fmt.Fprintln(errOut, "gatehouse: stopped at once by a second signal")
		}()
		select {
		case <-told:
		case <-time.After(100 * time.Millisecond): // nobody reads it
		}
		os.Exit(exitInterrupted)
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}

func newRoot(out, errOut io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "gatehouse",
		Short: "The front door: sign-up, API keys, credits and exact rate limits",
		Long: `Gatehouse signs customers up, gives them API keys, keeps their credits and
holds exact rate limits. One binary; SQLite inside, or PostgreSQL for many nodes.

Settings come from flags, then GATEHOUSE_… variables, then a YAML file
(--config), then defaults; gatehouse config shows the effective ones.

Exit codes: 0 done, 1 failed, 2 wrong usage, settings or plan, 3 inconclusive
(a load run), 130 interrupted.`,
		Args:          noUnknownCommand,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	root.SetOut(out)
	root.SetErr(errOut)
	root.SetVersionTemplate("gatehouse {{.Version}}\n")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w%s", err, nearestFlag(c, err))}
	})
	root.SetHelpCommand(helpCommand())
	root.AddCommand(serveCommand(), migrateCommand(), configCommand(), catalogueCommand(), adminCommand(), loadCommand(), stripeSimCommand(), openapiCommand(), versionCommand())
	return root
}

// helpCommand is cobra's, but for topics that there are not: a mistake.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Help about any command",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = noUnknownCommand(about, rest)
			}
			if err != nil {
				return err
			}
			return about.Help()
		},
	}
}

// noUnknownCommand is the Args of a command that only has commands below it.
func noUnknownCommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, sub := range c.Commands() {
		names = append(names, sub.Name())
	}
	return usageError{fmt.Errorf("unknown command %q for %q%s", args[0], c.CommandPath(), nearest.DidYouMean(args[0], names))}
}

// group is a command that only has commands below it.
func group(use, short string, below ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: noUnknownCommand, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(below...)
	return c
}

// exactly is cobra.ExactArgs with an exit code of its own.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != len(names) {
			return usageError{fmt.Errorf("%s takes %d argument(s): %s", c.CommandPath(), len(names), strings.Join(names, " "))}
		}
		return nil
	}
}

func nearestFlag(c *cobra.Command, err error) string {
	e, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return ""
	}
	var names []string
	add := func(f *pflag.Flag) { names = append(names, "--"+f.Name) }
	c.Flags().VisitAll(add)
	c.InheritedFlags().VisitAll(add)
	return nearest.DidYouMean("--"+e.GetSpecifiedName(), names)
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print which build this is", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			goVersion := ""
			if info, ok := debug.ReadBuildInfo(); ok {
				goVersion = " " + info.GoVersion
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "gatehouse %s%s\n", version, goVersion)
			return err
		},
	}
}
