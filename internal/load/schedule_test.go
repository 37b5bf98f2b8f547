package load

import (
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// planned is the integral of the rate up to t, written down apart from the
// code: the trapezium of each stage.
func planned(stages []Stage, t time.Duration) float64 {
	var sum, rate float64
	for _, st := range stages {
		in := min(t, st.Duration)
		if in <= 0 {
			break
		}
		end := rate + (st.Rate-rate)*in.Seconds()/st.Duration.Seconds()
		sum += (rate + end) / 2 * in.Seconds()
		t -= st.Duration
		rate = st.Rate
	}
	return sum
}

func TestSchedule(t *testing.T) {
	const s, ms = time.Second, time.Millisecond
	tests := []struct {
		name   string
		stages []Stage
		total  int64
		due    map[int64]time.Duration
	}{
		{"the contract's example", []Stage{{60 * s, 10}, {300 * s, 10}}, 3300, map[int64]time.Duration{
			0: 0, 75: 30 * s, 300: 60 * s, 301: 60*s + 100*ms, 3299: 360*s - 100*ms,
		}},
		{"from nothing, as a square root", []Stage{{10 * s, 10}}, 50, map[int64]time.Duration{2: 2 * s, 8: 4 * s, 32: 8 * s}},
		{"down to nothing", []Stage{{10 * s, 10}, {10 * s, 0}}, 100, map[int64]time.Duration{50: 10 * s, 98: 18 * s}},
		{"nothing first", []Stage{{10 * s, 0}, {2 * s, 10}}, 10, map[int64]time.Duration{0: 10 * s}},
		{"nothing between", []Stage{{2 * s, 10}, {2 * s, 0}, {10 * s, 0}, {2 * s, 10}}, 30, map[int64]time.Duration{
			19: 4*s - 632455532, 20: 14 * s,
		}},
		{"a part of an arrival is none", []Stage{{1 * s, 5}}, 2, map[int64]time.Duration{0: 0, 1: 632455532}},
		{"less than one arrival", []Stage{{1 * s, 1}}, 0, nil},
		{"0.1 added up is not 1, but counts as it", []Stage{
			{s, .1}, {s, .1}, {s, .1}, {s, .1}, {s, .1}, {s, .1}, {s, .1}, {s, .1}, {s, .1}, {s, .1}, {500 * ms, .1},
		}, 1, map[int64]time.Duration{0: 0}},
		{"one in a hundred seconds", []Stage{{ms, .01}, {time.Hour, .01}}, 36, map[int64]time.Duration{
			1: 100*s + 500*time.Microsecond, 35: 3500*s + 500*time.Microsecond,
		}},
		{"the most there is", []Stage{{24 * time.Hour, MaxRate}}, 43_200_000_000, map[int64]time.Duration{10_800_000_000: 12 * time.Hour}},
		{"no stage", nil, 0, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			sched := newSchedule(tt.stages)
			if sched.total != tt.total {
				t.Errorf("%d arrivals, want %d", sched.total, tt.total)
			}
			var ks []int64
			for k := range tt.due {
				ks = append(ks, k)
			}
			slices.Sort(ks)
			for _, k := range ks {
				if got := sched.due(k); (got - tt.due[k]).Abs() > time.Microsecond {
					t.Errorf("arrival %d is due at %v, want %v", k, got, tt.due[k])
				}
			}
			if n := sched.dueBefore(25 * time.Hour); n != tt.total {
				t.Errorf("%d are due in all, want %d", n, tt.total)
			}
		})
	}
}

func TestScheduleIsTheIntegralOfTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.OneOf(rapid.Just(0.0), rapid.Float64Range(0.01, 10), rapid.Float64Range(10, MaxRate))
		stages := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Stage {
			span := rapid.Int64Range(int64(time.Microsecond), int64(time.Hour)).Draw(t, "span")
			return Stage{time.Duration(span), rate.Draw(t, "rate")}
		}), 1, 6).Draw(t, "stages")
		var end time.Duration
		for _, st := range stages {
			end += st.Duration
		}
		all := planned(stages, end)
		slack := 1e-6 + all*1e-12
		s := newSchedule(stages)
		if float64(s.total) > all+slack || float64(s.total) < all-1-slack {
			t.Fatalf("%d arrivals of an integral of %v", s.total, all)
		}
		if s.total == 0 {
			return
		}
		ks := rapid.SliceOfN(rapid.Int64Range(0, s.total-1), 1, 20).Draw(t, "ks")
		slices.Sort(ks)
		var last time.Duration
		for _, k := range ks {
			due := s.due(k)
			if due < last || due > end {
				t.Fatalf("arrival %d is due at %v, after one at %v and before the end at %v", k, due, last, end)
			}
			last = due
			// A nanosecond on either side is what a Duration can't say.
			before, after := planned(stages, due-2), planned(stages, due+2)
			if float64(k) < before-slack || float64(k) > after+slack {
				t.Fatalf("arrival %d is due at %v, when the integral is %v to %v", k, due, before, after)
			}
			if n := s.dueBefore(due - 2); float64(n) > float64(k)+1+slack {
				t.Fatalf("%d are due before arrival %d is", n, k)
			}
			if n := s.dueBefore(due + 2); float64(n) < float64(k)-slack {
				t.Fatalf("only %d are due when arrival %d is", n, k)
			}
		}
	})
}

