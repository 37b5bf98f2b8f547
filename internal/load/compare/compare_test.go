package compare

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

// run is a side of some minutes at 45/s whose latencies are so many times the usual.
func run(name string, slower float64, change ...func(*Side)) Side {
	s := simulated{seconds: 120, rate: 45, level: 0.05, memory: 0.5, slower: slower}.side(name, rand.New(rand.NewPCG(uint64(len(name)), 7)))
	counts(&s)
	for _, c := range change {
		c(&s)
	}
	return s
}

// counts puts into the summary what the windows hold.
func counts(s *Side) {
	s.Summary.Outcomes = map[string]report.Outcome{}
	for key, o := range s.Summary.ByRequest["r"] {
		d := load.NewDistribution()
		for _, w := range s.Windows {
			if w.Key == key {
				for _, b := range w.Bins {
					for range b.Count {
						d.Record(b.Low)
					}
				}
			}
		}
		o.Count = d.Count()
		o.Latency = report.Times{P50: at(d, 0.5), P90: at(d, 0.9), P95: at(d, 0.95), P99: at(d, 0.99)}
		s.Summary.ByRequest["r"][key], s.Summary.Outcomes[key] = o, o
	}
}

func at(d *load.Distribution, q float64) *float64 {
	t, ok := d.Quantile(q)
	if !ok {
		return nil
	}
	ms := float64(t) / float64(time.Millisecond)
	return &ms
}

func interrupted(seconds float64) func(*Side) {
	return func(s *Side) { s.Summary.Interrupted, s.Summary.DurationSeconds = true, seconds }
}

func saturated(s *Side) { s.Summary.Generator.Saturated = true }

// few are so many successes, by the summary.
func few(n int64) func(*Side) {
	return func(s *Side) {
		o := s.Summary.Outcomes["201"]
		o.Count = n
		s.Summary.Outcomes["201"] = o
	}
}

func sent(rate float64) func(*Side) { return func(s *Side) { s.Summary.Rate.Achieved = rate } }

func at9(s *Side) { s.Summary.StartedAt = time.Date(2026, 1, 1, 9, 0, 0, 0, time.UTC) }

func alone(s *Side) { s.Windows = nil }

func ofKind(key string, kind load.Kind) func(*Side) {
	return func(s *Side) {
		for _, outcomes := range []map[string]report.Outcome{s.Summary.Outcomes, s.Summary.ByRequest["r"]} {
			o := outcomes[key]
			o.Kind = kind
			outcomes[key] = o
		}
	}
}

// without leaves an outcome's requests out, as if they had been something else.
func without(key, became string, kind load.Kind) func(*Side) {
	return func(s *Side) {
		o := s.Summary.ByRequest["r"][key]
		o.Name, o.Kind = became, kind
		for _, outcomes := range []map[string]report.Outcome{s.Summary.Outcomes, s.Summary.ByRequest["r"]} {
			delete(outcomes, key)
			outcomes[became] = o
		}
		for i := range s.Windows {
			if s.Windows[i].Key == key {
				s.Windows[i].Key = became
			}
		}
	}
}

func stages(all ...report.Stage) func(*Side) {
	return func(s *Side) { s.Summary.Stages = all }
}

// slowAtFirst makes the first seconds a hundred times as slow.
func slowAtFirst(seconds int) func(*Side) {
	return func(s *Side) {
		for i, w := range s.Windows {
			if w.Second < seconds {
				s.Windows[i].Bins = []load.Bin{{Low: 180 * time.Millisecond, Count: 45}}
			}
		}
	}
}

// slowLater makes the last fifth a fifth slower.
func slowLater(s *Side) {
	for i, w := range s.Windows {
		if w.Second >= 102 {
			s.Windows[i].Bins = nil
			for _, b := range w.Bins {
				s.Windows[i].Bins = append(s.Windows[i].Bins, load.Bin{Low: b.Low * 6 / 5, Count: b.Count})
			}
		}
	}
}

