package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// maxRatio is how many times an earlier run's latency ours must stay below:
// the reference report's own threshold.
const maxRatio = 2

// NotRecorded stands where a run lacks a fact that the other has.
const NotRecorded = "not recorded"

// Compare puts a run beside an earlier one, environment first, since figures
// of different machines say little about the software.
//
// Counterparts are found by status, or as the only success, and only where the
// earlier run has times for it. Successes and expected outcomes are also checked: avg, p50, p90 and
// p95 stay below twice the earlier ones. The tails are shown and not checked,
// nor is the avg of so few that one outlier decides it: they are chance. A run
// without any counterpart gives one inconclusive check, since a comparison that
// compared nothing must not pass; so do Shifts, and a baseline that failed or was
// cut short leaves each check open.
func Compare(name string, baseline, ours *Summary) (*Comparison, []gate.Check) {
	told := *ours
	told.Verdict = cmp.Or(ours.Verdict, "told above") // it waits for this comparison
	c := &Comparison{Name: name, Environment: Environments(&told, baseline)}
	for _, n := range baseline.Notes {
		c.Notes = append(c.Notes, "of it: "+n)
	}
	var checks []gate.Check
	counterparts := map[string]string{}
	for _, keys := range Counterparts(baseline.Outcomes, ours.Outcomes) {
		counterparts[keys[1]] = keys[0]
	}
	for _, s := range ordered(ours.Outcomes) {
		before := len(c.Rows)
		latency, service := s.Latency.stats(), s.Service.stats()
		theirs := baseline.Outcomes[counterparts[s.Key]]
		checked := []string{"p50", "p90", "p95"}
		if min(s.Count, theirs.Count) >= load.Needed(0.999) {
			checked = append(checked, "avg")
		}
		for i, t := range theirs.Latency.stats() {
			if t.ms == nil {
				continue
			}
			row := ComparisonRow{Name: s.Name, Key: s.Key, Stat: t.name, Ours: latency[i].ms, OursService: service[i].ms, Theirs: t.ms}
			if row.Ours != nil && *t.ms > 0 {
				ratio := *row.Ours / *t.ms
				row.Ratio = &ratio
			}
			c.Rows = append(c.Rows, row)
			if s.Kind != load.Failure && *t.ms > 0 && slices.Contains(checked, t.name) {
				checks = append(checks, row.check(name, s, baseline))
			}
		}
		if len(c.Rows) == before {
			c.Rows = append(c.Rows, ComparisonRow{Name: s.Name, Key: s.Key})
		}
	}
	if len(checks) == 0 {
		checks = []gate.Check{{
			Name: "latency against " + name, Expression: fmt.Sprintf("latency < %d × that of %s", maxRatio, name),
			Unit: gate.Ratio, Verdict: gate.Inconclusive, Why: "no outcome has a counterpart with times",
		}}
	}
	if told := Shifts(baseline, ours); told != nil {
		checks = append(checks, gate.Check{
			Name: "outcomes against " + name, Expression: "each request comes to what it did in " + name,
			Unit: gate.Truth, Verdict: gate.Inconclusive, Why: strings.Join(told, "; "),
		})
	}
	return c, checks
}

func (row ComparisonRow) check(name string, s series, baseline *Summary) gate.Check {
	c := gate.Check{
		Name:       fmt.Sprintf("%s latency %s against %s", s.Name, row.Stat, name),
		Expression: fmt.Sprintf("%s.latency.%s < %d × %sms of %s", s.Name, row.Stat, maxRatio, strconv.FormatFloat(*row.Theirs, 'f', -1, 64), name),
		Unit:       gate.Ratio, Observed: row.Ratio, Verdict: gate.Fail,
	}
	switch {
	case baseline.Interrupted || baseline.Generator.Saturated:
		c.Verdict, c.Why = gate.Inconclusive, name+" was interrupted, or its generator the bottleneck"
	case baseline.Verdict == gate.Fail:
		c.Verdict, c.Why = gate.Inconclusive, name+" failed itself"
	case row.Ratio == nil:
		c.Verdict, c.Why = gate.Inconclusive, "too few times: had "+count(s.Count)
	case *row.Ratio < maxRatio:
		c.Verdict = gate.Pass
	}
	return c
}

// Environments is each fact that either run recorded.
func Environments(ours, theirs *Summary) []EnvironmentRow {
	var rows []EnvironmentRow
	add := func(name, a, b string) {
		if a != "" || b != "" {
			rows = append(rows, EnvironmentRow{name, cmp.Or(a, NotRecorded), cmp.Or(b, NotRecorded)})
		}
	}
	add("plan", ours.Plan, theirs.Plan)
	add("profile", ours.Profile, theirs.Profile)
	add("verdict", string(ours.Verdict), string(theirs.Verdict))
	add("rate offered", perSecond(ours.Rate.Offered), perSecond(theirs.Rate.Offered))
	add("target: URL", ours.Target, theirs.Target)
	a, b := Facts(ours), Facts(theirs)
	for i, f := range a {
		add("generator: "+f.Name, f.Generator, b[i].Generator)
		add("target: "+f.Name, f.Target, b[i].Target)
	}
	return rows
}
