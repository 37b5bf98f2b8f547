package compare

import (
	"maps"
	"math"
	"slices"

	"gatehouse/internal/load"
	"gatehouse/internal/load/report"
)

// bySummary compares what two summaries say of each outcome over all requests.
func (c *Comparison) bySummary() {
	old, now := c.sides[0], c.sides[1]
	paired := [2][]string{}
	for _, keys := range report.Counterparts(old.Summary.Outcomes, now.Summary.Outcomes) {
		o, n := old.Summary.Outcomes[keys[0]], now.Summary.Outcomes[keys[1]]
		paired[0], paired[1] = append(paired[0], keys[0]), append(paired[1], keys[1])
		known := n // of the two, who says that it was meant
		if n.Kind == load.Failure {
			known = o
		}
		before, after := o.Latency.Percentiles(), n.Latency.Percentiles()
		for i, p := range percentiles {
			if known.Kind == load.Failure || before[i] == nil || after[i] == nil || min(o.Count, n.Count) < load.Needed(p.q) {
				continue
			}
			cell := Cell{Name: known.Name, Kind: known.Kind, Stat: p.stat, Old: max(*before[i], shortest), New: max(*after[i], shortest)}
			cell.Ratio = cell.New / cell.Old
			cell.bound(ordered(old.Windows, keys[0], p.q), ordered(now.Windows, keys[1], p.q))
			c.Cells = append(c.Cells, cell)
		}
	}
	for i, side := range c.sides {
		if side.Windows == nil {
			c.note("%s is a summary alone: nothing is known of how much its figures vary", side.Name)
		}
		for _, key := range slices.Sorted(maps.Keys(side.Summary.Outcomes)) {
			if o := side.Summary.Outcomes[key]; o.Kind != load.Failure && !slices.Contains(paired[i], key) {
				c.note("%s of %s has no counterpart", o.Name, side.Name)
			}
		}
	}
}

// bound gives the ratio the interval that follows from those of its parts. What
// has none is taken as exact: the cell is of a summary alone.
func (c *Cell) bound(old, now *[2]float64) {
	if old == nil && now == nil {
		return
	}
	parts := [2][2]float64{{c.Old, c.Old}, {c.New, c.New}}
	for i, own := range []*[2]float64{old, now} {
		if own != nil {
			parts[i] = [2]float64{min(own[0], parts[i][0]), max(own[1], parts[i][1])}
		}
	}
	low, high := parts[1][0]/parts[0][1], parts[1][1]/parts[0][0]
	c.Low, c.High = &low, &high
}

// ordered is the 95 % interval of a quantile, in milliseconds, by the order of
// the times alone: as if each request were by itself. It is nil where a run has
// no windows.
func ordered(windows []report.Window, key string, q float64) *[2]float64 {
	var own []report.Window
	for _, w := range windows {
		if w.Key == key {
			own = append(own, w)
		}
	}
	bins, n := merged(own)
	if n == 0 {
		return nil
	}
	half := 1.96 * math.Sqrt(float64(n)*q*(1-q))
	return &[2]float64{ranked(bins, float64(n)*q-half), ranked(bins, float64(n)*q+half)}
}

// ranked is the time that so many are not above, in milliseconds.
func ranked(bins []load.Bin, rank float64) float64 {
	var upTo float64
	for _, b := range bins {
		if upTo+float64(b.Count) >= rank {
			return within(b, max(rank-upTo, 0)/float64(b.Count))
		}
		upTo += float64(b.Count)
	}
	return within(bins[len(bins)-1], 1)
}