// slowAtLast adds answers that were awaited until after the last stage.
func slowAtLast(s *Side) {
	s.Windows = append(s.Windows, report.Window{Second: 131, Spread: load.Spread{Request: "r", Key: "201", Bins: []load.Bin{{Low: 5 * time.Second, Count: 500}}}})
	o := s.Summary.ByRequest["r"]["201"]
	o.Count += 500
	s.Summary.ByRequest["r"]["201"], s.Summary.Outcomes["201"] = o, o
}

// aside adds an outcome that the request seldom comes to.
func aside(s *Side) {
	o := report.Outcome{Name: "seldom", Kind: load.Success, Count: 120}
	s.Summary.ByRequest["r"]["202"], s.Summary.Outcomes["202"] = o, o
	var all []report.Window
	for _, w := range s.Windows {
		if all = append(all, w); w.Key == "201" && w.Second < 120 {
			w.Key, w.Bins = "202", []load.Bin{{Low: time.Duration(1+w.Second%3) * time.Millisecond, Count: 1}}
			all = append(all, w)
		}
	}
	s.Windows = all
}

// moving makes so many of each twenty successes another outcome, which takes so
// many times as long.
func moving(twentieths int, key, name string, kind load.Kind, slower int64) func(*Side) {
	return func(s *Side) {
		all, n := slices.DeleteFunc(slices.Clone(s.Windows), func(w report.Window) bool { return w.Key == "201" }), 0
		for _, w := range s.Windows {
			if w.Key != "201" {
				continue
			}
			stay, gone := w, w
			stay.Bins, gone.Key, gone.Bins = nil, key, nil
			for _, b := range w.Bins {
				for range b.Count {
					if n++; n%20 < twentieths {
						gone.Bins = append(gone.Bins, load.Bin{Low: b.Low * time.Duration(slower), Count: 1})
					} else {
						stay.Bins = append(stay.Bins, load.Bin{Low: b.Low, Count: 1})
					}
				}
			}
			all = append(all, stay, gone)
		}
		s.Windows = all
		s.Summary.ByRequest["r"][key] = report.Outcome{Name: name, Kind: kind}
		counts(s)
	}
}

func judged(v gate.Verdict, reasons ...string) func(*Side) {
	return func(s *Side) { s.Summary.Verdict, s.Summary.Reasons = v, reasons }
}

// k6 makes a summary of successes and others without statuses.
func k6(s *Side) {
	o, bad := s.Summary.Outcomes["201"], s.Summary.Outcomes["429"]
	o.Name = "success"
	*s = Side{Name: s.Name, Summary: &report.Summary{
		Outcomes: map[string]report.Outcome{"success": o, "failure": {Name: "failure", Kind: load.Failure, Count: bad.Count}},
		Requests: report.Requests{Sent: o.Count + bad.Count}, ClosedModel: true, Notes: []string{"closed model"},
	}}
}

