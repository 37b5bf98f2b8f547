package capacity

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// options are those of the tests: 15 s, 5 %.
func options(from, most float64) Options {
	return Options{From: from, Max: most, Precision: 0.05, Seconds: 15}
}

// sharp is a target that holds up to a rate and no more.
func sharp(capacity float64) Try {
	return func(_ context.Context, rate, _ float64) (Outcome, error) {
		if rate <= capacity {
			return Outcome{Verdict: Held}, nil
		}
		return Outcome{Verdict: Missed, Why: "slow"}, nil
	}
}

// before is a generator that is the bottleneck beyond a rate.
func before(generator float64, target Try) Try {
	return func(ctx context.Context, rate, seconds float64) (Outcome, error) {
		if rate > generator {
			return Outcome{Verdict: Inconclusive, Blocked: true, Why: "lag"}, nil
		}
		return target(ctx, rate, seconds)
	}
}

// scarce can't tell anything of fewer requests.
func scarce(requests float64, target Try) Try {
	return func(ctx context.Context, rate, seconds float64) (Outcome, error) {
		if rate*seconds < requests {
			return Outcome{Verdict: Inconclusive, Why: "too few"}, nil
		}
		return target(ctx, rate, seconds)
	}
}

// tiring holds less for longer.
func tiring(short, long Try) Try {
	return func(ctx context.Context, rate, seconds float64) (Outcome, error) {
		if seconds > 15 {
			return long(ctx, rate, seconds)
		}
		return short(ctx, rate, seconds)
	}
}

// bad makes some tries go otherwise, by their number from 1.
func bad(o Outcome, target Try, numbers ...int) Try {
	n := 0
	return func(ctx context.Context, rate, seconds float64) (Outcome, error) {
		if n++; slices.Contains(numbers, n) {
			return o, nil
		}
		return target(ctx, rate, seconds)
	}
}

func TestSearch(t *testing.T) {
	lag := Outcome{Verdict: Inconclusive, Blocked: true, Why: "lag"}
	for _, tt := range []struct {
		name        string
		try         Try
		from, most  float64
		verdict     Verdict
		holds       float64 // the highest that may be the answer; it may be 5 % less
		confirmed   bool
		probes      int
		text, lacks string
	}{
		{"sharp", sharp(812), 5, 20_000, Held, 812, true, 9 + 4 + 3, "misses", "could not"},
		{"at the first rate", sharp(5), 5, 20_000, Held, 5, true, 2 + 4 + 3, "misses", ""},
		{"at the maximum", sharp(1e9), 100, 500, Held, 500, true, 4 + 3, "holds 500/s, the most that was tried", "misses"},
		{"the first is the maximum", sharp(1e9), 500, 500, Held, 500, true, 1 + 3, "the most", ""},
		{"zero", sharp(0), 5, 20_000, Missed, 0, false, 1, "does not hold 5/s, the lowest rate tried: slow", ""},
		{"the generator", before(700, sharp(1e9)), 5, 20_000, Inconclusive, 700, true, 9 + 2 + 4 + 6 + 3, "at least ", "misses"},
		{"the generator far beyond", before(1000, sharp(812)), 5, 20_000, Held, 812, true, 9 + 2 + 4 + 3, "misses", ""},
		{"the generator at once", before(1, sharp(812)), 5, 20_000, Inconclusive, 0, false, 3, "inconclusive: lag", ""},
		{"a hiccup", bad(lag, sharp(812), 3, 4, 6), 5, 20_000, Held, 812, true, 9 + 3 + 4 + 3, "misses", ""},
		{"inconclusive until longer", scarce(500, sharp(812)), 5, 20_000, Held, 812, true, 9 + 3 + 4 + 3, "misses", ""},
		{"at first even so", scarce(1000, sharp(812)), 5, 20_000, Held, 812, true, 9 + 3 + 4 + 3, "misses", ""},
		{"too few up to where it misses", scarce(1000, sharp(8)), 5, 20_000, Inconclusive, 0, false, 4 + 1, "inconclusive: at 5/s too few", "hold"},
		{"too few for ever", scarce(1e9, sharp(8)), 100, 300, Inconclusive, 0, false, 4 + 1 + 1, "inconclusive: at 100/s too few", ""},
		{"less for longer", tiring(sharp(812), sharp(700)), 5, 20_000, Held, 700, true, 9 + 4 + 1 + 1 + 2 + 1 + 3, "misses", ""},
		{"one confirmation in three fails", bad(Outcome{Verdict: Missed, Why: "once"}, sharp(812), 16), 5, 20_000, Held, 812 / 1.05, true, 9 + 4 + 3 + 3, "once", ""},
		{"nothing for longer", tiring(sharp(812), sharp(0)), 5, 20_000, Inconclusive, 812, false, 0, "inconclusive, though", "misses"},
		{"the generator when it confirms", tiring(sharp(812), before(1, sharp(812))), 5, 20_000, Inconclusive, 812, false, 9 + 4 + 3, "held once: lag", ""},
		{"not even the first for longer", tiring(sharp(5), sharp(0)), 5, 5, Missed, 0, false, 1 + 1, "does not hold 5/s", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var last int
			o := options(tt.from, tt.most)
			o.Told = func(_ Probe, more int) { last = more }
			a, probes, err := Search(t.Context(), o, tt.try)
			if err != nil {
				t.Fatal(err)
			}
			if a.Verdict != tt.verdict || a.Confirmed != tt.confirmed {
				t.Errorf("%+v; want it %s, confirmed %v", a, tt.verdict, tt.confirmed)
			}
			if tt.confirmed && (a.Holds > tt.holds || a.Holds < tt.holds/1.05) || !tt.confirmed && a.Holds > tt.holds {
				t.Errorf("it holds %g; want %g, or 5 %% less", a.Holds, tt.holds)
			}
			if tt.probes > 0 && len(probes) != tt.probes {
				t.Errorf("%d probes, want %d: %+v", len(probes), tt.probes, probes)
			}
			if text := a.Text(); !strings.Contains(text, tt.text) || tt.lacks != "" && strings.Contains(text, tt.lacks) {
				t.Errorf("%q; want it to say %q and not %q", text, tt.text, tt.lacks)
			}
			if tt.confirmed && last != 0 {
				t.Errorf("at the end %d more were likely", last)
			}
		})
	}
}

