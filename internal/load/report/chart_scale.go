package report

import (
	"fmt"
	"math"
	"strconv"
)

// scale is an axis: which values are on it, which have ticks, and how they are
// written.
type scale struct {
	low, high float64 // low < high
	log       bool
	ticks     []float64
	minor     []float64 // ticks that are left out where there is little room
	label     func(float64) string
}

// at is where a value lies, 0 at the scale's low end and 1 at its high one.
// What lies beyond is put on the end.
func (s scale) at(v float64) float64 {
	v = min(max(v, s.low), s.high)
	if s.log {
		return math.Log(v/s.low) / math.Log(s.high/s.low)
	}
	return (v - s.low) / (s.high - s.low)
}

// roundUp is the lowest round number not below v, which is positive. Round are
// 1, 2 and 5 times a power of ten.
func roundUp(v float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if v <= m*unit*(1+1e-9) {
			return m * unit
		}
	}
	return 10 * unit
}

// linear goes from 0 to at least high, with about five round ticks.
func linear(high float64, label func(float64) string) scale {
	if high <= 0 {
		high = 1
	}
	step := roundUp(high / 5)
	s := scale{label: label, ticks: []float64{0}}
	for i := 1.0; s.high < high*(1-1e-9); i++ {
		s.high = i * step
		s.ticks = append(s.ticks, s.high)
	}
	return s
}

// clock is a scale of seconds that ends where the run does.
func clock(seconds float64) scale {
	var step float64
	for _, step = range []float64{1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800} {
		if seconds/step <= 8 {
			break
		}
	}
	s := scale{high: seconds, label: minutes}
	for i := range int(seconds/step) + 1 {
		if at := float64(i) * step; i%2 == 0 || seconds/step < 4 {
			s.ticks = append(s.ticks, at)
		} else {
			s.minor = append(s.minor, at)
		}
	}
	return s
}

// minutes writes seconds as m:ss, or h:mm:ss from an hour on.
func minutes(seconds float64) string {
	n := int(seconds)
	if n < 3600 {
		return fmt.Sprintf("%d:%02d", n/60, n%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", n/3600, n/60%60, n%60)
}

// logarithmic reaches from a round number to a round number, over a factor of
// ten at least. A time of zero is as good as a microsecond there.
func logarithmic(low, high float64, label func(float64) string) scale {
	const least = 0.001
	low, high = max(low, least), max(high, least)
	s := scale{low: roundUp(low), high: roundUp(high), log: true, label: label}
	if s.low > low*(1+1e-9) { // rounded up, and wanted down: 1, 2 and 5 are neighbours
		s.low = roundUp(s.low / 2.6)
	}
	for s.high < 10*s.low*(1-1e-9) {
		s.high = roundUp(s.high * 1.5)
	}
	wide := s.high > 1000*s.low*(1+1e-9)
	if wide { // powers of ten alone, and the ends are such
		s.low = math.Pow(10, math.Floor(math.Log10(s.low)+1e-9))
		s.high = math.Pow(10, math.Ceil(math.Log10(s.high)-1e-9))
	}
	for v := s.low; v <= s.high*(1+1e-9); v = roundUp(v * 1.5) {
		s.ticks = append(s.ticks, v)
		if wide {
			v *= 5
		}
	}
	return s
}

// nines is the scale of percentiles: a share q lies at 1/(1-q), so that each
// nine has as much room as the one before. most is the greatest on it.
func nines(most float64) scale {
	s := scale{low: 1, high: max(most, 100), log: true, ticks: []float64{2}, minor: []float64{4, 20}}
	for i, v := 1, 10.0; v <= s.high; i, v = i+1, v*10 {
		if i > 3 && i%2 == 0 {
			s.minor = append(s.minor, v)
		} else {
			s.ticks = append(s.ticks, v)
		}
	}
	s.label = func(v float64) string { return short(100-100/v, 8) + " %" }
	return s
}

// span writes milliseconds in the unit that suits them.
func span(ms float64) string {
	switch {
	case ms >= 1000:
		return short(ms/1000, 3) + " s"
	case ms >= 1 || ms == 0:
		return short(ms, 3) + " ms"
	}
	return short(ms*1000, 3) + " µs"
}

// axisRate writes a rate.
func axisRate(v float64) string { return short(v, 3) + "/s" }

// short writes a number with at most so many digits that matter, and none of a
// whole number away.
func short(v float64, digits int) string {
	if v >= math.Pow(10, float64(digits)) {
		return count(int64(math.Round(v)))
	}
	v, _ = strconv.ParseFloat(strconv.FormatFloat(v, 'g', digits, 64), 64) // what FormatFloat wrote can be read
	return strconv.FormatFloat(v, 'f', -1, 64)
}
