package gate

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/load"
)

const (
	// lagAllowed is the generator's lateness that never voids a run: what it must
	// keep at 5,000/s beside its target on two cores.
	lagAllowed = 2 * time.Millisecond
	// oneIn is the part of all requests, one in a thousand, that may go unsent or
	// fail on the generator's side.
	oneIn = 1000
	// bottleneck begins each reason that is the generator's fault.
	bottleneck = "the generator was the bottleneck: "
)

// Judge is what a run is worth, and why it is no pass: the most important
// reason first, none for a pass.
//
// Checks are those of the gates and whatever else the caller looked at. In this
// order: a generator at fault makes a run inconclusive, whatever the gates say;
// a check that failed makes it fail; anything that the plan set out to measure
// and that did not happen makes it inconclusive. Without any check a run still
// passes if it reached its rate and all of it went well: a plan need not have
// gates, but then nothing says how many failures are too many.
func Judge(r *load.Result, gates []Gate, checks []Check) (verdict Verdict, reasons []string) {
	faults := generatorFaults(r, gates)
	var failed []string
	for _, c := range checks {
		if c.Verdict == Fail {
			failed = append(failed, c.failure())
		}
	}
	open := missing(r, gates, checks)
	verdict = Pass
	switch {
	case len(faults) > 0:
		verdict = Inconclusive
	case len(failed) > 0:
		verdict = Fail
	case len(open) > 0:
		verdict = Inconclusive
	}
	return verdict, slices.Concat(faults, failed, open)
}

// Saturated says whether one of Judge's reasons is the generator's fault.
func Saturated(reasons []string) bool {
	return slices.ContainsFunc(reasons, func(r string) bool { return strings.HasPrefix(r, bottleneck) })
}

// generatorFaults says how the generator was the bottleneck.
func generatorFaults(r *load.Result, gates []Gate) []string {
	var faults []string
	add := func(format string, args ...any) {
		faults = append(faults, bottleneck+fmt.Sprintf(format, args...))
	}
	limit, tightest := time.Duration(0), "" // without a gate on times every lag may matter
	for _, g := range gates {
		if g.bounds() && (tightest == "" || g.tenth() < limit) {
			limit, tightest = g.tenth(), ", more than a tenth of the tightest latency gate, "+g.Expression
		}
	}
	if p99, _ := r.Lag.Quantile(0.99); p99 > max(lagAllowed, limit) {
		add("1 %% of requests left %s or more after they were due%s", duration(p99), tightest)
	}
	for _, g := range gates {
		if !g.bounds() || g.Quantile <= 0.99 && g.Stat != "max" {
			continue
		}
		q := g.Quantile
		if g.Stat == "max" {
			q = 1
		}
		if lag, _ := r.Lag.Quantile(q); lag > max(lagAllowed, g.tenth()) {
			add("its lag had a %s of %s, more than a tenth of the gate %s", g.Stat, duration(lag), g.Expression)
		}
	}
	// What a target leaves unanswered fills the places in flight: then it is the
	// target's fault that others went unsent. So nine in ten must be answered.
	answered := r.Answered > 0 && r.Answered*10 >= r.Sent*9
	if answered && r.Unsent*oneIn > r.Scheduled {
		add("%s of %s requests (%s) were never sent while the target answered", number(r.Unsent), number(r.Scheduled), part(r.Unsent, r.Scheduled))
	}
	if own := r.Generator.OwnErrors; own*oneIn > r.Sent {
		add("%s of %s requests (%s) failed for want of ports, file descriptors or memory on its side", number(own), number(r.Sent), part(own, r.Sent))
	}
	return faults
}

// missing says what the plan set out to measure and was not.
func missing(r *load.Result, gates []Gate, checks []Check) []string {
	var open []string
	add := func(format string, args ...any) { open = append(open, fmt.Sprintf(format, args...)) }
	var successes, failures, all int64
	for _, s := range r.Series {
		all += s.Count()
		switch s.Kind {
		case load.Success:
			successes += s.Count()
		case load.Failure:
			failures += s.Count()
		case load.Expected:
		}
	}
	said := map[string]bool{}
	if successes == 0 {
		add("too few successes: none of %s requests succeeded", number(r.Scheduled))
	} else {
		for _, g := range gates {
			if had := g.times(r).Count(); g.Quantile > 0 && g.ofSuccesses(r) && had < load.Needed(g.Quantile) {
				add("too few successes: %s needs %s, had %s", g.name(), number(load.Needed(g.Quantile)), number(had))
				said[g.Expression] = true
			}
		}
	}
	if r.Sent*100 < r.Scheduled*99 {
		add("the offered rate was not reached: %s of %s requests (%s) were sent", number(r.Sent), number(r.Scheduled), part(r.Sent, r.Scheduled))
	}
	if r.Interrupted {
		add("the run was interrupted after %s of %s", r.Elapsed.Round(time.Second/10), r.Planned)
	}
	for _, c := range checks {
		if c.Verdict == Inconclusive && !said[c.Expression] {
			add("%s can't be told: %s", c.Name, c.Why)
		}
	}
	if len(checks) == 0 && failures > 0 {
		add("%s of %s requests failed, and no gate says how many may", number(failures), number(all))
	}
	return open
}

// failure is a failed check in words.
func (c Check) failure() string {
	switch {
	case c.Unit == Truth || c.Observed == nil:
		return c.Name + ": no"
	default:
		return fmt.Sprintf("%s is %s: %s does not hold", c.Name, c.Unit.Text(*c.Observed), c.Expression)
	}
}

// bounds says whether the gate sets an upper bound to times.
func (g Gate) bounds() bool { return g.timed() && g.Op[0] == '<' }

// tenth is the tenth of a bound: more lag than that would blur what it bounds.
func (g Gate) tenth() time.Duration {
	return time.Duration(math.Round(g.Value*float64(time.Millisecond))) / 10
}

// ofSuccesses says whether all that the gate's subject has are successes.
func (g Gate) ofSuccesses(r *load.Result) bool {
	if g.Subject == string(load.Success) {
		return true
	}
	found := false
	for _, s := range r.Series {
		if g.has(s) {
			if s.Kind != load.Success {
				return false
			}
			found = true
		}
	}
	return found
}

func number(n int64) string { return Count.Text(float64(n)) }

func part(n, of int64) string { return Share.Text(float64(n) / float64(max(of, 1))) }

func duration(d time.Duration) string { return Milliseconds.Text(milliseconds(d)) }
