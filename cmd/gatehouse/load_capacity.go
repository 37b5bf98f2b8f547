package main

import (
	"errors"
	"fmt"
	"io"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/load"
	"gatehouse/internal/load/capacity"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/runner"
)

// loadCapacity is what the flags of load capacity say.
type loadCapacity struct {
	loadRun
	search    capacity.Options
	probe     time.Duration
	precision string
}

func loadCapacityCommand() *cobra.Command {
	l := loadCapacity{loadRun: loadRun{folder: "load-capacity", baseline: none}}
	c := &cobra.Command{
		Use:   "capacity PLAN",
		Short: "Find the highest rate at which a plan's gates hold",
		Long: fmt.Sprintf(`Tries a plan's requests at one flat rate after another: twice as much until one
does not hold, then between the two, then the answer again in three probes that
are twice as long. A rate holds if the gates on latency and shares do, nearly all
is answered, and what waits does not grow. Gates that count are left out.
Between probes it waits until the target answers /health promptly. Writes
report.md and summary.json to --out.

Exit codes: 0 found and confirmed; 1 not even the first rate holds, or a report
could not be written; 2 wrong usage or plan, nothing was sent; 3 inconclusive:
the generator was the bottleneck, or there were too few samples; 130 interrupted.

With gatehouse serve on this machine, and then its customers are removed:

  gatehouse load capacity onboarding
  gatehouse admin customers purge --domain %s`, loopbackDomain),
		Args: exactly("PLAN"),
	}
	l.flags(c.Flags())
	f := c.Flags()
	f.Float64Var(&l.search.From, "from", 0, "the first `RATE` to try, a second (default: a tenth of the plan's highest, at least 1)")
	f.Float64Var(&l.search.Max, "max", 20_000, "the highest `RATE` to try, a second")
	f.DurationVar(&l.probe, "probe", 15*time.Second, "how long to try a rate, at least; under 3s it can't be told whether a backlog grows")
	f.StringVar(&l.precision, "precision", "5%", "how wide the range of the answer may be")
	c.RunE = func(c *cobra.Command, args []string) error {
		o, err := l.prepare(c, args[0])
		if err != nil {
			return usageError{err}
		}
		signal.Ignore(syscall.SIGPIPE) // as load run
		if l.search.Max <= oneProcessor {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		}
		l.search.Told = func(p capacity.Probe, more int) { tellProbe(o.Progress, p, more) }
		s, err := capacity.Run(c.Context(), o, l.search)
		switch _, unprepared := errors.AsType[runner.NotPreparedError](err); {
		case s == nil && c.Context().Err() != nil:
			return interrupted{errors.New("interrupted before any rate was tried")}
		case s == nil && unprepared:
			return fmt.Errorf("the first probe could not be prepared: %w", err)
		case s == nil:
			return usageError{err}
		}
		concluded := l.conclude(c.OutOrStdout(), s, o.Out)
		if err := capacity.Write(o.Out, s); err != nil {
			return errors.Join(err, concluded)
		}
		return concluded
	}
	return c
}

// prepare checks all that can be wrong before anything is sent.
func (l *loadCapacity) prepare(c *cobra.Command, name string) (o runner.Options, err error) {
	l.seeded = c.Flags().Changed("seed")
	if o, err = l.options(name); err != nil {
		return o, err
	}
	o.Progress = c.ErrOrStderr()
	s := &l.search
	s.Seconds = l.probe.Seconds()
	if !c.Flags().Changed("from") {
		s.From = min(max(1, o.Plan.Peak()/10), s.Max)
	}
	text, percent := strings.CutSuffix(l.precision, "%")
	s.Precision, err = strconv.ParseFloat(text, 64)
	if percent {
		s.Precision /= 100
	}
	switch {
	case err != nil || !(s.Precision >= 0.01 && s.Precision <= 0.5):
		return o, fmt.Errorf("--precision %q: want 1%% to 50%%", l.precision)
	case !(s.Max >= 1 && s.Max <= load.MaxRate):
		return o, fmt.Errorf("--max %g: want 1 to %d requests a second", s.Max, load.MaxRate)
	case !(s.From >= 1 && s.From <= s.Max):
		return o, fmt.Errorf("--from %g: want 1 to --max, %g requests a second", s.From, s.Max)
	case l.probe < time.Second || l.probe > 10*time.Minute:
		return o, fmt.Errorf("--probe %v: want 1s to 10m", l.probe)
	}
	return o, report.Folder(o.Out)
}

// tellProbe says in a line how a probe went.
func tellProbe(w io.Writer, p capacity.Probe, more int) {
	fmt.Fprintf(w, "%s: %g/s for %gs %s", p.Phase, p.Rate, p.Seconds, p.Verdict)
	if p.P95 > 0 {
		fmt.Fprintf(w, ", p95 %.2f ms", p.P95)
	}
	fmt.Fprintf(w, ", %.1f/s answered, what waits %+.2f/s", p.Answered, p.Growth)
	if p.Why != "" {
		fmt.Fprintf(w, ": %s", printable(p.Why))
	}
	if more > 0 {
		fmt.Fprintf(w, "; likely %d more", more)
	}
	fmt.Fprintln(w)
}

// conclude prints the answer and turns it into an exit code.
func (l *loadCapacity) conclude(out io.Writer, s *capacity.Summary, dir string) error {
	if l.json {
		t := table{json: s}
		_ = t.print(out, true)
	} else {
		fmt.Fprintf(out, "%s\nreport: %s\n", printable(s.Headline), filepath.Join(dir, "report.md"))
	}
	switch {
	case s.Interrupted:
		return interrupted{errors.New("interrupted; the reports cover what was tried")}
	case s.Answer.Verdict == capacity.Missed:
		return errors.New("not even the first rate holds")
	case s.Answer.Verdict == capacity.Inconclusive:
		return inconclusive{errors.New("the capacity could not be told")}
	}
	return nil
}
