package report

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// promised is the contract's example: what programs may rely on.
const promised = `{"schema": "gatehouse.load/1", "tool_version": "…", "plan": "onboarding", "plan_hash": "…", "profile": "smoke", "seed": 1, "target": "http://…",
 "started_at": "…", "duration_seconds": 60.0, "interrupted": false,
 "environment": {"generator": {}, "target": {}},
 "requests": {"scheduled": 600, "sent": 600, "answered": 600, "unsent": 0, "errors": 0},
 "rate": {"offered_rps": 10.0, "achieved_rps": 10.0}, "in_flight": {"avg": 0.1, "max": 3},
 "outcomes": {"201": {"name": "created", "kind": "success", "count": 590, "latency_ms": {"min": 0, "avg": 0, "p50": 0, "p90": 0, "p95": 0,
              "p99": 0, "p99_9": null, "max": 0}, "service_ms": {}}, "429": {}, "error:timeout": {}},
 "by_request": {"onboard": {"201": {}}},
 "generator": {"saturated": false, "cpu_seconds": 0.1, "max_lag_ms": 0.2, "p99_lag_ms": 0.1},
 "gates": [{"name": "…", "expression": "…", "observed": 0, "verdict": "pass"}],
 "verdict": "pass", "reasons": ["…"]}`

func TestSummaryHasWhatTheContractPromises(t *testing.T) {
	data, err := Summarize(fixture()).JSON()
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal([]byte(promised), &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	for _, lack := range lacking("", want, got) {
		t.Error(lack)
	}
}

// lacking is what a value has and another has not, or of another type.
func lacking(at string, want, got any) []string {
	switch want := want.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return []string{at + " is no object"}
		}
		var all []string
		for k, v := range want {
			if _, ok := g[k]; !ok {
				all = append(all, at+"."+k+" is missing")
				continue
			}
			all = append(all, lacking(at+"."+k, v, g[k])...)
		}
		return all
	case []any:
		g, ok := got.([]any)
		if !ok || len(want) > 0 && at != ".reasons" && len(g) == 0 {
			return []string{at + " is no list, or an empty one"}
		}
		var all []string
		for _, v := range g {
			all = append(all, lacking(at+"[]", want[0], v)...)
		}
		return all
	case nil:
		return nil
	case float64:
		if _, ok := got.(float64); !ok && got != nil {
			return []string{at + " is no number"}
		}
	case string:
		if _, ok := got.(string); !ok {
			return []string{at + " is no string"}
		}
	case bool:
		if _, ok := got.(bool); !ok {
			return []string{at + " is no boolean"}
		}
	}
	return nil
}

func TestSummaryFigures(t *testing.T) {
	r := fixture()
	s := Summarize(r)
	created, limited, timeout := s.Outcomes["201"], s.Outcomes["429"], s.Outcomes["error:timeout"]
	if created.Count != 1099 || s.ByRequest["onboard"]["201"].Count != 1079 || s.ByRequest["over_limit"]["201"].Count != 20 {
		t.Errorf("created %d, by request %v", created.Count, s.ByRequest)
	}
	if created.Latency.P99 == nil || created.Latency.P999 != nil || limited.Latency.P95 == nil || limited.Latency.P99 != nil {
		t.Error("a percentile is null exactly where there are too few times")
	}
	if timeout.Name != "error:timeout" || *timeout.Latency.Max != 10000 || timeout.Latency.P50 != nil {
		t.Errorf("%+v", timeout)
	}
	if s.Rate != (Rates{20, 20}) || s.DurationSeconds != 60.004 || s.PlannedSeconds != 60 {
		t.Errorf("%+v in %v of %v s", s.Rate, s.DurationSeconds, s.PlannedSeconds)
	}
	if s.Verdict != gate.Pass || len(s.Reasons) > 0 || s.Generator.Saturated || s.Baseline != "an-earlier-run" {
		t.Errorf("%s %q %+v %q", s.Verdict, s.Reasons, s.Generator, s.Baseline)
	}
	r.Result.Lag = spread(1200, time.Second, 2*time.Second)
	r.Verdict, r.Reasons = gate.Judge(r.Result, fixtureGates(), r.Checks)
	if s := Summarize(r); !s.Generator.Saturated || s.Verdict != gate.Inconclusive {
		t.Errorf("a late generator: %+v, %s", s.Generator, s.Verdict)
	}
}

// nothing is a run that was over before it began.
func nothing() *Run {
	return &Run{Result: &load.Result{}, Verdict: gate.Inconclusive, Reasons: []string{"too few successes: none of 0 requests succeeded"}}
}

