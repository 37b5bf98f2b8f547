package compare

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

// Side is one of the two runs.
type Side struct {
	Name    string
	Summary *report.Summary
	Windows []report.Window // nil: its summary is all there is
}

// Comparison is what the new run is beside the old one.
type Comparison struct {
	Old      string  `json:"old"`
	New      string  `json:"new"`
	MaxRatio float64 `json:"max_ratio"`
	// Unlike is where the environments differ: read it before any figure.
	Unlike []Difference `json:"unlike"`
	// SummaryAlone: at least one run has no windows, so that nothing is known of
	// how much its figures vary.
	SummaryAlone bool     `json:"summary_alone"`
	Seconds      int      `json:"seconds"` // a side that were compared; 0 where summaries were
	Cells        []Cell   `json:"cells"`
	Gate         Gate     `json:"gate"`
	Change       Change   `json:"change"`
	Notes        []string `json:"notes"` // what a reader should know and that decides nothing

	sides [2]Side // the old one, the new one
}

// Difference is one fact that both runs recorded and that differs.
type Difference struct {
	Fact string `json:"fact"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Cell is one percentile of one outcome.
type Cell struct {
	Name    string       `json:"name"` // "onboard/created", or "created" over all requests
	Kind    load.Kind    `json:"kind"`
	Stat    string       `json:"stat"`   // "p95"
	Old     float64      `json:"old_ms"` // of the seconds compared
	New     float64      `json:"new_ms"`
	Ratio   float64      `json:"ratio"`
	Low     *float64     `json:"low"` // of the ratio's 95 % interval; nil: not known
	High    *float64     `json:"high"`
	Verdict gate.Verdict `json:"verdict"`
	// More is about how many more seconds of such a run would decide it; nil
	// where that is not known, or it is decided.
	More   *int   `json:"more_seconds"`
	Change Answer `json:"change"`

	p     float64
	drift float64 // of the run that drifts more
}

// Gate is whether the new run's latencies certainly stay below a limit.
type Gate struct {
	Verdict gate.Verdict `json:"verdict"`
	Reasons []string     `json:"reasons"` // why it is no pass
	More    *int         `json:"more_seconds"`
}

// Change is whether anything is different at all.
type Change struct {
	Answer Answer `json:"answer"`
	// Of is how many cells were looked at: for so many the answers are corrected,
	// so that two runs of the same software show a change in at most one of twenty
	// comparisons, as long as seconds go in waves shorter than the runs.
	Of int `json:"of"`
}

// Answer says how a latency has changed.
type Answer string

// The answers.
const (
	None    Answer = "none found"
	Slower  Answer = "slower"
	Faster  Answer = "faster"
	Mixed   Answer = "slower and faster"
	Drift   Answer = "within its own drift" // of a cell: it differs, and no more than a run does from itself
	Unknown Answer = "not known"
)

// percentiles are those compared, and how many times it takes on both sides: fifteen
// lie beyond. With half as many the same software's ratios are often open even at
// three times: latencies' tails are heavy, and a ratio has two of them.
var percentiles = []struct {
	stat  string
	q     float64
	takes int64
}{{"p50", 0.50, 30}, {"p90", 0.90, 150}, {"p95", 0.95, 300}, {"p99", 0.99, 1500}}

// Compare says what a new run's latencies are worth beside an old one's.
// maxRatio is above one: how many times as long they may be.
//
// An error means that the runs can't be compared, since their plans differ.
func Compare(old, now Side, maxRatio float64) (*Comparison, error) {
	if err := alike(old.Summary, now.Summary); err != nil {
		return nil, err
	}
	c := &Comparison{
		Old: old.Name, New: now.Name, MaxRatio: maxRatio, Unlike: []Difference{}, Cells: []Cell{}, Notes: []string{},
		SummaryAlone: old.Windows == nil || now.Windows == nil, sides: [2]Side{old, now},
		Gate: Gate{Verdict: gate.Pass, Reasons: []string{}}, Change: Change{Answer: Unknown},
	}
	c.environments()
	if c.SummaryAlone {
		c.bySummary()
	} else {
		c.byWindows()
	}
	c.conclude()
	return c, nil
}

// alike refuses runs of different plans. Where one doesn't know its plan, as
// other tools' summaries, it is taken for the same.
func alike(old, now *report.Summary) error {
	unlike := func(a, b string) bool { return a != "" && b != "" && a != b }
	if unlike(old.Plan, now.Plan) || unlike(old.PlanHash, now.PlanHash) {
		return fmt.Errorf("the plans are unlike: %.60q with profile %.60q, and %.60q with profile %.60q: run both with one plan, profile and e-mail domain",
			old.Plan, old.Profile, now.Plan, now.Profile)
	}
	return nil
}

func (c *Comparison) note(format string, args ...any) {
	c.Notes = append(c.Notes, fmt.Sprintf(format, args...))
}

// environments puts what differs first, and says what one side alone recorded.
func (c *Comparison) environments() {
	var lacks [2][]string
	for _, row := range report.Environments(c.sides[1].Summary, c.sides[0].Summary) {
		switch {
		case row.Theirs == report.NotRecorded:
			lacks[0] = append(lacks[0], row.Fact)
		case row.Ours == report.NotRecorded:
			lacks[1] = append(lacks[1], row.Fact)
		case row.Ours != row.Theirs:
			c.Unlike = append(c.Unlike, Difference{row.Fact, row.Theirs, row.Ours})
		}
	}
	if lacks[0] != nil || lacks[1] != nil {
		c.Unlike = append(c.Unlike, Difference{"facts not recorded", strconv.Itoa(len(lacks[0])), strconv.Itoa(len(lacks[1]))})
	}
	for i, side := range c.sides {
		if lacks[i] != nil {
			c.note("%s did not record: %s", side.Name, strings.Join(lacks[i], ", "))
		}
		if side.Summary.PlanHash == "" { // not ours: what it is worth stands in its notes
			for _, n := range side.Summary.Notes {
				c.note("%s: %s", side.Name, n)
			}
		}
	}
}

// steady says which seconds of the runs count: those of stages that hold their
// rate, after the first few of the run. Where there are none, all do.
//
// What was still awaited when the last stage ended is of that stage.
func (c *Comparison) steady() span {
	const warmUp = 5 // seconds: connections are opened, caches fill
	var end, rate float64
	var holds [][2]float64
	for _, stage := range c.sides[1].Summary.Stages {
		if stage.Rate == rate && rate > 0 {
			holds = append(holds, [2]float64{max(end, warmUp), end + stage.Seconds})
		}
		end, rate = end+stage.Seconds, stage.Rate
	}
	whole := min(end, load.MaxDuration.Seconds())
	for _, side := range c.sides {
		if side.Summary.Interrupted { // the other has no more to say than it
			whole = min(whole, side.Summary.DurationSeconds)
		}
	}
	s := span{late: -1}
	for second := range int(whole) {
		at := -1
		if slices.ContainsFunc(holds, func(h [2]float64) bool { return float64(second) >= h[0] && float64(second+1) <= h[1] }) {
			at = s.n
			s.n++
		}
		s.place = append(s.place, at)
	}
	if s.n == 0 {
		c.note("no second had a steady rate, so all are compared, ramps too")
		for second := range s.place {
			s.place[second] = second
		}
		s.n = len(s.place)
	}
	if n := len(s.place); n > 0 && whole == end {
		s.late = s.place[n-1]
	}
	return s
}

// together is the key and the name of all of a request's successes.
const together = string(load.Success)

// together adds all successes of a request where they are of several outcomes:
// what moves from one to another is in neither's latencies.
func (c *Comparison) together(request string, olds, news map[subject]taken) {
	kinds := map[string]bool{}
	var all [2]taken
	for i, own := range []map[subject]taken{olds, news} {
		for key, o := range c.sides[i].Summary.ByRequest[request] {
			if t, ok := own[subject{request, key}]; ok && o.Kind == load.Success {
				kinds[key] = true
				all[i].rows, all[i].n = append(all[i].rows, t.rows...), all[i].n+t.n
			}
		}
	}
	if len(kinds) > 1 {
		olds[subject{request, together}], news[subject{request, together}] = all[0], all[1]
	}
}

// byWindows compares what both runs' seconds show.
func (c *Comparison) byWindows() {
	s := c.steady()
	c.Seconds = s.n
	olds, news := gather(c.sides[0].Windows, s), gather(c.sides[1].Windows, s)
	for request := range c.sides[1].Summary.ByRequest {
		c.together(request, olds, news)
	}
	most := map[string]int64{} // by request: how often it came to what it mostly came to
	for by, o := range olds {
		most[by.request] = max(most[by.request], o.n)
	}
	for _, by := range slices.SortedFunc(maps.Keys(olds), subject.compare) {
		o, n := olds[by], news[by]
		outcome := c.sides[0].Summary.ByRequest[by.request][by.key]
		if by.key == together {
			outcome = report.Outcome{Name: together, Kind: load.Success}
		}
		name := by.request + "/" + outcome.Name
		both := min(o.n, n.n)
		switch {
		case outcome.Kind == load.Failure:
			continue
		case o.n >= load.Needed(0.95) && n.n < o.n/2: // it does other work now
			c.open("%s came about %d times, and %d now", name, o.n, n.n)
		case o.n < most[by.request] && both < load.Needed(0.99):
			c.note("%s is not compared: it came about %d and %d times, beside what that request mostly came to", name, o.n, n.n)
			continue
		}
		var quantiles []float64
		from := len(c.Cells)
		for _, p := range percentiles {
			if both >= p.takes {
				quantiles = append(quantiles, p.q)
				c.Cells = append(c.Cells, Cell{Name: name, Kind: outcome.Kind, Stat: p.stat})
			}
		}
		if quantiles == nil {
			continue
		}
		windows, _ := s.windows()
		before, after := newDrawn(o.rows, windows).draw(quantiles, 1), newDrawn(n.rows, windows).draw(quantiles, 2)
		was, is := drift(o.rows, windows, quantiles), drift(n.rows, windows, quantiles)
		for i := range quantiles {
			c.Cells[from+i].drift = max(was[i], is[i])
			c.Cells[from+i].fill(before[i], after[i], windows, s.n >= minSeconds)
		}
	}
}
