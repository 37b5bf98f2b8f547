package main

import (
	"cmp"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"gatehouse/internal/load/report"
	"gatehouse/internal/load/suite"
)

func loadReportCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "report DIR",
		Short: "Render the reports of a run or a suite again from what its folder holds",
		Long: `Writes report.md, report.html and junit.xml of a run anew, from the summary.json,
samples.csv and windows.csv in its folder, which stay as they are; those of a
suite from its summary.json and its parts'. Nothing is measured or judged again.

Exit codes: 0 done, whatever the run's verdict; 1 a page could not be written;
2 wrong usage, or the folder holds no whole run.`,
		Args: exactly("DIR"),
	}
	out := c.Flags().String("out", "", "folder for the pages, without those of another run (default: DIR, where they replace the old ones)")
	c.RunE = func(c *cobra.Command, args []string) error {
		if s, err := suite.Read(args[0]); err == nil && *out == "" {
			if err := suite.Render(args[0]); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "%s\nreports: %s\n", s.Headline(), filepath.Join(args[0], "report.html"))
			return err
		}
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