func TestCompare(t *testing.T) {
	usual := run("old", 1)
	for _, tt := range []struct {
		name     string
		old, now Side
		verdict  gate.Verdict
		change   Answer
		says     string // a part of the reasons and notes
	}{
		{"the same run", usual, usual, gate.Pass, None, ""},
		{"the same software", usual, run("newer", 1), gate.Pass, None, ""},
		{"a third slower", usual, run("newer", 1.3), gate.Pass, Slower, ""},
		{"a third faster", usual, run("newer", 0.7), gate.Pass, Faster, ""},
		{"three times as slow", usual, run("newer", 3), gate.Fail, Slower, "r/created p50 is certainly above 2 times"},
		{"on the limit", usual, run("newer", 2), gate.Inconclusive, Slower, "may be above 2 times, or below"},
		{"slow in the ramp alone", run("old", 1, stages(report.Stage{Seconds: 50, Rate: 45}, report.Stage{Seconds: 76, Rate: 45})), run("newer", 1,
			slowAtFirst(50), stages(report.Stage{Seconds: 50, Rate: 45}, report.Stage{Seconds: 76, Rate: 45})), gate.Pass, None, ""},
		{"slow at its start alone", usual, run("newer", 1, slowAtFirst(5)), gate.Pass, None, ""},
		{"slow after its end", usual, run("newer", 1, slowAtLast), gate.Inconclusive, None, "r/created p95 may be above 2 times"},
		{"something seldom", run("old", 1, aside), run("newer", 1, aside), gate.Pass, None, "r/seldom is not compared: it came about 115 and 115 times"},
		{"no stage holds", run("old", 1, stages(report.Stage{Seconds: 126, Rate: 45})), run("newer", 1, stages(report.Stage{Seconds: 126, Rate: 45})),
			gate.Pass, None, "no second had a steady rate"},
		{"too short", run("old", 1, stages(report.Stage{Seconds: 1, Rate: 45}, report.Stage{Seconds: 53, Rate: 45})), run("newer", 1,
			stages(report.Stage{Seconds: 1, Rate: 45}, report.Stage{Seconds: 53, Rate: 45})), gate.Inconclusive, Unknown, "only 49 seconds of a steady rate"},
		{"stopped half-way", usual, run("newer", 1, interrupted(70)), gate.Inconclusive, None, "newer was interrupted after 70 s"},
		{"stopped half-way, and slow", usual, run("newer", 3, interrupted(70)), gate.Fail, Slower, "certainly above"},
		{"stopped at once", usual, run("newer", 1, interrupted(20)), gate.Inconclusive, Unknown, "only 15 seconds"},
		{"the generator was slow", usual, run("newer", 3, saturated), gate.Inconclusive, Unknown, "the generator of newer was the bottleneck"},
		{"refusals fail now", usual, run("newer", 1, ofKind("429", load.Failure)), gate.Inconclusive, None, "% of newer failed or were not sent, against 0.0 %"},
		{"none is created any more", usual, run("newer", 1, without("201", "409", load.Expected)), gate.Inconclusive, None, "no success was compared"},
		{"and less work is done", usual, run("newer", 1, without("201", "409", load.Expected)), gate.Inconclusive, None, "r/created came about 5445 times, and 0 now"},
		{"a summary alone", run("old", 1, alone), run("newer", 1), gate.Pass, Unknown, "old is a summary alone"},
		{"a summary alone, and slow", run("old", 1, alone), run("newer", 3), gate.Fail, Unknown, "certainly above"},
		{"two of them", run("old", 1, alone), run("newer", 1.9, alone), gate.Pass, Unknown, "newer is a summary alone"},
		{"of refusals alone", run("old", 1, alone, without("201", "422", load.Failure)), usual, gate.Inconclusive, Unknown, "created of old has no counterpart"},
		{"a foreign one", run("k6", 1, k6), usual, gate.Pass, Unknown, "k6: closed model"},
		{"a foreign one, and slow", run("k6", 1, k6), run("newer", 3), gate.Fail, Unknown, "created p99 is certainly above"},
		{"a foreign new one that looks well", usual, run("k6", 1, k6), gate.Inconclusive, Unknown, "k6 may be of a closed model"},
		{"few successes among many refusals", run("old", 1, alone, few(50)), run("newer", 1, alone, few(50)), gate.Inconclusive, Unknown, "too few for a p95"},
		{"less load", run("old", 1, sent(50)), run("newer", 1, sent(40)), gate.Inconclusive, None, "newer sent 40 requests a second, and old 50"},
		{"as much load", run("old", 1, sent(50)), run("newer", 1, sent(49)), gate.Pass, None, ""},
		{"one run twice", run("old", 1, at9), run("old", 1, at9), gate.Inconclusive, None, "both are the same run"},
		{"something seldom has gone", run("old", 1, aside), usual, gate.Inconclusive, None, "r/seldom came about 115 times, and 0 now"},
		{"a foreign new one", usual, run("k6", 3, k6), gate.Fail, Unknown, "p50 is certainly above"},
		{"some are accepted only, and slowly", usual, run("newer", 1, moving(9, "202", "accepted", load.Success, 100)), gate.Fail, Slower, "r/success p95 is certainly above 2 times"},
		{"and as fast", usual, run("newer", 1, moving(9, "202", "accepted", load.Success, 1)), gate.Inconclusive, None, "r/accepted is new, with 40.6 % of its requests"},
		{"some are refused now", usual, run("newer", 1, moving(9, "409", "busy", load.Expected, 1)), gate.Inconclusive, None, "r/busy is new, with 40.6 % of its requests"},
		{"by summary", run("old", 1, alone), run("newer", 1, moving(9, "409", "busy", load.Expected, 1)), gate.Inconclusive, Unknown, "r/busy is new, with 40.6 % of its requests"},
		{"more take the slow way", run("old", 1, moving(1, "202", "accepted", load.Success, 100)), run("newer", 1, moving(4, "202", "accepted", load.Success, 100)),
			gate.Fail, Slower, "r/accepted has 18.0 % of its requests, and had 4.5 %"},
		{"it failed itself", usual, run("newer", 1, judged(gate.Fail, "it was slow")), gate.Inconclusive, None, "newer did not pass itself: fail, it was slow"},
		{"both failed", run("old", 1, judged(gate.Fail)), run("newer", 1, judged(gate.Fail)), gate.Inconclusive, None, "old did not pass itself: fail"},
		{"the old one is no evidence", run("old", 1, judged(gate.Inconclusive)), usual, gate.Inconclusive, None, "old did not pass itself: inconclusive"},
		{"one has no verdict", run("old", 1, judged("")), run("newer", 1, judged("")), gate.Pass, None, ""},
		{"as much as it drifts", run("old", 1, slowLater), run("newer", 1.15, slowLater), gate.Pass, None, "by no more than a run differs from itself"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Compare(tt.old, tt.now, 2)
			if err != nil {
				t.Fatal(err)
			}
			said := strings.Join(append(c.Gate.Reasons, c.Notes...), "\n")
			if c.Gate.Verdict != tt.verdict || c.Change.Answer != tt.change || !strings.Contains(said, tt.says) {
				t.Errorf("%s, %s:\n%s\nwant %s, %s and %q", c.Gate.Verdict, c.Change.Answer, said, tt.verdict, tt.change, tt.says)
			}
			for _, cell := range c.Cells {
				if cell.Low != nil && (*cell.Low > cell.Ratio || cell.Ratio > *cell.High) || math.IsNaN(cell.Ratio) {
					t.Errorf("%s %s: %v in %v to %v", cell.Name, cell.Stat, cell.Ratio, cell.Low, cell.High)
				}
			}
		})
	}
}

