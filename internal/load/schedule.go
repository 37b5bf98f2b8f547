package load

import (
	"math"
	"time"
)

// schedule says when each arrival is due. It is arithmetic alone: the k-th,
// from 0, is due when the integral of the planned rate reaches k.
type schedule struct {
	segments []segment
	total    int64 // arrivals in all
	at       int   // where the last asked for was: they are asked for in order
}

// segment is one stage with what lies before it.
type segment struct {
	start, seconds float64 // of the run's time
	from, to       float64 // rates, requests a second
	before, area   float64 // arrivals before it, and in it
}

func newSchedule(stages []Stage) *schedule {
	s := &schedule{}
	var start, before, rate float64
	for _, st := range stages {
		g := segment{start: start, seconds: st.Duration.Seconds(), from: rate, to: st.Rate, before: before}
		g.area = (g.from + g.to) / 2 * g.seconds
		s.segments = append(s.segments, g)
		start, before, rate = start+g.seconds, before+g.area, st.Rate
	}
	const rounding = 1e-6 // of an arrival: what adding floats can lose
	s.total = int64(math.Floor(before + rounding))
	return s
}

// due is when arrival k is due, from the run's start. It must be asked for
// with k never falling.
func (s *schedule) due(k int64) time.Duration {
	for s.at < len(s.segments)-1 && float64(k) >= s.segments[s.at+1].before {
		s.at++
	}
	g := &s.segments[s.at]
	m := min(float64(k)-g.before, g.area)
	t := 0.0
	if m > 0 {
		// The smaller root of from·t + (to−from)/(2·seconds)·t² = m, written so that
		// nothing cancels when the rate hardly changes.
		root := math.Sqrt(max(g.from*g.from+2*(g.to-g.from)*m/g.seconds, 0))
		t = 2 * m / (g.from + root)
	}
	return time.Duration(math.Round((g.start + min(t, g.seconds)) * float64(time.Second)))
}

// dueBefore is how many arrivals are due before t.
func (s *schedule) dueBefore(t time.Duration) int64 {
	n := 0.0
	for _, g := range s.segments {
		in := min(max(t.Seconds()-g.start, 0), g.seconds)
		n += g.from*in + (g.to-g.from)*in*in/(2*g.seconds)
	}
	return min(int64(math.Ceil(n-1e-6)), s.total)
}

// rate is the planned one at t, and the stage that t is in.
func (s *schedule) rate(t time.Duration) (rate float64, stage int) {
	for i, g := range s.segments {
		if in := t.Seconds() - g.start; in < g.seconds {
			return g.from + (g.to-g.from)*max(in, 0)/g.seconds, i
		}
	}
	return 0, max(len(s.segments)-1, 0)
}
