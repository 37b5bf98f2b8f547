package suite

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/load/compare"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/verify"
)

// Schema is the version of a suite's summary.json.
const Schema = "gatehouse.suite/1"

// Verify is the part that proves limits; the others are plans.
const Verify = "verify"

const (
	// reviewAfter is how long a suite says something of what is in use.
	reviewAfter = 90 * 24 * time.Hour
	maxSummary  = 16 << 20 // bytes
)

// Summary is what a suite came to. What its parts measured is in their folders.
type Summary struct {
	Schema      string       `json:"schema"`
	ToolVersion string       `json:"tool_version"`
	Profile     string       `json:"profile"`
	Targets     []string     `json:"targets"`
	StartedAt   time.Time    `json:"started_at"`
	Seconds     float64      `json:"duration_seconds"`
	Interrupted bool         `json:"interrupted"`
	Parts       []*Part      `json:"parts"`
	Health      []Health     `json:"health"`
	Verdict     gate.Verdict `json:"verdict"`
	Reasons     []string     `json:"reasons"`
	// CoversRate is the highest rate, in requests a second, that all at once held
	// (mixed, where it passed); more traffic than that was not tested.
	CoversRate float64   `json:"covers_rps"`
	ReviewBy   time.Time `json:"review_by"`
}

// Names are the parts, in the order in which they are told.
func Names() []string { return []string{Verify, "onboarding", "credentials", "webhooks", together} }

// together is the plan that does what the others do at once.
const together = "mixed"

// Part is one run of the suite.
type Part struct {
	Name      string       `json:"name"` // one of Names
	Ran       bool         `json:"ran"`
	Why       string       `json:"why,omitzero"` // it did not run, or its reports are not whole
	StartedAt time.Time    `json:"started_at,omitzero"`
	Verdict   gate.Verdict `json:"verdict"`
	Reasons   []string     `json:"reasons"`
	// Comparison is with the same part of an earlier suite.
	Comparison *compare.Comparison `json:"comparison,omitzero"`

	run      *report.Summary // of a plan that ran
	verified *verify.Summary
}

// Health is what a target said of itself.
type Health struct {
	Target string         `json:"target"`
	Before jsontext.Value `json:"before"`
	After  jsontext.Value `json:"after"`
	// Apart is how many seconds there were between both at least; 0 where an
	// earlier version did not keep it.
	Apart float64 `json:"apart_seconds,omitzero"`
}

// Interrupted is why a part did not run that would have.
const Interrupted = "the suite was interrupted"

// Read reads the summaries of a part that ran, from its folder.
func (p *Part) Read(dir string) error {
	if p.Name == Verify {
		var err error
		if p.verified, err = verify.Read(dir); err != nil {
			return err
		}
		p.StartedAt, p.Verdict, p.Reasons = p.verified.StartedAt, verify.AsGate(p.verified.Verdict), slices.Clone(p.verified.Reasons)
		for _, t := range slices.Concat(p.verified.NotVerified, p.verified.Policies) {
			excused := t.Policy == "api" && t.TooLong // its proof takes three hours
			if t.Why != "" && !excused && !p.verified.Interrupted {
				p.Verdict = gate.Fail
				p.Reasons = append(p.Reasons, t.Policy+" was not verified: "+t.Why)
			}
		}
		return nil
	}
	s, _, err := report.ReadFolder(dir)
	if err != nil {
		return err
	}
	p.run, p.StartedAt, p.Verdict, p.Reasons = s, s.StartedAt, s.Verdict, s.Reasons
	return nil
}

// worse is the worse verdict; one that is none is a failure.
func worse(a, b gate.Verdict) gate.Verdict {
	rank := func(v gate.Verdict) int {
		return slices.Index([]gate.Verdict{gate.Fail, gate.Inconclusive, gate.Pass}, v)
	}
	if rank(a) < 0 || rank(b) < 0 {
		return gate.Fail
	}
	if rank(b) < rank(a) {
		return b
	}
	return a
}

// Conclude makes the verdict of the parts', of comparisons and of the targets'
// health. A part that did not run is a failure; one that is inconclusive keeps
// the whole from a pass.
func (s *Summary) Conclude() {
	s.Schema, s.Verdict, s.Reasons = Schema, gate.Pass, []string{}
	s.CoversRate = 0
	because := func(v gate.Verdict, format string, args ...any) {
		s.Verdict = worse(s.Verdict, v)
		s.Reasons = append(s.Reasons, fmt.Sprintf(format, args...))
	}
	for _, p := range s.Parts {
		if !p.Ran {
			if p.Verdict = gate.Fail; p.Why == Interrupted {
				p.Verdict = gate.Inconclusive
			}
			because(p.Verdict, "%s was not run: %s", p.Name, p.Why)
			continue
		}
		if p.Why != "" {
			because(gate.Fail, "%s: its reports are not whole: %s", p.Name, p.Why)
		}
		if p.Verdict != gate.Pass {
			because(p.Verdict, "%s: %s: %s", p.Name, p.Verdict, strings.Join(p.Reasons, "; "))
		} else if p.Name == together && p.run != nil {
			s.CoversRate = peak(p.run)
		}
		if c := p.Comparison; c != nil && c.Gate.Verdict != gate.Pass {
			because(c.Gate.Verdict, "%s beside the earlier suite: %s: %s", p.Name, c.Gate.Verdict, strings.Join(c.Gate.Reasons, "; "))
		}
	}
	for _, h := range s.Health {
		if v, why := h.judge(s.Seconds); v != gate.Pass {
			because(v, "%s: %s", h.Target, why)
		}
	}
	if s.Interrupted && s.Verdict == gate.Pass {
		because(gate.Inconclusive, Interrupted)
	}
	s.ReviewBy = s.StartedAt.Add(reviewAfter).UTC()
}

