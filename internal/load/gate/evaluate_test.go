package gate_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// times records n times, all alike.
func times(n int, each time.Duration) *load.Distribution {
	d := load.NewDistribution()
	for range n {
		d.Record(each)
	}
	return d
}

func series(request, key, name string, kind load.Kind, n int, each time.Duration) *load.Series {
	return &load.Series{Request: request, Key: key, Name: name, Kind: kind, Latency: times(n, each), Service: times(n, each/2)}
}

func created(n int) *load.Series {
	return series("onboard", "201", "created", load.Success, n, 5*time.Millisecond)
}

func limited(n int) *load.Series {
	return series("over_limit", "429", "limited", load.Expected, n, time.Millisecond)
}

func refused(n int) *load.Series {
	return series("onboard", "error:connect", "error:connect", load.Failure, n, time.Millisecond)
}

// result is a run of ten seconds in which all that was due was sent in time.
func result(all ...*load.Series) *load.Result {
	r := &load.Result{Planned: 10 * time.Second, Elapsed: 10 * time.Second, Series: all}
	for _, s := range all {
		if strings.HasPrefix(s.Key, "error:") {
			r.Errors += s.Count()
		} else {
			r.Answered += s.Count()
		}
	}
	r.Sent = r.Answered + r.Errors
	r.Scheduled = r.Sent
	r.Lag = times(int(r.Sent), 50*time.Microsecond)
	return r
}

func with(r *load.Result, change func(*load.Result)) *load.Result {
	change(r)
	return r
}

func gates(t *testing.T, expressions ...string) []gate.Gate {
	t.Helper()
	var all []gate.Gate
	for _, e := range expressions {
		g, err := gate.Parse(e)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
	return all
}

func unsent(n int64) func(*load.Result) {
	return func(r *load.Result) { r.Unsent += n; r.Scheduled += n }
}

func interrupted(r *load.Result) { r.Interrupted = true }

func TestEvaluate(t *testing.T) {
	none := -1.0 // nothing could be observed
	tests := []struct {
		name       string
		expression string
		result     *load.Result
		observed   float64
		verdict    gate.Verdict
		why        string
	}{
		{"latency holds", "created.latency.p95 < 100ms", result(created(72)), 5, gate.Pass, ""},
		{"the bound itself is not below it", "created.latency.p95 < 5ms", result(created(72)), 5, gate.Fail, ""},
		{"or equal", "created.latency.p95 <= 5ms", result(created(72)), 5, gate.Pass, ""},
		{"service", "created.service.p95 < 5ms", result(created(72)), 2.5, gate.Pass, ""},
		{"one too few for p95", "created.latency.p95 < 100ms", result(created(71)), none, gate.Inconclusive, "needs 72, had 71"},
		{"p99.9 needs many", "created.latency.p99.9 < 1ms", result(created(3687)), none, gate.Inconclusive, "needs 3,688, had 3,687"},
		{"avg of none", "created.latency.avg < 1ms", result(limited(9)), none, gate.Inconclusive, "needs 1, had 0"},
		{"min of none", "created.latency.min < 1ms", result(limited(9)), none, gate.Inconclusive, "needs 1, had 0"},
		{"max of none", "created.latency.max < 1ms", result(limited(9)), none, gate.Inconclusive, "needs 1, had 0"},
		{"avg", "all.latency.avg == 3ms", result(created(10), limited(10)), 3, gate.Pass, ""},
		{"min", "all.latency.min == 1ms", result(created(10), limited(10)), 1, gate.Pass, ""},
		{"max", "all.latency.max > 5ms", result(created(10), limited(10)), 5, gate.Fail, ""},
		{"a kind merges outcomes", "failure.latency.p95 < 1s", result(refused(40), series("x", "500", "500", load.Failure, 32, time.Millisecond)), 1, gate.Pass, ""},
		{"an outcome merges requests", "created.count == 30", result(created(10), series("x", "201", "created", load.Success, 20, 1)), 30, gate.Pass, ""},
		{"a request's outcome alone", "onboard/created.count == 10", result(created(10), series("x", "201", "created", load.Success, 20, 1)), 10, gate.Pass, ""},
		{"an unnamed status has its key for a name", "all.count > 4", result(series("x", "500", "500", load.Failure, 5, 1)), 5, gate.Pass, ""},
		{"none of many is a number", "limited.count > 0", result(created(10)), 0, gate.Fail, ""},
		{"none of none is not", "limited.count < 5", result(), none, gate.Inconclusive, "nothing was answered, errored or unsent"},
		{"nor of a request that sent nothing", "x/failure.count < 5", result(created(9)), none, gate.Inconclusive, "nothing was answered, errored or unsent"},
		{"rate over the planned time", "created.rate > 4", with(result(created(50)), func(r *load.Result) { r.Elapsed = 10500 * time.Millisecond }), 5, gate.Pass, ""},
		{"rate of answers that came late", "created.rate > 4", with(result(created(50)), func(r *load.Result) { r.Elapsed = 20 * time.Second }), 2.5, gate.Fail, ""},
		{"rate without a plan", "created.rate > 4", with(result(created(50)), func(r *load.Result) { r.Planned = 0 }), none, gate.Inconclusive, "no time was planned"},
		{"share counts the unsent", "created.share > 0.5", with(result(created(50), refused(25)), unsent(25)), 0.5, gate.Fail, ""},
		{"share of a request does not", "onboard/created.share > 0.5", with(result(created(60), refused(40), limited(99)), unsent(25)), 0.6, gate.Pass, ""},
		{"share of nothing", "failure.share < 0.5", result(), none, gate.Inconclusive, "nothing was answered, errored or unsent"},
		{"share when all is unsent", "failure.share < 0.5", with(result(), unsent(9)), 0, gate.Pass, ""},
		{"expected left out", "failure.share_excl_expected < 10%", result(created(90), refused(10), limited(900)), 0.1, gate.Fail, ""},
		{"nothing but expected", "failure.share_excl_expected < 10%", result(limited(900)), none, gate.Inconclusive, "all answers were expected ones, and none is left"},
		{"all without expected", "all.share_excl_expected == 1", result(created(5), limited(900)), 1, gate.Pass, ""},
		{"expected without expected", "limited.share_excl_expected < 1", result(created(5), limited(900)), none, gate.Inconclusive, "it leaves the expected ones out, and these are expected"},
		{"interrupted too early to fail", "created.count > 99", with(result(created(50)), interrupted), 50, gate.Inconclusive, "the run was interrupted before it could hold"},
		{"likewise a rate", "created.rate >= 6", with(result(created(50)), interrupted), 5, gate.Inconclusive, "the run was interrupted before it could hold"},
		{"likewise equality", "created.count == 51", with(result(created(50)), interrupted), 50, gate.Inconclusive, "the run was interrupted before it could hold"},
		{"what fails already fails", "created.count < 50", with(result(created(50)), interrupted), 50, gate.Fail, ""},
		{"and what is passed by", "created.count == 49", with(result(created(50)), interrupted), 50, gate.Fail, ""},
		{"a bound on time is no matter of when", "created.latency.p95 > 1s", with(result(created(80)), interrupted), 5, gate.Fail, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := gate.Evaluate(gates(t, tt.expression), tt.result)[0]
			observed := none
			if c.Observed != nil {
				observed = *c.Observed
			}
			if observed != tt.observed || c.Verdict != tt.verdict || c.Why != tt.why || c.Expression != tt.expression {
				t.Errorf("%s: observed %v, %s, %q; want %v, %s, %q", c.Expression, observed, c.Verdict, c.Why, tt.observed, tt.verdict, tt.why)
			}
		})
	}
}

