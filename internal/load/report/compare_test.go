package report

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

func TestCompare(t *testing.T) {
	r := fixture()
	c, checks := Compare("before", fixtureBaseline(), Summarize(r))
	var rows []string
	for _, row := range c.Rows {
		rows = append(rows, strings.Join([]string{row.Key, row.Stat, known("ms", row.Ours), known("ms", row.OursService), known("ms", row.Theirs), known("ratio", row.Ratio)}, " | "))
	}
	want := []string{
		"201 |  | – | – | – | –",
		"429 | avg | 0.73 ms | 0.67 ms | 4.43 ms | 0.16×",
		"429 | p50 | 0.51 ms | 0.45 ms | 3.76 ms | 0.13×",
		"429 | p90 | 1.53 ms | 1.45 ms | 5.46 ms | 0.28×",
		"429 | p95 | 1.75 ms | 1.66 ms | 6.42 ms | 0.27×",
		"429 | max | 2.00 ms | 1.90 ms | 646.68 ms | 0.003×",
		"error:timeout |  | – | – | – | –",
	}
	if diff := cmp.Diff(want, rows); diff != "" {
		t.Error(diff)
	}
	var said []string
	for _, check := range checks {
		said = append(said, check.Expression+": "+string(check.Verdict))
	}
	want = []string{
		"limited.latency.p50 < 2 × 3.76ms of before: pass",
		"limited.latency.p90 < 2 × 5.46ms of before: pass",
		"limited.latency.p95 < 2 × 6.42ms of before: pass",
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Error(diff)
	}
}

