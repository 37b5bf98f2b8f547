package compare

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

// simulated is a run that never was: steady for so many seconds, each second's
// level close to that of the one before.
type simulated struct {
	seconds int
	rate    float64 // of sign-ups a second; a ninth as many are refused
	level   float64 // spread of a second's level, as a share
	memory  float64 // of a second's level that the next has
	slower  float64 // times
	spikes  float64 // share of requests that wait for a disk
}

func (s simulated) side(name string, rng *rand.Rand) Side {
	stages := []report.Stage{{Seconds: 1, Rate: s.rate}, {Seconds: float64(s.seconds + 5), Rate: s.rate}}
	summary := &report.Summary{
		Schema: report.Schema, Plan: "p", PlanHash: "h", Verdict: gate.Pass, Stages: stages, DurationSeconds: float64(s.seconds + 6),
		ByRequest: map[string]map[string]report.Outcome{"r": {
			"201": {Name: "created", Kind: load.Success}, "429": {Name: "limited", Kind: load.Expected},
		}},
	}
	var windows []report.Window
	level := rng.NormFloat64()
	for second := range s.seconds + 6 {
		level = s.memory*level + math.Sqrt(1-s.memory*s.memory)*rng.NormFloat64()
		for _, outcome := range []struct {
			key        string
			base, rate float64 // microseconds, a second
		}{{"201", 1800, s.rate}, {"429", 550, s.rate / 9}} {
			n := int(outcome.rate + rng.Float64())
			micros := make([]int64, n)
			for i := range micros {
				x := outcome.base * s.slower * math.Exp(s.level*level+0.25*rng.NormFloat64())
				if rng.Float64() < s.spikes {
					x *= 3 + 20*rng.Float64() // the disk
				}
				micros[i] = int64(x)
			}
			windows = append(windows, report.Window{Second: second, Spread: load.Spread{Request: "r", Key: outcome.key, Bins: binsOf(micros)}})
		}
	}
	return Side{Name: name, Summary: summary, Windows: windows}
}

// binsOf puts microseconds into bins as a run does.
func binsOf(micros []int64) []load.Bin {
	slices.Sort(micros)
	var bins []load.Bin
	for _, m := range micros {
		low := time.Duration(m) * time.Microsecond
		low -= low % load.Bin{Low: low}.Width()
		if n := len(bins); n > 0 && bins[n-1].Low == low {
			bins[n-1].Count++
		} else {
			bins = append(bins, load.Bin{Low: low, Count: 1})
		}
	}
	return bins
}

// found simulates pairs of runs and counts what Compare answers.
func found(t *testing.T, pairs int, old, now simulated) map[Answer]int {
	t.Helper()
	answers := make([]Answer, pairs)
	var all sync.WaitGroup
	for i := range pairs {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 9))
			c, err := Compare(old.side("old", rng), now.side("new", rng), 2)
			if err != nil {
				t.Error(err)
				return
			}
			answers[i] = c.Change.Answer
		})
	}
	all.Wait()
	counts := map[Answer]int{}
	for _, a := range answers {
		counts[a]++
	}
	return counts
}

// TestSimulatedPairs: of 200 pairs of the same software at most 5 % report a
// change, and of a 30 % regression at least 95 %, with seconds that go in waves;
// in waves nearly as long as the runs a regression by 100 % is found more often than not.
func TestSimulatedPairs(t *testing.T) {
	const pairs = 200
	for _, tt := range []struct {
		run     simulated
		slower  float64
		atLeast int
	}{
		{simulated{seconds: 60, rate: 45, level: 0.08, memory: 0.6, slower: 1, spikes: 0.005}, 1.3, 95},
		{simulated{seconds: 120, rate: 45, level: 0.08, memory: 0.6, slower: 1, spikes: 0.005}, 1.3, 95},
		{simulated{seconds: 60, rate: 45, level: 0.3, memory: 0.9, slower: 1, spikes: 0.005}, 2, 60},
	} {
		t.Run(fmt.Sprintf("%d s, levels spread by %g", tt.run.seconds, tt.run.level), func(t *testing.T) {
			worse := tt.run
			worse.slower = tt.slower
			same, regressed := found(t, pairs, tt.run, tt.run), found(t, pairs, tt.run, worse)
			t.Logf("of the same software %v, of a regression %v", same, regressed)
			if same[None] < pairs*95/100 {
				t.Errorf("of %d pairs of the same software: %v", pairs, same)
			}
			if regressed[Slower] < pairs*tt.atLeast/100 {
				t.Errorf("of %d regressions by %g: %v", pairs, tt.slower, regressed)
			}
		})
	}
}

