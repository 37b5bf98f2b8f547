package suite_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load"
	"gatehouse/internal/load/compare"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/suite"
	"gatehouse/internal/load/verify"
)

// put writes a part's summary.json below a suite's folder.
func put(t *testing.T, dir, part string, summary any) *suite.Part {
	t.Helper()
	dir = filepath.Join(dir, part)
	text, err := json.Marshal(summary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "summary.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &suite.Part{Name: part}
	if err := p.Read(dir); err != nil {
		t.Fatal(err)
	}
	p.Ran = true
	return p
}

func ms(v float64) *float64 { return &v }

// run is a plan's summary that came to a verdict at a rate.
func run(verdict gate.Verdict, rate float64, reasons ...string) *report.Summary {
	o := report.Outcome{Name: "created", Kind: load.Success, Count: 100, Latency: report.Times{P95: ms(7)}}
	failure := report.Outcome{Name: "500", Kind: load.Failure, Count: 2, Example: "<b>no</b>"}
	return &report.Summary{
		Schema: report.Schema, Plan: "p", Stages: []report.Stage{{Seconds: 10, Rate: rate}}, Verdict: verdict, Reasons: reasons,
		Requests: report.Requests{Scheduled: 102, Sent: 102, Answered: 102}, Outcomes: map[string]report.Outcome{"201": o, "500": failure},
		ByRequest: map[string]map[string]report.Outcome{"onboard": {"201": o, "500": failure}}, Notes: []string{"a note"},
	}
}

func verified(v verify.Verdict, left ...string) *verify.Summary {
	s := &verify.Summary{Schema: verify.Schema, Verdict: v, Reasons: []string{}}
	s.Policies = []*verify.Trial{{Policy: "onboarding", Limit: 10, Window: 60, Verdict: v, Findings: []verify.Finding{{Property: "it holds", Verdict: v, Why: "seen"}}}}
	for _, policy := range left {
		policy, long := strings.CutPrefix(policy, "long ")
		why := map[bool]string{true: "its window is 1h0m0s", false: "it is off"}[long]
		s.NotVerified = append(s.NotVerified, &verify.Trial{Policy: policy, Why: why, TooLong: long, Findings: []verify.Finding{}})
	}
	return s
}

// unasked is a verification of a policy that could not be asked.
func unasked(interrupted bool) *verify.Summary {
	s := verified(verify.Undecidable)
	s.Policies[0].Why, s.Interrupted = "no target answers", interrupted
	return s
}

func TestConclude(t *testing.T) {
	dir := t.TempDir()
	all := func(change ...*suite.Part) *suite.Summary {
		parts := []*suite.Part{put(t, dir, suite.Verify, verified(verify.Proved, "long api")), put(t, dir, "onboarding", run(gate.Pass, 50)), put(t, dir, "mixed", run(gate.Pass, 200))}
		for _, p := range change {
			parts[slices.IndexFunc(parts, func(q *suite.Part) bool { return q.Name == p.Name })] = p
		}
		s := &suite.Summary{Parts: parts}
		s.Conclude()
		return s
	}
	tests := []struct {
		name    string
		s       *suite.Summary
		verdict gate.Verdict
		covers  float64
		reason  string
	}{
		{"all passed", all(), gate.Pass, 200, ""},
		{"one was not run", all(&suite.Part{Name: "onboarding", Why: "no secret"}), gate.Fail, 200, "onboarding was not run: no secret"},
		{"one failed", all(put(t, dir, "mixed", run(gate.Fail, 200, "too slow"))), gate.Fail, 0, "mixed: fail: too slow"},
		{"one is inconclusive", all(put(t, dir, "mixed", run(gate.Inconclusive, 200, "too few"))), gate.Inconclusive, 0, "mixed: inconclusive: too few"},
		{"one came to nothing that is known", all(put(t, dir, "mixed", run("", 200))), gate.Fail, 0, "mixed: "},
		{"one was interrupted", all(&suite.Part{Name: "onboarding", Why: suite.Interrupted}), gate.Inconclusive, 200, "interrupted"},
		{"a report is not whole", all(unwhole(put(t, dir, "onboarding", run(gate.Pass, 50)))), gate.Fail, 200, "not whole: disk full"},
		{"a comparison failed", all(compared(put(t, dir, "onboarding", run(gate.Pass, 50)))), gate.Fail, 200, "beside the earlier suite: fail: slower"},
		{"a limit is violated", all(put(t, dir, suite.Verify, verified(verify.Violated))), gate.Fail, 200, "verify: fail"},
		{"a limit is off", all(put(t, dir, suite.Verify, verified(verify.Proved, "long api", "onboarding"))), gate.Fail, 200, "onboarding was not verified: it is off"},
		{"api is off", all(put(t, dir, suite.Verify, verified(verify.Proved, "api"))), gate.Fail, 200, "api was not verified: it is off"},
		{"a window is too long", all(put(t, dir, suite.Verify, verified(verify.Proved, "long api", "long onboarding"))), gate.Fail, 200, "onboarding was not verified: its window is 1h0m0s"},
		{"a limit could not be asked", all(put(t, dir, suite.Verify, unasked(false))), gate.Fail, 200, "onboarding was not verified: no target answers"},
		{"it was interrupted before that", all(put(t, dir, suite.Verify, unasked(true))), gate.Inconclusive, 200, "verify: inconclusive"},
	}
	for _, tt := range tests {
		if tt.s.Verdict != tt.verdict || tt.s.CoversRate != tt.covers || !strings.Contains(strings.Join(tt.s.Reasons, "\n"), tt.reason) || (tt.verdict == gate.Pass) != (len(tt.s.Reasons) == 0) {
			t.Errorf("%s: %s, covers %g, %q; want %s, %g, %q", tt.name, tt.s.Verdict, tt.s.CoversRate, tt.s.Reasons, tt.verdict, tt.covers, tt.reason)
		}
	}
}

func unwhole(p *suite.Part) *suite.Part {
	p.Why = "disk full"
	return p
}

func compared(p *suite.Part) *suite.Part {
	p.Comparison = &compare.Comparison{Gate: compare.Gate{Verdict: gate.Fail, Reasons: []string{"slower"}}}
	return p
}

// A target is to be there, the same process, and well, before and after.
func TestConcludeOnHealth(t *testing.T) {
	health := func(status, node string, uptime int) string {
		return fmt.Sprintf(`{"status": %q, "node": %q, "uptime_seconds": %d}`, status, node, uptime)
	}
	well, later := health("ok", "a", 3), health("ok", "a", 2403)
	for name, tt := range map[string]struct {
		before, after string
		apart, took   float64 // seconds
		want          gate.Verdict
		reason        string
	}{
		"well":                      {well, later, 2400, 2410, gate.Pass, ""},
		"in whole seconds":          {well, health("ok", "a", 61), 60.4, 61, gate.Pass, ""},
		"the looks are not kept":    {well, later, 0, 2400, gate.Pass, ""},
		"nor is the time":           {well, later, 0, 0, gate.Pass, ""},
		"started anew in between":   {well, health("ok", "a", 2340), 2400, 2400, gate.Fail, "started anew"},
		"the same, not kept":        {well, health("ok", "a", 2340), 0, 2400, gate.Fail, "started anew"},
		"the same, nor is the time": {well, health("ok", "a", 2), 0, 0, gate.Fail, "started anew"},
		"its uptime stands":         {well, well, 2400, 2400, gate.Fail, "started anew"},
		"another node":              {well, health("ok", "b", 9000), 2400, 2400, gate.Fail, "the node a did not answer afterwards, only b"},
		"unavailable throughout":    {health("unavailable", "a", 3), health("unavailable", "a", 2403), 2400, 2400, gate.Fail, "it was unavailable before"},
		"unavailable before":        {health("unavailable", "a", 3), later, 2400, 2400, gate.Fail, "it was unavailable before"},
		"unavailable at last":       {health("degraded", "a", 3), health("unavailable", "a", 2403), 2400, 2400, gate.Fail, "unavailable afterwards"},
		"degraded throughout":       {health("degraded", "a", 3), health("degraded", "a", 2403), 2400, 2400, gate.Inconclusive, "it was degraded before, and degraded afterwards"},
		"degraded before":           {health("degraded", "a", 3), later, 2400, 2400, gate.Inconclusive, "it was degraded before, and ok afterwards"},
		"worse":                     {well, health("degraded", "a", 2403), 2400, 2400, gate.Fail, "it was ok before, and degraded afterwards"},
		"none of a status":          {well, health("<b>", "a", 2403), 2400, 2400, gate.Fail, "afterwards"},
		"none of a status, as ever": {health("<b>", "a", 3), health("<b>", "a", 2403), 2400, 2400, gate.Inconclusive, "afterwards"},
		"gone":                      {well, ``, 2400, 2400, gate.Fail, "did not say how it was afterwards"},
		"never asked":               {``, later, 2400, 2400, gate.Inconclusive, "did not say how it was before"},
	} {
		s := &suite.Summary{Seconds: tt.took, Health: []suite.Health{{Target: "http://a", Before: []byte(tt.before), After: []byte(tt.after), Apart: tt.apart}}}
		if s.Conclude(); s.Verdict != tt.want || (tt.want == gate.Pass) != (len(s.Reasons) == 0) || !strings.Contains(strings.Join(s.Reasons, "\n"), tt.reason) {
			t.Errorf("%s: %s, %q; want %s and %q", name, s.Verdict, s.Reasons, tt.want, tt.reason)
		}
	}
}

func TestDue(t *testing.T) {
	began := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	s := &suite.Summary{Verdict: gate.Pass, StartedAt: began, ReviewBy: began.AddDate(0, 0, 90), CoversRate: 50}
	tests := []struct {
		name    string
		now     time.Time
		traffic float64
		verdict gate.Verdict
		due     string
	}{
		{"the next day", began.AddDate(0, 0, 1), 50, gate.Pass, ""},
		{"on its last day", began.AddDate(0, 0, 90), 0, gate.Pass, ""},
		{"after it", began.AddDate(0, 0, 91), 0, gate.Pass, "91 days ago"},
		{"with more traffic", began.AddDate(0, 0, 1), 51, gate.Pass, "above the 50/s"},
		{"after a failure", began.AddDate(0, 0, 1), 0, gate.Fail, "is no pass"},
	}
	if short := (&suite.Summary{Profile: "smoke", Verdict: gate.Pass, StartedAt: began, ReviewBy: s.ReviewBy, CoversRate: 50}); short.Due(began, 0) == "" {
		t.Error("20 seconds of each plan are no review for 90 days")
	}
	for _, tt := range tests {
		s.Verdict = tt.verdict
		if got := s.Due(tt.now, tt.traffic); (got == "") != (tt.due == "") || !strings.Contains(got, tt.due) {
			t.Errorf("%s: due %q, want %q", tt.name, got, tt.due)
		}
	}
}

// A suite's folder is rendered alike again, with a section for each question,
// and what a target wrote stays text.
func TestRender(t *testing.T) {
	dir := t.TempDir()
	s := &suite.Summary{
		Profile: "smoke", Targets: []string{"http://127.0.0.1:1"}, StartedAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		Parts: []*suite.Part{
			put(t, dir, suite.Verify, verified(verify.Proved, "long api")), put(t, dir, "onboarding", run(gate.Fail, 50, "it | failed")),
			put(t, dir, "credentials", run(gate.Pass, 50)), {Name: "webhooks", Why: "no secret", Reasons: []string{}}, put(t, dir, "mixed", run(gate.Pass, 50)),
		},
		Health: []suite.Health{{Target: "http://127.0.0.1:1", Before: []byte(`{"status":"ok","uptime_seconds":1}`)}},
	}
	s.Conclude()
	if err := suite.Write(dir, s); err != nil {
		t.Fatal(err)
	}
	pages := make(map[string]string)
	for _, name := range []string{"report.md", "report.html", "junit.xml", "summary.json"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		pages[name] = string(text)
	}
	for _, title := range []string{
		"Summary", "Coverage", "Configuration", "Load profile", "Throughput", "Latency", "Rate limits", "Errors", "Connections", "Comparison with an earlier suite",
		"Resources", "Health before and after", "Deployment", "Alert thresholds", "Issues", "Recommendations", "Readiness", "Next review",
	} {
		if !strings.Contains(pages["report.md"], "\n## "+title+"\n") || !strings.Contains(pages["report.html"], ">"+title+"</h2>") {
			t.Errorf("the section %q is missing", title)
		}
	}
	for _, want := range []string{"FAIL: of 5 parts 4 ran and 3 passed", "webhooks was not run: no secret", `it \| failed`, `\<b\>no`} {
		if !strings.Contains(pages["report.md"], want) {
			t.Errorf("report.md lacks %q", want)
		}
	}
	if strings.Contains(pages["report.html"], "<b>no</b>") {
		t.Error("report.html has the target's markup")
	}
	if err := suite.Render(dir); err != nil {
		t.Fatal(err)
	}
	for name, before := range pages {
		if text, _ := os.ReadFile(filepath.Join(dir, name)); string(text) != before {
			t.Errorf("%s was rendered otherwise the second time", name)
		}
	}
}

// whole is a suite of which all passed, in a folder.
func whole(t *testing.T) (dir string, s *suite.Summary) {
	t.Helper()
	dir = t.TempDir()
	s = &suite.Summary{
		Profile: "staging", StartedAt: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), Targets: []string{"http://a"},
		Health: []suite.Health{{Target: "http://a", Before: []byte(`{"status": "ok", "uptime_seconds": 5}`), After: []byte(`{"status": "ok", "uptime_seconds": 65}`), Apart: 60}},
	}
	for _, name := range suite.Names() {
		if name == suite.Verify {
			s.Parts = append(s.Parts, put(t, dir, name, verified(verify.Proved, "long api")))
		} else {
			s.Parts = append(s.Parts, put(t, dir, name, run(gate.Pass, 50)))
		}
	}
	s.Conclude()
	if err := suite.Write(dir, s); err != nil {
		t.Fatal(err)
	}
	return dir, s
}