func TestCompareEnvironmentsFirst(t *testing.T) {
	before := fixtureBaseline()
	before.Verdict, before.Rate.Offered, before.Target = gate.Fail, 50, "http://10.0.0.1:8080"
	c, _ := Compare("before", before, Summarize(fixture()))
	rows := map[string]EnvironmentRow{}
	for _, row := range c.Environment {
		rows[row.Fact] = row
	}
	if first := c.Environment[:4]; first[0].Fact != "plan" || first[1].Fact != "profile" || first[2].Fact != "verdict" || first[3].Fact != "rate offered" {
		t.Errorf("it begins with %v", first)
	}
	for _, want := range []EnvironmentRow{
		{"plan", "onboarding", "onboarding"},
		{"profile", "smoke", "not recorded"},
		{"verdict", "pass", "fail"},
		{"rate offered", "20.00/s", "50.00/s"},
		{"target: URL", "http://127.0.0.1:8080", "http://10.0.0.1:8080"},
		{"generator: version", "1.2.3", "k6 v0.54.0"},
		{"generator: requests sent", "20.00/s", "353.77/s"},
		{"generator: processor", "Some CPU @ 2.50GHz", "not recorded"},
		{"target: on the generator's machine", "yes", "not recorded"},
		{"target: database", "sqlite 3.50.4", "not recorded"},
	} {
		if got := rows[want.Fact]; got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

// flat is n answers that all took so long.
func flat(key string, kind load.Kind, n int, each time.Duration) *load.Series {
	return &load.Series{Request: "x", Key: key, Name: key, Kind: kind, Latency: spread(n, each, each), Service: spread(n, each, each)}
}

func TestCompareChecks(t *testing.T) {
	p95, zero := 1.0, 0.0
	theirs := func(key string, times Times) *Summary {
		return &Summary{Outcomes: map[string]Outcome{key: {Latency: times, Count: 3688}}}
	}
	cut, saturated, few := theirs("200", Times{P95: &p95}), theirs("200", Times{P95: &p95}), theirs("200", Times{Avg: &p95})
	cut.Interrupted, saturated.Generator.Saturated = true, true
	failed, noEvidence := theirs("200", Times{P95: &p95}), theirs("200", Times{P95: &p95})
	failed.Verdict, noEvidence.Verdict = gate.Fail, gate.Inconclusive
	few.Outcomes["200"] = Outcome{Latency: Times{Avg: &p95}, Count: 3687}
	tests := []struct {
		name     string
		ours     *load.Series
		baseline *Summary
		want     string
	}{
		{"just below twice", flat("200", load.Success, 72, 1999*time.Microsecond), theirs("200", Times{P95: &p95}), "pass"},
		{"twice", flat("200", load.Success, 72, 2*time.Millisecond), theirs("200", Times{P95: &p95}), "fail"},
		{"too few of ours", flat("200", load.Success, 71, time.Millisecond), theirs("200", Times{P95: &p95}), "inconclusive: too few times: had 71"},
		{"an avg of enough", flat("200", load.Success, 3688, time.Hour), theirs("200", Times{Avg: &p95}), "fail"},
		{"an avg of too few", flat("200", load.Success, 3687, time.Hour), theirs("200", Times{Avg: &p95}), "inconclusive: no outcome has a counterpart with times"},
		{"an avg of too few of theirs", flat("200", load.Success, 3688, time.Hour), few, "inconclusive: no outcome has a counterpart with times"},
		{"theirs was cut short", flat("200", load.Success, 72, time.Hour), cut, "inconclusive: before was interrupted, or its generator the bottleneck"},
		{"theirs could not keep up", flat("200", load.Success, 72, time.Microsecond), saturated, "inconclusive: before was interrupted, or its generator the bottleneck"},
		{"theirs failed", flat("200", load.Success, 72, time.Microsecond), failed, "inconclusive: before failed itself"},
		{"theirs is of refusals", flat("200", load.Success, 72, time.Microsecond), noEvidence, "pass"},
		{"a tail decides nothing", flat("200", load.Success, 999, time.Hour), theirs("200", Times{P99: &p95, Max: &p95}), "inconclusive: no outcome has a counterpart with times"},
		{"nothing to divide by", flat("200", load.Success, 72, time.Millisecond), theirs("200", Times{P95: &zero}), "inconclusive: no outcome has a counterpart with times"},
		{"another status", flat("200", load.Success, 72, time.Millisecond), theirs("201", Times{P95: &p95}), "inconclusive: no outcome has a counterpart with times"},
		{"a counterpart without times", flat("200", load.Success, 72, time.Millisecond), theirs("200", Times{}), "inconclusive: no outcome has a counterpart with times"},
		{"failures may fail slowly", flat("500", load.Failure, 72, time.Hour), theirs("500", Times{P95: &p95}), "inconclusive: no outcome has a counterpart with times"},
		{"no outcomes of theirs", flat("200", load.Success, 72, time.Millisecond), &Summary{}, "inconclusive: no outcome has a counterpart with times"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, checks := Compare("before", tt.baseline, Summarize(&Run{Result: &load.Result{Series: []*load.Series{tt.ours}}}))
			if len(checks) != 1 {
				t.Fatalf("%d checks", len(checks))
			}
			got := string(checks[0].Verdict)
			if checks[0].Why != "" {
				got += ": " + checks[0].Why
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// TestCompareWithOurOwn: a run that is compared with itself has a counterpart
// for each outcome, and the ratio 1.
func TestCompareWithOurOwn(t *testing.T) {
	r := Summarize(fixture())
	c, checks := Compare("itself", r, r)
	for _, row := range c.Rows {
		if row.Stat == "" {
			t.Errorf("%s has no counterpart", row.Key)
		}
	}
	if len(checks) != 6 {
		t.Errorf("%d checks, want 3 each of created and limited", len(checks))
	}
	for _, check := range checks {
		if check.Observed == nil || *check.Observed != 1 || check.Verdict != gate.Pass {
			t.Errorf("%+v", check)
		}
	}
}

// TestCounterparts: statuses are alike by themselves, and a tool's successes are
// those of the only status of success.
func TestCounterparts(t *testing.T) {
	all := func(keys ...string) map[string]Outcome {
		m := map[string]Outcome{}
		for _, k := range keys {
			m[k] = Outcome{Kind: load.Failure, Count: 1}
			if k == "success" || strings.HasPrefix(k, "2") {
				m[k] = Outcome{Kind: load.Success, Count: 1}
			}
		}
		return m
	}
	for _, tt := range []struct {
		name          string
		first, second map[string]Outcome
		want          [][2]string
	}{
		{"by status", all("201", "429", "500"), all("201", "429"), [][2]string{{"201", "201"}, {"429", "429"}}},
		{"a tool's successes", all("success", "failure"), all("201", "429"), [][2]string{{"success", "201"}}},
		{"the other way round", all("201", "429"), all("success"), [][2]string{{"201", "success"}}},
		{"of several nobody knows which", all("success"), all("200", "201"), nil},
		{"two tools'", all("success"), all("success"), [][2]string{{"success", "success"}}},
		{"other statuses", all("200"), all("201"), nil},
	} {
		if diff := cmp.Diff(tt.want, Counterparts(tt.first, tt.second)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
}

// TestCompareWithAToolThatKnowsNoStatus: its successes are ours.
func TestCompareWithAToolThatKnowsNoStatus(t *testing.T) {
	p50 := 2.0
	theirs := &Summary{Outcomes: map[string]Outcome{
		"success": {Name: "success", Kind: load.Success, Count: 900, Latency: Times{P50: &p50}},
		"failure": {Name: "failure", Kind: load.Failure, Count: 100},
	}}
	_, checks := Compare("k6", theirs, Summarize(fixture()))
	if len(checks) != 1 || checks[0].Verdict != gate.Pass || !strings.HasPrefix(checks[0].Expression, "created.latency.p50 < 2 × 2ms of k6") {
		t.Errorf("%+v", checks)
	}
}
