package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"gatehouse/internal/load"
	"gatehouse/internal/load/compare"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/runner"
	"gatehouse/internal/load/script"
	"gatehouse/internal/load/suite"
	"gatehouse/internal/load/verify"
)

const (
	smoke     = "smoke" // the profile in which limits are verified beside plans, to save time
	maxHealth = 64 << 10
	// A cluster's nodes answer in turn: so often is asked for the one from before.
	healthTries = 16
)

// loadSuite is what the flags of load suite say.
type loadSuite struct {
	loadRun
	baselines string // folder of an earlier suite
	maxRatio  float64
	windows   float64
	due       string
	traffic   float64
}

func loadSuiteCommand() *cobra.Command {
	var l loadSuite
	c := &cobra.Command{
		Use:   "suite",
		Short: "Run all plans, verify all limits, and write one report of it",
		Long: `Runs onboarding, credentials, webhooks and mixed in one profile, verifies the
limits, and writes one report with a section for each question that a release
asks. A part that could not be run fails the suite. The parts' own reports are in
folders of their names below --out; with --baseline each plan is compared with
its run in an earlier suite's folder. Events are signed with
GATEHOUSE_STRIPE_WEBHOOK_SECRETS, which is to be the target's.

In the profile smoke limits are verified while plans run, and once over: that
takes three windows of the longest limit, and 50 seconds. The other profiles run
one thing after the other, and take three quarters of an hour.

--due DIR asks instead whether the suite of that folder is to be run again: 90
days after it, when it was no pass or of a short profile (smoke, gate), or when
--traffic is above what mixed held.

Exit codes: 0 passed (or not due); 1 failed (or due); 2 wrong usage, nothing was
sent; 3 inconclusive; 130 interrupted.

  GATEHOUSE_STRIPE_WEBHOOK_SECRETS=whsec_… gatehouse load suite --profile smoke`,
		Args: exactly(),
	}
	f := c.Flags()
	l.flags(f)
	f.Lookup("out").Usage = "folder for the reports (default load-suite-PROFILE-TIME)"
	f.StringVar(&l.baselines, "baseline", "", "folder of an earlier suite to compare with")
	f.Float64Var(&l.maxRatio, "max-ratio", 2, "how many times as long each percentile may take as in the baseline, above 1")
	f.Float64Var(&l.windows, "windows", 0, "how many windows a policy may take to be verified (default 1 in the profile smoke, else 5)")
	f.StringVar(&l.due, "due", "", "only say whether the suite of this folder is to be run again")
	f.Float64Var(&l.traffic, "traffic", 0, "with --due: today's peak, in requests a second")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if l.due != "" {
			if !(l.traffic >= 0 && l.traffic <= math.MaxFloat64) {
				return usageError{fmt.Errorf("--traffic %g: want 0 or above", l.traffic)}
			}
			return l.isDue(c.OutOrStdout(), time.Now())
		}
		if f.Changed("traffic") {
			return usageError{errors.New("--traffic is asked about with --due DIR; without it a suite is run")}
		}
		l.seeded = f.Changed("seed")
		return l.run(c)
	}
	return c
}

// isDue says whether a suite is to be run again.
func (l *loadSuite) isDue(out io.Writer, now time.Time) error {
	s, err := suite.Read(l.due)
	if err != nil {
		return usageError{err}
	}
	if why := s.Due(now, l.traffic); why != "" {
		return errors.New("a suite is due: " + why)
	}
	fmt.Fprintf(out, "not due before %s, or traffic above %g/s\n", s.ReviewBy.Format(time.DateOnly), s.CoversRate)
	return nil
}

// step is a part that can be run.
type step struct {
	part *suite.Part
	// run reports whether it ran, beside what went wrong; nil: it can't be run, and
	// the part says why.
	run func(context.Context) (ran bool, err error)
}

