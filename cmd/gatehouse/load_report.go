package main

import (
	"cmp"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"gatehouse/internal/load/report"
)

func loadReportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "report DIR",
		Short: "Render a run's reports again from what its folder holds",
		Long: `Writes report.md, report.html and junit.xml of a run anew, from the summary.json,
samples.csv and windows.csv in its folder, which stay as they are. Nothing is
measured or judged again.

Exit codes: 0 done, whatever the run's verdict; 1 a page could not be written;
2 wrong usage, or the folder holds no whole run.`,
		Args: exactly("DIR"),
	}
	out := c.Flags().String("out", "", "folder for the pages, without those of another run (default: DIR, where they replace the old ones)")
	c.RunE = func(c *cobra.Command, args []string) error {
		r, err := report.Open(args[0])
		if err != nil {
			return usageError{fmt.Errorf("nothing to render again: %w", err)}
		}
		to := cmp.Or(*out, args[0])
		if filepath.Clean(to) != filepath.Clean(args[0]) {
			if err := report.Folder(to); err != nil {
				return usageError{err}
			}
		}
		if err := report.Render(to, r, report.HTML); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "%s\nreports: %s\n", report.Headline(r.Summary), filepath.Join(to, "report.html"))
		return err
	}
	return c
}