// told is what matters here of GET /health.
type told struct {
	Status string   `json:"status"`
	Node   string   `json:"node"`
	Uptime *float64 `json:"uptime_seconds"`
}

// tell reads what a target said; nil where it did not say how it was.
func tell(said jsontext.Value) *told {
	var t told
	if json.Unmarshal(said, &t) != nil || t.Uptime == nil {
		return nil
	}
	return &t
}

// Elsewhere reports whether another node answered afterwards, as one behind a
// balancer may.
func (h Health) Elsewhere() bool {
	before, after := tell(h.Before), tell(h.After)
	return before != nil && after != nil && before.Node != after.Node
}

// judge compares what a target said before and after, in a suite of so many
// seconds.
func (h Health) judge(seconds float64) (gate.Verdict, string) {
	before, after := tell(h.Before), tell(h.After)
	if before == nil {
		return gate.Inconclusive, "it did not say how it was before"
	}
	if after == nil {
		return gate.Fail, "it did not say how it was afterwards"
	}
	// As load run: uptimes may be whole seconds, and clocks drift by less than a hundredth.
	grown, passed := *after.Uptime-*before.Uptime, cmp.Or(h.Apart, seconds)
	statuses := fmt.Sprintf("it was %.20s before, and %.20s afterwards", before.Status, after.Status)
	const ok, unavailable = "ok", "unavailable"
	switch {
	case h.Elsewhere():
		return gate.Fail, fmt.Sprintf("the node %.40s did not answer afterwards, only %.40s", before.Node, after.Node)
	case grown < max(passed-2-passed/100, 0):
		return gate.Fail, fmt.Sprintf("it was started anew: it was up for %.0f s before, and %.0f s later for %.0f s", *before.Uptime, passed, *after.Uptime)
	case before.Status == ok && after.Status == ok:
		return gate.Pass, ""
	case before.Status == ok, before.Status == unavailable, after.Status == unavailable:
		return gate.Fail, statuses
	}
	return gate.Inconclusive, statuses
}

func peak(r *report.Summary) (rate float64) {
	for _, st := range r.Stages {
		rate = max(rate, st.Rate)
	}
	return rate
}

// Headline is the outcome in one sentence, verdict first.
func (s *Summary) Headline() string {
	ran, passed := 0, 0
	for _, p := range s.Parts {
		if p.Ran {
			ran++
		}
		if p.Ran && p.Verdict == gate.Pass {
			passed++
		}
	}
	return fmt.Sprintf("%s: of %d parts %d ran and %d passed.", strings.ToUpper(string(s.Verdict)), len(s.Parts), ran, passed)
}

// Read reads a suite's folder, with its parts'. It has all parts, and came to
// what these come to: a summary that was changed is refused.
func Read(dir string) (*Summary, error) {
	name, s := filepath.Join(dir, "summary.json"), &Summary{}
	text, err := report.ReadBounded(name, maxSummary)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if s.Schema != Schema {
		return nil, fmt.Errorf("%s is no folder of load suite: its schema is %.40q, want %q", dir, s.Schema, Schema)
	}
	var names []string
	for _, p := range s.Parts {
		if p != nil {
			names = append(names, p.Name)
		}
	}
	if !slices.Equal(names, Names()) || len(s.Parts) != len(names) || len(s.Health) != len(s.Targets) {
		return nil, fmt.Errorf("%s has the parts %.20q and the health of %d of %d targets, want %q and that of all", dir, names, len(s.Health), len(s.Targets), Names())
	}
	for _, p := range s.Parts {
		if !p.Ran {
			continue
		}
		at, verdict := p.StartedAt, p.Verdict
		if err := p.Read(filepath.Join(dir, p.Name)); err != nil {
			return nil, err
		}
		if !p.StartedAt.Equal(at) || p.Verdict != verdict {
			return nil, fmt.Errorf("%s is of another run than %s is", filepath.Join(dir, p.Name), dir)
		}
	}
	was := *s
	if s.Conclude(); s.Verdict != was.Verdict || s.CoversRate != was.CoversRate || !s.ReviewBy.Equal(was.ReviewBy) {
		return nil, fmt.Errorf("%s says %.20q, up to %g/s, to be reviewed by %s, and its parts come to %q, %g/s and %s: it was changed, or is of another version",
			dir, was.Verdict, was.CoversRate, was.ReviewBy.Format(time.DateOnly), s.Verdict, s.CoversRate, s.ReviewBy.Format(time.DateOnly))
	}
	return s, nil
}

// Due says why a suite is to be run again, "" while it is not.
func (s *Summary) Due(now time.Time, traffic float64) string {
	switch {
	case s.Profile == "smoke" || s.Profile == "gate":
		return fmt.Sprintf("the last suite, of %s, was of the profile %s, which is too short to tell how fast anything is", s.StartedAt.Format(time.DateOnly), s.Profile)
	case s.Verdict != gate.Pass:
		return fmt.Sprintf("the last suite, of %s, is no pass: %s", s.StartedAt.Format(time.DateOnly), s.Verdict)
	case now.After(s.ReviewBy):
		return fmt.Sprintf("the last suite is of %s: %d days ago", s.StartedAt.Format(time.DateOnly), int(now.Sub(s.StartedAt).Hours()/24))
	case traffic > s.CoversRate:
		return fmt.Sprintf("the traffic of %g/s is above the %g/s that the last suite held", traffic, s.CoversRate)
	}
	return ""
}

// Write writes a suite's reports into its folder, summary.json last. The parts
// have been read.
func Write(dir string, s *Summary) error {
	return errors.Join(render(dir, s), report.WriteSummary(dir, s))
}
