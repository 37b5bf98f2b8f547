package load

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func distributionOf(times []time.Duration) *Distribution {
	d := NewDistribution()
	for _, t := range times {
		d.Record(t)
	}
	return d
}

// exact is the smallest time that a share q does not exceed.
func exact(sorted []time.Duration, q float64) time.Duration {
	rank := int(math.Ceil(q * float64(len(sorted)) * (1 - 1e-12)))
	return sorted[max(rank, 1)-1]
}

func TestQuantilesAreExactToAThousandth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		times := rapid.SliceOfN(rapid.Map(rapid.OneOf(
			rapid.Int64Range(0, int64(time.Millisecond)), rapid.Int64Range(0, int64(time.Second)), rapid.Int64Range(0, int64(longest)),
		), func(n int64) time.Duration { return time.Duration(n) }), 1, 500).Draw(t, "times")
		d := distributionOf(times)
		slices.Sort(times)
		var sum time.Duration
		for _, x := range times {
			sum += x
		}
		if d.Min() != times[0] || d.Max() != times[len(times)-1] || d.Mean() != sum/time.Duration(len(times)) {
			t.Fatalf("min %v, max %v, mean %v", d.Min(), d.Max(), d.Mean())
		}
		for _, q := range []float64{0.01, 0.5, 0.9, 0.95, 0.99, 0.999, rapid.Float64Range(0.001, 1).Draw(t, "q")} {
			got, ok := d.Quantile(q)
			want := exact(times, q)
			if slack := max(want/1000, time.Microsecond); (got - want).Abs() > slack {
				t.Fatalf("quantile %v of %d is %v, want %v", q, len(times), got, want)
			}
			if ok != (int64(len(times)) >= Needed(q)) {
				t.Fatalf("quantile %v of %d times is known: %v", q, len(times), ok)
			}
		}
	})
}

func TestNeeded(t *testing.T) {
	for q, want := range map[float64]int64{0: 1, 0.5: 6, 0.9: 36, 0.95: 72, 0.99: 368, 0.999: 3688, 0.9999: 36887, 1: 1} {
		if got := Needed(q); got != want {
			t.Errorf("quantile %v needs %d times, want %d", q, got, want)
		}
	}
}

func TestDistributionAtItsEnds(t *testing.T) {
	d := distributionOf([]time.Duration{-time.Second, 2 * longest, 1500})
	if d.Count() != 3 || d.Min() != 0 || d.Max() != longest {
		t.Errorf("%d times from %v to %v", d.Count(), d.Min(), d.Max())
	}
	var zero, none *Distribution = &Distribution{}, nil
	if _, ok := zero.Quantile(0.5); ok || zero.Count() != 0 || none.Count() != 0 || zero.Mean() != 0 || zero.Max() != 0 || zero.Curve() != nil {
		t.Error("an empty distribution says something")
	}
	d.reset()
	if d.Record(time.Second); d.Min() != time.Second || d.Max() != time.Second || d.Mean() != time.Second {
		t.Error("a reset distribution remembers")
	}
}

func TestMergeIsAsIfRecordedTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.SliceOfN(rapid.SliceOfN(rapid.Int64Range(0, int64(time.Minute)), 0, 50), 1, 5).Draw(t, "parts")
		merged, whole := NewDistribution(), NewDistribution()
		for _, part := range parts {
			p := NewDistribution()
			for _, n := range part {
				p.Record(time.Duration(n))
				whole.Record(time.Duration(n))
			}
			merged.Merge(p)
		}
		merged.Merge(&Distribution{})
		if merged.Count() != whole.Count() || merged.Min() != whole.Min() || merged.Max() != whole.Max() || merged.Mean() != whole.Mean() {
			t.Fatalf("merged %d %v %v %v", merged.Count(), merged.Min(), merged.Max(), merged.Mean())
		}
		if merged.rawQuantile(0.9) != whole.rawQuantile(0.9) {
			t.Fatalf("p90 is %v merged and %v whole", merged.rawQuantile(0.9), whole.rawQuantile(0.9))
		}
	})
}

func TestCurveEndsWhereTooFewTimesAreLeft(t *testing.T) {
	for _, n := range []int{1, 72, 368, 5000} {
		d := NewDistribution()
		for i := range n {
			d.Record(time.Duration(i+1) * time.Millisecond)
		}
		curve := d.Curve()
		if last := curve[len(curve)-1]; last != (Step{1, d.Max()}) || curve[0].Share != 0 {
			t.Errorf("of %d: it goes from %v to %v", n, curve[0], last)
		}
		for i, s := range curve[:len(curve)-1] {
			if Needed(s.Share) > int64(n) || s.Share >= curve[i+1].Share || s.Time > curve[i+1].Time {
				t.Errorf("of %d: step %d is %v and the next %v", n, i, s, curve[i+1])
			}
		}
		if most := curve[max(len(curve)-2, 0)].Share; n == 5000 && most < 0.999 {
			t.Errorf("of 5000 it goes to %v only", most)
		}
	}
}

// A day of backlog is more than an int64 of nanoseconds can hold.
func TestMeanDoesNotOverflow(t *testing.T) {
	d := NewDistribution()
	d.Record(longest)
	for range 22 { // doubles it: 4 million hours
		d.Merge(d)
	}
	if got := d.Mean(); got != longest {
		t.Errorf("the mean of hours is %v", got)
	}
}

// TestBins: a window's bins hold each time once, and none is wider than a part
// in a hundred of what is in it.
func TestBins(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		micros := rapid.SliceOfN(rapid.OneOf(rapid.Int64Range(0, 1000), rapid.Int64Range(0, longest.Microseconds())), 1, 200).Draw(t, "micros")
		d := newWindow()
		for _, m := range micros {
			d.Record(time.Duration(m) * time.Microsecond)
		}
		var n int64
		before := time.Duration(-1)
		for _, b := range d.bins() {
			if b.Low <= before || b.Width() > max(time.Microsecond, b.Low/100) {
				t.Fatalf("%v wide at %v, after %v", b.Width(), b.Low, before)
			}
			before = b.Low + b.Width() - 1
			n += b.Count
			var in int64
			for _, m := range micros {
				if at := time.Duration(m) * time.Microsecond; at >= b.Low && at <= before {
					in++
				}
			}
			if in != b.Count {
				t.Fatalf("%d of %v to %v, want %d", b.Count, b.Low, before, in)
			}
		}
		if n != int64(len(micros)) {
			t.Fatalf("%d in all, want %d", n, len(micros))
		}
		q, half := rapid.Float64Range(1e-9, 1).Draw(t, "q"), len(d.bins())/2 // p0 is the shortest time, which no bin tells
		again := Binned(d.bins()[:half], d.bins()[half:])
		last := Bin{Low: d.Max()}
		if got := again.rawQuantile(q); again.Count() != n || min(max(got, d.Min()), d.Max()) != d.rawQuantile(q) || again.Max() > min(d.Max()+last.Width(), longest) {
			t.Fatalf("of the bins p%v is %v and the longest %v, want %v and %v", 100*q, got, again.Max(), d.rawQuantile(q), d.Max())
		}
	})
}
