package capacity

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/runner"
)

const (
	// hopeless and hopelessFor are how many requests may wait for an answer, and
	// how many seconds' worth of them: what has more is beyond its capacity by
	// far, and is not to be buried.
	hopeless    = 2000
	hopelessFor = 2.0
	// keepsUp is the part of requests that must be answered.
	keepsUp = 0.99
	// A backlog grows where it does by more than a hundredth of the rate, and by
	// more than three times what chance alone would make of it.
	growthAllowed = 0.01
	byChance      = 3
)

// successP95 is what each probe tells of its successes.
var successP95 = []gate.Gate{{Subject: string(load.Success), Measure: gate.Latency, Stat: "p95", Quantile: 0.95, Op: "<"}}

// prober tries rates on a target.
type prober struct {
	o           runner.Options
	gates       []gate.Gate
	leftOut     []gate.Gate // counts, which hold at one rate alone
	peak        float64     // of the plan
	patience    float64     // seconds' worth of requests that may wait
	tried       bool
	environment report.Environment
}

func newProber(o runner.Options) *prober {
	p := &prober{o: o, peak: o.Plan.Peak(), patience: hopelessFor}
	for _, g := range o.Plan.Gates {
		switch g.Measure {
		case gate.Counted, gate.Rate:
			p.leftOut = append(p.leftOut, g)
			continue
		case gate.Latency, gate.Service: // what may take long may wait for long
			p.patience = max(p.patience, min(2*g.Value/1000, o.Plan.Timeout.Seconds()))
		}
		p.gates = append(p.gates, g)
	}
	return p
}

// at is the plan at one rate. Its clients are as many more as the requests are,
// so that none meets a limit that it would not meet at the plan's own rate.
func (p *prober) at(rate, seconds float64) runner.Options {
	o, one := p.o, *p.o.Plan
	one.Stages = []load.Stage{{Duration: time.Millisecond, Rate: rate}, {Duration: time.Duration(seconds * float64(time.Second)), Rate: rate}}
	one.Gates = p.gates
	one.Requests = slices.Clone(one.Requests) // a script may take some out
	clients := make(map[*load.Clients]*load.Clients)
	for i, r := range one.Requests {
		if clients[r.Clients] == nil {
			count := math.Ceil(float64(r.Clients.Count) * rate / p.peak)
			clients[r.Clients] = &load.Clients{Count: int(min(count, load.MaxClients)), Via: r.Clients.Via}
		}
		one.Requests[i].Clients = clients[r.Clients]
	}
	o.Plan = &one
	if o.Script != nil {
		s := *o.Script
		s.Plan, o.Script = &one, &s
	}
	return o
}

// try is a Try.
func (p *prober) try(ctx context.Context, rate, seconds float64) (Outcome, error) {
	if p.tried {
		if err := runner.Recovered(ctx, p.o.Targets); err != nil {
			return Outcome{}, err
		}
	}
	waiting := max(hopeless, p.patience*rate)
	m, err := runner.Measure(ctx, p.at(rate, seconds), func(s *load.Sample) bool {
		return float64(s.InFlight)+float64(s.Waiting) > waiting
	})
	if _, ok := errors.AsType[runner.NotPreparedError](err); ok && p.tried && ctx.Err() == nil {
		// The target is well: it is this rate that the script can't make customers for.
		return Outcome{Verdict: Inconclusive, Blocked: true, Why: "it could not be prepared: " + err.Error()}, nil
	}
	if err != nil {
		return Outcome{}, err
	}
	p.tried, p.environment = true, m.Environment
	return judge(m, p.gates, rate, seconds), nil
}

// judge says whether a rate held: the gates did, and the target kept up.
func judge(m *runner.Measured, gates []gate.Gate, rate, seconds float64) Outcome {
	r := m.Result
	growth, grows := backlog(r.Samples, rate, int(seconds))
	o := Outcome{Verdict: Missed, Answered: round(float64(r.Answered) / min(r.Planned, r.Elapsed).Seconds()), Growth: round(growth)} // an ended one took less
	if p95 := gate.Evaluate(successP95, r)[0].Observed; p95 != nil {
		o.P95 = *p95
	}
	verdict, reasons := gate.Judge(r, gates, m.Checks)
	open := func(c gate.Check) bool { return c.Verdict == gate.Inconclusive }
	succeeded := slices.ContainsFunc(r.Series, func(s *load.Series) bool { return s.Kind == load.Success })
	switch {
	case gate.Saturated(reasons):
		if o.Why = slow(r, gates); o.Why == "" {
			o.Verdict, o.Blocked, o.Why = Inconclusive, true, reasons[0]
		}
	case r.Interrupted: // by its own backlog
		o.Why = fmt.Sprintf("it was ended after %v, with %s requests in flight", r.Elapsed.Round(time.Second/10), gate.Count.Text(float64(r.InFlightMax)))
	case verdict == gate.Fail:
		o.Why = reasons[0]
	case float64(r.Answered) < keepsUp*float64(r.Scheduled):
		o.Why = fmt.Sprintf("only %s of %s requests were answered", gate.Count.Text(float64(r.Answered)), gate.Count.Text(float64(r.Scheduled)))
	case grows:
		o.Why = fmt.Sprintf("what waits grew by %s each second", gate.PerSecond.Text(growth))
	case verdict == gate.Pass:
		o.Verdict = Held
	default:
		o.Why = reasons[0]
		if slices.ContainsFunc(m.Checks, open) || !succeeded {
			o.Verdict = Inconclusive
		}
	}
	return o
}

// slow names a gate on latency that fails even if a request's time is counted
// from its sending on, and "" for none: that is no lag of the generator. Where the
// two share a machine, a target beyond its capacity makes the generator late.
func slow(r *load.Result, gates []gate.Gate) string {
	for _, g := range gates {
		g.Measure = gate.Service
		if c := gate.Evaluate([]gate.Gate{g}, r)[0]; g.Quantile > 0 && g.Op[0] == '<' && c.Verdict == gate.Fail {
			return fmt.Sprintf("%s is %s: %s does not hold, even from when requests were sent", c.Name, c.Unit.Text(*c.Observed), c.Expression)
		}
	}
	return ""
}

// backlog compares how many requests were due and not answered in the last third
// of a probe with how many in the first, at the ends of its seconds: growth is a
// second, between the middles of the two. Under three seconds nothing is told.
func backlog(samples []*load.Sample, rate float64, seconds int) (growth float64, grows bool) {
	seconds = min(seconds, len(samples))
	third := seconds / 3
	if third == 0 {
		return 0, false
	}
	average := func(samples []*load.Sample) (sum float64) {
		for _, s := range samples {
			sum += float64(s.InFlight) + float64(s.Waiting)
		}
		return sum / float64(len(samples))
	}
	first, last := average(samples[:third]), average(samples[seconds-third:seconds])
	between := float64(seconds - third)
	allowed := max(growthAllowed*rate*between, byChance*math.Sqrt((first+last)/float64(third)))
	return (last - first) / between, last-first > allowed
}

func round(v float64) float64 { return math.Round(v*1000) / 1000 }
