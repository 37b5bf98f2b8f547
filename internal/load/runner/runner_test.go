package runner

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/plan"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/script"
)

// options are of a run of a tenth of a second against a target.
func options(t *testing.T, target http.HandlerFunc) Options {
	t.Helper()
	s := httptest.NewServer(target)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Parse("p.yaml", []byte(`name: p
stages: [{duration: 1ms, rate: 500}, {duration: 100ms, rate: 500}]
requests: [{name: get, method: GET, path: /thing}]
gates: [all.latency.p50 < 59m]
`), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Plan: p, Targets: []*url.URL{u}, Loopback: true, Out: filepath.Join(t.TempDir(), "out"), Progress: io.Discard}
}

func TestRunWritesEverything(t *testing.T) {
	o := options(t, func(http.ResponseWriter, *http.Request) {})
	run, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if run.Verdict != gate.Pass || run.Result.Sent != 50 {
		t.Errorf("%s %v, %d sent; want a pass of 50", run.Verdict, run.Reasons, run.Result.Sent)
	}
	for _, name := range report.Files() {
		if info, err := os.Stat(filepath.Join(o.Out, name)); err != nil || info.Size() == 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Rendered again it is the same, to the byte.
	again, err := report.Open(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := report.Render(other, again, report.HTML); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"report.md", "report.html", "junit.xml"} {
		fresh, err := os.ReadFile(filepath.Join(o.Out, name))
		anew, err2 := os.ReadFile(filepath.Join(other, name))
		if err := errors.Join(err, err2); err != nil || !bytes.Equal(fresh, anew) {
			t.Errorf("%s: %v; want the same again", name, err)
		}
	}
	// Again into the same folder: refused, and nothing of it touched.
	before, _ := os.ReadFile(filepath.Join(o.Out, "summary.json"))
	if run, err := Run(t.Context(), o); run != nil || err == nil || !strings.Contains(err.Error(), "earlier run") {
		t.Errorf("%v, %v; want it refused", run, err)
	}
	if after, err := os.ReadFile(filepath.Join(o.Out, "summary.json")); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the earlier summary was changed (%v)", err)
	}
}

// What the target uses is read where its admin listener is known to be its own,
// before the run and after it.
func TestRunWatchesTheTarget(t *testing.T) {
	began := time.Now()
	for _, tt := range []struct {
		name, node, source, why string
		metrics                 string
		stages                  []int
	}{
		{"its own", "a", "metrics", "", "go_goroutines 3\n", []int{-1, 2}},
		{"another node's", "b", "", "no admin listener is known to be the target's", "go_goroutines 3\n", []int{}},
		{"that tells nothing", "a", "metrics", "it was silent in 2 of 2 readings, the first 0s into the run: /metrics has nothing", "<html>", []int{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/health":
					fmt.Fprint(w, node("a", time.Since(began).Seconds()))
				case "/environment":
					fmt.Fprintf(w, `{"node": %q, "started_at": %q}`, tt.node, began.Format(time.RFC3339Nano))
				case "/metrics":
					fmt.Fprint(w, tt.metrics)
				}
			})
			o.Admins = []string{o.TargetText() + "/"}
			run, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			stages := []int{}
			for _, s := range run.Resources.Stages {
				stages = append(stages, s.Stage)
				if s.Goroutines == nil || s.Goroutines.Max != 3 {
					t.Errorf("%+v, want three goroutines", s)
				}
			}
			if u := run.Resources; u.Source != tt.source || !strings.HasPrefix(u.Why, tt.why) || (u.Why == "") != (tt.why == "") || !slices.Equal(stages, tt.stages) {
				t.Errorf("%+v; want it from %q, why %q, of the stages %v", u, tt.source, tt.why, tt.stages)
			}
		})
	}
}

// TestRunOfSeveralNodes: a restart of any of them fails the run, not only of the
// first.
func TestRunOfSeveralNodes(t *testing.T) {
	began := time.Now()
	health := func(name string, uptime func() float64) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, node(name, uptime())) }
	}
	steady := func() float64 { return 1000 + time.Since(began).Seconds() }
	for _, tt := range []struct {
		name    string
		second  float64 // its uptime when it is asked again; 0: as time passes
		verdict gate.Verdict
	}{{"both stay up", 0, gate.Pass}, {"the second is started anew", 0.001, gate.Fail}} {
		t.Run(tt.name, func(t *testing.T) {
			var asked atomic.Bool
			o, second := options(t, health("a", steady)), options(t, health("b", func() float64 {
				if asked.Swap(true) && tt.second != 0 {
					return tt.second
				}
				return steady()
			}))
			o.Targets = append(o.Targets, second.Targets...)
			run, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if run.Verdict != tt.verdict || len(run.Checks) != 4 || run.Checks[3].Verdict != gate.Pass || !strings.Contains(run.Checks[2].Name, second.Targets[0].String()) {
				t.Errorf("%s %q: %+v", run.Verdict, run.Reasons, run.Checks)
			}
		})
	}
}

// TestRunOfADeadNode: a node that answers nothing is named, whatever the others
// do and however lenient the plan is.
func TestRunOfADeadNode(t *testing.T) {
	o := options(t, http.NotFound)
	o.Plan.Outcomes = []load.Outcome{{Name: "fine", Status: http.StatusNotFound, Kind: load.Success}}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := ln.Addr().String()
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	o.Targets = append(o.Targets, &url.URL{Scheme: "http", Host: dead})
	run, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := "every target answered: no, " + dead + " answered none of 25 requests"
	if run.Verdict != gate.Inconclusive || !slices.Contains(run.Reasons, want) {
		t.Errorf("%s %q; want it inconclusive, since %q", run.Verdict, run.Reasons, want)
	}
	if s, err := report.Open(o.Out); err != nil || len(s.Targets) != 2 || s.Targets[1] != (report.Called{Address: dead, Sent: 25}) {
		t.Errorf("%+v, %v; want the dead one told", s, err)
	}
}