func (l *loadSuite) run(c *cobra.Command) error {
	targets, _, err := readTargets(l.targets)
	if err != nil {
		return usageError{err}
	}
	if !(l.maxRatio > 1 && l.maxRatio <= highestRatio) {
		return usageError{fmt.Errorf("--max-ratio %g: want above 1, and at most %d", l.maxRatio, highestRatio)}
	}
	if l.out == "" {
		l.out = "load-suite-" + cmp.Or(l.profile, "plain") + "-" + time.Now().UTC().Format("20060102T150405Z")
	}
	if l.baselines != "" {
		if _, err := suite.Read(l.baselines); err != nil {
			return usageError{fmt.Errorf("--baseline: %w", err)}
		}
	}
	steps, err := l.steps(c.ErrOrStderr())
	if err == nil {
		err = l.folders()
	}
	if err != nil {
		return usageError{err}
	}
	for _, st := range steps {
		if st.run == nil {
			fmt.Fprintf(c.ErrOrStderr(), "%s: it can't be run, and so this suite will fail: %s\n", st.part.Name, st.part.Why)
		}
	}
	signal.Ignore(syscall.SIGPIPE) // as load run
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))

	s := &suite.Summary{ToolVersion: version, Profile: l.profile, StartedAt: time.Now().UTC()}
	looked := make([]time.Time, len(targets))
	for i, t := range targets {
		s.Targets = append(s.Targets, t.String())
		s.Health = append(s.Health, suite.Health{Target: t.String(), Before: healthOf(c.Context(), t.JoinPath("health").String())})
		looked[i] = time.Now()
	}
	l.runSteps(c.Context(), steps)
	for i, t := range targets {
		lookAgain(context.WithoutCancel(c.Context()), &s.Health[i], t.JoinPath("health").String(), looked[i])
	}
	s.Interrupted = c.Context().Err() != nil
	for _, st := range steps {
		l.compare(st.part)
		s.Parts = append(s.Parts, st.part)
	}
	s.Seconds = time.Since(s.StartedAt).Seconds()
	s.Conclude()
	written := suite.Write(l.out, s)
	return errors.Join(written, l.concludeSuite(c.OutOrStdout(), s))
}

// folders makes the folder of the reports; it and its parts' are new, so that no
// earlier run is taken for one of this suite.
func (l *loadSuite) folders() error {
	if err := report.Folder(l.out); err != nil {
		return err
	}
	for _, name := range suite.Names() {
		if _, err := os.Lstat(filepath.Join(l.out, name)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s holds %s of an earlier suite: choose another folder with --out, or remove it", l.out, name)
		}
	}
	return nil
}

// steps prepares each part. One that lacks something that has to be given can't
// be run; anything else that is wrong is wrong usage.
func (l *loadSuite) steps(progress io.Writer) (steps []step, err error) {
	v := loadVerify{targets: l.targets, keysFile: l.keysFile, domain: l.domain, out: filepath.Join(l.out, suite.Verify), windows: l.windows, yes: l.yes}
	if v.windows == 0 {
		v.windows = map[bool]float64{true: 1, false: 5}[l.profile == smoke]
	}
	if v.via = string(load.ViaNone); l.via == string(load.ViaForwarded) {
		v.via = l.via
	}
	limits, err := v.options()
	if err != nil {
		return nil, err
	}
	limits.Progress = progress
	proof := step{&suite.Part{Name: suite.Verify, Reasons: []string{}}, func(ctx context.Context) (bool, error) {
		if err := report.Folder(v.out); err != nil {
			return false, err
		}
		s, err := verify.Run(ctx, limits)
		if err != nil {
			return false, err
		}
		return true, verify.Write(v.out, s)
	}}
	if limits.Secret == "" {
		proof.part.Why, proof.run = "events can't be signed: set GATEHOUSE_STRIPE_WEBHOOK_SECRETS to the secret that the target has", nil
	}
	steps = append(steps, proof)
	for _, name := range suite.Names()[1:] {
		plan := l.loadRun
		plan.out = filepath.Join(l.out, name)
		if name != "credentials" {
			plan.keysFile = ""
		}
		o, err := plan.options(name)
		st := step{&suite.Part{Name: name, Reasons: []string{}}, func(ctx context.Context) (bool, error) {
			run, err := runner.Run(ctx, o)
			return run != nil, err
		}}
		if missing, ok := errors.AsType[script.MissingError](err); ok {
			st.part.Why, st.run = missing.Error(), nil
		} else if err != nil {
			return nil, err
		}
		o.Progress = progress
		steps = append(steps, st)
	}
	return steps, nil
}