// What was too few once is not tried again: later probes begin long enough, and
// those that confirm are longer still.
func TestSearchLength(t *testing.T) {
	_, probes, err := Search(t.Context(), options(5, 20), scarce(500, sharp(1e9)))
	if err != nil {
		t.Fatal(err)
	}
	want := []float64{15, 30, 60, 120, 60, 30, 60, 60, 60} // at 5/s, 10/s and 20/s
	for i, p := range probes {
		if i >= len(want) || p.Seconds != want[i] {
			t.Fatalf("%+v; want the lengths %v", probes, want)
		}
	}
}

// An error ends a search, with what was known until then.
func TestSearchThatFails(t *testing.T) {
	broken := errors.New("gone")
	n := 0
	a, probes, err := Search(t.Context(), options(5, 20_000), func(context.Context, float64, float64) (Outcome, error) {
		if n++; n == 3 {
			return Outcome{}, broken
		}
		return Outcome{Verdict: Held}, nil
	})
	if !errors.Is(err, broken) || len(probes) != 2 || a.Verdict != Inconclusive || a.Holds != 10 || a.Why != "gone" || n != 3 {
		t.Errorf("%+v, %v after %d tries; want it inconclusive, with 10/s", a, err, n)
	}
}

// bound is how many probes a search can take: each rate may be tried twice more
// for the generator, and three times longer.
func bound(o Options) int {
	climbs := math.Ceil(math.Log2(o.Max/o.From)) + 1
	bisections := math.Ceil(math.Log2(math.Log(o.Max/o.From)/math.Log1p(o.Precision))) + 1
	return 6 * int(climbs+rounds*(max(bisections, 0)+confirmations))
}

// Whatever the capacity, the answer lies within the precision.
func TestSearchFindsAnyCapacity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{
			From: rapid.Float64Range(1, 100).Draw(t, "from"), Precision: rapid.Float64Range(0.01, 0.5).Draw(t, "precision"), Seconds: 15,
		}
		o.Max = rapid.Float64Range(o.From, 20_000).Draw(t, "max")
		capacity := math.Exp(rapid.Float64Range(-1, 11).Draw(t, "ln capacity"))
		generator := math.Exp(rapid.Float64Range(-1, 11).Draw(t, "ln generator"))
		needs := rapid.Float64Range(0, o.From*15*longest).Draw(t, "samples")
		a, probes, err := Search(t.Context(), o, before(generator, scarce(needs, sharp(capacity))))
		if err != nil || len(probes) > bound(o) {
			t.Fatalf("%d probes, at most %d; %v", len(probes), bound(o), err)
		}
		least := min(capacity, generator)
		switch {
		case least < o.From:
			if want := map[bool]Verdict{true: Missed, false: Inconclusive}[generator >= o.From]; a.Holds != 0 || a.Verdict != want {
				t.Fatalf("%+v; want nothing to hold, and %s", a, want)
			}
		case least >= o.Max:
			if a.Verdict != Held || a.Holds != o.Max || a.Below != 0 {
				t.Fatalf("%+v; want the maximum", a)
			}
		default:
			const exact = 1 + 1e-9
			if !a.Confirmed || a.Holds > least || a.Below <= least || a.Below > a.Holds*(1+o.Precision)*exact {
				t.Fatalf("%+v; want %g confirmed", a, least)
			}
			if (a.Verdict == Held) != (a.Below <= generator) {
				t.Fatalf("%+v; want it held only where the generator could send more", a)
			}
		}
	})
}

// Whatever happens, it ends.
func TestSearchEnds(t *testing.T) {
	outcomes := []Outcome{{Verdict: Held}, {Verdict: Missed}, {Verdict: Inconclusive}, {Verdict: Inconclusive, Blocked: true}}
	rapid.Check(t, func(t *rapid.T) {
		o := options(rapid.Float64Range(1, 100).Draw(t, "from"), 20_000)
		low := math.Inf(1)
		a, probes, err := Search(t.Context(), o, func(_ context.Context, rate, _ float64) (Outcome, error) {
			o := rapid.SampledFrom(outcomes).Draw(t, "outcome")
			if o.Verdict == Missed {
				low = min(low, rate)
			}
			return o, nil
		})
		if err != nil || len(probes) > bound(o) {
			t.Fatalf("%d probes, at most %d; %v", len(probes), bound(o), err)
		}
		if a.Verdict == Held && a.Holds >= low {
			t.Fatalf("it holds %g, and %g did not", a.Holds, low)
		}
	})
}
