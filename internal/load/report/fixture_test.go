package report

import (
	"slices"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/resources"
	"gatehouse/internal/machine"
)

// spread records n times from low to high, the more the shorter.
func spread(n int, low, high time.Duration) *load.Distribution {
	d := load.NewDistribution()
	for i := range n {
		share := float64(i) / float64(max(n-1, 1))
		d.Record(low + time.Duration(share*share*share*float64(high-low)))
	}
	return d
}

// binned is times by their bins.
func binned(times ...time.Duration) (all []load.Bin) {
	slices.Sort(times)
	for _, t := range times {
		low := t - t%load.Bin{Low: t}.Width()
		if n := len(all); n == 0 || all[n-1].Low != low {
			all = append(all, load.Bin{Low: low})
		}
		all[len(all)-1].Count++
	}
	return all
}

// pages is what is shown of a run that has just ended.
func pages(r *Run) *Report { return &Report{Summarize(r), r.Seconds} }

// fixture is a plausible run of 60 seconds at 20/s, the same each time:
// sign-ups from many addresses, some from few, and one that timed out.
func fixture() *Run {
	r := &load.Result{
		Started: time.Date(2026, 11, 20, 9, 30, 0, 0, time.UTC), Planned: time.Minute, Elapsed: 60*time.Second + 4*time.Millisecond,
		Scheduled: 1200, Sent: 1200, Answered: 1199, Errors: 1, InFlightAvg: 0.04, InFlightMax: 5,
		Series: []*load.Series{
			{
				Request: "onboard", Key: "201", Name: "created", Kind: load.Success,
				Latency: spread(1079, 1100*time.Microsecond, 9*time.Millisecond), Service: spread(1079, time.Millisecond, 8*time.Millisecond),
			},
			{
				Request: "onboard", Key: "error:timeout", Name: "error:timeout", Kind: load.Failure,
				Latency: spread(1, 10*time.Second, 10*time.Second), Service: spread(1, 10*time.Second, 10*time.Second),
				Example: "no answer within 10s",
			},
			{
				Request: "over_limit", Key: "201", Name: "created", Kind: load.Success,
				Latency: spread(20, 1200*time.Microsecond, 4*time.Millisecond), Service: spread(20, 1100*time.Microsecond, 3900*time.Microsecond),
			},
			{
				Request: "over_limit", Key: "429", Name: "limited", Kind: load.Expected,
				Latency: spread(100, 300*time.Microsecond, 2*time.Millisecond), Service: spread(100, 250*time.Microsecond, 1900*time.Microsecond),
				Example: `{"error":{"code":"RATE_LIMITED","message":"Rate limit exceeded."}}`,
			},
		},
		Lag: spread(1200, 4*time.Microsecond, 210*time.Microsecond),
		Connections: load.Connections{
			Opened: 210, Reused: 990,
			Connect: spread(210, 30*time.Microsecond, 200*time.Microsecond), Handshake: load.NewDistribution(),
			Waiting: spread(1199, 250*time.Microsecond, 8*time.Millisecond), Receiving: spread(1199, 5*time.Microsecond, 90*time.Microsecond),
			Policies: []string{`"onboarding";q=10;w=60`},
		},
		Generator: load.Generator{CPU: 120 * time.Millisecond, MaxRSS: 21 << 20},
	}
	run := &Run{
		ToolVersion: "1.2.3", Plan: "onboarding", PlanHash: "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0",
		Profile: "smoke", Seed: 1, Target: "http://127.0.0.1:8080",
		Stages:  []load.Stage{{Duration: 20 * time.Second, Rate: 20}, {Duration: 40 * time.Second, Rate: 20}},
		Clients: "onboard: 400 loopback addresses; over_limit: 2 loopback addresses", Timeout: 10 * time.Second, Gates: len(fixtureGates()),
		Result: r,
		Environment: Environment{
			Generator: Generator{Facts: fixtureMachine, Go: "go1.26.0", GOMAXPROCS: 2},
			Target: Target{
				Source: "admin listener", SameMachine: true, Facts: &fixtureMachine, Node: "a", Version: "1.2.3", Mode: "dev", Go: "go1.26.0", GOMAXPROCS: 2, Nodes: 1,
				Database: Database{Driver: "sqlite", Version: "3.50.4", Settings: map[string]string{"journal_mode": "wal", "synchronous": "full"}},
				Limits:   map[string]string{"onboarding": "10/60s", "api": "500/3600s"}, Policies: []string{`"onboarding";q=10;w=60`},
			},
		},
		Resources: resources.Usage{Source: "metrics", Why: "it was silent in 1 of 14 readings, the first 35s into the run: no answer", Stages: []resources.Stage{
			{Stage: -1, Memory: &resources.Spent{Avg: 30 << 20, Max: 30 << 20}, Goroutines: &resources.Spent{Avg: 12, Max: 12}, Jobs: &resources.Spent{}},
			{Stage: 0, CPU: &resources.Spent{Avg: 0.123, Max: 0.2}, Memory: &resources.Spent{Avg: 35 << 20, Max: 40 << 20}, Goroutines: &resources.Spent{Avg: 34.667, Max: 1240}, Jobs: &resources.Spent{Avg: 3, Max: 7}},
			{Stage: 2, Memory: &resources.Spent{Avg: 31 << 20, Max: 31 << 20}, OpenFiles: &resources.Spent{Avg: 21, Max: 21}},
		}},
		Notes: []string{"The target shares this machine's processors."},
	}
	for second := range 60 {
		run.Seconds.Add(fixtureSecond(second))
	}
	gates := fixtureGates()
	run.Checks = gate.Evaluate(gates, r)
	comparison, checks := Compare("an-earlier-run", fixtureBaseline(), Summarize(run))
	run.Baseline = comparison
	run.Checks = append(run.Checks, checks...)
	run.Verdict, run.Reasons = gate.Judge(r, gates, run.Checks)
	return run
}

