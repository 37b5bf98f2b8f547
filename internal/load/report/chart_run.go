package report

import (
	"fmt"
	"math"
	"slices"
	"time"

	"gatehouse/internal/load"
)

// A page stays small and quick to draw however long the run was and however
// many outcomes it had.
const (
	chartPoints   = 600 // of one line: about one a pixel and a half
	chartOutcomes = 6   // as many as there are styles of lines in page.css
)

// timeline is the scale of a run's seconds, and a mark for each stage.
func (p *page) timeline() (x scale, stages []mark) {
	end := 1.0
	if n := len(p.Seconds.all); n > 0 {
		end = float64(p.Seconds.all[n-1].Second + 1)
	}
	var at, rate float64
	for _, s := range p.Stages {
		m := mark{at: at, wide: s.Seconds, label: axisRate(s.Rate)}
		if s.Rate != rate {
			m.label = "→ " + m.label
		}
		if m.wide > 0 {
			stages = append(stages, m)
		}
		at, rate = at+m.wide, s.Rate
	}
	return clock(min(max(end, at), float64(lastSecond))), stages
}

// over is one value of each second, in the second's middle. Of a long run a
// point stands for several, by what pick makes of their values, gaps left out.
func (p *page) over(pick func([]float64) float64, value func(*load.Sample) float64) []point {
	var points []point
	for group := range slices.Chunk(p.Seconds.all, p.each()) {
		q := point{float64(group[0].Second+group[len(group)-1].Second+1) / 2, math.NaN()}
		var ys []float64
		for _, s := range group {
			if y := value(s); !math.IsNaN(y) {
				ys = append(ys, y)
			}
		}
		if len(ys) > 0 {
			q.y = pick(ys)
		}
		points = append(points, q)
	}
	return points
}

// each is how many seconds a point stands for.
func (p *page) each() int { return max(1, (len(p.Seconds.all)+chartPoints-1)/chartPoints) }

// rates is a number of each whole second, until no more is due: those in which
// the last answers are awaited would show a fall that is none.
func (p *page) rates(value func(*load.Sample) int64) []point {
	return p.over(meanOf, func(s *load.Sample) float64 {
		if s.Second > 0 && float64(s.Second+1) > min(p.PlannedSeconds, p.DurationSeconds) {
			return math.NaN()
		}
		return float64(value(s))
	})
}

func (p *page) note(what string) string {
	if p.each() == 1 {
		return ""
	}
	return fmt.Sprintf(" A point is the %s of %d seconds.", what, p.each())
}

func meanOf(ys []float64) float64 {
	var sum float64
	for _, y := range ys {
		sum += y
	}
	return sum / float64(len(ys))
}

// draw is a chart over the run's seconds, unless it has an axis of its own,
// with rates or times upwards.
func (p *page) draw(c chart, times bool) plot {
	if c.x.label == nil {
		c.x, c.marks = p.timeline()
	}
	low, high, _ := extent(c.lines...)
	if c.y = linear(high.y, axisRate); times {
		c.y = logarithmic(low.y, high.y, span)
	}
	return c.plot()
}

// RateChart is the rate that was planned, sent and answered.
func (p *page) RateChart() plot {
	planned := []point{{0, 0}}
	var at float64
	for _, s := range p.Stages { // one without a duration is a step
		at += s.Seconds
		planned = append(planned, point{at, s.Rate})
	}
	return p.draw(chart{
		title: "Requests a second",
		note:  "Planned is what was due by the stages." + p.note("mean"),
		lines: []line{
			{"planned", "planned", append(planned, point{at, 0})},
			{"sent", "sent", p.rates(func(s *load.Sample) int64 { return s.Sent })},
			{"answered", "answered", p.rates(func(s *load.Sample) int64 { return s.Answered })},
		},
	}, false)
}

// LatencyCharts are the times of each second, one chart an outcome.
func (p *page) LatencyCharts() []plot {
	var plots []plot
	for _, s := range p.drawn() {
		times := func(needed int64, of func(load.Window) time.Duration) []point {
			return p.over(slices.Max[[]float64], func(sample *load.Sample) float64 {
				for _, w := range sample.Windows {
					if w.Key == s.Key && w.Count >= needed {
						return milliseconds(of(w))
					}
				}
				return math.NaN()
			})
		}
		plots = append(plots, p.draw(chart{
			title: s.Name + ": latency",
			note:  fmt.Sprintf("A second's p95 is drawn where it had %d requests or more.", load.Needed(0.95)) + p.note("highest"),
			lines: []line{
				{"longest", "l2", times(1, func(w load.Window) time.Duration { return w.Max })},
				{"p95", "l3", times(load.Needed(0.95), func(w load.Window) time.Duration { return w.P95 })},
				{"p50", "l1", times(1, func(w load.Window) time.Duration { return w.P50 })},
			},
		}, true))
	}
	return plots
}

// CurveChart is each outcome's latency by percentile.
func (p *page) CurveChart() plot {
	c := chart{
		title: "Latency by percentile",
		note:  "Each nine has as much room as the one before. A curve ends where there are too few answers to know more, and its last point is the longest of all.",
	}
	most := 1.0
	for i, s := range p.drawn() {
		var points []point
		for _, step := range p.Seconds.times[s.Key].Curve() {
			x := min(1/(1-step.Share), float64(s.Count))       // the last share is all of them
			if n := len(points); n > 0 && points[n-1].x >= x { // of one answer alone
				points = points[:n-1]
			}
			most = max(most, x)
			points = append(points, point{x, milliseconds(step.Time)})
		}
		c.lines = append(c.lines, line{s.Name, fmt.Sprintf("l%d", i+1), points})
	}
	c.x = nines(most)
	return p.draw(c, true)
}

// LimitChart is how a target's limits engage: successes beside what was
// refused and meant to be.
func (p *page) LimitChart() plot {
	of := func(k load.Kind) []point {
		return p.rates(func(s *load.Sample) int64 { return p.ended(s, k) })
	}
	c := chart{
		title: "Successes and refusals a second",
		note:  p.note("mean"),
		lines: []line{
			{"successes", "l1", of(load.Success)},
			{"expected refusals", "l2", of(load.Expected)},
		},
	}
	if len(p.Failures()) > 0 {
		c.lines = append(c.lines, line{"failures", "l4", of(load.Failure)})
	}
	return p.draw(c, false)
}

// drawn is the outcomes that charts have room for.
func (p *page) drawn() []series { return p.Overall[:min(len(p.Overall), chartOutcomes)] }

// Undrawn is how many outcomes are in tables alone.
func (p *page) Undrawn() int { return len(p.Overall) - len(p.drawn()) }

// Refused is the first second in which something was refused as expected; nil
// if there is none.
func (p *page) Refused() *float64 {
	for _, s := range p.Seconds.all {
		if second := float64(s.Second); p.ended(s, load.Expected) > 0 {
			return &second
		}
	}
	return nil
}

// ended is how many requests came to an outcome of a kind in a second.
func (p *page) ended(s *load.Sample, k load.Kind) (n int64) {
	for _, w := range s.Windows {
		if p.Outcomes[w.Key].Kind == k {
			n += w.Count
		}
	}
	return n
}
