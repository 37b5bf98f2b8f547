package foreign

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

func file(t testing.TB, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func read(t *testing.T, text string) *report.Summary {
	t.Helper()
	s, err := Read([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestTheReferenceRun: the reference's figures, in whatever form, are no
// evidence of success.
func TestTheReferenceRun(t *testing.T) {
	for _, tt := range []struct {
		file, key string
		verdict   gate.Verdict
		p99       bool
		notes     []string
	}{
		{"k6-handlesummary.json", "failure", gate.Fail, false, []string{"closed model", "no p99"}},
		{"k6-export.json", "failure", gate.Fail, false, []string{"closed model", "no p99"}},
		{"k6-machine.json", "failure", gate.Inconclusive, false, []string{"closed model", "no p99"}},
		{"vegeta.json", "429", gate.Inconclusive, true, []string{"open model"}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			s := read(t, file(t, tt.file))
			o := s.Outcomes[tt.key]
			if s.Requests.Sent != 191063 || *o.Latency.P95 != 6.42 || *o.Latency.P50 != 3.76 || *o.Latency.Avg != 4.43 || o.Kind != load.Failure {
				t.Errorf("%d sent, %+v", s.Requests.Sent, o)
			}
			if s.Rate.Achieved < 353 || s.Rate.Achieved > 354 || s.DurationSeconds < 540 || s.DurationSeconds > 541 {
				t.Errorf("%v/s for %v s", s.Rate.Achieved, s.DurationSeconds)
			}
			if (o.Latency.P99 != nil) != tt.p99 {
				t.Errorf("p99 %v", o.Latency.P99)
			}
			if s.Verdict != tt.verdict || !strings.Contains(strings.Join(s.Reasons, "\n"), "no evidence of success (0 of 191063 requests)") {
				t.Errorf("%s: %q", s.Verdict, s.Reasons)
			}
			for _, want := range append(tt.notes, "summary only", "refusals dominate: 100 %") {
				if !slices.ContainsFunc(s.Notes, func(n string) bool { return strings.Contains(n, want) }) {
					t.Errorf("%q lacks %q", s.Notes, want)
				}
			}
		})
	}
}

// TestThresholds: k6 writes true for one that held in one form, and for one that
// did not in the other.
func TestThresholds(t *testing.T) {
	for _, name := range []string{"k6-handlesummary.json", "k6-export.json"} {
		got := map[string]gate.Verdict{}
		for _, g := range read(t, file(t, name)).Gates {
			got[g.Expression] = g.Verdict
		}
		want := map[string]gate.Verdict{"http_req_duration: p(95)<100": gate.Pass, "http_req_failed: rate<0.1": gate.Fail}
		if !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// good are successful runs, in each form.
var good = map[string]string{
	"handleSummary": `{"state": {"testRunDurationMs": 60000}, "metrics": {
		"http_reqs": {"values": {"count": 3000, "rate": 50}}, "http_req_failed": {"values": {"rate": 0.1, "passes": 300, "fails": 2700}},
		"http_req_duration": {"values": {"avg": 4, "med": 3, "p(90)": 5, "p(95)": 7, "p(99)": 9, "p(99.9)": 20, "max": 30}},
		"http_req_duration{expected_response:true}": {"values": {"avg": 4, "med": 2, "p(90)": 4, "p(95)": 6, "p(99)": 8, "p(99.9)": 20, "max": 30}, "thresholds": {"p(95)<10": {"ok": true}}}}}`,
	"export": `{"metrics": {
		"http_reqs": {"count": 3000, "rate": 50}, "http_req_failed": {"value": 0.1, "passes": 300, "fails": 2700},
		"http_req_duration": {"avg": 4, "med": 3, "p(90)": 5, "p(95)": 7, "p(99)": 9, "max": 30},
		"http_req_duration{expected_response:true}": {"avg": 4, "med": 2, "p(90)": 4, "p(95)": 6, "p(99)": 8, "p(99.9)": 20, "max": 30, "thresholds": {"p(95)<10": false}}}}`,
	"machine": `{"version": "1.0.0", "config": {"duration": 60}, "metadata": {"k6Version": "1.5.0"}, "results": {"metrics": [
		{"name": "http_reqs", "type": "counter", "values": {"count": 3000}}, {"name": "http_req_failed", "type": "rate", "values": {"rate": 0.1, "matches": 300, "total": 3000}},
		{"name": "http_req_duration{expected_response:true}", "type": "trend", "values": {"avg": 4, "med": 2, "p(90)": 4, "p(95)": 6, "p(99)": 8, "max": 30}},
		{"name": "dropped_iterations", "type": "counter", "values": {"count": 12}}]}}`,
}

func TestK6OfSuccesses(t *testing.T) {
	for form, text := range good {
		t.Run(form, func(t *testing.T) {
			s := read(t, text)
			ok, bad := s.Outcomes["success"], s.Outcomes["failure"]
			if ok.Count != 2700 || bad.Count != 300 || ok.Kind != load.Success || bad.Latency != (report.Times{}) {
				t.Errorf("%+v", s.Outcomes)
			}
			if *ok.Latency.P50 != 2 || *ok.Latency.P99 != 8 || ok.Latency.P999 != nil { // 2,700 are too few for p99.9
				t.Errorf("%+v", ok.Latency)
			}
			if s.Verdict != "" || s.DurationSeconds != 60 || s.Rate.Achieved != 50 {
				t.Errorf("%s of %v s at %v/s", s.Verdict, s.DurationSeconds, s.Rate.Achieved)
			}
			if open := s.Requests.Unsent == 12; open != (form == "machine") {
				t.Errorf("%d unsent: %q", s.Requests.Unsent, s.Notes)
			}
		})
	}
}

// TestK6Uncounted: requests that k6 was told not to judge are no successes.
func TestK6Uncounted(t *testing.T) {
	for form, change := range map[string][2]string{
		"handleSummary": {`"rate": 0.1, "passes": 300, "fails": 2700`, `"rate": 0.2, "passes": 300, "fails": 1200`},
		"export":        {`"value": 0.1, "passes": 300, "fails": 2700`, `"value": 0.2, "passes": 300, "fails": 1200`},
		"machine":       {`"rate": 0.1, "matches": 300, "total": 3000`, `"rate": 0.2, "matches": 300, "total": 1500`},
	} {
		s := read(t, strings.Replace(good[form], change[0], change[1], 1))
		if ok, bad, untold := s.Outcomes["success"], s.Outcomes["failure"], s.Outcomes["not recorded"]; ok.Count != 1200 || bad.Count != 300 || untold.Count != 1500 || untold.Kind != load.Failure {
			t.Errorf("%s: %+v", form, s.Outcomes)
		}
		if notes := strings.Join(s.Notes, "\n"); !strings.Contains(notes, "did not record whether 1500 of its requests failed") {
			t.Errorf("%s: %s", form, notes)
		}
	}
	s := read(t, `{"metrics": {"http_reqs": {"count": 300, "rate": 50}, "http_req_failed": {"value": 0, "passes": 0, "fails": 0}, "http_req_duration": {"med": 3}}}`)
	if s.Outcomes["all"].Count != 300 || s.Verdict != gate.Inconclusive {
		t.Errorf("none judged: %+v", s)
	}
}

// TestAsWritten reads what k6 1.8.1 and vegeta 12.13 wrote of a target that
// refuses each twentieth request. k6 had three thresholds that held beside
// p(99)<0.001, which did not. Its machine-readable form names things otherwise
// than its schema does, and tells neither p99 nor thresholds.
func TestAsWritten(t *testing.T) {
	for _, tt := range []struct {
		file, tool, success, failure string
		sent, refused                int64
		seconds                      float64
		p95, p99, gates              bool
	}{
		{"k6-1.8.1/handlesummary.json", "k6", "success", "failure", 1001, 50, 10, true, true, true},
		{"k6-1.8.1/export.json", "k6", "success", "failure", 1001, 50, 10, true, true, true},
		{"k6-1.8.1/machine.json", "k6 1.8.1", "success", "failure", 1001, 50, 10, true, false, false},
		{"vegeta-12.json", "vegeta", "200", "429", 500, 25, 5, false, false, false},
	} {
		t.Run(tt.file, func(t *testing.T) {
			s := read(t, file(t, tt.file))
			good, bad := s.Outcomes[tt.success], s.Outcomes[tt.failure]
			if s.ToolVersion != tt.tool || s.Requests.Sent != tt.sent || good.Count != tt.sent-tt.refused || bad.Count != tt.refused {
				t.Errorf("%s, %d sent: %+v", s.ToolVersion, s.Requests.Sent, s.Outcomes)
			}
			if s.DurationSeconds < tt.seconds-0.1 || s.DurationSeconds > tt.seconds+0.1 {
				t.Errorf("it lasted %v s", s.DurationSeconds)
			}
			if l := good.Latency; (l.P50 != nil) != tt.p95 || (l.P90 != nil) != tt.p95 || (l.P95 != nil) != tt.p95 || (l.P99 != nil) != tt.p99 {
				t.Errorf("%+v", l)
			}
			got := map[string]gate.Verdict{}
			for _, g := range s.Gates {
				got[g.Expression] = g.Verdict
			}
			want := map[string]gate.Verdict{}
			if tt.gates {
				want = map[string]gate.Verdict{
					"http_req_duration: p(95)<500": gate.Pass, "http_req_duration: p(99)<0.001": gate.Fail,
					"http_req_failed: rate<0.5": gate.Pass, "http_req_duration{expected_response:true}: p(90)<400": gate.Pass,
				}
			}
			if !maps.Equal(got, want) {
				t.Errorf("thresholds %v", got)
			}
		})
	}
}

// TestTimesOfAll: times of successes and failures together are given to neither.
func TestTimesOfAll(t *testing.T) {
	for _, tt := range []struct {
		failed string
		given  bool
	}{{"300", false}, {"3", true}, {"0", true}} {
		s := read(t, `{"metrics": {"http_reqs": {"count": 3000, "rate": 50}, "http_req_failed": {"passes": `+tt.failed+`}, "http_req_duration": {"med": 3}}}`)
		if given := s.Outcomes["success"].Latency.P50 != nil; given != tt.given {
			t.Errorf("of %s failures: %v", tt.failed, given)
		}
	}
	v := read(t, `{"latencies": {"50th": 3000000}, "requests": 300, "status_codes": {"200": 290, "0": 10}}`)
	if v.Outcomes["200"].Latency.P50 != nil || v.Requests.Errors != 10 || v.Requests.Answered != 290 {
		t.Errorf("%+v", v)
	}
	if s := read(t, `{"metrics": {"http_reqs": {"count": 300, "rate": 50}, "http_req_duration": {"med": 3}}}`); s.Verdict != gate.Inconclusive || s.Outcomes["all"].Count != 300 {
		t.Errorf("where failures are not known: %+v", s)
	}
}

func TestOurs(t *testing.T) {
	s := read(t, `{"schema": "gatehouse.load/1", "plan": "p", "outcomes": {}}`)
	if s.Plan != "p" || s.Notes != nil {
		t.Errorf("%+v", s)
	}
}

func TestBadInput(t *testing.T) {
	export := file(t, "k6-export.json")
	legacy := file(t, "k6-handlesummary.json")
	machine := file(t, "k6-machine.json")
	vegeta := file(t, "vegeta.json")
	for _, tt := range []struct{ name, text, want string }{
		{"empty", "", "no summary, or was cut"},
		{"cut", export[:len(export)/2], "no summary, or was cut"},
		{"no object", "[1, 2]", "no summary"},
		{"nothing known", `{"a": 1}`, "no summary that is known"},
		{"a later schema of ours", `{"schema": "gatehouse.load/2", "outcomes": {}}`, `its schema is "gatehouse.load/2"`},
		{"a later version of k6's", strings.Replace(machine, `"1.0.0"`, `"2.0.0"`, 1), `of version "2.0.0"`},
		{"k6's stream", `{"type": "Metric", "metric": "http_reqs", "data": {}}`, "stream of points"},
		{"fortio's", `{"RunType": "HTTP", "DurationHistogram": {}}`, "fortio"},
		{"oha's", `{"summary": {}, "latencyPercentiles": {}}`, "oha"},
		{"nothing was sent", `{"metrics": {}}`, "has no http_reqs"},
		{"thresholds of the other form", strings.Replace(legacy, `{
     "ok": true
    }`, "true", 1), `it is no {"ok": …}`},
		{"and the other way round", strings.Replace(export, `"p(95)<100": false`, `"p(95)<100": {"ok": false}`, 1), "neither true nor false"},
		{"values of some metrics alone", `{"metrics": {"http_reqs": {"values": {"count": 1}}, "vus": {"value": 1}}}`, `"vus": it has no values`},
		{"percentiles that fall", strings.Replace(export, `"med": 3.76`, `"med": 37.6`, 1), "contradict each other"},
		{"a time of ages", strings.Replace(export, `"max": 646.68`, `"max": 1e300`, 1), "contradict each other"},
		{"a rate of next to nothing", `{"metrics": {"http_reqs": {"count": 3000, "rate": 1e-308}}}`, "which nothing does"},
		{"a run of no time", strings.Replace(vegeta, `"rate":`, `"rate": 1e300, "was":`, 1), "which nothing does"},
		{"an average above the longest", strings.Replace(export, `"avg": 4.43`, `"avg": 4430`, 1), "its average"},
		{"more failures than requests", strings.Replace(export, `"passes": 191063`, `"passes": 191064`, 1), "contradicts itself: of 191063 requests 191064 failed"},
		{"fewer than none that failed", strings.Replace(export, `"passes": 191063`, `"passes": -1`, 1), "contradicts itself"},
		{"a share against its counts", `{"metrics": {"http_reqs": {"count": 1500, "rate": 50}, "http_req_failed": {"value": 0.9995, "passes": 0, "fails": 1500}}}`,
			"contradicts itself: a share of 0.9995 failed, and 0 of 1500"},
		{"the same, of the machine's", strings.Replace(good["machine"], `"rate": 0.1`, `"rate": 0.9`, 1), "a share of 0.9 failed, and 300 of 3000"},
		{"more counted than sent", strings.Replace(good["export"], `"fails": 2700`, `"fails": 2701`, 1), "http_req_failed counts 3001"},
		{"and in the machine's", strings.Replace(good["machine"], `"total": 3000`, `"total": 3001`, 1), "http_req_failed counts 3001"},
		{"a metric twice", strings.Replace(machine, `"vus"`, `"http_reqs"`, 1), "twice"},
		{"text where a number should be", strings.Replace(export, "5.46", `"5.46"`, 1), "k6's summary"},
		{"a status that is none", strings.Replace(vegeta, `"429":`, `"many":`, 1), "no status"},
		{"statuses that don't add up", strings.Replace(vegeta, `"422": 90`, `"422": 91`, 1), "contradicts itself"},
		{"no requests", strings.Replace(vegeta, `"requests": 191063`, `"requests": 0`, 1), "of 0 requests"},
		{"a key twice", `{"metrics": {}, "metrics": {}}`, "no summary"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if s, err := Read([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v, %v; want %q", s, err, tt.want)
			}
		})
	}
}

// FuzzRead: whatever is read adds up, and is a summary of ours when it is
// written again.
func FuzzRead(f *testing.F) {
	for _, text := range good {
		f.Add(text)
	}
	f.Add(`{"latencies": {"50th": 3000000}, "requests": 300, "status_codes": {"200": 290, "0": 10}}`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Read([]byte(text))
		if err != nil {
			return
		}
		again, err := s.JSON()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := report.ReadSummary(again); err != nil {
			t.Fatalf("%v: %s", err, again)
		}
	})
}