// runSteps runs the parts, one after the other; in the profile smoke the first,
// which verifies limits, beside those that don't need what it uses up.
func (l *loadSuite) runSteps(ctx context.Context, steps []step) {
	var beside sync.WaitGroup
	for i, st := range steps {
		do := func() {
			if st.run == nil {
				return
			}
			if ctx.Err() != nil {
				st.part.Why = suite.Interrupted
				return
			}
			ran, err := st.run(ctx)
			if ran {
				read := st.part.Read(filepath.Join(l.out, st.part.Name))
				st.part.Ran, err = read == nil, errors.Join(err, read)
			}
			switch {
			case err == nil:
			case !ran && ctx.Err() != nil:
				st.part.Why = suite.Interrupted
			default:
				st.part.Why = err.Error()
			}
		}
		switch {
		case i == 0 && l.profile == smoke:
			beside.Go(do)
		case st.part.Name == "webhooks": // it and what follows need all of stripe_webhook
			beside.Wait()
			do()
		default:
			do()
		}
	}
	beside.Wait()
}

// compare puts a plan's run beside that of an earlier suite.
func (l *loadSuite) compare(p *suite.Part) {
	if l.baselines == "" || p.Name == suite.Verify || !p.Ran {
		return
	}
	before, err := readSide("baseline", filepath.Join(l.baselines, p.Name))
	if err == nil {
		var after compare.Side
		if after, err = readSide("run", filepath.Join(l.out, p.Name)); err == nil {
			p.Comparison, err = compare.Compare(before, after, l.maxRatio)
		}
	}
	if err != nil {
		p.Comparison = &compare.Comparison{Gate: compare.Gate{Verdict: gate.Inconclusive, Reasons: []string{"it can't be compared: " + err.Error()}}}
	}
}

// lookAgain asks the node that was looked at first how it is now.
func lookAgain(ctx context.Context, h *suite.Health, from string, first time.Time) {
	for range healthTries {
		h.Apart = time.Since(first).Seconds()
		if h.After = healthOf(ctx, from); !h.Elsewhere() {
			return
		}
	}
}

// healthOf is what a target says of itself; nil where it says nothing readable.
func healthOf(ctx context.Context, from string) jsontext.Value {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return nil
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxHealth))
	if v := jsontext.Value(text); err == nil && v.IsValid() && v.Compact() == nil {
		return v
	}
	return nil
}

func (l *loadSuite) concludeSuite(out io.Writer, s *suite.Summary) error {
	t := table{header: []string{"PART", "VERDICT", "WHY"}, json: s}
	for _, p := range s.Parts {
		verdict, why := string(p.Verdict), p.Why
		if why == "" && len(p.Reasons) > 0 {
			why = p.Reasons[0]
		}
		if !p.Ran {
			verdict, why = "NOT RUN", p.Why
		}
		if c := p.Comparison; c != nil {
			verdict += ", beside the baseline " + string(c.Gate.Verdict)
			if why == "" && len(c.Gate.Reasons) > 0 {
				why = c.Gate.Reasons[0]
			}
		}
		t.add(p.Name, verdict, why)
	}
	if !l.json {
		fmt.Fprintln(out, s.Headline())
		for _, reason := range s.Reasons {
			fmt.Fprintln(out, "  "+printable(reason))
		}
	}
	_ = t.print(out, l.json)
	if !l.json {
		fmt.Fprintf(out, "reports: %s\n", filepath.Join(l.out, "report.html"))
	}
	switch {
	case s.Interrupted:
		return interrupted{errors.New("interrupted; the reports cover what was run")}
	case s.Verdict == gate.Fail:
		return errors.New("the suite failed")
	case s.Verdict == gate.Inconclusive:
		return inconclusive{errors.New("the suite is inconclusive")}
	}
	return nil
}