// TestDrift: a fifth that is half as slow again shows, and one without times is
// without bounds.
func TestDrift(t *testing.T) {
	var rows []report.Window
	for second := range 50 {
		low := 2 * time.Millisecond
		if second/10 == 3 {
			low = 3 * time.Millisecond
		}
		rows = append(rows, report.Window{Second: second, Spread: load.Spread{Bins: []load.Bin{{Low: low, Count: 9}}}})
	}
	if got := drift(rows, 50, []float64{0.5, 0.95}); math.Abs(got[0]-math.Log(1.5)) > 0.01 || math.Abs(got[1]-math.Log(1.5)) > 0.01 {
		t.Errorf("%v, want the logarithm of 1.5 each", got)
	}
	if got := drift(rows[:40], 50, []float64{0.5}); !math.IsInf(got[0], 1) {
		t.Errorf("%v where the last fifth has no times", got)
	}
}

// TestCoverage: of intervals of the median's ratio nearly as many hold the true
// one as they claim.
func TestCoverage(t *testing.T) {
	run := simulated{seconds: 100, rate: 20, level: 0.08, memory: 0.6, slower: 1, spikes: 0.005}
	worse := run
	worse.slower = 1.5
	const pairs = 200
	holds := 0
	for i := range pairs {
		rng := rand.New(rand.NewPCG(uint64(i), 3))
		c, err := Compare(run.side("old", rng), worse.side("new", rng), 2)
		if err != nil {
			t.Fatal(err)
		}
		if cell := c.Cells[0]; *cell.Low <= 1.5 && 1.5 <= *cell.High {
			holds++
		}
	}
	t.Logf("%d of %d hold", holds, pairs)
	if holds < pairs*90/100 || holds == pairs {
		t.Errorf("%d of %d intervals hold the true ratio, and should 95 %%", holds, pairs)
	}
}

// TestDrawnQuantiles: those of all windows are those of all times, to a part in
// a hundred.
func TestDrawnQuantiles(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var rows []report.Window
	var all []float64
	for second := range 70 {
		micros := make([]int64, rng.IntN(40))
		for i := range micros {
			micros[i] = int64(1 + 5000*math.Exp(rng.NormFloat64()))
			all = append(all, float64(micros[i])/1e3)
		}
		if len(micros) > 0 {
			rows = append(rows, report.Window{Second: second, Spread: load.Spread{Bins: binsOf(micros)}})
		}
	}
	slices.Sort(all)
	d := newDrawn(rows, 70)
	var drawn int64 // by all blocks together: each window is in as many
	for _, n := range d.upTo[len(d.bins)-1] {
		drawn += n
	}
	if drawn != int64(len(all)*blockLength(70)) {
		t.Fatalf("%d times in all blocks of %d; want each of %d so often", drawn, blockLength(70), len(all))
	}
	for i, logs := range d.draw([]float64{0.5, 0.9, 0.99}, 1) {
		q := []float64{0.5, 0.9, 0.99}[i]
		want := all[int(math.Ceil(q*float64(len(all))))-1]
		if got := math.Exp(logs[resamples]); math.Abs(got/want-1) > 0.02 {
			t.Errorf("quantile %g is %.3f ms, want %.3f", q, got, want)
		}
	}
}

// BenchmarkCompare is of two runs of nine minutes at 353 requests a second.
func BenchmarkCompare(b *testing.B) {
	run := simulated{seconds: 535, rate: 318, level: 0.08, memory: 0.6, slower: 1, spikes: 0.005}
	rng := rand.New(rand.NewPCG(1, 1))
	old, now := run.side("old", rng), run.side("new", rng)
	for b.Loop() {
		if _, err := Compare(old, now, 2); err != nil {
			b.Fatal(err)
		}
	}
}