func TestCheckNames(t *testing.T) {
	tests := []struct {
		expression, name string
		unit             gate.Unit
	}{
		{"created.latency.p99_9 < 1s", "created latency p99.9", gate.Milliseconds},
		{"onboard/failure.share_excl_expected < 1%", "onboard/failure share without expected", gate.Share},
		{"limited.count > 0", "limited count", gate.Count},
		{"limited.rate > 0", "limited rate", gate.PerSecond},
	}
	for _, tt := range tests {
		c := gate.Evaluate(gates(t, tt.expression), result(created(1)))[0]
		if c.Name != tt.name || c.Unit != tt.unit {
			t.Errorf("%s is %q in %s, want %q in %s", tt.expression, c.Name, c.Unit, tt.name, tt.unit)
		}
	}
}

// TestNoDataNeverPasses: whatever a gate compares, it does not hold of nothing.
func TestNoDataNeverPasses(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		subject := rapid.SampledFrom([]string{"created", "success", "failure", "all", "onboard/created"}).Draw(rt, "subject")
		measure := rapid.SampledFrom([]string{"latency.p50", "latency.avg", "service.max", "latency.min", "count", "rate", "share", "share_excl_expected"}).Draw(rt, "measure")
		op := rapid.SampledFrom([]string{"<", "<=", ">", ">=", "=="}).Draw(rt, "op")
		value := rapid.SampledFrom([]string{"0", "1"}).Draw(rt, "value")
		if strings.Contains(measure, ".") {
			value += "s"
		}
		g := gates(t, subject+"."+measure+" "+op+" "+value)
		r := result()
		checks := gate.Evaluate(g, r)
		if checks[0].Verdict != gate.Inconclusive || checks[0].Observed != nil || checks[0].Why == "" {
			rt.Fatalf("%s of nothing: %+v", g[0].Expression, checks[0])
		}
		if v, reasons := gate.Judge(r, g, checks); v == gate.Pass || len(reasons) == 0 {
			rt.Fatalf("a run of nothing is %s: %q", v, reasons)
		}
	})
}