// TestRunWatchesAllNodes adds up what they use, where each is known by its own
// admin listener.
func TestRunWatchesAllNodes(t *testing.T) {
	began := time.Now()
	of := func(name string) Options {
		return options(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/health":
				fmt.Fprint(w, node(name, time.Since(began).Seconds()))
			case "/environment":
				fmt.Fprintf(w, `{"node": %q, "started_at": %q}`, name, began.Format(time.RFC3339Nano))
			case "/metrics":
				fmt.Fprint(w, "go_goroutines 3\n")
			}
		})
	}
	for _, tt := range []struct {
		name, source, why string
		admins            func(a, b string) []string
		most              float64
	}{
		{"both", "metrics of 2 nodes together", "", func(a, b string) []string { return []string{a, b} }, 6},
		{"the first's alone", "metrics", "of the first target alone", func(a, _ string) []string { return []string{a} }, 3},
		{"one listener twice", "metrics", "of the first target alone", func(a, _ string) []string { return []string{a, a} }, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, second := of("a"), of("b")
			o.Targets, o.Admins = append(o.Targets, second.Targets...), tt.admins(o.TargetText(), second.TargetText())
			run, err := Run(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			u := run.Resources
			if u.Source != tt.source || !strings.HasPrefix(u.Why, tt.why) || (u.Why == "") != (tt.why == "") || len(u.Stages) == 0 || u.Stages[0].Goroutines.Max != tt.most {
				t.Errorf("%+v", u)
			}
		})
	}
}

func TestRunThatCannotBegin(t *testing.T) {
	sent := make(chan struct{}, 100)
	o := options(t, func(http.ResponseWriter, *http.Request) { sent <- struct{}{} })
	if err := os.WriteFile(o.Out, nil, 0o600); err != nil { // a file where the folder should be
		t.Fatal(err)
	}
	if run, err := Run(t.Context(), o); run != nil || err == nil {
		t.Errorf("%v, %v; want it refused", run, err)
	}
	if len(sent) > 0 {
		t.Error("and yet something was sent")
	}
}

// Who was signed up before a run that could not be prepared is told of all the
// same; where nobody was, nothing stays.
func TestRunThatCannotBePrepared(t *testing.T) {
	for _, tt := range []struct {
		name  string
		code  int // of a sign-up
		files []string
	}{{"after a sign-up", http.StatusCreated, []string{"writes.csv"}}, {"before any", http.StatusForbidden, nil}} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(map[bool]int{true: tt.code, false: http.StatusForbidden}[strings.HasSuffix(r.URL.Path, "/onboard")])
				fmt.Fprint(w, `{"customer": {"id": "c"}, "api_key": "k"}`)
			})
			o.Script = &script.Options{Target: o.Targets[0], Plan: o.Plan, Loopback: true, Domain: "load.example"}
			run, err := Run(t.Context(), o)
			if _, ok := errors.AsType[NotPreparedError](err); !ok || run != nil {
				t.Fatalf("%v, %v; want it not prepared", run, err)
			}
			var files []string
			entries, err := os.ReadDir(o.Out)
			for _, e := range entries {
				files = append(files, e.Name())
			}
			if err != nil || !slices.Equal(files, tt.files) {
				t.Fatalf("%v, %v; want %v", files, err, tt.files)
			}
			if w, err := report.OpenWrites(o.Out); tt.files != nil && (err != nil || len(w.Rows) != 1 || w.Rows[0].Status != http.StatusCreated) {
				t.Errorf("%v, %v; want the sign-up", w, err)
			}
		})
	}
}

func TestNotes(t *testing.T) {
	run := &report.Run{Result: &load.Result{Samples: []*load.Sample{
		{LagMax: time.Millisecond}, {LagMax: 1200 * time.Millisecond}, {LagMax: 60 * time.Millisecond},
	}}}
	uptime := 1.0
	known := look{alive: true, health: health{Uptime: &uptime}}
	got := strings.Join(notes(run, known), "\n")
	if !strings.Contains(got, "In 2 of 3 seconds") || !strings.Contains(got, "1.2s at the worst") {
		t.Errorf("%s; want the late seconds told", got)
	}
	run.Result.Samples = nil
	if got := notes(run, known); len(got) > 0 {
		t.Errorf("%q; want nothing to note", got)
	}
}

func TestProgress(t *testing.T) {
	p, err := plan.Parse("p.yaml", []byte("name: p\nstages: [{duration: 1m, rate: 20}]\nrequests: [{name: a, method: GET, path: /}]\n"), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	tell := func(terminal bool) string {
		var out bytes.Buffer
		told := newProgress(&out, terminal, p)
		for second := range 20 {
			told.second(&load.Sample{Second: second, Rate: 20, Sent: 20, Windows: []load.Window{
				{Request: "a", Key: "200", Kind: load.Success, Count: 20, P95: 3 * time.Millisecond},
				{Key: "200", Kind: load.Success, Count: 20, P95: 3 * time.Millisecond},
			}})
		}
		told.end()
		return out.String()
	}
	lines := strings.Split(strings.TrimSuffix(tell(false), "\n"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[1], "0:20/1:00 stage 1/1 20.0/s planned, 20/s sent | 400 ok (p95 3.00 ms), 0 expected, 0 failed") {
		t.Errorf("%q; want a line each ten seconds", lines)
	}
	if got := tell(true); strings.Count(got, "\r") != 20 || strings.Count(got, "\n") != 1 {
		t.Errorf("%q; want one line, written over each second", got)
	}
}
