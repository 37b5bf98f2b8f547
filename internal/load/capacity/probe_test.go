package capacity

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/plan"
	"gatehouse/internal/load/runner"
	"gatehouse/internal/load/script"
)

// of is a plan with gates, against a target.
func of(t *testing.T, target, gates string) runner.Options {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	if gates != "" {
		gates = "gates: [" + gates + "]"
	}
	p, err := plan.Parse("p.yaml", []byte(`name: p
stages: [{duration: 1s, rate: 100}, {duration: 1s, rate: 40}]
requests:
  - {name: one, method: POST, path: /}
  - {name: two, method: POST, path: /, clients: {count: 3, via: forwarded}}
clients: {count: 200, via: source}
outcomes: {full: {status: 503, kind: failure}}
`+gates), plan.Options{Loopback: true})
	if err != nil {
		t.Fatal(err)
	}
	return runner.Options{Plan: p, Targets: []*url.URL{u}, Loopback: true, Progress: io.Discard}
}

// A probe is the plan at one flat rate, with clients for it, and without what
// counts. The plan itself stays as it is.
func TestAt(t *testing.T) {
	o := of(t, "http://127.0.0.1:1", "all.count > 3, all.rate > 1, success.latency.p95 < 5s, failure.share < 0.1")
	o.Script = &script.Options{Plan: o.Plan}
	p := newProber(o)
	got := p.at(250, 15)
	if s := got.Plan.Stages; len(s) != 2 || s[0] != (load.Stage{Duration: time.Millisecond, Rate: 250}) || s[1] != (load.Stage{Duration: 15 * time.Second, Rate: 250}) {
		t.Errorf("stages %v", s)
	}
	if r := got.Plan.Requests; r[0].Clients.Count != 500 || r[1].Clients.Count != 8 || r[1].Clients.Via != load.ViaForwarded {
		t.Errorf("clients %v and %v; want 500, and 8 of 3 × 2.5", r[0].Clients, r[1].Clients)
	}
	if g := got.Plan.Gates; len(g) != 2 || g[0].Measure != gate.Latency || len(p.leftOut) != 2 {
		t.Errorf("gates %v; want no counts", g)
	}
	if got.Script.Plan != got.Plan || o.Script.Plan != o.Plan || o.Plan.Requests[0].Clients.Count != 200 || len(o.Plan.Stages) != 2 || o.Plan.Stages[0].Rate != 100 {
		t.Error("the script has another plan, or the plan was changed")
	}
	if r := p.at(1, 15).Plan.Requests; r[0].Clients.Count != 2 || r[1].Clients.Count != 1 {
		t.Errorf("clients %v and %v; want 2 and 1", r[0].Clients, r[1].Clients)
	}
	if r := p.at(1e6, 15).Plan.Requests; r[0].Clients.Count != load.MaxClients {
		t.Errorf("clients %v; want no more than there may be", r[0].Clients)
	}
	if p.patience != 10 {
		t.Errorf("%g s' worth may wait; want twice what the gate allows", p.patience)
	}
}

// levels are seconds that ended with so many in flight.
func levels(inFlight ...int) (all []*load.Sample) {
	for i, n := range inFlight {
		all = append(all, &load.Sample{Second: i, InFlight: n})
	}
	return all
}

func TestBacklog(t *testing.T) {
	waiting := levels(10, 10, 10, 10, 10, 10)
	waiting[4].Waiting, waiting[5].Waiting = 100, 100
	for _, tt := range []struct {
		name    string
		samples []*load.Sample
		rate    float64
		growth  float64
		grows   bool
	}{
		{"level", levels(10, 10, 10, 10, 10, 10), 100, 0, false},
		{"falling", levels(90, 90, 50, 50, 10, 10), 100, -20, false},
		{"by less than a hundredth", levels(400, 400, 410, 410, 430, 430), 1000, 7.5, false},
		{"by a fiftieth", levels(400, 400, 440, 440, 480, 480), 1000, 20, true},
		{"by a fiftieth, of few: chance", levels(0, 0, 0, 1, 1, 0), 6, 0.125, false},
		{"by a twentieth, of a hundred", levels(2, 7, 12, 17, 22, 27), 100, 5, true},
		{"what could not be sent waits too", waiting, 100, 25, true},
		{"the end, when answers are awaited, is left out", levels(10, 10, 10, 10, 10, 10, 900), 100, 0, false},
		{"too short to tell", levels(1, 500), 100, 0, false},
		{"nothing", nil, 100, 0, false},
	} {
		seconds := min(len(tt.samples), 6)
		if growth, grows := backlog(tt.samples, tt.rate, seconds); growth != tt.growth || grows != tt.grows {
			t.Errorf("%s: %g/s, %v; want %g/s, %v", tt.name, growth, grows, tt.growth, tt.grows)
		}
	}
}

