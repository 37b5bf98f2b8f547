package report

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
)

// labels writes a scale's ticks, with what may be left out in brackets.
func labels(s scale) string {
	var all []string
	for _, v := range slices.Sorted(slices.Values(slices.Concat(s.ticks, s.minor))) {
		text := s.label(v)
		if slices.Contains(s.minor, v) {
			text = "(" + text + ")"
		}
		all = append(all, text)
	}
	return strings.Join(all, ", ")
}

func TestScales(t *testing.T) {
	tests := []struct {
		name string
		s    scale
		want string
	}{
		{"rates", linear(353, axisRate), "0/s, 100/s, 200/s, 300/s, 400/s"},
		{"a rate below one", linear(0.3, axisRate), "0/s, 0.1/s, 0.2/s, 0.3/s"},
		{"a great rate", linear(1e6, axisRate), "0/s, 200,000/s, 400,000/s, 600,000/s, 800,000/s, 1,000,000/s"},
		{"no rate", linear(0, axisRate), "0/s, 0.2/s, 0.4/s, 0.6/s, 0.8/s, 1/s"},
		{"one second", clock(1), "0:00, 0:01"},
		{"twenty seconds", clock(20), "0:00, (0:05), 0:10, (0:15), 0:20"},
		{"nine minutes", clock(541), "0:00, (2:00), 4:00, (6:00), 8:00"},
		{"a day", clock(86_400), "0:00, (3:00:00), 6:00:00, (9:00:00), 12:00:00, (15:00:00), 18:00:00, (21:00:00), 24:00:00"},
		{"one time", logarithmic(3, 3, span), "2 ms, 5 ms, 10 ms, 20 ms"},
		{"times", logarithmic(0.6, 18, span), "500 µs, 1 ms, 2 ms, 5 ms, 10 ms, 20 ms"},
		{"a wide range of times", logarithmic(0.03, 10_000, span), "10 µs, 100 µs, 1 ms, 10 ms, 100 ms, 1 s, 10 s"},
		{"no time", logarithmic(0, 0, span), "1 µs, 2 µs, 5 µs, 10 µs"},
		{"percentiles", nines(1000), "50 %, (75 %), 90 %, (95 %), 99 %, 99.9 %"},
		{"percentiles of many", nines(1e6), "50 %, (75 %), 90 %, (95 %), 99 %, 99.9 %, (99.99 %), 99.999 %, (99.9999 %)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := labels(tt.s); got != tt.want {
				t.Errorf("ticks %s\nwant  %s", got, tt.want)
			}
			if tt.s.at(tt.s.low) != 0 || tt.s.at(tt.s.high) != 1 || tt.s.at(2*tt.s.high) != 1 {
				t.Errorf("the ends are at %v and %v", tt.s.at(tt.s.low), tt.s.at(tt.s.high))
			}
		})
	}
}

// Whatever was measured lies inside its scale, and ticks stay few.
func TestLogarithmicHoldsAll(t *testing.T) {
	for low := 0.001; low < 4e6; low *= 1.37 {
		for high := low; high < 4e6; high *= 1.71 {
			s := logarithmic(low, high, span)
			if s.low > low*(1+1e-6) || s.high < high*(1-1e-6) || s.high < 10*s.low*(1-1e-6) {
				t.Fatalf("%v to %v is on a scale of %v to %v", low, high, s.low, s.high)
			}
			if len(s.ticks) < 3 || len(s.ticks) > 11 {
				t.Fatalf("%v to %v has %d ticks", low, high, len(s.ticks))
			}
		}
	}
}

func TestALongRunIsThinned(t *testing.T) {
	p := &page{Report: &Report{Summary: &Summary{}}}
	if got := p.over(meanOf, nil); len(got) != 0 {
		t.Errorf("points of nothing: %v", got)
	}
	for second := range 2*chartPoints - 1 {
		p.Seconds.all = append(p.Seconds.all, &load.Sample{Second: second})
	}
	value := func(s *load.Sample) float64 { // 5, 3, then a gap of three, then 2 and a last one alone
		switch s.Second {
		case 2, 3, 4:
			return math.NaN()
		case 0:
			return 5
		case 1:
			return 3
		}
		return 2
	}
	got := p.over(slices.Max[[]float64], value)
	if len(got) != chartPoints || got[0] != (point{1, 5}) || !math.IsNaN(got[1].y) || got[2] != (point{5, 2}) || got[chartPoints-1] != (point{2*chartPoints - 1.5, 2}) {
		t.Errorf("by the highest: %v … %v", got[:3], got[chartPoints-1])
	}
	if got := p.over(meanOf, value); got[0] != (point{1, 4}) {
		t.Errorf("by the mean: %v", got[0])
	}
}

func TestASecondIsDrawnAsFarAsItTells(t *testing.T) {
	p := &page{Report: &Report{Summary: &Summary{PlannedSeconds: 2.5, DurationSeconds: 4}}}
	p.Overall = []series{{"", "201", Outcome{Name: "created"}}}
	for second := range 4 {
		w := load.Window{Key: "201", Count: int64(71 + second%2), P50: 1, P95: 2, Max: 4}
		p.Seconds.all = append(p.Seconds.all, &load.Sample{Second: second, Sent: 9, Windows: []load.Window{w}})
	}
	rates := p.rates(func(s *load.Sample) int64 { return s.Sent })
	if rates[1].y != 9 || !math.IsNaN(rates[2].y) || !math.IsNaN(rates[3].y) {
		t.Errorf("rates %v, want those of whole seconds while something is due", rates)
	}
	names := func() (all string) {
		for _, l := range p.LatencyCharts()[0].Lines {
			all += l.Name + " "
		}
		return all
	}
	if got := p.LatencyCharts()[0].Lines[1]; names() != "longest p95 p50 " || strings.Count(got.Dots, "M") != 2 {
		t.Errorf("lines %s, p95 %+v", names(), got)
	}
	for _, s := range p.Seconds.all {
		s.Windows[0].Count = 71
	}
	if names() != "longest p50 " {
		t.Errorf("lines %s, and no second tells a p95", names())
	}
}

func TestPlot(t *testing.T) {
	nan := math.NaN()
	c := chart{
		x: clock(4), y: linear(10, axisRate),
		lines: []line{
			{"broken", "l1", []point{{0, 0}, {1, 10}, {2, nan}, {3, 5}, {4, nan}}},
			{"empty", "l2", []point{{0, nan}}},
			{"whole", "l3", []point{{0, 0}, {4, 10}}},
		},
		marks: []mark{{at: 1, wide: 2, label: "stage"}, {at: 3.8, wide: 0.2, label: "no room"}},
	}
	p := c.plot()
	want := []path{
		{Name: "broken", Style: "l1", D: "M0.0 1000.0L250.0 0.0", Dots: "M750.0 500.0h.1"},
		{Name: "whole", Style: "l3", D: "M0.0 1000.0L1000.0 0.0"},
	}
	if diff := cmp.Diff(want, p.Lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	marks := []placed{
		{At: "25.00", Label: "stage", Middle: "50.00"}, {At: "95.00", Middle: "97.50", Minor: true},
	}
	if diff := cmp.Diff(marks, p.Marks); diff != "" {
		t.Errorf("marks (-want +got):\n%s", diff)
	}
	if want := "broken from 0/s to 10/s, highest at 0:01; whole from 0/s to 10/s, highest at 0:04."; p.Summary != want {
		t.Errorf("summary %s\nwant    %s", p.Summary, want)
	}
}