func TestDueBeforeCountsWhatIsDue(t *testing.T) {
	for _, stages := range [][]Stage{
		{{time.Second, 50}, {time.Second, 50}, {2 * time.Second, 7}, {time.Second, 0}},
		{{time.Second, 0}, {time.Second, 10}, {time.Second, 0}, {time.Second, 0}, {time.Second, 100}},
	} {
		s := newSchedule(stages)
		var dues []time.Duration
		for k := range s.total {
			dues = append(dues, s.due(k))
		}
		for at := time.Duration(0); at < 6*time.Second; at += 17 * time.Millisecond {
			want, _ := slices.BinarySearch(dues, at) // how many are due before
			if got := s.dueBefore(at); got != int64(want) {
				t.Errorf("%d are due before %v, want %d", got, at, want)
			}
		}
	}
}

func TestRateAndStage(t *testing.T) {
	s := newSchedule([]Stage{{10 * time.Second, 10}, {10 * time.Second, 10}, {10 * time.Second, 0}})
	for _, tt := range []struct {
		at    time.Duration
		rate  float64
		stage int
	}{
		{0, 0, 0}, {5 * time.Second, 5, 0}, {10 * time.Second, 10, 1}, {19 * time.Second, 10, 1},
		{25 * time.Second, 5, 2}, {30 * time.Second, 0, 2}, {time.Hour, 0, 2},
	} {
		if rate, stage := s.rate(tt.at); math.Abs(rate-tt.rate) > 1e-9 || stage != tt.stage {
			t.Errorf("at %v: %v in stage %d, want %v in %d", tt.at, rate, stage, tt.rate, tt.stage)
		}
	}
}

func TestTheSeedDecidesTheRequests(t *testing.T) {
	weights := []float64{1, 2, 0.5, 6.5}
	choose := func(seed uint64) (chosen []int) {
		j := &Job{Seed: seed}
		for _, w := range weights {
			j.Requests = append(j.Requests, Request{Weight: w})
		}
		for c := newChooser(j); len(chosen) < 10_000; {
			chosen = append(chosen, c.next())
		}
		return chosen
	}
	one := choose(1)
	if !slices.Equal(one, choose(1)) {
		t.Error("one seed chose differently twice")
	}
	if slices.Equal(one, choose(2)) {
		t.Error("two seeds chose alike")
	}
	count := make([]float64, len(weights))
	for _, i := range one {
		count[i]++
	}
	for i, w := range weights { // five standard deviations at most
		if want := w / 10 * 10_000; math.Abs(count[i]-want) > 5*math.Sqrt(want) {
			t.Errorf("request %d was chosen %v times of 10,000, want about %v", i, count[i], want)
		}
	}
}

func TestTemplate(t *testing.T) {
	at := time.Date(2026, 11, 4, 13, 30, 0, 5e8, time.FixedZone("CET", 3600))
	fill := func(seed uint64, tpl Template) (all []string) {
		f := &filler{picks: rand.New(rand.NewPCG(seed, 2)), unique: newUnique(), now: at}
		for f.seq = 1; f.seq <= 200; f.seq++ {
			all = append(all, string(tpl.fill([]byte("> "), f)))
		}
		return all
	}
	if got := fill(1, Template{{Text: "a"}, {Place: Seq}, {Text: "b"}, {Place: Now}})[41]; got != "> a42b2026-11-04T12:30:00.5Z" {
		t.Errorf("filled as %q", got)
	}
	if got := fill(1, nil)[0] + fill(1, Literally("x"))[0]; got != "> > x" {
		t.Errorf("an empty template and a literal one made %q", got)
	}

	pick := Template{{Place: Pick, Picks: []string{"a", "b", "c"}}}
	one := fill(1, pick)
	if !slices.Equal(one, fill(1, pick)) || slices.Equal(one, fill(2, pick)) {
		t.Error("the seed does not decide the picks")
	}
	if slices.Sort(one); len(slices.Compact(one)) != 3 {
		t.Error("not everything was picked")
	}

	ids := append(fill(1, Template{{Place: UUID}}), fill(1, Template{{Place: UUID}})...)
	for _, id := range ids {
		if !uuid4.MatchString(id) {
			t.Fatalf("%q is not a version 4 UUID", id)
		}
	}
	if slices.Sort(ids); len(slices.Compact(ids)) != 400 {
		t.Error("a UUID came twice")
	}
	if got := string(appendUUID(nil, math.MaxUint64, math.MaxUint64)); got != "ffffffff-ffff-4fff-bfff-ffffffffffff" {
		t.Errorf("all ones make %s", got)
	}
	if got := string(appendUUID(nil, 0x0123456789abcdef, 0x0123456789abcdef)); got != "01234567-89ab-4def-8123-456789abcdef" {
		t.Errorf("the digits make %s", got)
	}
}

var uuid4 = regexp.MustCompile(`^> [0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
