package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"gatehouse/baselines"
	"gatehouse/internal/load/compare"
	"gatehouse/internal/load/foreign"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

// highestRatio bounds --max-ratio: beyond it nothing would fail.
const highestRatio = 1000

func loadCompareCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "Compare two runs: is the new one slow enough to fail, and is it different at all",
		Long: fmt.Sprintf(`Compares two runs of one plan. Each is the folder of a run, a summary.json, a
summary of k6 or vegeta, or one of those inside: %s.

Of each outcome that succeeded or was expected it gives the ratio NEW/OLD of p50,
p90, p95 and p99 with a 95 %% interval, drawn from the seconds of both runs in
which the rate was steady. Then two answers: the gate, whether all ratios are
certainly below --max-ratio, and the change, whether any differs from 1 at all,
and by more than either run differs from itself. In waves longer than the runs a
change may be found where there is none: repeat both, in turns. The gate is
inconclusive where a run did not pass itself or requests come to something else.
Of a summary alone nothing is known but its figures, and the answer says so.

Exit codes: 0 the gate held; 1 it failed; 2 wrong usage, an unreadable run, or
unlike plans; 3 inconclusive.

  gatehouse load run onboarding --out before
  gatehouse load run onboarding --out after
  gatehouse load compare before after`, strings.Join(baselines.Names(), ", ")),
		Args: exactly("OLD", "NEW"),
	}
	limit := c.Flags().Float64("max-ratio", 2, "how many times as long each percentile may take, above 1")
	asJSON := jsonFlag(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if !(*limit > 1 && *limit <= highestRatio) {
			return usageError{fmt.Errorf("--max-ratio %g: want above 1, and at most %d", *limit, highestRatio)}
		}
		var sides [2]compare.Side
		for i, name := range args {
			var err error
			if sides[i], err = readSide("run", name); err != nil {
				return usageError{err}
			}
		}
		result, err := compare.Compare(sides[0], sides[1], *limit)
		if err != nil {
			return usageError{err}
		}
		if err := printComparison(c.OutOrStdout(), result, *asJSON); err != nil {
			return err
		}
		switch result.Gate.Verdict {
		case gate.Pass:
			return nil
		case gate.Fail:
			return errors.New("the gate failed")
		default:
			return inconclusive{errors.New("the comparison is inconclusive")}
		}
	}
	return c
}

// readSide finds a run: one inside of that name, a run's folder, or a file.
func readSide(what, name string) (side compare.Side, err error) {
	side.Name = filepath.Clean(name)
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		side.Summary, side.Windows, err = report.ReadFolder(name)
		if err != nil {
			return side, fmt.Errorf("%s: %w", what, err)
		}
		return side, nil
	}
	text, ok := baselines.Named(name)
	if !ok {
		if text, err = readBeside(what, name, baselines.Names(), "another is a run's folder, or the path of a summary.json or of a summary of k6 or vegeta"); err != nil {
			return side, err
		}
	}
	if side.Summary, err = foreign.Read(text); err != nil {
		return side, fmt.Errorf("%s %s: %w", what, filepath.Base(name), err)
	}
	return side, nil
}

// printComparison tells where the environments differ, then the percentiles,
// then both answers, each in a line.
func printComparison(w io.Writer, r *compare.Comparison, asJSON bool) error {
	if asJSON {
		t := table{json: r}
		return t.print(w, true)
	}
	unlike, cells := table{header: []string{"UNLIKE", "OLD", "NEW"}}, table{header: []string{"GATE", "LATENCY", "OLD", "NEW", "RATIO", "95 % INTERVAL", "CHANGE"}}
	for _, d := range r.Unlike {
		unlike.add(d.Fact, d.Old, d.New)
	}
	for _, c := range r.Cells {
		interval := "not known"
		if c.Low != nil {
			interval = fmt.Sprintf("%.2f to %.2f", *c.Low, *c.High)
		}
		cells.add(string(c.Verdict), c.Name+" "+c.Stat, gate.Milliseconds.Text(c.Old), gate.Milliseconds.Text(c.New), fmt.Sprintf("%.2f", c.Ratio), interval, string(c.Change))
	}
	for _, t := range []table{unlike, cells} {
		if t.rows == nil {
			continue
		}
		if err := t.print(w, false); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	say := func(format string, args ...any) {
		fmt.Fprintln(w, printable(fmt.Sprintf(format, args...)))
	}
	alone := ""
	if r.SummaryAlone {
		alone = ", by summary alone"
	}
	say("gate, below %g times: %s%s", r.MaxRatio, r.Gate.Verdict, alone)
	for _, reason := range r.Gate.Reasons {
		say("  %s", reason)
	}
	if r.Gate.Verdict == gate.Inconclusive && r.Gate.More != nil {
		say("  about %d more seconds of such a rate, in both runs, would decide it", *r.Gate.More)
	}
	of := ""
	if r.Change.Answer != compare.Unknown {
		of = fmt.Sprintf(" (of %d ratios, corrected for their number; %d s of each run)", r.Change.Of, r.Seconds)
	}
	say("change: %s%s", r.Change.Answer, of)
	for _, note := range r.Notes {
		say("note: %s", note)
	}
	return nil
}
