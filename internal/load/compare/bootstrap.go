package compare

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"sort"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/report"
)

const (
	// resamples is how often each run is drawn anew; the seed makes that the same
	// each time.
	resamples = 1000
	seed      = 1
	// A slow second seldom comes alone, so windows are drawn in blocks of
	// neighbours: a tenth of the run, and five at least. Simulated runs say that
	// more and shorter blocks claim too much where seconds go in waves.
	minBlock = 5
	blocks   = 10
	// maxWindows bounds the work and memory of a day's run: its windows are longer.
	maxWindows = 600
	// minSeconds is how many a side it takes to draw from: with fewer than ten
	// blocks nobody knows how much the next would have differed.
	minSeconds = 50
	// resolution is what bins can't tell apart.
	resolution = 0.01
	shortest   = 0.0005 // ms; nothing takes no time
	// fifths are the parts that a run's drift is looked for in. Halves show next to
	// nothing of it, and more parts hide regressions (docs/load.md has figures).
	fifths = 5
)

// subject is a request's outcome.
type subject struct{ request, key string }

func (s subject) compare(o subject) int {
	return cmp.Or(cmp.Compare(s.request, o.request), cmp.Compare(s.key, o.key))
}

// span is which seconds of a run count, and where each goes: the index of its
// place, -1 for those left out. Later seconds go to late.
type span struct {
	place []int
	late  int
	n     int
}

func (s span) of(second int) int {
	if second < len(s.place) {
		return s.place[second]
	}
	return s.late
}

// drawn is one outcome's windows of a run, ready to be drawn from.
type drawn struct {
	bins []load.Bin // all there are, by time; with the count of all windows together
	// upTo has, by bin and by the window that a block begins with, how many times
	// of that block are in the bin or below it.
	upTo [][]int64
}

// taken is one outcome's windows of a run, and how many times they hold.
type taken struct {
	rows []report.Window
	n    int64
}

// windows is how many windows there are to draw from, of so many seconds each.
func (s span) windows() (n, width int) {
	width = max((s.n+maxWindows-1)/maxWindows, 1)
	return (s.n + width - 1) / width, width
}

// gather sorts a run's windows by subject.
func gather(windows []report.Window, s span) map[subject]taken {
	_, width := s.windows()
	all := map[subject]taken{}
	for _, w := range windows {
		if at := s.of(w.Second); at >= 0 {
			w.Second = at / width
			own := all[subject{w.Request, w.Key}]
			own.rows = append(own.rows, w)
			for _, b := range w.Bins {
				own.n += b.Count
			}
			all[subject{w.Request, w.Key}] = own
		}
	}
	return all
}

func newDrawn(rows []report.Window, windows int) *drawn {
	d := &drawn{}
	d.bins, _ = merged(rows)
	counts := make([]int64, len(d.bins)*windows) // by bin, then by window
	for _, w := range rows {
		i := 0
		for _, b := range w.Bins {
			for d.bins[i].Low < b.Low {
				i++
			}
			counts[i*windows+w.Second] += b.Count
		}
	}
	block := blockLength(windows)
	d.upTo = make([][]int64, len(d.bins))
	below := make([]int64, windows)
	for i := range d.bins {
		own := counts[i*windows:][:windows]
		var sum int64
		for _, n := range own[:block] {
			sum += n
		}
		upTo := make([]int64, windows)
		for from, n := range own {
			upTo[from] = below[from] + sum
			last := from + block
			if last >= windows { // blocks go round, so that each window is drawn as often
				last -= windows
			}
			sum += own[last] - n
		}
		d.upTo[i], below = upTo, upTo
	}
	return d
}

func byTime(a, b load.Bin) int { return cmp.Compare(a.Low, b.Low) }

// merged is the bins of all rows together, and how many times they hold.
func merged(rows []report.Window) (bins []load.Bin, n int64) {
	counts := map[time.Duration]int64{}
	for _, w := range rows {
		for _, b := range w.Bins {
			counts[b.Low] += b.Count
			n += b.Count
		}
	}
	bins = make([]load.Bin, 0, len(counts))
	for low, n := range counts {
		bins = append(bins, load.Bin{Low: low, Count: n})
	}
	slices.SortFunc(bins, byTime)
	return bins, n
}

