package compare

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
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

	p float64
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
	// comparisons.
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
	Unknown Answer = "not known"
)

// percentiles are those compared, as far as there are enough times.
var percentiles = []struct {
	stat string
	q    float64
}{{"p50", 0.50}, {"p90", 0.90}, {"p95", 0.95}, {"p99", 0.99}}

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
		SummaryAlone: old.Windows == nil || now.Windows == nil,
	}
	c.environments(old, now)
	if c.SummaryAlone {
		c.bySummary(old, now)
	} else {
		c.byWindows(old, now)
	}
	c.conclude(old, now)
	return c, nil
}

// alike refuses runs of different plans. Where one doesn't know its plan, as
// other tools' summaries, it is taken for the same.
func alike(old, now *report.Summary) error {
	switch {
	case old.Plan != "" && now.Plan != "" && old.Plan != now.Plan:
		return fmt.Errorf("the plans are unlike: %.60q and %.60q", old.Plan, now.Plan)
	case old.PlanHash == "" || now.PlanHash == "" || old.PlanHash == now.PlanHash:
		return nil
	}
	var differ []string
	if old.Profile != now.Profile {
		differ = append(differ, fmt.Sprintf("profiles %.60q and %.60q", old.Profile, now.Profile))
	}
	if !slices.Equal(old.Stages, now.Stages) {
		differ = append(differ, "stages")
	}
	if old.Clients != now.Clients {
		differ = append(differ, "clients")
	}
	if differ == nil {
		differ = append(differ, "requests, outcomes, gates or the e-mail domain")
	}
	return errors.New("the plans are unlike: they differ in " + strings.Join(differ, ", ") + "; run both with the same one")
}

// environments puts what differs first, and says what one side alone recorded.
func (c *Comparison) environments(old, now Side) {
	var lacksOld, lacksNew []string
	for _, row := range report.Environments(now.Summary, old.Summary) {
		switch {
		case row.Theirs == report.NotRecorded:
			lacksOld = append(lacksOld, row.Fact)
		case row.Ours == report.NotRecorded:
			lacksNew = append(lacksNew, row.Fact)
		case row.Ours != row.Theirs:
			c.Unlike = append(c.Unlike, Difference{row.Fact, row.Theirs, row.Ours})
		}
	}
	if lacksOld != nil || lacksNew != nil {
		told := func(lacks []string) string { return fmt.Sprintf("lacks %d facts of the other", len(lacks)) }
		c.Unlike = append(c.Unlike, Difference{"what was recorded", told(lacksOld), told(lacksNew)})
	}
	for _, side := range []struct {
		Side
		lacks []string
	}{{old, lacksOld}, {now, lacksNew}} {
		if side.lacks != nil {
			c.Notes = append(c.Notes, side.Name+" did not record: "+strings.Join(side.lacks, ", "))
		}
		if side.Summary.PlanHash == "" { // not ours: what it is worth stands in its notes
			for _, n := range side.Summary.Notes {
				c.Notes = append(c.Notes, side.Name+": "+n)
			}
		}
	}
}

// steady says which seconds of the runs count: those of stages that hold their
// rate, after the first few of the run. Where there are none, all do.
//
// What was still awaited when the last stage ended is of that stage.
func steady(old, now *report.Summary) (s span, all bool) {
	const warmUp = 5 // seconds: connections are opened, caches fill
	var end, rate float64
	var holds [][2]float64
	for _, stage := range now.Stages {
		if stage.Rate == rate && rate > 0 {
			holds = append(holds, [2]float64{max(end, warmUp), end + stage.Seconds})
		}
		end, rate = end+stage.Seconds, stage.Rate
	}
	whole := end
	for _, side := range []*report.Summary{old, now} {
		if side.Interrupted { // the other has no more to say than it
			whole = min(whole, side.DurationSeconds)
		}
	}
	s.late = -1
	for second := range int(whole) {
		at := -1
		for _, hold := range holds {
			if float64(second) >= hold[0] && float64(second+1) <= hold[1] {
				at = s.n
				s.n++
			}
		}
		s.place = append(s.place, at)
	}
	if s.n == 0 {
		for second := range s.place {
			s.place[second] = second
		}
		s.n = len(s.place)
		all = true
	}
	if n := len(s.place); n > 0 && whole == end {
		s.late = s.place[n-1]
	}
	return s, all
}

// byWindows compares what both runs' seconds show.
func (c *Comparison) byWindows(old, now Side) {
	s, all := steady(old.Summary, now.Summary)
	if all {
		c.Notes = append(c.Notes, "no stage holds its rate, so all seconds are compared, ramps too")
	}
	c.Seconds = s.n
	olds, news := gather(old.Windows, s), gather(now.Windows, s)
	subjects := slices.SortedFunc(maps.Keys(news), func(a, b subject) int {
		return cmp.Or(cmp.Compare(a.request, b.request), cmp.Compare(a.key, b.key))
	})
	most := map[string]int64{} // by request: of its commonest outcome
	for _, by := range subjects {
		if o := olds[by]; o != nil {
			most[by.request] = max(most[by.request], min(o.n, news[by].n))
		}
	}
	for _, by := range subjects {
		o, n := olds[by], news[by]
		outcome := now.Summary.ByRequest[by.request][by.key]
		if o == nil || outcome.Kind == load.Failure {
			continue
		}
		if both := min(o.n, n.n); both < most[by.request] && both < load.Needed(0.99) {
			c.Notes = append(c.Notes, fmt.Sprintf("%s/%s is not compared: %d times, beside what that request mostly came to", by.request, outcome.Name, both))
			continue
		}
		var quantiles []float64
		from := len(c.Cells)
		for _, p := range percentiles {
			if min(o.n, n.n) >= load.Needed(p.q) {
				quantiles = append(quantiles, p.q)
				c.Cells = append(c.Cells, Cell{Name: by.request + "/" + outcome.Name, Kind: outcome.Kind, Stat: p.stat})
			}
		}
		oldDraws, newDraws := o.draw(quantiles, 1), n.draw(quantiles, 2)
		for i := range quantiles {
			c.Cells[from+i].fill(oldDraws[i], newDraws[i], s.n)
		}
	}
}

// fill puts in what the draws of both runs show. Of too few seconds there is no
// interval.
func (c *Cell) fill(old, now []float64, seconds int) {
	c.Old, c.New = millis(old[resamples]), millis(now[resamples])
	r := compareDraws(old, now, min(seconds, maxWindows))
	c.Ratio, c.p = r.value, r.p
	if seconds >= minSeconds {
		c.Low, c.High = &r.low, &r.high
	}
}
