package compare

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

const (
	// level is how often two runs of the same software may show a change.
	level = 0.05
	// worthwhile is the longest wait that is told, in seconds: beyond it the ratio
	// lies on the limit, and more of the same would not decide.
	worthwhile = 86_400
	// moreFailures is the share of requests by which the new run may fail more
	// often: latencies of what succeeded say nothing of the rest.
	moreFailures = 0.01
)

// conclude gives both answers.
func (c *Comparison) conclude(old, now Side) {
	seconds := float64(c.Seconds)
	if c.SummaryAlone {
		seconds = now.Summary.DurationSeconds
	}
	c.judge(seconds)
	c.Gate = Gate{Verdict: gate.Pass, Reasons: []string{}}
	open := func(format string, args ...any) {
		c.Gate.Verdict = gate.Inconclusive
		c.Gate.Reasons = append(c.Gate.Reasons, fmt.Sprintf(format, args...))
	}
	var failed []string
	succeeded := false
	for _, cell := range c.Cells {
		succeeded = succeeded || cell.Kind == load.Success
		switch cell.Verdict {
		case gate.Fail:
			failed = append(failed, fmt.Sprintf("%s %s is certainly above %g times", cell.Name, cell.Stat, c.MaxRatio))
		case gate.Inconclusive:
			if cell.More != nil && (c.Gate.More == nil || *cell.More > *c.Gate.More) {
				c.Gate.More = cell.More
			}
			if cell.Low != nil {
				open("%s %s may be above %g times, or below", cell.Name, cell.Stat, c.MaxRatio)
			}
		}
	}
	if !c.SummaryAlone && c.Seconds < minSeconds {
		open("only %d seconds of a steady rate to compare, and it takes %d", c.Seconds, minSeconds)
		more := minSeconds - c.Seconds
		c.Gate.More = &more
	}
	if !succeeded {
		open("no success was compared: there is no evidence that anything works")
	}
	if now.Summary.ByRequest != nil {
		unlikeWork(old, now, open)
	}
	if was, is := failures(old.Summary), failures(now.Summary); is > was+moreFailures {
		open("%.1f %% of %s failed or were not sent, against %.1f %%: latencies are of the others", 100*is, now.Name, 100*was)
	}
	for _, side := range []Side{old, now} {
		if side.Summary.Interrupted {
			open("%s was interrupted after %.0f s", side.Name, side.Summary.DurationSeconds)
		}
	}
	if failed != nil {
		c.Gate = Gate{Verdict: gate.Fail, Reasons: append(failed, c.Gate.Reasons...)}
	}
	for _, side := range []Side{old, now} {
		if side.Summary.Generator.Saturated {
			open("the generator of %s was the bottleneck: it says nothing of the target", side.Name)
			c.Change.Answer = Unknown
			for i := range c.Cells {
				c.Cells[i].Change = Unknown
			}
		}
	}
}

// unlikeWork tells of outcomes that are far rarer in one run than in the other:
// the requests did not do the same work then, so their times say little.
func unlikeWork(old, now Side, open func(string, ...any)) {
	for _, request := range slices.Sorted(maps.Keys(old.Summary.ByRequest)) {
		was, is := old.Summary.ByRequest[request], now.Summary.ByRequest[request]
		keys := slices.Concat(slices.Collect(maps.Keys(was)), slices.Collect(maps.Keys(is)))
		slices.Sort(keys)
		for _, key := range slices.Compact(keys) {
			o, n := was[key], is[key]
			a, b := share(o.Count, was), share(n.Count, is)
			succeeds := o.Kind == load.Success || n.Kind == load.Success
			if succeeds && max(o.Count, n.Count) >= load.Needed(0.95) && min(a, b) < max(a, b)/2 {
				open("%s/%s is %.1f %% of that request in %s, and %.1f %% in %s", request, cmp.Or(n.Name, o.Name), 100*a, old.Name, 100*b, now.Name)
			}
		}
	}
}

// share is that of so many of a request's outcomes.
func share(n int64, of map[string]report.Outcome) float64 {
	var all int64
	for _, o := range of {
		all += o.Count
	}
	return float64(n) / float64(max(all, 1))
}

// failures is the share of requests that came to nothing.
func failures(s *report.Summary) float64 {
	bad, all := s.Requests.Unsent, s.Requests.Unsent
	for _, o := range s.Outcomes {
		all += o.Count
		if o.Kind == load.Failure {
			bad += o.Count
		}
	}
	return float64(bad) / float64(max(all, 1))
}

// judge gives each cell its verdict, and all of them the answer whether there
// is a change.
func (c *Comparison) judge(seconds float64) {
	for i := range c.Cells {
		c.Cells[i].judge(c.MaxRatio, seconds, c.SummaryAlone)
	}
	c.Change = Change{Answer: Unknown, Of: len(c.Cells)}
	if c.SummaryAlone || c.Seconds < minSeconds || len(c.Cells) == 0 {
		return
	}
	// Holm's correction: the clearest must be clear for all cells, the next for
	// one less, until one is not.
	order := make([]int, len(c.Cells))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(c.Cells[a].p, c.Cells[b].p) })
	answers := map[Answer]bool{}
	for _, i := range order {
		c.Cells[i].Change = None
	}
	for rank, i := range order {
		cell := &c.Cells[i]
		if cell.p > level/float64(len(order)-rank) {
			break
		}
		cell.Change = Slower
		if cell.Ratio < 1 {
			cell.Change = Faster
		}
		answers[cell.Change] = true
	}
	switch {
	case answers[Slower] && answers[Faster]:
		c.Change.Answer = Mixed
	case answers[Slower]:
		c.Change.Answer = Slower
	case answers[Faster]:
		c.Change.Answer = Faster
	default:
		c.Change.Answer = None
	}
}

// judge holds a cell to the limit: by its interval, or by its ratio where
// nothing is known of how much either figure varies.
func (c *Cell) judge(limit, seconds float64, summaryAlone bool) {
	c.Verdict, c.Change = gate.Inconclusive, Unknown
	low, high := c.Low, c.High
	if low == nil && summaryAlone {
		low, high = &c.Ratio, &c.Ratio
	}
	switch {
	case low == nil:
	case *low > limit:
		c.Verdict = gate.Fail
	case *high < limit:
		c.Verdict = gate.Pass
	default:
		// An interval is as wide as the root of the time is short.
		half := (*high - *low) / 2
		if more := seconds*math.Pow(half/(limit-c.Ratio), 2) - seconds; more < worthwhile {
			whole := max(int(math.Ceil(more)), 1)
			c.More = &whole
		}
	}
}
