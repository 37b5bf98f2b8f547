package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/suite"
)

// A suite whose target is dead runs what it can, and says what it could not.
func TestLoadSuiteOfADeadTarget(t *testing.T) {
	t.Parallel()
	out := t.TempDir() + "/out"
	c := gatehouse(t, "load", "suite", "--profile", "smoke", "--target", "http://127.0.0.1:1", "--target-admin", "none", "--provider-listen", "none", "--out", out)
	began := time.Now()
	o := finish(t, c)
	if o.code != exitFailed || !strings.HasPrefix(o.stdout, "FAIL: of 5 parts ") || !strings.Contains(o.stdout, "GATEHOUSE_STRIPE_WEBHOOK_SECRETS") || !strings.Contains(o.stdout, "NOT RUN") {
		t.Errorf("exit code %d after %v:\n%s%s", o.code, time.Since(began), o.stdout, o.stderr)
	}
	page, err := os.ReadFile(out + "/report.md")
	if err != nil || !strings.Contains(string(page), "webhooks was not run: events are signed") {
		t.Errorf("report.md: %v; it does not say why webhooks was not run:\n%s", err, page)
	}
	if o := finish(t, gatehouse(t, "load", "suite", "--due", out)); o.code != exitFailed || !strings.Contains(o.stderr, "too short to tell") {
		t.Errorf("due after a failure: exit code %d, %s", o.code, o.stderr)
	}
}

func TestLoadSuiteUsage(t *testing.T) {
	t.Parallel()
	used := t.TempDir()
	if err := os.Mkdir(used+"/mixed", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"an earlier part":   {[]string{"--profile", "smoke", "--out", used}, "holds mixed of an earlier suite"},
		"no such windows":   {[]string{"--profile", "smoke", "--windows", "500"}, "--windows 500"},
		"no such keys":      {[]string{"--profile", "smoke", "--keys-file", t.TempDir() + "/none"}, "--keys-file"},
		"no such profile":   {[]string{"--profile", "smoky"}, `"smoky"`},
		"off this machine":  {[]string{"--target", "https://api.example.com"}, "--yes"},
		"nodes of two ways": {[]string{"--target", "http://127.0.0.1:1,https://127.0.0.1:2"}, "several targets"},
		"no earlier suite":  {[]string{"--baseline", t.TempDir()}, "--baseline"},
		"nothing to review": {[]string{"--due", t.TempDir()}, "summary.json"},
		"no such traffic":   {[]string{"--due", "../../docs/reports/suite-sqlite", "--traffic", "NaN"}, "--traffic NaN"},
		"endless traffic":   {[]string{"--due", "../../docs/reports/suite-sqlite", "--traffic", "+Inf"}, "--traffic +Inf"},
		"traffic alone":     {[]string{"--traffic", "40"}, "--traffic is asked about with --due"},
		"less than none":    {[]string{"--due", "../../docs/reports/suite-sqlite", "--traffic=-1"}, "--traffic -1"},
	} {
		c := gatehouse(t, append([]string{"load", "suite", "--out", t.TempDir() + "/out"}, tt.args...)...)
		c.Env = append(c.Env, "GATEHOUSE_STRIPE_WEBHOOK_SECRETS=whsec_x")
		o := finish(t, c)
		if o.code != exitUsage || !strings.Contains(o.stderr, tt.want) {
			t.Errorf("%s: exit code %d, want 2 and %q: %s%s", name, o.code, tt.want, o.stdout, o.stderr)
		}
	}
}

// A balancer's nodes answer in turn: the one from before is asked for.
func TestLookAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		nodes int
		asked int32
		want  gate.Verdict
	}{
		"one of three": {3, 3, gate.Pass}, "one that is gone": {0, healthTries, gate.Fail},
	} {
		var asked atomic.Int32
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			node := int(asked.Add(1))
			if node == tt.nodes {
				node = 0
			}
			fmt.Fprintf(w, `{"status": "ok", "node": "node %d", "uptime_seconds": 5}`, node)
		}))
		t.Cleanup(server.Close)
		h := suite.Health{Before: []byte(`{"status": "ok", "node": "node 0", "uptime_seconds": 5}`)}
		lookAgain(t.Context(), &h, server.URL, time.Now())
		s := &suite.Summary{Health: []suite.Health{h}}
		if s.Conclude(); s.Verdict != tt.want || asked.Load() != tt.asked || h.Apart <= 0 {
			t.Errorf("%s: %s after %d looks %g s later, want %s after %d: %q", name, s.Verdict, asked.Load(), h.Apart, tt.want, tt.asked, s.Reasons)
		}
	}
}

// The workflow to copy is YAML, and what it calls has the flags that it gives.
func TestLoadSuiteWorkflow(t *testing.T) {
	text, err := os.ReadFile("../../docs/load-suite.workflow.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var w struct {
		Jobs map[string]struct {
			Steps []struct {
				Run string `yaml:"run"`
			} `yaml:"steps"`
		} `yaml:"jobs"`
	}
	if err := yaml.Unmarshal(text, &w); err != nil {
		t.Fatal(err)
	}
	called := 0
	for _, step := range w.Jobs["suite"].Steps {
		if !strings.Contains(step.Run, "load suite") {
			continue
		}
		called++
		for _, flag := range regexp.MustCompile(`--([a-z-]+)`).FindAllStringSubmatch(step.Run, -1) {
			if loadSuiteCommand().Flags().Lookup(flag[1]) == nil {
				t.Errorf("load suite has no flag --%s", flag[1])
			}
		}
	}
	if called != 1 {
		t.Errorf("the suite is called %d times, want once", called)
	}
}

// A plan of a suite is compared with its run in an earlier suite's folder; a
// part that can't be compared keeps the suite from a pass.
func TestLoadSuiteCompares(t *testing.T) {
	t.Parallel()
	l := loadSuite{loadRun: loadRun{out: "../../baselines/gate"}, baselines: "../../baselines/gate", maxRatio: 3}
	for name, tt := range map[string]struct{ out, part, want string }{
		"a run with itself":   {l.out, "onboarding", "both are the same run"},
		"unlike plans":        {"../../docs/reports/suite-sqlite", "onboarding", "can't be compared: the plans are unlike"},
		"no run of that name": {l.out, "nothing", "can't be compared"},
	} {
		l := l
		l.out = tt.out
		p := &suite.Part{Name: tt.part, Ran: true}
		if l.compare(p); p.Comparison == nil || p.Comparison.Gate.Verdict == gate.Pass || !strings.Contains(strings.Join(p.Comparison.Gate.Reasons, "\n"), tt.want) {
			t.Errorf("%s: %+v, want no pass, and %q", name, p.Comparison, tt.want)
		}
	}
	limits := &suite.Part{Name: suite.Verify, Ran: true}
	if l.compare(limits); limits.Comparison != nil {
		t.Error("limits were compared")
	}
}
