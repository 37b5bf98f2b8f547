package compare

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"gatehouse/internal/load"
	"gatehouse/internal/load/report"
)

// bySummary compares what two summaries say of each outcome over all requests.
func (c *Comparison) bySummary(old, now Side) {
	for _, side := range []Side{old, now} {
		if side.Windows == nil {
			c.Notes = append(c.Notes, side.Name+" is a summary alone: nothing is known of how much its figures vary")
		}
	}
	counterparts := report.Counterparts(old.Summary.Outcomes, now.Summary.Outcomes)
	for _, keys := range counterparts {
		o, n := old.Summary.Outcomes[keys[0]], now.Summary.Outcomes[keys[1]]
		if o.Kind == load.Failure && n.Kind == load.Failure {
			continue
		}
		ours := n // who knows better what it meant
		if o.Kind != load.Failure && n.Kind == load.Failure {
			ours = o
		}
		theirs, mine := o.Latency.Percentiles(), n.Latency.Percentiles()
		for i, p := range percentiles {
			if theirs[i] == nil || mine[i] == nil || *theirs[i] <= 0 || *mine[i] <= 0 {
				continue
			}
			cell := Cell{Name: ours.Name, Kind: ours.Kind, Stat: p.stat, Old: *theirs[i], New: *mine[i], Ratio: *mine[i] / *theirs[i], p: 1}
			cell.bound(ordered(old.Windows, keys[0], p.q), ordered(now.Windows, keys[1], p.q))
			c.Cells = append(c.Cells, cell)
		}
	}
	for _, side := range []struct {
		Side
		at int
	}{{old, 0}, {now, 1}} {
		for _, key := range slices.Sorted(maps.Keys(side.Summary.Outcomes)) {
			o := side.Summary.Outcomes[key]
			if o.Kind != load.Failure && !slices.ContainsFunc(counterparts, func(keys [2]string) bool { return keys[side.at] == key }) {
				c.Notes = append(c.Notes, fmt.Sprintf("%s of %s has no counterpart", o.Name, side.Name))
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
	low, high := c.New, c.New
	if now != nil {
		low, high = min(now[0], low), max(now[1], high)
	}
	least, most := c.Old, c.Old
	if old != nil {
		least, most = min(old[0], least), max(old[1], most)
	}
	low, high = low/most, high/least
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
	bins := merged(own)
	var n int64
	for _, b := range bins {
		n += b.Count
	}
	if n == 0 {
		return nil
	}
	at := func(rank float64) float64 {
		var upTo float64
		for _, b := range bins {
			if upTo+float64(b.Count) >= rank {
				return within(b, max(rank-upTo, 0)/float64(b.Count))
			}
			upTo += float64(b.Count)
		}
		return within(bins[len(bins)-1], 1)
	}
	half := 1.96 * math.Sqrt(float64(n)*q*(1-q))
	return &[2]float64{at(float64(n)*q - half), at(float64(n)*q + half)}
}

func millis(logarithm float64) float64 { return math.Round(math.Exp(logarithm)*1e3) / 1e3 }
