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
which two runs of the same software show in at most one of twenty comparisons.
Of a summary alone nothing is known but its figures, and the answer says so.

Exit codes: 0 the gate held; 1 it failed; 2 wrong usage, an unreadable run, or
unlike plans; 3 inconclusive.

  gatehouse load run onboarding --out before
  gatehouse load run onboarding --out after
  gatehouse load compare before after`, strings.Join(baselines.Names(), ", ")),
		Args: exactly("OLD", "NEW"),
	}
	f := c.Flags()
	limit := f.Float64("max-ratio", 2, "how many times as long each percentile may take, above 1")
	out := f.String("out", "", "folder for compare.md and compare.json")
	asJSON := f.Bool("json", false, "print the comparison as JSON")
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
		if *out != "" {
			if err := writeComparison(*out, result); err != nil {
				return err
			}
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

// comparisonTables are what a comparison is told with: where the environments
// differ, and the percentiles.
func comparisonTables(r *compare.Comparison) (unlike, cells table) {
	unlike.header = []string{"UNLIKE", "OLD", "NEW"}
	for _, d := range r.Unlike {
		unlike.add(d.Fact, d.Old, d.New)
	}
	cells.header = []string{"GATE", "LATENCY", "OLD", "NEW", "RATIO", "95 % INTERVAL", "CHANGE"}
	for _, c := range r.Cells {
		interval := "not known"
		if c.Low != nil {
			interval = fmt.Sprintf("%.2f to %.2f", *c.Low, *c.High)
		}
		cells.add(string(c.Verdict), c.Name+" "+c.Stat, gate.Milliseconds.Text(c.Old), gate.Milliseconds.Text(c.New),
			fmt.Sprintf("%.2f", c.Ratio), interval, string(c.Change))
	}
	return unlike, cells
}

// comparisonAnswers are the two, each in a line, and what stands beside them.
func comparisonAnswers(r *compare.Comparison) (lines []string) {
	verdict := string(r.Gate.Verdict)
	if r.SummaryAlone {
		verdict += ", by summary alone"
	}
	lines = append(lines, fmt.Sprintf("gate, below %g times: %s", r.MaxRatio, verdict))
	for _, reason := range r.Gate.Reasons {
		lines = append(lines, "  "+reason)
	}
	if r.Gate.Verdict == gate.Inconclusive && r.Gate.More != nil {
		lines = append(lines, fmt.Sprintf("  about %d more seconds of such a rate, in both runs, would decide it", *r.Gate.More))
	}
	change := string(r.Change.Answer)
	if r.Change.Answer != compare.Unknown {
		change += fmt.Sprintf(" (of %d ratios, corrected for their number; %d s of each run)", r.Change.Of, r.Seconds)
	}
	lines = append(lines, "change: "+change)
	for _, note := range r.Notes {
		lines = append(lines, "note: "+note)
	}
	return lines
}

func printComparison(w io.Writer, r *compare.Comparison, asJSON bool) error {
	if asJSON {
		t := table{json: r}
		return t.print(w, true)
	}
	unlike, cells := comparisonTables(r)
	for _, t := range []table{unlike, cells} {
		if t.rows == nil {
			continue
		}
		if err := t.print(w, false); err != nil {
			return err
		}
		fmt.Fprintln(w)
	}
	for _, line := range comparisonAnswers(r) {
		fmt.Fprintln(w, printable(line))
	}
	return nil
}

// writeComparison writes compare.json and compare.md into a folder that has
// none of them yet.
func writeComparison(dir string, r *compare.Comparison) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // reports are for others to read
		return fmt.Errorf("make a folder for the comparison: %w", err)
	}
	write := func(name string, text func(io.Writer) error) error {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // likewise
		if err != nil {
			return fmt.Errorf("write the comparison: %w", err)
		}
		return errors.Join(text(f), f.Close())
	}
	return errors.Join(
		write("compare.md", func(w io.Writer) error { return markdownComparison(w, r) }),
		write("compare.json", func(w io.Writer) error { return printComparison(w, r, true) }),
	)
}

func markdownComparison(w io.Writer, r *compare.Comparison) error {
	inCell := strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ")
	var b strings.Builder
	fmt.Fprintf(&b, "# %s beside %s\n\n", inCell.Replace(r.New), inCell.Replace(r.Old))
	unlike, cells := comparisonTables(r)
	for _, t := range []table{unlike, cells} {
		if t.rows == nil {
			continue
		}
		for i, row := range append([][]string{t.header, make([]string, len(t.header))}, t.rows...) {
			for j, cell := range row {
				if row[j] = inCell.Replace(cell); i == 1 {
					row[j] = "---"
				}
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
		b.WriteByte('\n')
	}
	for _, line := range comparisonAnswers(r) {
		fmt.Fprintf(&b, "%s- %s\n", line[:len(line)-len(strings.TrimLeft(line, " "))], strings.TrimSpace(inCell.Replace(line)))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
