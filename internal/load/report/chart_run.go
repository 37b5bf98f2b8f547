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
	if n := len(p.Result.Samples); n > 0 {
		end = float64(p.Result.Samples[n-1].Second + 1)
	}
	var at, rate float64
	for _, s := range p.Stages {
		m := mark{at: at, wide: s.Duration.Seconds(), label: axisRate(s.Rate)}
		if s.Rate != rate {
			m.label = "→ " + m.label
		}
		if m.wide > 0 {
			stages = append(stages, m)
		}
		at, rate = at+m.wide, s.Rate
	}
	return clock(max(end, at)), stages
}

// over is one value of each second, in the second's middle.
func (p *page) over(pick func([]float64) float64, value func(*load.Sample) float64) []point {
	points := make([]point, 0, len(p.Result.Samples))
	for _, s := range p.Result.Samples {
		points = append(points, point{float64(s.Second) + 0.5, value(s)})
	}
	return thin(points, chartPoints, pick)
}

// each says what a point of a line stands for where that is not one second.
func (p *page) each(what string) string {
	n := (len(p.Result.Samples) + chartPoints - 1) / chartPoints
	if n <= 1 {
		return ""
	}
	return fmt.Sprintf(" A point is the %s of %d seconds.", what, n)
}

// RateChart is the rate that was planned, sent and answered.
func (p *page) RateChart() plot {
	planned := []point{{0, 0}}
	var at float64
	for _, s := range p.Stages {
		if s.Duration == 0 { // a step
			planned = append(planned, point{at, s.Rate})
			continue
		}
		at += s.Duration.Seconds()
		planned = append(planned, point{at, s.Rate})
	}
	c := chart{
		title: "Requests a second",
		note:  "Planned is what was due by the stages." + p.each("mean"),
		lines: []line{
			{"planned", "planned", true, planned},
			{"sent", "sent", false, p.over(meanOf, func(s *load.Sample) float64 { return float64(s.Sent) })},
			{"answered", "answered", false, p.over(meanOf, func(s *load.Sample) float64 { return float64(s.Answered) })},
		},
	}
	c.x, c.marks = p.timeline()
	_, high := extent(c.lines)
	c.y = linear(high, axisRate)
	return c.plot()
}

// LatencyCharts are the percentiles of each second, one chart an outcome.
func (p *page) LatencyCharts() []plot {
	var plots []plot
	for _, s := range p.drawn() {
		quantile := func(of func(load.Window) time.Duration) []point {
			return p.over(slices.Max[[]float64], func(sample *load.Sample) float64 {
				for _, w := range sample.Windows {
					if w.Request == "" && w.Key == s.Key && w.Count > 0 {
						return milliseconds(of(w))
					}
				}
				return math.NaN()
			})
		}
		c := chart{
			title: s.Name + ": latency",
			note:  p.each("highest"),
			lines: []line{
				{"p99", "l2", false, quantile(func(w load.Window) time.Duration { return w.P99 })},
				{"p95", "l3", false, quantile(func(w load.Window) time.Duration { return w.P95 })},
				{"p50", "l1", false, quantile(func(w load.Window) time.Duration { return w.P50 })},
			},
		}
		c.x, c.marks = p.timeline()
		low, high := extent(c.lines)
		c.y = logarithmic(low, high, span)
		plots = append(plots, c.plot())
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
		for _, step := range s.Latency.Curve() {
			x := float64(s.Count())
			if step.Share < 1 {
				x = 1 / (1 - step.Share)
			}
			if n := len(points); n > 0 && points[n-1].x >= x { // of one answer alone
				points = points[:n-1]
			}
			most = max(most, x)
			points = append(points, point{x, milliseconds(step.Time)})
		}
		c.lines = append(c.lines, line{s.Name, fmt.Sprintf("l%d", i+1), false, points})
	}
	c.x = nines(most)
	low, high := extent(c.lines)
	c.y = logarithmic(low, high, span)
	return c.plot()
}

// LimitChart is how a target's limits engage: successes beside what was
// refused and meant to be.
func (p *page) LimitChart() plot {
	of := func(k load.Kind) []point {
		return p.over(meanOf, func(s *load.Sample) float64 { return float64(ended(s, k)) })
	}
	c := chart{
		title: "Successes and refusals a second",
		note:  p.each("mean"),
		lines: []line{
			{"successes", "l1", false, of(load.Success)},
			{"expected refusals", "l2", false, of(load.Expected)},
			{"failures", "l4", false, of(load.Failure)},
		},
	}
	if _, high := extent(c.lines[2:]); high == 0 {
		c.lines = c.lines[:2]
	}
	c.x, c.marks = p.timeline()
	if at, ok := p.FirstRefusal(); ok {
		c.marks = append(c.marks, mark{at: at, label: "first refusal " + minutes(at)})
	}
	_, high := extent(c.lines)
	c.y = linear(high, axisRate)
	return c.plot()
}

// LagChart is how late the generator itself was: what says whether the other
// figures can be believed.
func (p *page) LagChart() plot {
	const bound = 2.0 // milliseconds: below it a run is never void for its lag
	c := chart{
		title: "Lag of the generator",
		note:  "From the time a request was due to the time it was sent." + p.each("highest"),
		lines: []line{
			{"longest", "l2", false, p.over(slices.Max[[]float64], func(s *load.Sample) float64 { return milliseconds(s.LagMax) })},
			{"p99", "l1", false, p.over(slices.Max[[]float64], func(s *load.Sample) float64 { return milliseconds(s.LagP99) })},
		},
	}
	c.x, c.marks = p.timeline()
	c.marks = append(c.marks, mark{at: bound, level: true, label: "p99 up to here is always fine"})
	low, high := extent(c.lines)
	c.y = logarithmic(low, max(high, 2*bound), span)
	return c.plot()
}

// drawn is the outcomes that charts have room for.
func (p *page) drawn() []*load.Series {
	return p.Outcomes[:min(len(p.Outcomes), chartOutcomes)]
}

// Undrawn is how many outcomes are in tables alone.
func (p *page) Undrawn() int { return len(p.Outcomes) - len(p.drawn()) }

// FirstRefusal is the first second in which something was refused as expected.
func (p *page) FirstRefusal() (second float64, ok bool) {
	for _, s := range p.Result.Samples {
		if ended(s, load.Expected) > 0 {
			return float64(s.Second), true
		}
	}
	return 0, false
}

// ended is how many requests came to an outcome of a kind in a second.
func ended(s *load.Sample, k load.Kind) (n int64) {
	for _, w := range s.Windows {
		if w.Request == "" && w.Kind == k {
			n += w.Count
		}
	}
	return n
}
