package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"gatehouse/baselines"
	"gatehouse/internal/account/email"
	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/plan"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/resources"
	"gatehouse/internal/load/runner"
	"gatehouse/internal/load/script"
	"gatehouse/internal/nearest"
	"gatehouse/plans"
)

const (
	// The domain that sign-ups of a run on loopback get: a server that listens on
	// loopback takes it for a load test's by default, and .internal is nobody's.
	loopbackDomain = "load.gatehouse.internal"
	// One processor is enough to send so many requests a second, and cheaper: no
	// thread then wakes another.
	oneProcessor = 30_000
	maxPlanFile  = 1 << 20
	none         = "none"
)

// loadRun is what the flags of load run say.
type loadRun struct {
	targets            []string
	targetAdmin        []string
	profile, out       string
	folder             string // how a folder's name begins where out is none
	baseline           string
	seed               uint64
	domain, via        string
	keysFile, provider string
	pid                int
	yes, json          bool
	seeded             bool
}

func loadRunCommand() *cobra.Command {
	l := loadRun{folder: "load"}
	c := &cobra.Command{
		Use:   "run PLAN",
		Short: "Run a plan and write its reports",
		Long: fmt.Sprintf(`Runs a plan, a YAML file or one of those inside: %s.
Writes summary.json, report.md, report.html, junit.xml, samples.csv, windows.csv
and writes.csv to --out.

credentials, webhooks and mixed sign customers up before the run, and afterwards
compare what the target says with what must have happened. Tokens are used
through the gateway, behind which this command plays the provider Ollama;
events are signed with GATEHOUSE_STRIPE_WEBHOOK_SECRETS.

Requests are sent when they are due, whether or not earlier ones have been
answered. Ctrl-C ends a run with reports of what was measured; a second one ends
it at once.

Exit codes: 0 the plan's gates held; 1 a gate failed, the run could not be
prepared, or a report not be written; 2 wrong usage or plan, nothing was sent; 3 inconclusive; 130 interrupted.

A first run, with gatehouse serve on this machine:

  gatehouse load run onboarding --profile smoke
  gatehouse admin customers purge --domain %s`, strings.Join(plans.Names(), ", "), loopbackDomain),
		Args: exactly("PLAN"),
	}
	f := c.Flags()
	l.flags(f)
	f.IntVar(&l.pid, "target-pid", 0, "process of the target, on this machine, whose processor time and memory are reported (Linux)")
	f.StringVar(&l.baseline, "baseline", "", "earlier run to compare with: its folder, its summary.json, a summary of k6 or vegeta, or one of "+strings.Join(baselines.Names(), ", ")+"; none: compare with nothing (default: what the plan says)")
	c.RunE = func(c *cobra.Command, args []string) error {
		l.seeded = c.Flags().Changed("seed")
		o, err := l.options(args[0])
		if err != nil {
			return usageError{err}
		}
		o.Progress = c.ErrOrStderr()
		if file, ok := o.Progress.(*os.File); ok {
			o.Terminal = term.IsTerminal(int(file.Fd()))
		}
		// A run must not die of a reader that has left: it still has its reports.
		signal.Ignore(syscall.SIGPIPE)
		if o.Plan.Peak() <= oneProcessor {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		}
		run, err := runner.Run(c.Context(), o)
		if run == nil && c.Context().Err() != nil {
			return err
		}
		if _, ok := errors.AsType[runner.NotPreparedError](err); ok {
			if _, kept := os.Stat(filepath.Join(o.Out, report.WritesFile)); kept == nil {
				err = fmt.Errorf("%w; what the target had acknowledged by then is kept in %s, so give the next try another --out", err, o.Out)
			}
			return fmt.Errorf("the run could not be prepared: %w", err)
		}
		if run == nil {
			return usageError{err}
		}
		concluded := l.conclude(c.OutOrStdout(), run, o.Out)
		if err != nil {
			return errors.Join(err, concluded)
		}
		return concluded
	}
	return c
}

// flags are those that all commands have that run plans.
func (l *loadRun) flags(f *pflag.FlagSet) {
	f.StringSliceVar(&l.targets, "target", []string{"http://127.0.0.1:8080"}, "URL of the API; of several nodes, by comma, requests go to each in turn")
	f.StringSliceVar(&l.targetAdmin, "target-admin", nil, "URL of the target's admin listener, which tells its machine, database, limits and what it uses; of several targets each one's, by comma; none: don't ask (default on loopback http://127.0.0.1:9090)")
	f.StringVar(&l.profile, "profile", "", "one of the plan's profiles; those inside have smoke, gate, staging, production and reference")
	f.StringVar(&l.out, "out", "", "folder for the reports (default "+l.folder+"-PLAN-PROFILE-TIME)")
	f.Uint64Var(&l.seed, "seed", 0, "decides which request an arrival is, and what it picks (default: a random one)")
	f.StringVar(&l.domain, "email-domain", "", "fills {{domain}}; needed off loopback (default on loopback "+loopbackDomain+")")
	f.StringVar(&l.via, "clients-via", "", "how the plan's clients are told apart, instead of what it says: source (loopback addresses), forwarded (X-Forwarded-For, for a target that trusts this machine as a proxy) or none")
	f.StringVar(&l.keysFile, "keys-file", "", "API keys, one a line, for plans that exchange them (default: customers sign up for the run)")
	f.StringVar(&l.provider, "provider-listen", "127.0.0.1:11434", "where to listen as the provider Ollama, which is the target's GATEHOUSE_OLLAMA_BASE_URL; none: don't")
	f.BoolVar(&l.yes, "yes", false, "send load to a target off loopback")
	f.BoolVar(&l.json, "json", false, "print the summary as JSON")
}

