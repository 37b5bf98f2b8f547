package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"gatehouse/internal/load/report"
	"gatehouse/internal/load/suite"
	"gatehouse/internal/load/verify"
)

// maxSummaryFile is the longest summary.json that is looked into, in bytes.
const maxSummaryFile = 64 << 20

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
		again := map[string]func(string) error{suite.Schema: suite.Render, verify.Schema: verify.Render}[schemaOf(args[0])]
		if again != nil && *out != "" {
			return usageError{errors.New("--out is for the folder of a load run: a suite's and a verification's pages are rendered where they are")}
		}
		if again != nil {
			if err := again(args[0]); err != nil {
				return usageError{fmt.Errorf("nothing to render again: %w", err)}
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "reports: %s\n", filepath.Join(args[0], "report.html"))
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

// schemaOf is what a folder's summary.json says it is; "" where it says nothing
// that can be read.
func schemaOf(dir string) string {
	var s struct {
		Schema string `json:"schema"`
	}
	text, err := report.ReadBounded(filepath.Join(dir, "summary.json"), maxSummaryFile)
	if err != nil || json.Unmarshal(text, &s) != nil {
		return ""
	}
	return s.Schema
}