func TestSummaryIsReadAsItWasWritten(t *testing.T) {
	for name, r := range map[string]*Run{"a run": fixture(), "nothing": nothing()} {
		t.Run(name, func(t *testing.T) {
			data, err := Summarize(r).JSON()
			if err != nil {
				t.Fatal(err)
			}
			s, err := ReadSummary(data)
			if err != nil {
				t.Fatal(err)
			}
			again, err := s.JSON()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(data), string(again)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestSummaryTakesWhateverATargetAnswered(t *testing.T) {
	r := fixture()
	r.Result.Series[3].Example = "\xff\x00</script>\u2028"
	data, err := Summarize(r).JSON()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSummary(data); err != nil {
		t.Error(err)
	}
}

func TestReadSummaryRefuses(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"nothing", ``, "EOF"},
		{"null", `null`, `schema is ""`},
		{"another format", `{"metrics": {}}`, `schema is ""`},
		{"a verification", `{"schema": "gatehouse.verify/1", "stages": 1}`, "it is of load verify, not of load run"},
		{"another version", `{"schema": "gatehouse.load/2", "outcomes": {}}`, `want "gatehouse.load/1"`},
		{"no outcomes", `{"schema": "gatehouse.load/1"}`, "no outcomes"},
		{"a key twice", `{"schema": "gatehouse.load/1", "schema": "gatehouse.load/1", "outcomes": {}}`, "duplicate"},
		{"what follows", `{"schema": "gatehouse.load/1", "outcomes": {}} {}`, "after top-level value"},
		{"a verdict", `{"schema": "gatehouse.load/1", "outcomes": {}, "verdict": "passed"}`, `verdict is "passed"`},
		{"a kind", `{"schema": "gatehouse.load/1", "outcomes": {"201": {"kind": "good"}}}`, `of kind "good"`},
		{"a count", `{"schema": "gatehouse.load/1", "outcomes": {"201": {"kind": "success", "count": -1}}}`, "the count -1"},
		{"a time", `{"schema": "gatehouse.load/1", "outcomes": {"201": {"kind": "success", "latency_ms": {"p95": -1}}}}`, "the time -1 ms"},
		{"a number", `{"schema": "gatehouse.load/1", "outcomes": {"201": {"kind": "success", "latency_ms": {"p95": 1e999}}}}`, "p95"},
		{"a target's answers", `{"schema": "gatehouse.load/1", "outcomes": {}, "targets": [{"address": "b:1", "sent": 1, "answered": 2}]}`, `target "b:1" answered 2 of 1`},
		{"targets of another run", `{"schema": "gatehouse.load/1", "outcomes": {}, "requests": {"sent": 3, "answered": 1}, "targets": [{"sent": 2, "answered": 1}]}`, "answered 1 of 2 requests, and the run 1 of 3"},
		{"too long", strings.Repeat(" ", maxSummary) + `{}`, "longer than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ReadSummary([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ReadSummary = %v, want an error with %q", err, tt.want)
			}
		})
	}
	if _, err := ReadSummary([]byte(`{"schema": "gatehouse.load/1", "outcomes": {}, "later": 1}`)); err != nil {
		t.Errorf("a field of a later version: %v", err)
	}
}

// What went to each of several addresses is in the summary and on the pages; of
// one address there is no more to say.
func TestSeveralTargets(t *testing.T) {
	r := fixture()
	r.Result.Targets = []load.Target{{Address: "127.0.0.1:1", Sent: 1200, Answered: 1199}}
	if s := Summarize(r); s.Targets != nil {
		t.Errorf("of one: %+v", s.Targets)
	}
	r.Result.Targets = []load.Target{{Address: "127.0.0.1:1", Sent: 599, Answered: 598}, {Address: hostile, Sent: 601, Answered: 601}}
	data, err := Summarize(r).JSON()
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadSummary(data)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Called{{"127.0.0.1:1", 599, 598}, {hostile, 601, 601}}; !slices.Equal(s.Targets, want) {
		t.Errorf("%+v; want %+v", s.Targets, want)
	}
	page := rendered(t, &Report{Summary: s})
	if !strings.Contains(page, `<th scope="row">127.0.0.1:1</th><td class="n">599</td><td class="n">598</td>`) || strings.Contains(page, "<script") {
		t.Error("the page lacks the addresses, or has them as markup")
	}
	text := string(written(t, func(b *bytes.Buffer) error { return Markdown(b, &Report{Summary: s}) }))
	const table = "\n\n| address | sent | answered |\n|---|---:|---:|\n| 127.0.0.1:1 | 599 | 598 |\n| \\<"
	if _, after, ok := strings.Cut(text, table); !ok || !strings.Contains(after, " | 601 | 601 |\n\n## Resources") {
		t.Errorf("the addresses are not as they should be in\n%s", text)
	}
}

// FuzzReadSummary: what can be read can be compared with, and written again.
func FuzzReadSummary(f *testing.F) {
	data, err := Summarize(fixture()).JSON()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"schema": "gatehouse.load/1", "outcomes": {"429": {"kind": "expected", "latency_ms": {"p95": 0}}}}`))
	f.Add([]byte(`{"schema": "gatehouse.load/1", "outcomes": null}`))
	f.Add([]byte(`{"schema": "gatehouse.load/1", "outcomes": {}, "duration_seconds": 1e300, "stages": [{"seconds": 1e300, "rate": 1e308}, {"seconds": -1e300, "rate": -5}],
		"resources": {"stages": [{"stage": 7, "memory_bytes": {"avg": 1e300, "max": -1}, "goroutines": {"avg": -1, "max": 1e300}}]}}`))
	run := fixture()
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := ReadSummary(data)
		if err != nil {
			return
		}
		c, checks := Compare("x", s, Summarize(run))
		for _, check := range checks {
			if check.Verdict == gate.Pass && check.Observed == nil {
				t.Errorf("%s passes on nothing", check.Expression)
			}
		}
		run := *run
		run.Baseline = c
		if err := Markdown(&bytes.Buffer{}, pages(&run)); err != nil {
			t.Error(err)
		}
		if page := rendered(t, &Report{Summary: s}); strings.Contains(page, ">NaN") {
			t.Error("it divides by zero")
		}
		again, err := s.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadSummary(again); err != nil {
			t.Errorf("what was written can't be read: %v", err)
		}
	})
}

func TestByOutcome(t *testing.T) {
	run := fixture()
	r := run.Result
	slices.Reverse(r.Series)
	var got []string
	for _, s := range ordered(Summarize(run).Outcomes) {
		got = append(got, s.Key+" "+count(s.Count))
	}
	if diff := cmp.Diff([]string{"201 1,099", "429 100", "error:timeout 1"}, got); diff != "" {
		t.Error(diff)
	}
	if r.Series[3].Count() != 1079 {
		t.Error("merging changed what it merged")
	}
}
