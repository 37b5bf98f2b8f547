package report

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/machine"
)

const (
	notRecorded = "not recorded"
	// maxRatio is how many times an earlier run's latency ours must stay below:
	// the reference report's own threshold.
	maxRatio = 2
)

// Compare puts a run beside an earlier one, environment first, since figures
// of different machines say little about the software.
//
// Counterparts are found by status, and only where the earlier run has times
// for it. Successes and expected outcomes are also checked: avg, p50, p90 and
// p95 stay below twice the earlier ones. The tails are shown and not checked:
// of one run each they are chance. A run without any counterpart gives one
// inconclusive check, since a comparison that compared nothing must not pass.
func Compare(name string, baseline *Summary, r *Run) (*Comparison, []gate.Check) {
	ours := Summarize(r)
	c := &Comparison{Name: name, Notes: baseline.Notes, Environment: compareEnvironments(ours, baseline)}
	var checks []gate.Check
	for _, s := range byOutcome(r.Result) {
		o, theirs := ours.Outcomes[s.Key], baseline.Outcomes[s.Key]
		rows := compareTimes(o, theirs.Latency)
		if rows == nil {
			c.Outcomes = append(c.Outcomes, OutcomeComparison{Name: s.Name, Key: s.Key})
			continue
		}
		c.Outcomes = append(c.Outcomes, OutcomeComparison{Name: s.Name, Key: s.Key, Counterpart: true, Rows: rows})
		if s.Kind != load.Failure {
			checks = append(checks, ratioChecks(name, s, rows)...)
		}
	}
	if len(checks) == 0 {
		checks = []gate.Check{{
			Name: "latency against " + name, Expression: fmt.Sprintf("latency < %d × that of %s", maxRatio, name),
			Unit: gate.Ratio, Verdict: gate.Inconclusive, Why: "no outcome has a counterpart with times",
		}}
	}
	return c, checks
}

// compareTimes is nil where theirs has no times.
func compareTimes(ours Outcome, theirs Times) []ComparisonRow {
	if theirs == (Times{}) {
		return nil
	}
	l, s := ours.Latency, ours.Service
	rows := []ComparisonRow{
		{Stat: "avg", Ours: l.Avg, OursService: s.Avg, Theirs: theirs.Avg},
		{Stat: "p50", Ours: l.P50, OursService: s.P50, Theirs: theirs.P50},
		{Stat: "p90", Ours: l.P90, OursService: s.P90, Theirs: theirs.P90},
		{Stat: "p95", Ours: l.P95, OursService: s.P95, Theirs: theirs.P95},
		{Stat: "p99", Ours: l.P99, OursService: s.P99, Theirs: theirs.P99},
		{Stat: "max", Ours: l.Max, OursService: s.Max, Theirs: theirs.Max},
	}
	for i := range rows {
		if row := &rows[i]; row.Ours != nil && row.Theirs != nil && *row.Theirs > 0 {
			ratio := *row.Ours / *row.Theirs
			row.Ratio = &ratio
		}
	}
	return rows
}

func ratioChecks(name string, s *load.Series, rows []ComparisonRow) []gate.Check {
	var checks []gate.Check
	for _, row := range rows {
		if row.Theirs == nil || *row.Theirs == 0 || row.Stat == "p99" || row.Stat == "max" {
			continue
		}
		c := gate.Check{
			Name: fmt.Sprintf("%s latency %s against %s", s.Name, row.Stat, name),
			Expression: fmt.Sprintf("%s.latency.%s < %d × %sms of %s",
				s.Name, row.Stat, maxRatio, strconv.FormatFloat(*row.Theirs, 'f', -1, 64), name),
			Unit: gate.Ratio, Observed: row.Ratio,
		}
		switch {
		case row.Ratio == nil:
			c.Verdict, c.Why = gate.Inconclusive, "too few times: had "+count(s.Count())
		case *row.Ratio < maxRatio:
			c.Verdict = gate.Pass
		default:
			c.Verdict = gate.Fail
		}
		checks = append(checks, c)
	}
	return checks
}

// compareEnvironments is each fact that either run recorded.
func compareEnvironments(ours, theirs *Summary) []EnvironmentRow {
	var rows []EnvironmentRow
	a, b := traits(ours), traits(theirs)
	for i, t := range a {
		if t.text != "" || b[i].text != "" {
			rows = append(rows, EnvironmentRow{t.name, cmp.Or(t.text, notRecorded), cmp.Or(b[i].text, notRecorded)})
		}
	}
	return rows
}

// trait is one thing about a run; its text is empty where it was not recorded.
type trait struct{ name, text string }

// traits are always the same ones in the same order.
func traits(s *Summary) []trait {
	g, t := s.Environment.Generator, s.Environment.Target
	shared := ""
	switch {
	case t.SameMachine:
		shared = "yes"
	case g.Cores > 0:
		shared = "no"
	}
	achieved := ""
	if s.Rate.Achieved > 0 {
		achieved = gate.PerSecond.Text(s.Rate.Achieved)
	}
	all := []trait{{"load test", s.ToolVersion}, {"requests sent", achieved}, {"target on the generator's machine", shared}}
	all = append(all, machineTraits("generator", g.Facts, g.Go, g.GOMAXPROCS)...)
	facts := machine.Facts{}
	if t.Facts != nil {
		facts = *t.Facts
	}
	all = append(all, machineTraits("target", facts, t.Go, t.GOMAXPROCS)...)
	return append(all,
		trait{"target: version", t.Version},
		trait{"target: mode", t.Mode},
		trait{"target: nodes", whole(t.Nodes)},
		trait{"target: database", strings.TrimSpace(t.Database.Driver + " " + t.Database.Version)},
		trait{"target: database settings", joined(t.Database.Settings)},
		trait{"target: limits", joined(t.Limits)},
		trait{"target: limits seen in answers", strings.Join(t.Policies, ", ")},
	)
}

func machineTraits(whose string, m machine.Facts, goVersion string, procs int) []trait {
	return []trait{
		{whose + ": processor", m.CPU},
		{whose + ": cores", whole(m.Cores)},
		{whose + ": memory", memory(m.MemoryBytes)},
		{whose + ": system", system(m)},
		{whose + ": Go", goVersion},
		{whose + ": GOMAXPROCS", whole(procs)},
	}
}
