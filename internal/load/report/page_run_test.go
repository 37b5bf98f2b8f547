package report

import (
	"math"
	"math/rand/v2"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

const hostile = `</script></title><script>alert("x")</script><img src=x onerror='y'> & "quoted" ` + "`\u202e"

// pageRun is a run with something for every part of the page: sign-ups that
// get slower for a while, refusals from a few addresses, two kinds of errors.
func pageRun(seconds int) *Run {
	n := time.Duration(seconds) * time.Second
	r := fixture()
	r.Profile = "staging"
	r.Stages = []load.Stage{
		{Duration: n / 6, Rate: 20}, {Duration: n / 6, Rate: 50}, {Duration: n / 2, Rate: 50}, {Duration: n - n/6*2 - n/2, Rate: 0},
	}
	dice := rand.New(rand.NewPCG(1, 2))
	series := map[string]*load.Series{}
	for _, s := range []*load.Series{
		{Request: "onboard", Key: "201", Name: "created", Kind: load.Success},
		{Request: "over_limit", Key: "429", Name: "limited", Kind: load.Expected, Example: `{"error":{"code":"RATE_LIMITED"}}`},
		{Request: "onboard", Key: "503", Name: "503", Kind: load.Failure, Example: hostile},
		{Request: "onboard", Key: "error:timeout", Name: "error:timeout", Kind: load.Failure, Example: "no answer within 10s"},
	} {
		s.Latency, s.Service = load.NewDistribution(), load.NewDistribution()
		series[s.Key] = s
	}
	r.Seconds = Seconds{}
	out := r.Result
	*out = load.Result{Started: out.Started, Planned: n, Elapsed: n + 41*time.Millisecond, InFlightAvg: 1.37, InFlightMax: 61, Connections: out.Connections, Generator: out.Generator, Lag: load.NewDistribution()}
	for _, key := range []string{"201", "429", "503", "error:timeout"} {
		out.Series = append(out.Series, series[key])
	}
	for second := range seconds {
		part := float64(second) / float64(seconds)
		rate := min(max(part*120, 20+(part-1.0/6)*180), 50, (1-part)*300)
		if part < 1.0/6 {
			rate = part * 120
		}
		slow := 1 + 12*math.Exp(-math.Pow((part-0.6)/0.03, 2))
		s := &load.Sample{
			Second: second, Rate: rate, Due: int64(rate), Sent: int64(rate), Answered: int64(rate),
			LagP99: time.Duration((0.1 + 0.1*dice.Float64()) * 1e6), LagMax: time.Duration((0.3 + dice.ExpFloat64()) * 1e6),
		}
		add := func(key string, count int, base float64) {
			if count <= 0 {
				return
			}
			d := load.NewDistribution()
			var times []time.Duration
			for range count {
				t := time.Duration(base * slow * math.Exp(0.5*dice.NormFloat64()) * 1e6)
				d.Record(t)
				times = append(times, t)
				series[key].Service.Record(t * 9 / 10)
			}
			series[key].Latency.Merge(d)
			s.Spreads = append(s.Spreads, load.Spread{Request: series[key].Request, Key: key, Bins: binned(times...)})
		}
		limited := 0
		if part > 0.1 {
			limited = int(rate * 0.3)
		}
		add("201", int(rate)-limited, 4)
		add("429", limited, 0.6)
		if second%41 == 40 {
			add("503", 1, 30)
		}
		if slow > 10 {
			add("error:timeout", 1, 1000)
		}
		out.Lag.Merge(spread(20, s.LagP99/4, s.LagMax))
		r.Seconds.Add(s)
	}
	for _, s := range out.Series {
		out.Scheduled += s.Count()
	}
	out.Sent, out.Answered, out.Errors = out.Scheduled, out.Scheduled-series["error:timeout"].Count(), series["error:timeout"].Count()
	return r
}

// judged gives a run a verdict and reasons that fit it.
func judged(r *Run, v gate.Verdict) *Run {
	r.Verdict, r.Reasons = v, nil
	slow, fast := 131.2, 31.4
	r.Checks = []gate.Check{
		{Name: "created latency p95", Expression: "created.latency.p95 < 100ms", Unit: gate.Milliseconds, Observed: &fast, Verdict: gate.Pass},
		{Name: "created latency p99.9", Expression: "created.latency.p99.9 < 500ms", Unit: gate.Milliseconds, Verdict: gate.Inconclusive, Why: "needs 3,688, had 1,204"},
	}
	switch v {
	case gate.Fail:
		r.Checks[0].Observed, r.Checks[0].Verdict = &slow, gate.Fail
		r.Reasons = []string{"created latency p95 was 131.20 ms, and had to be below 100 ms.", "created latency p99.9 is not known: it needs 3,688 answers and there were 1,204."}
	case gate.Inconclusive:
		r.Reasons = []string{"too few successes: p99.9 needs 3,688 of created and there were 1,204."}
	case gate.Pass:
		r.Checks = r.Checks[:1]
	}
	return r
}
