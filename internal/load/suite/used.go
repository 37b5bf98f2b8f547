package suite

import (
	"fmt"
	"strings"

	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/resources"
)

// The reference system's alert thresholds, from its report.
const (
	alertP95    = 100.0 // milliseconds
	alertErrors = 0.05
	alertUsed   = 0.70
)

func thresholds(s *Summary) section {
	sec := section{ID: "thresholds", Title: "Alert thresholds", Text: []string{"The reference system's thresholds, beside what was measured; its fourth, 1,000 refusals an hour, says nothing here, where refusals are part of the plans."}}
	t := table{Head: []string{"plan", "threshold", "measured:", "below it"}}
	row := func(plan, threshold string, unit gate.Unit, v *float64, most float64) {
		if v == nil {
			t.add(plan, threshold, unknown, "not known")
			return
		}
		t.add(plan, threshold, unit.Text(*v), map[bool]string{true: "yes", false: "no"}[*v < most])
	}
	for _, p := range s.plans() {
		_, p95 := tally(p.run)
		row(p.Name, "p95 of successes 100 ms", gate.Milliseconds, p95, alertP95)
		row(p.Name, "errors 5 %", gate.Share, failed(p.run), alertErrors)
		row(p.Name, "70 % of the processors, by the node that was asked", gate.Share, busy(p.run), alertUsed)
	}
	sec.Tables = []table{t}
	return sec
}

// busy is the largest share of the target's processors that a stage used.
func busy(r *report.Summary) (share *float64) {
	facts := r.Environment.Target.Facts
	if facts == nil || facts.Cores < 1 {
		return nil
	}
	for _, st := range r.Resources.Stages {
		if st.CPU == nil {
			continue
		}
		if v := st.CPU.Avg / float64(facts.Cores); share == nil || v > *share {
			share = &v
		}
	}
	return share
}

// resourcesSection is what the target used, by the stages of each plan.
func resourcesSection(s *Summary) section {
	sec := section{ID: "resources", Title: "Resources"}
	t := table{Head: []string{"plan", "stage", "cores, avg:", "max:", "memory, max:", "goroutines, max:", "connections, max:", "jobs queued, max:"}}
	together := false
	for _, p := range s.plans() {
		u := p.run.Resources
		together = together || strings.Contains(u.Source, "together")
		if u.Why != "" {
			sec.Text = append(sec.Text, p.Name+": "+u.Why)
		}
		for _, st := range u.Stages {
			name := fmt.Sprint(st.Stage + 1)
			switch {
			case st.Stage < 0:
				name = "before"
			case st.Stage >= len(p.run.Stages):
				name = "after"
			}
			cells := []string{p.Name, name, unknown, unknown}
			if st.CPU != nil {
				cells[2], cells[3] = fmt.Sprintf("%.2f", st.CPU.Avg), fmt.Sprintf("%.2f", st.CPU.Max)
			}
			cells = append(cells, most(st.Memory, 1<<20, " MiB"), most(st.Goroutines, 1, ""), most(st.Pool, 1, ""), most(st.Jobs, 1, ""))
			t.add(cells...)
		}
	}
	if len(t.Rows) == 0 {
		sec.Text = append(sec.Text, "The target's /metrics were not read (--target-admin).")
		return sec
	}
	if !together {
		sec.Text = append(sec.Text, "Of the node whose admin listener was asked.")
	}
	sec.Tables = []table{t}
	return sec
}

// most is the most that was used of something, in units.
func most(v *resources.Spent, unit float64, name string) string {
	if v == nil {
		return unknown
	}
	return fmt.Sprintf("%.0f%s", v.Max/unit, name)
}