var fixtureMachine = machine.Facts{CPU: "Some CPU @ 2.50GHz", Cores: 2, MemoryBytes: 4 << 30, Kernel: "6.8.0", OS: "linux", Arch: "amd64"}

func fixtureGates() []gate.Gate {
	var gates []gate.Gate
	for _, e := range []string{
		"created.latency.p95 < 100ms", "limited.latency.p95 < 42ms", "failure.share_excl_expected < 0.10", "limited.count > 0", "created.rate > 15",
	} {
		g, err := gate.Parse(e)
		if err != nil {
			panic(err)
		}
		gates = append(gates, g)
	}
	return gates
}

// fixtureBaseline is an earlier run of refusals alone, of which little is known.
func fixtureBaseline() *Summary {
	avg, p50, p90, p95, high := 4.43, 3.76, 5.46, 6.42, 646.68
	return &Summary{
		Schema: Schema, ToolVersion: "k6 v0.54.0", Plan: "onboarding", Notes: []string{"refusals only: no sign-up succeeded"},
		Rate:     Rates{Achieved: 353.77},
		Outcomes: map[string]Outcome{"429": {Name: "limited", Kind: load.Expected, Count: 190973, Latency: Times{Avg: &avg, P50: &p50, P90: &p90, P95: &p95, Max: &high}}},
	}
}

func fixtureSecond(second int) *load.Sample {
	wave := time.Duration(second%7) * 100 * time.Microsecond
	s := &load.Sample{
		Second: second, Rate: 20, Due: 20, Sent: 20, Answered: 20, InFlight: second % 3,
		LagP99: 90*time.Microsecond + wave/10, LagMax: 120*time.Microsecond + wave/5, Opened: int64(max(0, 21-second)),
	}
	if second >= 20 {
		s.Stage = 1
	}
	add := func(request, key, name string, kind load.Kind, n int64, base time.Duration) {
		if n == 0 {
			return
		}
		w := load.Window{Request: request, Key: key, Name: name, Kind: kind, Count: n, P50: base + wave, P95: 3*base + wave, P99: 4*base + 2*wave, Max: 5*base + 3*wave}
		s.Windows = append(s.Windows, w)
		if request != "" {
			s.Spreads = append(s.Spreads, load.Spread{Request: request, Key: key, Bins: binned(append(slices.Repeat([]time.Duration{w.P50}, int(n-1)), w.Max)...)})
		}
	}
	created, over, limited, timeouts := int64(18), int64(2), int64(0), int64(0)
	if second >= 10 { // the first ten seconds fill the few addresses' windows
		over, limited = 0, 2
	}
	if second == 41 {
		created, timeouts = 17, 1
		s.Answered, s.Errors = 19, 1
	}
	add("onboard", "201", "created", load.Success, created, 1500*time.Microsecond)
	add("onboard", "error:timeout", "error:timeout", load.Failure, timeouts, 2*time.Second)
	add("over_limit", "201", "created", load.Success, over, 1500*time.Microsecond)
	add("over_limit", "429", "limited", load.Expected, limited, 400*time.Microsecond)
	add("", "201", "created", load.Success, created+over, 1500*time.Microsecond)
	add("", "429", "limited", load.Expected, limited, 400*time.Microsecond)
	add("", "error:timeout", "error:timeout", load.Failure, timeouts, 2*time.Second)
	return s
}
