package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/plan"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/resources"
	"gatehouse/internal/load/script"
	"gatehouse/internal/machine"
)

// Options is what a run needs beside its plan.
type Options struct {
	Plan         *plan.Plan
	Targets      []*url.URL // nodes of one service
	Loopback     bool       // they are on this machine
	Admins       []string   // URLs of admin listeners: none, the first target's, or one of each in the targets' order
	Seed         uint64
	Out          string          // folder of the reports
	Baseline     *report.Summary // nil: compare with nothing
	BaselineName string
	ToolVersion  string
	Script       *script.Options    // of a plan that needs one; nil for others
	Watched      []resources.Source // what the target uses, beside its metrics
	Progress     io.Writer
	Terminal     bool // Progress is one: its last line is written over
}

// Run drives a plan and writes its reports. An error means that it could not
// begin (no *report.Run: nothing was sent) or that a report could not be
// written (with it). What the run is worth is in its Verdict.
func Run(ctx context.Context, o Options) (*report.Run, error) {
	files, err := openOut(o.Out)
	if err != nil {
		return nil, err
	}
	defer files.close()
	nodes := o.nodes(ctx)
	run := &report.Run{
		ToolVersion: o.ToolVersion, Plan: o.Plan.Name, PlanHash: o.Plan.Hash, Profile: o.Plan.Profile, Seed: o.Seed,
		Target: o.TargetText(), Stages: o.Plan.Stages, Clients: clientsInWords(o.Plan), Timeout: o.Plan.Timeout, Gates: len(o.Plan.Gates),
	}
	record := newRecord(files.writes, o.Plan)
	played, err := o.prepare(ctx, record.wrote)
	if err != nil {
		return nil, errors.Join(err, files.abandon(ctx, record))
	}
	if played != nil {
		record.script = played
		defer played.Close()
	}
	p := newProgress(o.Progress, o.Terminal, o.Plan)
	p.begin(run, nodes[0].before)
	seconds := writeSeconds(files, o.Plan.Outcomes)
	sources, unwatched := nodes.metrics()
	watch := resources.Begin(ctx, append(sources, o.Watched...)...)
	run.Result, err = load.Run(ctx, o.job(record, func(s *load.Sample) {
		seconds.add(s)
		p.second(s)
	}))
	watch.Stop(ctx)
	failed := seconds.end(ctx, run)
	p.end()
	if err != nil {
		return nil, errors.Join(err, files.abandon(ctx, record))
	}

	run.Resources = watch.Usage(run.Result.Started, run.Result.Elapsed, o.Plan.Stages)
	run.Resources.Why = cmp.Or(run.Resources.Why, unwatched)
	run.Environment, run.Checks = o.look(ctx, nodes, run.Result)
	if played != nil {
		run.Checks = append(run.Checks, played.Checks(ctx, run.Result.Interrupted)...)
		run.Result.Interrupted = ctx.Err() != nil // comparing is part of the run
	}
	told, unwritten := record.end(ctx)
	run.Writes, failed = &told, errors.Join(failed, unwritten)
	if o.Baseline != nil {
		comparison, checks := report.Compare(o.BaselineName, o.Baseline, report.Summarize(run))
		run.Baseline = comparison
		run.Checks = append(run.Checks, checks...)
	}
	run.Verdict, run.Reasons = gate.Judge(run.Result, o.Plan.Gates, run.Checks)
	run.Notes = notes(run, nodes[0].before)
	if played != nil {
		run.Notes = append(run.Notes, played.Notes()...)
	}
	return run, errors.Join(failed, report.Write(o.Out, run, report.HTML))
}

// TargetText is the URLs of all that are called.
func (o *Options) TargetText() string {
	var all []string
	for _, u := range o.Targets {
		all = append(all, u.String())
	}
	return strings.Join(all, ", ")
}

// prepare gives the plan its script, if it needs one.
func (o *Options) prepare(ctx context.Context, wrote func(a *load.Arrival, method, path string, status int)) (*script.Script, error) {
	if o.Script == nil {
		return nil, nil
	}
	o.Script.Progress, o.Script.Wrote = o.Progress, wrote
	played, err := script.Prepare(ctx, *o.Script)
	if err != nil {
		return nil, NotPreparedError{err}
	}
	return played, nil
}

// job is the load of the plan.
func (o *Options) job(s load.Script, observe func(*load.Sample)) *load.Job {
	return &load.Job{
		Targets: o.Targets, Stages: o.Plan.Stages, Requests: o.Plan.Requests, Outcomes: o.Plan.Outcomes,
		MaxInFlight: o.Plan.MaxInFlight, Timeout: o.Plan.Timeout, Seed: o.Seed, Script: s, Observe: observe,
	}
}

// look says, after the load, where it was sent from and to, and how the plan's
// gates stand and those on the targets' processes and addresses.
func (o *Options) look(ctx context.Context, n nodes, r *load.Result) (report.Environment, []gate.Check) {
	checks := append(gate.Evaluate(o.Plan.Gates, r), n.stayedUp(ctx, r.Interrupted)...)
	if check, ok := everyAnswered(r.Targets); ok {
		checks = append(checks, check)
	}
	return report.Environment{
		Generator: report.Generator{Facts: machine.Read(), Go: runtime.Version(), GOMAXPROCS: runtime.GOMAXPROCS(0)},
		Target:    n[0].before.environment(o.Loopback, r.Connections.Policies),
	}, checks
}

// NotPreparedError is why a plan's script could not begin.
type NotPreparedError struct{ error }

func (e NotPreparedError) Unwrap() error { return e.error }

// runFiles are those that a run writes as it goes.
type runFiles struct{ samples, windows, writes *os.File }