// A summary that says other than its parts come to is not believed, wherever it
// is read.
func TestReadRefusesWhatWasChanged(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*suite.Summary)
		want   string
	}{
		"nothing":               {func(*suite.Summary) {}, ""},
		"parts left out":        {func(s *suite.Summary) { s.Parts = s.Parts[4:] }, `has the parts ["mixed"]`},
		"one twice":             {func(s *suite.Summary) { s.Parts[0] = s.Parts[1] }, "has the parts"},
		"parts that never ran":  {func(s *suite.Summary) { s.Parts[0].Ran, s.Parts[1].Ran = false, false }, `its parts come to "fail"`},
		"a failure called pass": {func(s *suite.Summary) { s.Health[0].After = nil }, `its parts come to "fail"`},
		"no health":             {func(s *suite.Summary) { s.Health = nil }, "the health of 0 of 1 targets"},
		"a higher rate":         {func(s *suite.Summary) { s.CoversRate = 500 }, "50/s"},
		"a later review":        {func(s *suite.Summary) { s.ReviewBy = s.ReviewBy.AddDate(1, 0, 0) }, "2026-05-30"},
	} {
		dir, s := whole(t)
		if tt.change(s); s.Verdict != gate.Pass {
			t.Fatalf("%s: it is %s", name, s.Verdict)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "summary.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := suite.Render(dir); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"another schema":           `{"schema": "gatehouse.load/1"}`,
		"no JSON":                  `{`,
		"a part out of its bounds": `{"schema": "gatehouse.suite/1", "parts": [{"name": "../x", "ran": true}]}`,
		"no part":                  `{"schema": "gatehouse.suite/1", "parts": [null]}`,
		"a folder above":           `{"schema": "gatehouse.suite/1", "parts": [{"name": "..", "ran": true}]}`,
		"a part that is missing":   `{"schema": "gatehouse.suite/1", "parts": [{"name": "mixed", "ran": true}]}`,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "summary.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if s, err := suite.Read(dir); err == nil {
			t.Errorf("%s: read %+v, want an error", name, s)
		}
	}
}

// A part's folder that another run has taken the place of is refused.
func TestReadRefusesAnotherRun(t *testing.T) {
	dir, _ := whole(t)
	if _, err := suite.Read(dir); err != nil {
		t.Fatal(err)
	}
	put(t, dir, "mixed", run(gate.Fail, 50, "slow"))
	if err := suite.Render(dir); err == nil || !strings.Contains(err.Error(), "another run") {
		t.Errorf("rendered with another run's part: %v", err)
	}
}