// outcome is so many requests' end, each 10 ms after it was due and 4 ms after it was sent.
func outcome(key string, kind load.Kind, n int) *load.Series {
	s := &load.Series{Request: "one", Key: key, Name: key, Kind: kind, Latency: load.NewDistribution(), Service: load.NewDistribution()}
	for range n {
		s.Latency.Record(10 * time.Millisecond)
		s.Service.Record(4 * time.Millisecond)
	}
	return s
}

func TestJudge(t *testing.T) {
	const p95, share = "success.latency.p95 < 100ms", "failure.share < 0.10"
	late := func(m *runner.Measured) {
		for range 100 {
			m.Result.Lag.Record(time.Second)
		}
	}
	created := func(n int) []*load.Series { return []*load.Series{outcome("201", load.Success, n)} }
	for _, tt := range []struct {
		name    string
		gates   string
		series  []*load.Series
		change  func(*runner.Measured)
		verdict Verdict
		blocked bool
		why     string
	}{
		{"all is well", p95, created(1000), nil, Held, false, ""},
		{"slow", "success.latency.p95 < 5ms", created(1000), nil, Missed, false, "success latency p95 is 10.00 ms: success.latency.p95 < 5ms does not hold"},
		{"failures", share, append(created(800), outcome("500", load.Failure, 200)), nil, Missed, false, "failure share is 20 %"},
		{"failures, and no gate", "", append(created(999), outcome("500", load.Failure, 1)), nil, Missed, false, "1 of 1,000 requests (0.10 %) failed, and no gate"},
		{"too few", p95, created(50), nil, Inconclusive, false, "too few successes"},
		{"none at all", "failure.share < 0.1", []*load.Series{outcome("429", load.Expected, 1000)}, nil, Inconclusive, false, "too few successes"},
		{"the generator is late", p95, created(1000), late, Inconclusive, true, "the generator was the bottleneck: its lag"},
		{"late, and slow by it", "success.latency.p95 < 5ms", created(1000), late, Inconclusive, true, "the generator was the bottleneck: its lag"},
		{"late, and slow without", "failure.share < 0.1, success.latency.p95 < 3ms", created(1000), late, Missed, false, "success service p95 is 4.00 ms: success.latency.p95 < 3ms does not hold, even"},
		{"late, and not fast", "success.latency.p95 > 50m", created(1000), late, Inconclusive, true, "the generator"},
		{"unsent while it answered", p95, created(1000), func(m *runner.Measured) { m.Result.Scheduled, m.Result.Unsent = 1002, 2 }, Inconclusive, true, "the generator was the bottleneck: 2 of 1,002"},
		{"unanswered", p95, created(1000), func(m *runner.Measured) {
			m.Result.Scheduled, m.Result.Sent, m.Result.Errors = 1020, 1020, 20
		}, Missed, false, "only 1,000 of 1,020 requests were answered"},
		{"it grows", p95, created(1000), func(m *runner.Measured) { m.Result.Samples = levels(0, 0, 50, 50, 100, 100) }, Missed, false, "what waits grew by 25.00/s each second"},
		{"hopeless", p95, created(1000), func(m *runner.Measured) {
			m.Result.Interrupted, m.Result.InFlightMax = true, 2345
		}, Missed, false, "it was ended after 6s, with 2,345 requests in flight"},
		{"restarted", p95, created(1000), func(m *runner.Measured) {
			m.Checks = append(m.Checks, gate.Check{Name: "the target stayed up", Unit: gate.Truth, Verdict: gate.Fail})
		}, Missed, false, "the target stayed up: no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			gates := of(t, "http://127.0.0.1:1", tt.gates).Plan.Gates
			r := &load.Result{Planned: 6 * time.Second, Elapsed: 6 * time.Second, Series: tt.series, Samples: levels(5, 5, 5, 5, 5, 5), Lag: load.NewDistribution()}
			for _, s := range tt.series {
				r.Answered += s.Count()
			}
			r.Scheduled, r.Sent = r.Answered, r.Answered
			r.Lag.Record(time.Microsecond)
			m := &runner.Measured{Result: r, Checks: gate.Evaluate(gates, r)}
			if tt.change != nil {
				tt.change(m)
			}
			o := judge(m, gates, 166, 6)
			if o.Verdict != tt.verdict || o.Blocked != tt.blocked || !strings.HasPrefix(o.Why, tt.why) || tt.why == "" && o.Why != "" {
				t.Errorf("%+v; want %s, %v, %q", o, tt.verdict, tt.blocked, tt.why)
			}
			if want := map[bool]float64{true: 10}[tt.name != "too few" && tt.name != "none at all"]; o.P95 != want {
				t.Errorf("p95 is %g ms, want %g", o.P95, want)
			}
		})
	}
}

