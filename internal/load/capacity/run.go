package capacity

import (
	"context"
	_ "embed" // the report's template
	"errors"
	"fmt"
	"io"
	"text/template"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/runner"
)

// Summary is what was found out, as summary.json has it.
type Summary struct {
	Schema      string    `json:"schema"`
	ToolVersion string    `json:"tool_version"`
	Plan        string    `json:"plan"`
	PlanHash    string    `json:"plan_hash"`
	Profile     string    `json:"profile"`
	Seed        uint64    `json:"seed"`
	Target      string    `json:"target"`
	StartedAt   time.Time `json:"started_at"`
	Took        float64   `json:"duration_seconds"`
	Interrupted bool      `json:"interrupted"`
	Options
	Gates       []string           `json:"gates"` // but for counts, which hold at one rate alone
	Answer      Answer             `json:"answer"`
	Headline    string             `json:"headline"`
	Notes       []string           `json:"notes"`
	Probes      []Probe            `json:"probes"`
	Environment report.Environment `json:"environment"`
}

// Run searches for the highest rate at which a target holds a plan's gates. An
// error without a summary means that not even one probe was made. One with it
// ended the search.
func Run(ctx context.Context, o runner.Options, search Options) (*Summary, error) {
	p := newProber(o)
	s := &Summary{
		Schema: "gatehouse.capacity/1", ToolVersion: o.ToolVersion, Plan: o.Plan.Name, PlanHash: o.Plan.Hash, Profile: o.Plan.Profile, Seed: o.Seed,
		Target: o.TargetText(), StartedAt: time.Now().UTC(), Options: search, Gates: []string{}, Notes: []string{},
	}
	for _, g := range p.gates {
		s.Gates = append(s.Gates, g.Expression)
	}
	for _, g := range p.leftOut {
		s.note(o.Progress, "The gate %s was left out: it counts, and so means something at one rate alone.", g.Expression)
	}
	s.note(o.Progress, "The plan's clients are for %s: at other rates they are as many times more or fewer, at most %s.", perSecond(p.peak), gate.Count.Text(load.MaxClients))
	var err error
	if s.Answer, s.Probes, err = Search(ctx, search, p.try); len(s.Probes) == 0 {
		return nil, err
	}
	s.Took, s.Interrupted, s.Environment = time.Since(s.StartedAt).Round(time.Millisecond).Seconds(), ctx.Err() != nil, p.environment
	if s.Interrupted {
		s.Answer.Why = "it was interrupted"
	}
	s.Headline = s.Answer.Text()
	return s, err
}

func (s *Summary) note(w io.Writer, format string, args ...any) {
	s.Notes = append(s.Notes, fmt.Sprintf(format, args...))
	fmt.Fprintln(w, s.Notes[len(s.Notes)-1])
}

// Facts are what the answer holds for.
func (s *Summary) Facts() []report.Fact {
	return report.Facts(&report.Summary{ToolVersion: s.ToolVersion, Environment: s.Environment})
}

var (
	//go:embed report.gomd
	markdownSource   string
	markdownTemplate = template.Must(template.New("report").Funcs(report.MarkdownWords).Parse(markdownSource))
)

// Write writes report.md and summary.json, which comes last.
func Write(dir string, s *Summary) error {
	return errors.Join(
		report.WriteFile(dir, "report.md", s, report.Filled[*Summary](markdownTemplate)),
		report.WriteSummary(dir, s),
	)
}
