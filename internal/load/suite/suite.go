package suite

import (
	"errors"
	"fmt"
	"io"
	"os"
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
	summaryFile = "summary.json"
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
	// CoversRate is the highest rate, in requests a second, that a plan held whose
	// gates all passed; more traffic than that was not tested.
	CoversRate float64   `json:"covers_rps"`
	ReviewBy   time.Time `json:"review_by"`
}

// Part is one run of the suite.
type Part struct {
	Name    string       `json:"name"` // a plan's, or Verify
	Ran     bool         `json:"ran"`
	Why     string       `json:"why,omitzero"` // it did not run
	Verdict gate.Verdict `json:"verdict"`
	Reasons []string     `json:"reasons"`
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
}

// Read reads the summaries of a part that ran, from its folder.
func (p *Part) Read(dir string) error {
	if p.Name == Verify {
		p.verified = &verify.Summary{}
		if err := readJSON(filepath.Join(dir, summaryFile), p.verified); err != nil {
			return err
		}
		if p.verified.Schema != verify.Schema {
			return fmt.Errorf("%s: its schema is %.40q, want %q", dir, p.verified.Schema, verify.Schema)
		}
		p.Verdict, p.Reasons = verify.AsGate(p.verified.Verdict), p.verified.Reasons
		for _, t := range p.verified.NotVerified {
			if t.Policy != "api" { // its window is an hour, and its proof takes three
				p.Verdict = max2(p.Verdict, gate.Inconclusive)
				p.Reasons = append(p.Reasons, t.Policy+" was not verified: "+t.Why)
			}
		}
		return nil
	}
	s, _, err := report.ReadFolder(dir)
	if err != nil {
		return err
	}
	p.run, p.Verdict, p.Reasons = s, s.Verdict, s.Reasons
	return nil
}

// max2 is the worse verdict.
func max2(a, b gate.Verdict) gate.Verdict {
	order := []gate.Verdict{gate.Pass, gate.Inconclusive, gate.Fail}
	if slices.Index(order, b) > slices.Index(order, a) {
		return b
	}
	return a
}

func readJSON(file string, into any) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSummary))
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}

// Conclude makes the verdict of the parts'. A part that did not run is a
// failure; one that is inconclusive keeps the whole from a pass.
func (s *Summary) Conclude() {
	s.Schema, s.Verdict, s.Reasons = Schema, gate.Pass, []string{}
	s.CoversRate = 0
	because := func(v gate.Verdict, format string, args ...any) {
		s.Verdict = max2(s.Verdict, v)
		s.Reasons = append(s.Reasons, fmt.Sprintf(format, args...))
	}
	for _, p := range s.Parts {
		switch {
		case !p.Ran && s.Interrupted:
			because(gate.Inconclusive, "%s was not run: the suite was interrupted", p.Name)
		case !p.Ran:
			because(gate.Fail, "%s was not run: %s", p.Name, p.Why)
		case p.Verdict != gate.Pass:
			because(p.Verdict, "%s: %s: %s", p.Name, p.Verdict, strings.Join(p.Reasons, "; "))
		}
		if c := p.Comparison; c != nil && c.Gate.Verdict != gate.Pass {
			because(c.Gate.Verdict, "%s beside the earlier suite: %s: %s", p.Name, c.Gate.Verdict, strings.Join(c.Gate.Reasons, "; "))
		}
		if p.Ran && p.run != nil && p.Verdict == gate.Pass {
			s.CoversRate = max(s.CoversRate, peak(p.run))
		}
	}
	if s.Interrupted && s.Verdict == gate.Pass {
		because(gate.Inconclusive, "the suite was interrupted")
	}
	s.ReviewBy = s.StartedAt.Add(reviewAfter).UTC()
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

// Read reads a suite's folder, with its parts'.
func Read(dir string) (*Summary, error) {
	s := &Summary{}
	if err := readJSON(filepath.Join(dir, summaryFile), s); err != nil {
		return nil, err
	}
	if s.Schema != Schema {
		return nil, fmt.Errorf("%s is no folder of load suite: its schema is %.40q, want %q", dir, s.Schema, Schema)
	}
	for _, p := range s.Parts {
		if !p.Ran {
			continue
		}
		if filepath.Base(p.Name) != p.Name {
			return nil, fmt.Errorf("%s names the part %.40q", dir, p.Name)
		}
		if err := p.Read(filepath.Join(dir, p.Name)); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Due says why a suite is to be run again, "" while it is not.
func (s *Summary) Due(now time.Time, traffic float64) string {
	switch {
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
	return errors.Join(
		render(dir, s),
		report.WriteFile(dir, summaryFile, s, func(w io.Writer, s *Summary) error {
			text, err := json.Marshal(s, json.Deterministic(true), jsontext.WithIndent("  "), jsontext.AllowInvalidUTF8(true))
			if err == nil {
				_, err = w.Write(append(text, '\n'))
			}
			return err
		}),
	)
}
