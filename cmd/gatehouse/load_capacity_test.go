package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// found is what the tests read of a search's summary.json.
type found struct {
	Interrupted bool `json:"interrupted"`
	Answer      struct {
		Verdict string  `json:"verdict"`
		Holds   float64 `json:"holds_rps"`
		Below   float64 `json:"below_rps"`
	} `json:"answer"`
	Probes []struct {
		Rate    float64 `json:"rate"`
		Verdict string  `json:"verdict"`
	} `json:"probes"`
}

// byProbe is a target that takes all requests of a probe, or, where its number
// is among those that fail, none. It knows probes apart by the questions for its
// health between them. What it is told of each is sent to begun.
func byProbe(t *testing.T, begun func(probe int), fail ...int32) string {
	t.Helper()
	var probe atomic.Int32
	var between atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			between.Store(true)
			http.NotFound(w, r)
			return
		}
		if between.CompareAndSwap(true, false) {
			probe.Add(1)
			begun(int(probe.Load()))
		}
		status := http.StatusCreated
		for _, n := range fail {
			if probe.Load() == n {
				status = http.StatusServiceUnavailable
			}
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// capacityArgs are of a search in probes of a second.
func capacityArgs(t *testing.T, target string, args ...string) (line []string, out string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "plan.yaml")
	if err := os.WriteFile(file, []byte(loadPlan+"  - created.count > 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out = filepath.Join(dir, "out")
	return append([]string{"load", "capacity", file, "--target", target, "--target-admin", "none", "--out", out, "--probe", "1s"}, args...), out
}

func readFound(t *testing.T, out string) (f found) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(out, "summary.json"))
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestLoadCapacity(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		fail    []int32
		args    []string
		code    int
		verdict string
		rates   []float64
		printed string
	}{
		{
			"found", []int32{2}, []string{"--from", "100", "--precision", "50%"}, exitOK, "held", []float64{100, 200, 141, 141, 141, 141},
			"holds 141/s (the most lies between 141/s and 200/s); misses 200/s: failure share without expected is 100 %",
		},
		{"not even the first", []int32{1}, nil, exitFailed, "missed", []float64{20}, "does not hold 20/s, the lowest rate tried"},
		{"too few", nil, []string{"--from", "1", "--max", "1"}, exitUnknown, "inconclusive", []float64{1, 1, 1, 1}, "inconclusive: too few successes"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			args, out := capacityArgs(t, byProbe(t, func(int) {}, tt.fail...), tt.args...)
			o := finish(t, gatehouse(t, args...))
			f := readFound(t, out)
			if o.code != tt.code || f.Answer.Verdict != tt.verdict || len(f.Probes) != len(tt.rates) {
				t.Fatalf("exit code %d, %+v; want %d, %s and the rates %v\n%s%s", o.code, f, tt.code, tt.verdict, tt.rates, o.stdout, o.stderr)
			}
			for i, p := range f.Probes {
				if p.Rate != tt.rates[i] {
					t.Errorf("%+v; want the rates %v", f.Probes, tt.rates)
				}
			}
			if !strings.HasPrefix(o.stdout, tt.printed) || !strings.Contains(o.stderr, "created.count > 1 was left out") || strings.Count(o.stderr, "/s for ") != len(tt.rates) {
				t.Errorf("it printed\n%s%s; want %q, the gate left out and a line a probe", o.stdout, o.stderr, tt.printed)
			}
			if page, err := os.ReadFile(filepath.Join(out, "report.md")); err != nil || !strings.Contains(string(page), "## Probes") {
				t.Errorf("report.md: %v\n%s", err, page)
			}
		})
	}
}

// Ctrl-C ends a search with reports of what was tried.
func TestLoadCapacityInterrupted(t *testing.T) {
	t.Parallel()
	second := make(chan struct{})
	target := byProbe(t, func(probe int) {
		if probe == 2 {
			close(second)
		}
	})
	args, out := capacityArgs(t, target, "--json", "--from", "100")
	c := gatehouse(t, args...)
	var stdout strings.Builder
	c.Stdout = &stdout
	ended := begin(t, c)
	<-second
	_ = c.Process.Signal(os.Interrupt)
	select {
	case <-ended:
	case <-time.After(patience):
		t.Fatal("it did not end")
	}
	f := readFound(t, out)
	if code := c.ProcessState.ExitCode(); code != exitInterrupted || !f.Interrupted || len(f.Probes) != 1 || f.Answer.Holds != 100 || !strings.HasPrefix(stdout.String(), "{") {
		t.Errorf("exit code %d, %+v, %s; want 130, one probe that held, as JSON", code, f, stdout.String())
	}
}

func TestLoadCapacityRefuses(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	target := answering(t, http.StatusCreated, &asked)
	for _, tt := range []struct{ flag, value, want string }{
		{"--precision", "0", `--precision "0": want 1% to 50%`},
		{"--precision", "five", `--precision "five"`},
		{"--from", "0.5", "--from 0.5: want 1 to --max, 20000"},
		{"--from", "30000", "--from 30000: want 1 to --max, 20000"},
		{"--max", "NaN", "--max NaN: want 1 to"},
		{"--probe", "10ms", "--probe 10ms: want 1s to 10m"},
		{"--target", "http://192.0.2.1", "some targets are on this machine and some are not"},
	} {
		args, out := capacityArgs(t, target, tt.flag, tt.value)
		o := finish(t, gatehouse(t, args...))
		if _, err := os.Stat(out); o.code != exitUsage || !strings.Contains(o.stderr, tt.want) || err == nil {
			t.Errorf("%s %s: exit code %d, %s; want 2 and %q, and no folder", tt.flag, tt.value, o.code, o.stderr, tt.want)
		}
	}
	if asked.Load() > 0 {
		t.Error("something was sent")
	}
}