// drift is by how much each quantile differs within a run, as a logarithm: the
// fifth where it is highest against that where it is lowest. Where a fifth has no
// times it is without bounds.
func drift(rows []report.Window, windows int, quantiles []float64) []float64 {
	var own [fifths][]report.Window
	for _, w := range rows {
		at := fifths * w.Second / windows
		own[at] = append(own[at], w)
	}
	levels := make([][]float64, len(quantiles))
	for _, fifth := range own {
		bins, n := merged(fifth)
		for i, q := range quantiles {
			level := math.Inf(1)
			if n > 0 {
				level = math.Log(ranked(bins, q*float64(n)))
			}
			levels[i] = append(levels[i], level)
		}
	}
	all := make([]float64, len(quantiles))
	for i, own := range levels {
		all[i] = slices.Max(own) - slices.Min(own)
	}
	return all
}

// blockLength is how many of so many windows are drawn together.
func blockLength(windows int) int { return min(max(minBlock, windows/blocks), windows) }

// quantile is that of the blocks that begin with the windows given, in
// milliseconds. Within a bin times are taken as spread evenly.
func (d *drawn) quantile(q float64, begins []int) float64 {
	count := func(bin int) (n int64) {
		row := d.upTo[bin]
		for _, at := range begins {
			n += row[at]
		}
		return n
	}
	rank := q * float64(count(len(d.bins)-1))
	i := min(sort.Search(len(d.bins), func(i int) bool { return float64(count(i)) >= rank }), len(d.bins)-1)
	var below int64
	if i > 0 {
		below = count(i - 1)
	}
	return within(d.bins[i], (rank-float64(below))/float64(max(count(i)-below, 1)))
}

// within is the time at a share of a bin, in milliseconds.
func within(b load.Bin, share float64) float64 {
	return max((float64(b.Low)+share*float64(b.Width()))/float64(time.Millisecond), shortest)
}

func millis(logarithm float64) float64 { return math.Round(math.Exp(logarithm)*1e3) / 1e3 }

// draw is the logarithms of each quantile, by how often the run was drawn anew;
// the last is of the run as it was.
func (d *drawn) draw(quantiles []float64, side uint64) [][]float64 {
	windows := len(d.upTo[0])
	rng := rand.New(rand.NewPCG(seed, side))
	begins := make([]int, (windows+blockLength(windows)-1)/blockLength(windows))
	all := make([][]float64, len(quantiles))
	for range resamples {
		for i := range begins {
			begins[i] = rng.IntN(windows)
		}
		for i, q := range quantiles {
			all[i] = append(all[i], math.Log(d.quantile(q, begins)))
		}
	}
	every := make([]int, windows)
	for i := range every {
		every[i] = i
	}
	for i, q := range quantiles {
		all[i] = append(all[i], math.Log(d.quantile(q, every)))
	}
	return all
}

// fill puts in what the draws of both runs show; the interval if so many
// seconds can give one.
//
// Few blocks show less than all of the variation, so what they show is
// stretched as Student's t is against the normal distribution.
func (c *Cell) fill(old, now []float64, windows int, interval bool) {
	c.Old, c.New = millis(old[resamples]), millis(now[resamples])
	at := now[resamples] - old[resamples]
	stretch := studentStretch(windows/blockLength(windows) - 1)
	logs := make([]float64, resamples)
	var squares float64
	for i := range logs {
		off := stretch * (now[i] - old[i] - at)
		logs[i], squares = at+off, squares+off*off
	}
	slices.Sort(logs)
	const tail = resamples / 40 // 2.5 %
	low, high := math.Exp(logs[tail]), math.Exp(logs[resamples-1-tail])
	if c.Ratio = math.Exp(at); interval {
		c.Low, c.High = &low, &high
	}
	none := math.Log1p(resolution)
	other := sort.SearchFloat64s(logs, none) // how many lie on the other side
	if at < 0 {
		other = resamples - sort.SearchFloat64s(logs, -none)
	}
	c.p = min(2*float64(other+1)/float64(resamples+1), 1)
	if other == 0 { // farther out than draws reach: the tail is taken for a normal one
		c.p = min(c.p, math.Erfc((math.Abs(at)-none)/math.Sqrt(2*squares/resamples)))
	}
}

// studentStretch is how much wider 95 % of Student's distribution are than those
// of the normal one, by the first terms of its expansion, and by how much draws
// from so few blocks vary too little.
func studentStretch(freedom int) float64 {
	const z = 1.96
	f := float64(max(freedom, 1))
	return (1 + (z*z+1)/(4*f) + (5*z*z*z*z+16*z*z+3)/(96*f*f)) * math.Sqrt((f+1)/f)
}