// TestFewTimes: fifteen times lie beyond each percentile that is compared.
func TestFewTimes(t *testing.T) {
	for _, tt := range []struct {
		times int
		want  []string
	}{{29, nil}, {30, []string{"p50"}}, {149, []string{"p50"}}, {150, []string{"p50", "p90"}}, {299, []string{"p50", "p90"}}, {300, []string{"p50", "p90", "p95"}}} {
		once := simulated{seconds: tt.times - 1, rate: 1, level: 0.1, memory: 0.5, slower: 1} // a second; and the first that is steady
		rng := rand.New(rand.NewPCG(3, 3))
		c, err := Compare(once.side("old", rng), once.side("new", rng), 2)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, cell := range c.Cells {
			if cell.Kind == load.Success {
				got = append(got, cell.Stat)
			}
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("of %d times %v are compared, want %v", tt.times, got, tt.want)
		}
	}
}

// TestMoreSeconds: so many more as are told do decide it.
func TestMoreSeconds(t *testing.T) {
	short := simulated{seconds: 60, rate: 30, level: 0.9, memory: 0.3, slower: 1}
	slower := short
	slower.slower = 1.6
	pair := func(longer int) *Comparison {
		o, n := short, slower
		o.seconds, n.seconds = short.seconds+longer, slower.seconds+longer
		rng := rand.New(rand.NewPCG(5, 5))
		c, err := Compare(o.side("old", rng), n.side("new", rng), 2)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := pair(0)
	cell := c.Cells[0]
	if cell.Verdict != gate.Inconclusive || cell.More == nil || *cell.More < 10 {
		t.Fatalf("%+v; want it open, with seconds to wait", cell)
	}
	if got := pair(2 * *cell.More).Cells[0]; got.Verdict != gate.Pass {
		t.Errorf("after twice %d more seconds %.2f in %.2f to %.2f is %s", *cell.More, got.Ratio, *got.Low, *got.High, got.Verdict)
	}
	for _, tt := range []struct {
		ratio, low, high float64
		more             int // 0: never
	}{
		{2, 1.5, 2.5, 0},
		{1.5, 0.5, 2.5, 300}, // 100 · (1 / 0.5)² − 100
		{1, 0.9, 3, 300},     // of what reaches over the limit: 100 · (2 / 1)² − 100
		{3, 1, 9, 300},
	} {
		cell := Cell{Ratio: tt.ratio, Low: &tt.low, High: &tt.high}
		cell.judge(2, 100, false)
		if cell.Verdict != gate.Inconclusive || (cell.More != nil) != (tt.more > 0) || cell.More != nil && *cell.More != tt.more {
			t.Errorf("%+v; want %d more seconds", cell, tt.more)
		}
	}
}

func TestUnlikePlans(t *testing.T) {
	side := func(plan, hash, profile string) Side {
		return Side{Summary: &report.Summary{Plan: plan, PlanHash: hash, Profile: profile}}
	}
	for _, tt := range []struct {
		name     string
		old, now Side
		want     string
	}{
		{"names", side("a", "", ""), side("b", "", ""), `"a" with profile "", and "b"`},
		{"profiles", side("a", "1", "smoke"), side("a", "2", "staging"), `profile "smoke", and "a" with profile "staging"`},
		{"something else", side("a", "1", ""), side("a", "2", ""), "run both with one plan"},
		{"one knows its hash", side("a", "1", ""), side("a", "", ""), ""},
		{"one knows nothing", side("a", "1", ""), side("", "", ""), ""},
	} {
		_, err := Compare(tt.old, tt.now, 2)
		if (err != nil) != (tt.want != "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestUnlikeEnvironments: what both recorded stands first where it differs, what
// one lacks is counted.
func TestUnlikeEnvironments(t *testing.T) {
	on := func(cpu, version string) func(*Side) {
		return func(s *Side) {
			s.Summary.Environment.Generator.CPU, s.Summary.Environment.Target.Version = cpu, version
			s.Summary.Environment.Generator.Go = "go1.26"
		}
	}
	c, err := Compare(run("old", 1, on("fast", "")), run("newer", 1, on("slow", "2")), 2)
	if err != nil {
		t.Fatal(err)
	}
	want := []Difference{{"generator: processor", "fast", "slow"}, {"facts not recorded", "1", "0"}}
	if len(c.Unlike) != 2 || c.Unlike[0] != want[0] || c.Unlike[1] != want[1] {
		t.Errorf("%+v, want %+v", c.Unlike, want)
	}
	if len(c.Notes) != 1 || c.Notes[0] != "old did not record: target: version" {
		t.Errorf("%q", c.Notes)
	}
}

// TestTheSameEachTime: draws follow a seed.
func TestTheSameEachTime(t *testing.T) {
	low := func() float64 {
		c, err := Compare(run("old", 1), run("newer", 1), 2)
		if err != nil {
			t.Fatal(err)
		}
		return *c.Cells[0].Low
	}
	if a, b := low(), low(); a != b {
		t.Errorf("%v and %v", a, b)
	}
}

// TestOrdered: by ranks, the middle of a thousand is one of those from the
// 469th to the 531st.
func TestOrdered(t *testing.T) {
	micros := make([]int64, 1000)
	for i := range micros {
		micros[i] = 10_000 + int64(i)*10
	}
	got := ordered([]report.Window{{Spread: load.Spread{Key: "a", Bins: binsOf(micros)}}, {Spread: load.Spread{Key: "b", Bins: binsOf(micros[:1])}}}, "a", 0.5)
	if math.Abs(got[0]-14.69) > 0.05 || math.Abs(got[1]-15.31) > 0.05 {
		t.Errorf("%v, want 14.69 to 15.31 ms", *got)
	}
	if got := ordered(nil, "a", 0.5); got != nil {
		t.Errorf("of nothing: %v", *got)
	}
}