func (f runFiles) all() []*os.File { return []*os.File{f.samples, f.windows, f.writes} }

func (f runFiles) close() {
	for _, file := range f.all() {
		_ = file.Close() // they have been synced
	}
}

// abandon takes away what a run that did not begin has no use for. What was
// written for it at the target all the same, such as customers, stays told.
func (f runFiles) abandon(ctx context.Context, r *record) error {
	told, err := r.end(ctx)
	for _, file := range f.all() {
		if file != f.writes || told == 0 {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}
	return err
}

// openOut makes the folder of the reports and the files that are written as
// the run goes.
func openOut(dir string) (f runFiles, err error) {
	if err := report.Folder(dir); err != nil {
		return f, err
	}
	create := func(name string) (f *os.File) {
		if err == nil {
			f, err = os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // reports are for others to read
		}
		return f
	}
	f = runFiles{create(report.SamplesFile), create(report.WindowsFile), create(report.WritesFile)}
	if err != nil {
		f.close()
		return f, fmt.Errorf("write reports: %w", err)
	}
	return f, nil
}

// secondsWriter writes each second to its files from a goroutine of its own:
// the engine tells of it while it holds a lock, and a slow disk must not become
// the target's latency.
type secondsWriter struct {
	seconds chan *load.Sample
	lost    int            // seconds that the disk was too slow for
	kept    report.Seconds // once it ended
	ended   chan error
}

func writeSeconds(f runFiles, outcomes []load.Outcome) *secondsWriter {
	w := &secondsWriter{seconds: make(chan *load.Sample, 4096), ended: make(chan error, 1)} // over an hour
	samples, windows := report.NewSamples(f.samples, outcomes), report.NewWindows(f.windows)
	go func() {
		var inSamples, inWindows error
		for s := range w.seconds {
			w.kept.Add(s)
			if inSamples == nil {
				inSamples = samples.Add(s)
			}
			if inWindows == nil {
				inWindows = windows.Add(s)
			}
		}
		inSamples, inWindows = cmp.Or(inSamples, f.samples.Sync()), cmp.Or(inWindows, f.windows.Sync())
		if inSamples != nil {
			inSamples = fmt.Errorf("%s: %w", report.SamplesFile, inSamples)
		}
		if inWindows != nil {
			inWindows = fmt.Errorf("%s: %w", report.WindowsFile, inWindows)
		}
		w.ended <- errors.Join(inSamples, inWindows)
	}()
	return w
}

func (w *secondsWriter) add(s *load.Sample) {
	select {
	case w.seconds <- s:
	default:
		w.lost++
	}
}

// end waits until all is on disk and gives the run its seconds; when it was
// interrupted it waits for a second.
func (w *secondsWriter) end(ctx context.Context, run *report.Run) error {
	close(w.seconds)
	var err error
	select {
	case err = <-w.ended:
		run.Seconds = w.kept
	case <-afterInterruption(ctx):
		err = fmt.Errorf("%s, %s: the disk took too long", report.SamplesFile, report.WindowsFile)
	}
	if err == nil && w.lost > 0 {
		err = fmt.Errorf("%s, %s: the disk was too slow for %d seconds of the run", report.SamplesFile, report.WindowsFile, w.lost)
	}
	return err
}

// afterInterruption fires a second after an interruption: nothing that may hang
// is waited for any longer then.
func afterInterruption(ctx context.Context) <-chan struct{} {
	late := make(chan struct{})
	context.AfterFunc(ctx, func() { time.AfterFunc(time.Second, func() { close(late) }) })
	return late
}

// clientsInWords says who sends.
func clientsInWords(p *plan.Plan) string {
	text := ""
	var seen []*load.Clients
	for _, r := range p.Requests {
		if slices.Contains(seen, r.Clients) {
			continue
		}
		seen = append(seen, r.Clients)
		if text != "" {
			text += "; "
		}
		switch r.Clients.Via {
		case load.ViaSource:
			text += fmt.Sprintf("%s from %d loopback addresses in turn", r.Name, r.Clients.Count)
		case load.ViaForwarded:
			text += fmt.Sprintf("%s from one address with %d X-Forwarded-For in turn", r.Name, r.Clients.Count)
		default:
			text += r.Name + " from one address"
		}
	}
	return text
}

// noteworthyLag is how late a second's latest request leaves without a word:
// a machine that others share is late by some milliseconds now and then.
const noteworthyLag = 50 * time.Millisecond

// notes are what a reader should know and that decides nothing.
func notes(run *report.Run, before look) []string {
	var all []string
	if before.err != nil {
		all = append(all, "Before the run the target told nothing of itself at /health: "+before.err.Error()+".")
	} else if !before.alive {
		all = append(all, "The target tells no uptime at /health, so it is not known whether it was restarted during the run.")
	}
	if before.adminErr != nil {
		all = append(all, "The target's machine, database and limits are not known: "+before.adminErr.Error()+" (--target-admin says where to ask).")
	}
	if run.Environment.Target.SameMachine {
		all = append(all, "Load and target shared one machine: the latencies hold what the load's own work took from the target.")
	}
	late, worst := 0, time.Duration(0)
	for _, s := range run.Result.Samples {
		if s.LagMax > noteworthyLag {
			late++
			worst = max(worst, s.LagMax)
		}
	}
	if late > 0 {
		all = append(all, fmt.Sprintf("In %d of %d seconds a request left more than %v late, %v at the worst: this machine was busy elsewhere then, and latencies of those seconds hold it.",
			late, len(run.Result.Samples), noteworthyLag, worst.Round(time.Millisecond)))
	}
	return all
}
