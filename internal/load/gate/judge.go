package gate

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/load"
)

const (
	// lagAllowed is the generator's lateness, in milliseconds, that never voids a
	// run: what it must keep at 5,000/s beside its target on two cores.
	lagAllowed = 2.0
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
// and that did not happen makes it inconclusive. Without any gate a run still
// passes if it reached its rate and all of it went well: a plan need not have
// gates, but then nothing says how many failures are too many.
func Judge(r *load.Result, gates []Gate, checks []Check) (verdict Verdict, reasons []string) {
	faults := generatorFaults(r, gates)
	var failed []string
	for _, c := range checks {
		switch {
		case c.Verdict != Fail:
		case c.Unit == Truth || c.Observed == nil:
			failed = append(failed, strings.TrimSuffix(c.Name+": no, "+c.Why, ", "))
		default:
			failed = append(failed, fmt.Sprintf("%s is %s: %s does not hold", c.Name, c.Unit.Text(*c.Observed), c.Expression))
		}
	}
	open := missing(r, gates, checks)
	switch {
	case len(faults)+len(failed)+len(open) == 0:
		verdict = Pass
	case len(faults) == 0 && len(failed) > 0:
		verdict = Fail
	default:
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
	blurred := slices.DeleteFunc(slices.Clone(gates), func(g Gate) bool { return !g.timed() || g.Op[0] != '<' })
	slices.SortStableFunc(blurred, func(a, b Gate) int { return cmp.Compare(a.Value, b.Value) })
	if len(blurred) == 0 {
		blurred = []Gate{{}} // without a gate on times every lag may matter
	}
	// A target that answers next to nothing is dead, however late it was asked.
	if r.Answered*10 < r.Sent {
		blurred = nil
	}
	for _, g := range blurred {
		stat, quantile := "p99", 0.99
		if g.Quantile > quantile {
			stat, quantile = g.Stat, g.Quantile
		} else if g.Stat == "max" {
			stat, quantile = "max", 1
		}
		if lag, _ := r.Lag.Quantile(quantile); milliseconds(lag) > max(lagAllowed, g.Value/10) {
			allowed := "2 ms"
			if g.Expression != "" {
				allowed = "a tenth of the gate " + g.Expression
			}
			add("its lag had a %s of %s, more than %s", stat, Milliseconds.Text(milliseconds(lag)), allowed)
			break // the others are no tighter
		}
	}
	// What a target leaves unanswered fills the places in flight: then it is the
	// target's fault that others went unsent. So nine in ten must be answered.
	answered := r.Answered > 0 && r.Answered*10 >= r.Sent*9
	if answered && !r.Interrupted && r.Unsent*oneIn > r.Scheduled {
		add("%s were never sent while the target answered", part(r.Unsent, r.Scheduled))
	}
	if own := r.Generator.OwnErrors; own*oneIn > r.Sent {
		add("%s failed for want of ports, file descriptors or memory on its side", part(own, r.Sent))
	}
	return faults
}

// missing says what the plan set out to measure and was not.
func missing(r *load.Result, gates []Gate, checks []Check) []string {
	var open []string
	add := func(format string, args ...any) { open = append(open, fmt.Sprintf(format, args...)) }
	count := map[load.Kind]int64{}
	for _, s := range r.Series {
		count[s.Kind] += s.Count()
	}
	if count[load.Success] == 0 {
		add("too few successes: none of %s requests succeeded", number(r.Scheduled))
	}
	switch {
	case r.Interrupted: // and so some were not sent
		add("the run was interrupted after %s of %s", r.Elapsed.Round(time.Second/10), r.Planned)
	case r.Sent*100 < r.Scheduled*99:
		add("the offered rate was not reached: %s were sent", part(r.Sent, r.Scheduled))
	}
	for _, c := range checks {
		lacks := func(g Gate) bool { return g.Expression == c.Expression && g.Quantile > 0 && g.ofSuccesses(r) }
		switch {
		case c.Verdict != Inconclusive:
		case count[load.Success] > 0 && slices.ContainsFunc(gates, lacks):
			add("too few successes: %s %s", c.Name, c.Why)
		case c.Unit == Truth && c.Observed != nil: // what it asks is known; what that means for the run is not
			add("%s: no, %s", c.Name, c.Why)
		default:
			add("%s can't be told: %s", c.Name, c.Why)
		}
	}
	if failed := count[load.Failure]; len(gates) == 0 && failed > 0 {
		add("%s failed, and no gate says how many may", part(failed, r.Sent))
	}
	return open
}

// ofSuccesses says whether all that the gate's subject has are successes.
func (g Gate) ofSuccesses(r *load.Result) bool {
	kinds := map[load.Kind]bool{}
	for _, s := range r.Series {
		if g.has(s) {
			kinds[s.Kind] = true
		}
	}
	return g.Subject == string(load.Success) || kinds[load.Success] && len(kinds) == 1
}

func number(n int64) string { return Count.Text(float64(n)) }

// part is a share of requests in words: "2 of 1,000 requests (0.20 %)".
func part(n, of int64) string {
	return fmt.Sprintf("%s of %s requests (%s)", number(n), number(of), Share.Text(float64(n)/float64(max(of, 1))))
}