// options checks all that can be wrong before anything is sent.
func (l *loadRun) options(name string) (o runner.Options, err error) {
	o = runner.Options{ToolVersion: version, Seed: l.seed, Out: l.out}
	if o.Targets, o.Loopback, err = readTargets(l.targets); err != nil {
		return o, err
	}
	target := o.Targets[0]
	if len(o.Targets) > 1 && slices.ContainsFunc(o.Targets, func(u *url.URL) bool { return u.Scheme != "http" || u.Path != target.Path }) {
		return o, errors.New("several targets are called over http, and by one path: give a balancer's URL otherwise")
	}
	if l.domain == "" && o.Loopback {
		l.domain = loopbackDomain
	}
	if !o.Loopback {
		var missing []string
		if !l.yes {
			missing = append(missing, "--yes, which says that it may be loaded")
		}
		if l.domain == "" {
			missing = append(missing, "--email-domain, a domain of yours that its GATEHOUSE_LOAD_TEST_DOMAINS has, so that nobody gets mail")
		}
		if len(missing) > 0 {
			return o, fmt.Errorf("%s is not on this machine: add %s", target, strings.Join(missing, ", and "))
		}
	}
	if l.domain != "" {
		if _, err := email.ParseDomain(l.domain); err != nil {
			return o, fmt.Errorf("--email-domain %w", err)
		}
	}
	if ways := []string{string(load.ViaSource), string(load.ViaForwarded), string(load.ViaNone)}; l.via != "" && !slices.Contains(ways, l.via) {
		return o, fmt.Errorf("--clients-via %q: want source, forwarded or none%s", l.via, nearest.DidYouMean(l.via, ways))
	}
	file, text, err := readPlan(name)
	if err != nil {
		return o, err
	}
	if o.Plan, err = plan.Parse(file, text, plan.Options{
		Profile: l.profile, Domain: l.domain, Loopback: o.Loopback, Via: load.Via(l.via), Getenv: os.LookupEnv, Given: script.Places(),
	}); err != nil {
		return o, err
	}
	if script.Needed(o.Plan) {
		o.Script = &script.Options{Target: target, Plan: o.Plan, Loopback: o.Loopback, Domain: l.domain, Secret: webhookSecret(), Provider: l.provider}
		if l.provider == none {
			o.Script.Provider = ""
		}
		if o.Script.Keys, err = readKeys(l.keysFile); err != nil {
			return o, err
		}
		if err := o.Script.Check(); err != nil {
			return o, err
		}
	}
	if o.Admins, err = l.readAdmins(len(o.Targets), o.Loopback); err != nil {
		return o, fmt.Errorf("--target-admin: %w", err)
	}
	if l.pid != 0 {
		process, err := resources.Process(l.pid)
		if err != nil {
			return o, fmt.Errorf("--target-pid: %w", err)
		}
		o.Watched = append(o.Watched, process)
	}
	if !l.seeded {
		o.Seed = uint64(uint32(time.Now().UnixNano())) // short enough to be typed
	}
	if o.Out == "" {
		o.Out = strings.Join([]string{l.folder, o.Plan.Name, cmp.Or(o.Plan.Profile, "plain"), time.Now().UTC().Format("20060102T150405Z")}, "-")
	}
	o.BaselineName = cmp.Or(l.baseline, o.Plan.Baseline)
	if o.BaselineName != "" && o.BaselineName != none {
		o.Baseline, err = readBaseline(o.BaselineName)
	}
	return o, err
}

// readTarget reads the URL of an API, and says whether it is on this machine.
func readTarget(text string) (target *url.URL, loopback bool, err error) {
	target, err = url.Parse(text)
	switch {
	case err != nil || target.Scheme != "http" && target.Scheme != "https" || target.Hostname() == "":
		return nil, false, fmt.Errorf("the target %q is no URL of an API: want http://HOST:PORT or https://HOST", text)
	case target.User != nil:
		return nil, false, errors.New("the target's URL has a user or password: it would stand in reports; put it in the plan as a header with {{env NAME}}")
	case target.RawPath != "":
		return nil, false, fmt.Errorf("the target %q has an escaped path: write it in the plan's paths", text)
	case target.RawQuery != "" || target.Fragment != "":
		return nil, false, fmt.Errorf("the target %q has a query or fragment: they belong to the plan's paths", text)
	}
	target = &url.URL{Scheme: target.Scheme, Host: target.Host, Path: strings.TrimRight(target.Path, "/")}
	addr, err := netip.ParseAddr(target.Hostname())
	return target, target.Hostname() == "localhost" || err == nil && addr.Unmap().IsLoopback(), nil
}

