package compare

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

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
	// lessLoad is the share of the old run's requests a second that the new one must
	// have sent: with less to do everything is fast.
	lessLoad = 0.9
)

// open takes a pass away, and says why.
func (c *Comparison) open(format string, args ...any) {
	if c.Gate.Verdict == gate.Pass {
		c.Gate.Verdict = gate.Inconclusive
	}
	c.Gate.Reasons = append(c.Gate.Reasons, fmt.Sprintf(format, args...))
}

// conclude gives both answers.
func (c *Comparison) conclude() {
	old, now := c.sides[0].Summary, c.sides[1].Summary
	seconds := float64(c.Seconds)
	switch {
	case c.SummaryAlone:
		seconds = now.DurationSeconds
	case c.Seconds < minSeconds:
		more := minSeconds - c.Seconds
		c.Gate.More = &more
		c.open("only %d seconds of a steady rate to compare, and it takes %d", c.Seconds, minSeconds)
	default:
		c.changes()
	}
	succeeded := false
	for i := range c.Cells {
		cell := &c.Cells[i]
		cell.judge(c.MaxRatio, seconds, c.SummaryAlone)
		succeeded = succeeded || cell.Kind == load.Success && cell.Stat == "p95" // else there were too few
		switch {
		case cell.Verdict == gate.Fail:
			c.open("%s %s is certainly above %g times", cell.Name, cell.Stat, c.MaxRatio)
			c.Gate.Verdict = gate.Fail
		case cell.Verdict == gate.Inconclusive && cell.Low != nil:
			c.open("%s %s may be above %g times, or below", cell.Name, cell.Stat, c.MaxRatio)
			if cell.More != nil && (c.Gate.More == nil || *cell.More > *c.Gate.More) {
				c.Gate.More = cell.More
			}
		}
	}
	if !succeeded {
		c.open("no success was compared, or too few for a p95: there is no evidence that anything works")
	}
	if was, is := old.Rate.Achieved, now.Rate.Achieved; is > 0 && is < lessLoad*was {
		c.open("%s sent %.4g requests a second, and %s %.4g: with less to do everything is fast", c.New, is, c.Old, was)
	}
	if now.ClosedModel {
		c.open("%s may be of a closed model: what waited to be sent is in none of its latencies", c.New)
	}
	if old.Target == now.Target && !old.StartedAt.IsZero() && old.StartedAt.Equal(now.StartedAt) {
		c.open("both are the same run")
	}
	if was, is := failures(old), failures(now); is > was+moreFailures {
		c.open("%.1f %% of %s failed or were not sent, against %.1f %%: latencies are of the others", 100*is, c.New, 100*was)
	}
	for _, told := range report.Shifts(old, now) {
		c.open("%s", told)
	}
	for _, side := range c.sides {
		if v := side.Summary.Verdict; v != "" && v != gate.Pass { // another tool's may have none
			c.open("%s did not pass itself: %s", side.Name, strings.Join(append([]string{string(v)}, side.Summary.Reasons[:min(1, len(side.Summary.Reasons))]...), ", "))
		}
		if side.Summary.Interrupted {
			c.open("%s was interrupted after %.0f s", side.Name, side.Summary.DurationSeconds)
		}
		if side.Summary.Generator.Saturated {
			c.open("the generator of %s was the bottleneck: it says nothing of the target", side.Name)
			c.Gate.Verdict, c.Change.Answer = gate.Inconclusive, Unknown
			for i := range c.Cells {
				c.Cells[i].Change = Unknown
			}
		}
	}
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

// changes says which cells have changed, and so whether anything has.
//
// It is Holm's correction: the clearest must be clear for all cells, the next for
// one less, until one is not. Then it must be more than either run differs from
// itself: an interval knows of nothing that goes in waves as long as a run.
func (c *Comparison) changes() {
	order := make([]*Cell, len(c.Cells))
	for i := range c.Cells {
		order[i] = &c.Cells[i]
		order[i].Change = None
	}
	slices.SortStableFunc(order, func(a, b *Cell) int { return cmp.Compare(a.p, b.p) })
	if c.Change.Of = len(order); len(order) > 0 {
		c.Change.Answer = None
	}
	drifted := 0
	for rank, cell := range order {
		if cell.p > level/float64(len(order)-rank) {
			break
		}
		switch {
		case math.Abs(math.Log(cell.Ratio)) <= cell.drift:
			cell.Change = Drift
			drifted++
			continue
		case cell.Ratio < 1:
			cell.Change = Faster
		default:
			cell.Change = Slower
		}
		if c.Change.Answer != None && c.Change.Answer != cell.Change {
			c.Change.Answer = Mixed
		} else {
			c.Change.Answer = cell.Change
		}
	}
	if drifted > 0 {
		c.note("%d of %d ratios differ from 1, but by no more than a run differs from itself: that is no change", drifted, len(order))
	}
}

// judge holds a cell to the limit: by its interval, or by its ratio where
// nothing is known of how much either figure varies.
func (c *Cell) judge(limit, seconds float64, summaryAlone bool) {
	c.Verdict, c.Change = gate.Inconclusive, cmp.Or(c.Change, Unknown)
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
		// An interval is as wide as the root of the time is short: of it that half
		// which reaches over the limit.
		half := *high - c.Ratio
		if c.Ratio > limit {
			half = c.Ratio - *low
		}
		if more := seconds*math.Pow(half/(limit-c.Ratio), 2) - seconds; more < worthwhile {
			whole := max(int(math.Ceil(more)), 1)
			c.More = &whole
		}
	}
}
