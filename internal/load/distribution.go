package load

import (
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the highest time a distribution can tell from others; what took
// longer is recorded as it. Latency counts from the due time, so a stalled
// target can make it far longer than a request's time-out.
const longest = time.Hour

// Distribution is a set of times, exact to a part in a thousand or a
// microsecond, whichever is more. The zero value is empty and can be read; what New gives can be recorded to.
type Distribution struct {
	h       *hdrhistogram.Histogram // in microseconds
	sum     float64                 // in nanoseconds: integers would not hold a day of backlog
	low, hi time.Duration
}

// NewDistribution returns an empty one: 190 kB.
func NewDistribution() *Distribution {
	return &Distribution{h: hdrhistogram.New(1, longest.Microseconds(), 3)}
}

// newWindow returns an empty one that is exact to a part in a hundred: 27 kB.
func newWindow() *Distribution {
	return &Distribution{h: hdrhistogram.New(1, longest.Microseconds(), 2)}
}

// Binned are times by their bins, each taken for the longest that would be in its
// bin.
func Binned(all ...[]Bin) *Distribution {
	d := newWindow()
	for _, b := range slices.Concat(all...) {
		d.record(min(b.Low+b.Width()-time.Microsecond, longest), b.Count)
	}
	return d
}

// Bin is times that a window can't tell from each other.
type Bin struct {
	Low   time.Duration // the shortest that would be in it
	Count int64
}

// Width is how far the bin reaches: a microsecond, or less than a part in a
// hundred of what is in it.
func (b Bin) Width() time.Duration {
	const exact = 8 // bits: windows keep so many, as two decimal digits need
	return time.Microsecond << max(bits.Len64(uint64(b.Low.Microseconds()))-exact, 0)
}

// bins are those with anything in them, shortest first.
func (d *Distribution) bins() []Bin {
	var all []Bin
	for _, b := range d.h.Distribution() {
		if b.Count > 0 {
			all = append(all, Bin{time.Duration(b.From) * time.Microsecond, b.Count})
		}
	}
	return all
}

// Record adds one time. What is negative counts as zero.
func (d *Distribution) Record(t time.Duration) {
	d.record(min(max(t, 0), longest), 1)
}

func (d *Distribution) record(t time.Duration, n int64) {
	if d.h.TotalCount() == 0 || t < d.low {
		d.low = t
	}
	_ = d.h.RecordValues(t.Microseconds(), n) // fails beyond its range alone, and t is inside
	d.sum += float64(t) * float64(n)
	d.hi = max(d.hi, t)
}

// Merge adds all of another's times.
func (d *Distribution) Merge(o *Distribution) {
	if o.Count() == 0 {
		return
	}
	if d.Count() == 0 || o.low < d.low {
		d.low = o.low
	}
	d.h.Merge(o.h)
	d.sum += o.sum
	d.hi = max(d.hi, o.hi)
}

func (d *Distribution) reset() {
	d.h.Reset()
	d.sum, d.low, d.hi = 0, 0, 0
}

// Count is how many times there are.
func (d *Distribution) Count() int64 {
	if d == nil || d.h == nil {
		return 0
	}
	return d.h.TotalCount()
}

// Min is the shortest time. As Max and Mean it is exact, and zero if there is
// nothing.
func (d *Distribution) Min() time.Duration { return d.low }

// Max is the longest time.
func (d *Distribution) Max() time.Duration { return d.hi }

// Mean is the arithmetic one.
func (d *Distribution) Mean() time.Duration {
	if d.Count() == 0 {
		return 0
	}
	return time.Duration(d.sum / float64(d.Count()))
}

// Quantile is the time that a share q of all times, 0 to 1, does not exceed.
// ok is false where there are not Needed(q) of them: then it is not known.
func (d *Distribution) Quantile(q float64) (t time.Duration, ok bool) {
	if d.Count() == 0 {
		return 0, false
	}
	return d.rawQuantile(q), d.Count() >= Needed(q)
}

func (d *Distribution) rawQuantile(q float64) time.Duration {
	if d.Count() == 0 {
		return 0
	}
	// The rank is rounded up here, since the library rounds to the nearest: of 72
	// times the 68th, which only 94 % do not exceed.
	n := float64(d.Count())
	rank := math.Ceil(q * n * (1 - 1e-12))
	t := time.Duration(d.h.ValueAtPercentile(100*rank/n)) * time.Microsecond
	return min(max(t, d.low), d.hi) // a bucket's end can lie beyond what was recorded
}

// Needed is how many times it takes to say anything of a quantile: enough for
// an upper bound of 95 % two-sided confidence, ln 0.025 / ln q. So p95 needs
// 72, p99 368, p99.9 3,688.
func Needed(q float64) int64 {
	if q <= 0 || q >= 1 {
		return 1
	}
	return int64(math.Ceil(math.Log(0.025) / math.Log(q)))
}

// Step is one point of a cumulative curve: so great a share of all times is at
// most Time.
type Step struct {
	Share float64
	Time  time.Duration
}

// Curve is the cumulative distribution, finer towards its end, up to the last
// share that there are enough times for; then the longest.
func (d *Distribution) Curve() []Step {
	if d.Count() == 0 {
		return nil
	}
	var steps []Step
	for left := 1.0; ; left /= math.Pow(10, 1.0/12) { // twelve points a nine
		q := 1 - left
		if d.Count() < Needed(q) || len(steps) > 100 {
			break
		}
		steps = append(steps, Step{q, d.rawQuantile(q)})
	}
	return append(steps, Step{1, d.hi})
}
