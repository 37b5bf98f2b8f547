package gate

import (
	"fmt"
	"strings"

	"gatehouse/internal/load"
)

// Evaluate looks at each gate, in order.
//
// A gate on what was not measured is inconclusive, whatever its comparison
// would say of nothing: a percentile without load.Needed times, an average of
// none, a share or a count where nothing was sent.
func Evaluate(gates []Gate, r *load.Result) []Check {
	checks := make([]Check, 0, len(gates))
	for _, g := range gates {
		checks = append(checks, g.evaluate(r))
	}
	return checks
}

func (g Gate) evaluate(r *load.Result) Check {
	c := Check{Name: g.name(), Expression: g.Expression, Unit: g.unit(), Verdict: Inconclusive}
	observed, why := g.observe(r)
	if why != "" {
		c.Why = why
		return c
	}
	c.Observed = &observed
	switch {
	case holds(observed, g.Op, g.Value):
		c.Verdict = Pass
	case r.Interrupted && g.grows() && g.Op[0] != '<' && observed < g.Value:
		c.Why = "the run was interrupted before it could hold"
	default:
		c.Verdict = Fail
	}
	return c
}

// observe is the measured number, or why there is none.
func (g Gate) observe(r *load.Result) (observed float64, why string) {
	if g.timed() {
		return g.observeTime(r)
	}
	own, expected, ownExpected := int64(0), int64(0), int64(0)
	for _, s := range r.Series {
		n := s.Count()
		if g.has(s) {
			own += n
		}
		if s.Kind == load.Expected && g.of(s) {
			expected += n
			if g.has(s) {
				ownExpected += n
			}
		}
	}
	all := g.offered(r)
	if all == 0 {
		return 0, "nothing was answered, errored or unsent"
	}
	switch g.Measure {
	case Rate:
		if r.Planned <= 0 {
			return 0, "no time was planned"
		}
		return float64(own) / r.Planned.Seconds(), ""
	case ShareOfAll:
		return float64(own) / float64(all), ""
	case ShareExclExpected:
		switch {
		case all == expected:
			return 0, "all answers were expected ones, and none is left"
		case own > 0 && own == ownExpected:
			return 0, "it leaves the expected ones out, and these are expected"
		}
		return float64(own-ownExpected) / float64(all-expected), ""
	case Latency, Service, Counted:
	}
	return float64(own), ""
}

func (g Gate) observeTime(r *load.Result) (observed float64, why string) {
	d := g.times(r)
	switch {
	case g.Quantile > 0:
		t, ok := d.Quantile(g.Quantile)
		if !ok {
			return 0, fmt.Sprintf("needs %s, had %s", Count.Text(float64(load.Needed(g.Quantile))), Count.Text(float64(d.Count())))
		}
		return milliseconds(t), ""
	case d.Count() == 0:
		return 0, "needs 1, had 0"
	case g.Stat == "min":
		return milliseconds(d.Min()), ""
	case g.Stat == "max":
		return milliseconds(d.Max()), ""
	}
	return milliseconds(d.Mean()), ""
}

// times is what a gate on latency or service is about.
func (g Gate) times(r *load.Result) *load.Distribution {
	d := load.NewDistribution()
	for _, s := range r.Series {
		switch {
		case !g.has(s):
		case g.Measure == Service:
			d.Merge(s.Service)
		default:
			d.Merge(s.Latency)
		}
	}
	return d
}

// offered is the whole that a share is of: all answered, errored and unsent. Of
// one request alone the unsent ones are left out, since nobody says whose they
// were; where they are many, Judge finds the run not worth a pass anyway.
func (g Gate) offered(r *load.Result) int64 {
	var n int64
	for _, s := range r.Series {
		if g.of(s) {
			n += s.Count()
		}
	}
	if g.Request == "" {
		n += r.Unsent
	}
	return n
}

// of says whether a series is of the gate's request.
func (g Gate) of(s *load.Series) bool { return g.Request == "" || g.Request == s.Request }

// has says whether a series belongs to the gate's subject.
func (g Gate) has(s *load.Series) bool {
	if !g.of(s) {
		return false
	}
	switch g.Subject {
	case "all":
		return true
	case string(load.Success), string(load.Expected), string(load.Failure):
		return string(s.Kind) == g.Subject
	}
	return s.Name == g.Subject
}

// grows says whether a longer run can only have more of it.
func (g Gate) grows() bool { return g.Measure == Counted || g.Measure == Rate }

func (g Gate) unit() Unit {
	switch g.Measure {
	case Latency, Service:
		return Milliseconds
	case Counted:
		return Count
	case Rate:
		return PerSecond
	case ShareOfAll, ShareExclExpected:
	}
	return Share
}

// name is the gate without its comparison, for people.
func (g Gate) name() string {
	subject := g.Subject
	if g.Request != "" {
		subject = g.Request + "/" + subject
	}
	measure := strings.Replace(string(g.Measure), "_excl_", " without ", 1)
	return strings.TrimSpace(subject + " " + measure + " " + g.Stat)
}

func holds(a float64, op string, b float64) bool {
	switch op {
	case "<":
		return a < b
	case "<=":
		return a <= b
	case ">":
		return a > b
	case ">=":
		return a >= b
	}
	return a == b
}