// readTargets reads the URLs of nodes, and says whether they are on this machine.
func readTargets(texts []string) (targets []*url.URL, loopback bool, err error) {
	away := 0
	for _, text := range texts {
		target, local, err := readTarget(text)
		if err != nil {
			return nil, false, err
		}
		if slices.ContainsFunc(targets, func(u *url.URL) bool { return *u == *target }) {
			return nil, false, fmt.Errorf("--target has %s twice", target)
		}
		if !local {
			away++
		}
		targets = append(targets, target)
	}
	switch {
	case len(targets) == 0:
		return nil, false, errors.New("--target is empty")
	case away > 0 && away < len(targets):
		return nil, false, errors.New("some targets are on this machine and some are not: they would see one client at two addresses")
	}
	return targets, away == 0, nil
}

// readAdmins reads the URLs of the targets' admin listeners.
func (l *loadRun) readAdmins(targets int, loopback bool) (admins []string, err error) {
	switch {
	case len(l.targetAdmin) == 0 && loopback:
		return []string{"http://127.0.0.1:9090"}, nil
	case len(l.targetAdmin) == 1 && l.targetAdmin[0] == none:
		return nil, nil
	case len(l.targetAdmin) > 1 && len(l.targetAdmin) != targets:
		return nil, fmt.Errorf("of %d targets there are %d listeners: want the first one's, or each one's in their order", targets, len(l.targetAdmin))
	}
	for _, text := range l.targetAdmin {
		admin, _, err := readTarget(text)
		if err != nil {
			return nil, err
		}
		admins = append(admins, admin.String())
	}
	return admins, nil
}

// readPlan finds a plan: one inside of that name, otherwise a file.
func readPlan(name string) (file string, text []byte, err error) {
	if text, ok := plans.Named(name); ok {
		return name + ".yaml", text, nil
	}
	text, err = readBeside("plan", name, plans.Names(), "a file is given by its path")
	return name, text, err
}

// readBaseline finds an earlier run's summary in the same way.
func readBaseline(name string) (*report.Summary, error) {
	side, err := readSide("baseline", name)
	return side.Summary, err
}

// readKeys reads API keys, one a line; none without a file.
func readKeys(file string) ([]string, error) {
	if file == "" {
		return nil, nil
	}
	text, err := report.ReadBounded(file, maxPlanFile)
	keys := strings.Fields(string(text))
	switch {
	case err != nil:
		return nil, fmt.Errorf("--keys-file: %w", err)
	case len(keys) == 0:
		return nil, fmt.Errorf("--keys-file %s has no keys", file)
	}
	return keys, nil
}

// webhookSecret is what events are signed with: the first of those set.
func webhookSecret() string {
	first, _, _ := strings.Cut(os.Getenv("GATEHOUSE_STRIPE_WEBHOOK_SECRETS"), ",")
	return strings.TrimSpace(first)
}

// readBeside reads a file that is meant where nothing inside has its name.
func readBeside(what, name string, inside []string, otherwise string) ([]byte, error) {
	text, err := report.ReadBounded(name, maxPlanFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s %q%s; inside are %s, and %s", what, name, nearest.DidYouMean(name, inside), strings.Join(inside, ", "), otherwise)
	}
	if err != nil {
		return nil, fmt.Errorf("read the %s: %w", what, err)
	}
	return text, nil
}

// interrupted is a run that a signal ended.
type interrupted struct{ error }

// Unwrap makes it exit as what a signal ends.
func (interrupted) Unwrap() error { return context.Canceled }

// conclude prints the result and turns it into an exit code. What can't be
// printed is in the reports.
func (l *loadRun) conclude(out io.Writer, run *report.Run, dir string) error {
	s := report.Summarize(run)
	if l.json {
		if text, err := s.JSON(); err == nil {
			_, _ = out.Write(text)
		}
	} else {
		fmt.Fprintln(out, report.Headline(s))
		for _, reason := range run.Reasons {
			fmt.Fprintln(out, "  "+printable(reason))
		}
		if most := report.MostFailures(s); most != "" {
			fmt.Fprintln(out, "  "+printable(most))
		}
		t := table{header: []string{"", "GATE", "OBSERVED"}}
		for _, c := range run.Checks {
			observed := "not known"
			if c.Observed != nil {
				observed = c.Unit.Text(*c.Observed)
			}
			t.add(string(c.Verdict), c.Expression, observed)
		}
		_ = t.print(out, false)
		fmt.Fprintf(out, "reports: %s\n", filepath.Join(dir, "report.html"))
	}
	switch {
	case run.Result.Interrupted:
		return interrupted{fmt.Errorf("interrupted after %s; the reports cover what was sent", run.Result.Elapsed.Round(time.Second))}
	case run.Verdict == gate.Fail:
		return errors.New("the run failed")
	case run.Verdict == gate.Inconclusive:
		return inconclusive{errors.New("the run is inconclusive")}
	}
	return nil
}