// counted is a target that takes so many requests of each probe. It is asked for
// its health between them.
func counted(t *testing.T, budget *atomic.Int64) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet:
			http.NotFound(w, r) // as one that has no such thing
		case budget.Add(-1) < 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			w.WriteHeader(http.StatusCreated)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// Over HTTP: a target that has room for 600 requests a second of a probe.
func TestSearchOverHTTP(t *testing.T) {
	const capacity = 600
	var budget atomic.Int64
	p := newProber(of(t, counted(t, &budget), "failure.share <= 0, success.latency.max < 59m"))
	a, probes, err := Search(t.Context(), Options{From: 200, Max: 20_000, Precision: 0.2, Seconds: 0.25}, func(ctx context.Context, rate, seconds float64) (Outcome, error) {
		budget.Store(int64(capacity*seconds) + 2) // and what the ramp brings
		return p.try(ctx, rate, seconds)
	})
	if err != nil {
		t.Fatal(err)
	}
	if a.Verdict != Held || a.Holds > capacity || a.Below <= capacity || a.Below > 1.2*a.Holds {
		t.Errorf("%+v; want %d found\n%+v", a, capacity, probes)
	}
	if !strings.HasPrefix(a.Why, "failure share is") || p.environment.Generator.Go == "" {
		t.Errorf("why: %q, environment %+v", a.Why, p.environment)
	}
}

// What waits for an answer beyond hope ends a probe.
func TestHopeless(t *testing.T) {
	hold := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			<-hold
		}
	}))
	defer s.Close()
	defer close(hold)
	o := of(t, s.URL, "")
	o.Plan.MaxInFlight = 10 // so that this machine keeps its sockets: others wait to be sent
	got, err := newProber(o).try(t.Context(), 3000, 600)
	if err != nil || got.Verdict != Missed || !strings.HasPrefix(got.Why, "it was ended after") {
		t.Errorf("%+v, %v; want it ended, and missed", got, err)
	}
}

// A summary has all that was tried, and so has its report.
func TestRunAndWrite(t *testing.T) {
	var budget atomic.Int64
	budget.Store(1 << 40)
	var progress strings.Builder
	o := of(t, counted(t, &budget), "failure.share <= 0, success.latency.max < 59m, all.count > 10")
	o.Progress = &progress
	s, err := Run(t.Context(), o, Options{From: 200, Max: 200, Precision: 0.05, Seconds: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Write(dir, s); err != nil {
		t.Fatal(err)
	}
	for name, wants := range map[string][]string{
		"summary.json": {`"schema": "gatehouse.capacity/1"`, `"holds_rps": 200`, `"phase": "confirm"`, `"in_flight_slope": 0`, `"headline": "holds 200/s, the most that was tried"`, `"gomaxprocs"`, `"probe_seconds": 0.1`},
		"report.md":    {"holds 200/s, the most that was tried", "all.count \\> 10 was left out", "- failure.share \\<= 0", "| 200/s | 0.2 s | confirm | held |", "| processor |"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(text), want) {
				t.Errorf("%s lacks %q:\n%s", name, want, text)
			}
		}
	}
	if !strings.Contains(progress.String(), "all.count > 10 was left out") {
		t.Errorf("%q; want the gates that are left out told", progress.String())
	}
}
