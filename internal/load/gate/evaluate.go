package gate

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/load"
)

// Evaluate looks at each gate, in order.
//
// A gate on what was not measured is inconclusive, whatever its comparison
// would say of nothing: a percentile without load.Needed times, an average of
// none, a share or a count where nothing was sent.
func Evaluate(gates []Gate, r *load.Result) []Check {
	if r.Interrupted { // what it cut off neither succeeded nor failed
		whole := *r
		whole.Series = slices.DeleteFunc(slices.Clone(r.Series), func(s *load.Series) bool { return s.Key == load.Interrupted })
		r = &whole
	}
	checks := make([]Check, 0, len(gates))
	for _, g := range gates {
		c := Check{Name: g.name(), Expression: g.Expression, Unit: g.unit(), Verdict: Inconclusive}
		observed, why := g.observe(r)
		grows := c.Unit == Count || c.Unit == PerSecond
		switch c.Observed, c.Why = &observed, why; {
		case why != "":
			c.Observed = nil
		case ops[g.Op](observed, g.Value):
			c.Verdict = Pass
		case r.Interrupted && grows && g.Op[0] != '<' && observed < g.Value:
			c.Why = "the run was interrupted before it could hold"
		default:
			c.Verdict = Fail
		}
		checks = append(checks, c)
	}
	return checks
}

// observe is the measured number, or why there is none.
//
// The whole that a share is of is all answered, errored and unsent. Of one
// request alone the unsent ones are left out, since nobody says whose they
// were; where they are many, Judge finds the run not worth a pass anyway.
func (g Gate) observe(r *load.Result) (observed float64, why string) {
	if g.timed() {
		return g.observeTime(r)
	}
	var own, all int64       // the subject's, and all
	var ownOut, allOut int64 // left out of them
	for _, s := range r.Series {
		if !g.of(s) {
			continue
		}
		part, whole := &own, &all
		if g.Measure == ShareExclExpected && s.Kind == load.Expected {
			part, whole = &ownOut, &allOut
		}
		*whole += s.Count()
		if g.has(s) {
			*part += s.Count()
		}
	}
	if g.Request == "" {
		all += r.Unsent
	}
	switch {
	case all == 0 && allOut > 0:
		return 0, "all answers were expected ones, and none is left"
	case all == 0:
		return 0, "nothing was answered, errored or unsent"
	case own == 0 && ownOut > 0:
		return 0, "it leaves the expected ones out, and these are expected"
	case g.unit() == Share:
		return float64(own) / float64(all), ""
	case g.Measure == Rate && r.Planned <= 0:
		return 0, "no time was planned"
	case g.Measure == Rate:
		// By the time planned, unless the answers took clearly longer to come: then
		// it is not the rate that they came at.
		over := r.Planned
		if r.Interrupted || r.Elapsed > over+time.Second {
			over = max(r.Elapsed, time.Millisecond)
		}
		return float64(own) / over.Seconds(), ""
	}
	return float64(own), ""
}

func (g Gate) observeTime(r *load.Result) (observed float64, why string) {
	d := g.times(r)
	if needed := load.Needed(g.Quantile); d.Count() < needed {
		return 0, fmt.Sprintf("needs %s, had %s", number(needed), number(d.Count()))
	}
	switch g.Stat {
	case "avg":
		return milliseconds(d.Mean()), ""
	case "min":
		return milliseconds(d.Min()), ""
	case "max":
		return milliseconds(d.Max()), ""
	}
	t, _ := d.Quantile(g.Quantile)
	return milliseconds(t), ""
}

// times is what a gate on latency or service is about.
func (g Gate) times(r *load.Result) *load.Distribution {
	d := load.NewDistribution()
	for _, s := range r.Series {
		if g.has(s) && g.Measure == Service {
			d.Merge(s.Service)
		} else if g.has(s) {
			d.Merge(s.Latency)
		}
	}
	return d
}

// of says whether a series is of the gate's request.
func (g Gate) of(s *load.Series) bool { return g.Request == "" || g.Request == s.Request }

// has says whether a series belongs to the gate's subject.
func (g Gate) has(s *load.Series) bool {
	if slices.Contains(subjects, g.Subject) {
		return g.of(s) && (g.Subject == "all" || g.Subject == string(s.Kind))
	}
	return g.of(s) && g.Subject == s.Name
}

func (g Gate) unit() Unit {
	switch g.Measure {
	case Latency, Service:
		return Milliseconds
	case Counted:
		return Count
	case Rate:
		return PerSecond
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
