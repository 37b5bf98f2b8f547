package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

// loadPlan is a plan of 300 requests in a second and a half. Its gate allows
// the generator to be late by minutes: tests share their machine.
const loadPlan = `name: short
stages: [{duration: 1ms, rate: 200}, {duration: 1500ms, rate: 200}]
requests:
  - name: onboard
    method: POST
    path: /api/v1/customers/onboard
    headers: {Content-Type: application/json}
    body: '{"name": "Load {{seq}}", "email": "load-{{uuid}}@{{domain}}"}'
    clients: {count: 100, via: source}
timeout: 60s
outcomes:
  created: {status: 201, kind: success}
  limited: {status: 429, kind: expected}
gates:
  - created.latency.p95 < 59m
  - failure.share_excl_expected < 0.10
`

// aLoad is a load run, not yet started.
type aLoad struct {
	t   *testing.T
	cmd *exec.Cmd
	out string // folder of its reports
}

// newLoad is a run of a plan's text against a target.
func newLoad(t *testing.T, target, text string, args ...string) *aLoad {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "plan.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &aLoad{t: t, out: filepath.Join(dir, "out")}
	run := []string{"load", "run", file, "--target", target}
	if !slices.Contains(args, "--target-admin") {
		run = append(run, "--target-admin", "none")
	}
	l.cmd = gatehouse(t, append(append(run, "--out", l.out), args...)...)
	return l
}

// loadSummary is what the tests read of summary.json.
type loadSummary struct {
	Interrupted bool     `json:"interrupted"`
	Verdict     string   `json:"verdict"`
	Reasons     []string `json:"reasons"`
	Requests    struct {
		Scheduled int `json:"scheduled"`
		Sent      int `json:"sent"`
		Answered  int `json:"answered"`
		Unsent    int `json:"unsent"`
		Errors    int `json:"errors"`
	} `json:"requests"`
	Outcomes map[string]struct {
		Count   int                 `json:"count"`
		Latency map[string]*float64 `json:"latency_ms"`
	} `json:"outcomes"`
}

// summary reads the run's, and checks that no report is missing.
func (l *aLoad) summary() (s loadSummary) {
	l.t.Helper()
	for _, name := range []string{"report.md", "report.html", "junit.xml", "samples.csv"} {
		if info, err := os.Stat(filepath.Join(l.out, name)); err != nil || info.Size() == 0 {
			l.t.Errorf("%s: %v; want it written", name, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(l.out, "summary.json"))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	r := s.Requests
	if r.Scheduled != r.Sent+r.Unsent || r.Sent != r.Answered+r.Errors {
		l.t.Errorf("the counts don't add up: %+v", r)
	}
	return s
}

// pages are what people read of the run.
func (l *aLoad) pages() (all string) {
	l.t.Helper()
	for _, name := range []string{"report.md", "report.html", "junit.xml"} {
		text, err := os.ReadFile(filepath.Join(l.out, name))
		if err != nil {
			l.t.Fatal(err)
		}
		all += string(text)
	}
	return all
}

// rendersAgain checks that load report writes the same pages.
func (l *aLoad) rendersAgain() {
	l.t.Helper()
	before := l.pages()
	if err := os.Remove(filepath.Join(l.out, "report.html")); err != nil {
		l.t.Fatal(err)
	}
	if o := finish(l.t, gatehouse(l.t, "load", "report", l.out)); o.code != exitOK || l.pages() != before {
		l.t.Errorf("exit code %d, %s; want it rendered again as it was", o.code, o.stderr)
	}
}

// answering is a target that always answers alike.
func answering(t *testing.T, status int, served *atomic.Int64) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			http.NotFound(w, r) // it is asked for its health
			return
		}
		served.Add(1)
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestLoadRunVerdicts(t *testing.T) {
	t.Parallel()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	var served atomic.Int64
	for _, tt := range []struct {
		name, target  string
		code          int
		verdict, word string
	}{
		{"all succeed", answering(t, 201, &served), exitOK, "pass", ""},
		{"all are refused", answering(t, 429, new(atomic.Int64)), exitUnknown, "inconclusive", "too few successes"},
		{"all fail", answering(t, 500, new(atomic.Int64)), exitFailed, "fail", "failure"},
		{"nobody listens", closed.URL, exitFailed, "fail", "failure"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLoad(t, tt.target, loadPlan)
			o := finish(t, l.cmd)
			s := l.summary()
			if o.code != tt.code || s.Verdict != tt.verdict || !strings.Contains(strings.Join(s.Reasons, "\n"), tt.word) {
				t.Fatalf("exit code %d, verdict %s, reasons %q; want %d, %s and %q\n%s%s", o.code, s.Verdict, s.Reasons, tt.code, tt.verdict, tt.word, o.stdout, o.stderr)
			}
			if s.Requests.Scheduled != 300 || s.Requests.Sent != 300 {
				t.Errorf("%+v; want 300 sent", s.Requests)
			}
			if !strings.HasPrefix(o.stdout, strings.ToUpper(tt.verdict)) {
				t.Errorf("it printed %q, want the verdict first", o.stdout)
			}
			l.rendersAgain()
		})
	}
	if served.Load() != 300 {
		t.Errorf("the target served %d, want 300", served.Load())
	}
}

// What the run counts is what the server has: no more sign-ups and no fewer.
func TestLoadRunCountsWhatTheServerDid(t *testing.T) {
	t.Parallel()
	n := startNode(t, newDatabase(t))
	l := newLoad(t, n.url, strings.Replace(loadPlan, "count: 100", "count: 20", 1), "--target-admin", n.adminURL, "--target-pid", strconv.Itoa(n.cmd.Process.Pid))
	o := finish(t, l.cmd)
	s := l.summary()
	created, limited := s.Outcomes["201"].Count, s.Outcomes["429"].Count
	if o.code != exitOK || created != 200 || limited != 100 { // 15 each of 20 addresses, 10 let in
		t.Fatalf("exit code %d, %d created and %d limited; want 0, 200 and 100\n%s%s", o.code, created, limited, o.stdout, o.stderr)
	}
	page, err := os.ReadFile(filepath.Join(l.out, "report.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"synchronous: full", "10/60s", "the target stayed up", "What the target used, from its metrics, pid.", "| before | – | "} {
		if !strings.Contains(string(page), want) {
			t.Errorf("report.md lacks %q", want)
		}
	}
	purged := finish(t, gatehouse(t, "admin", "customers", "purge", "--domain", loopbackDomain, "--json", "--database=sqlite:"+n.database))
	if purged.code != exitOK || !strings.Contains(purged.stdout, `"removed": 200`) {
		t.Errorf("purge: exit code %d, %s%s; want 200 removed", purged.code, purged.stdout, purged.stderr)
	}
	n.drain()
}

// The first Ctrl-C ends a run with reports, the second at once.
func TestLoadRunInterrupted(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		signals int
	}{{"once", 1}, {"twice", 2}} {
		t.Run(tt.name, func(t *testing.T) {
			begun := make(chan struct{}, 1)
			hold := make(chan struct{})
			target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					select {
					case begun <- struct{}{}:
					default:
					}
					<-hold // never answered: it must not wait for that
				}
			}))
			defer target.Close()
			defer close(hold)
			l := newLoad(t, target.URL, strings.Replace(loadPlan, "1500ms", "10m", 1))
			var stderr strings.Builder
			l.cmd.Stderr = &stderr
			if err := l.cmd.Start(); err != nil {
				t.Fatal(err)
			}
			exited := make(chan struct{})
			go func() { _ = l.cmd.Wait(); close(exited) }()
			<-begun
			for range tt.signals {
				_ = l.cmd.Process.Signal(syscall.SIGINT)
				if tt.signals == 2 { // two signals that are pending together are one
					stillThere(t, l.cmd, exited)
				}
			}
			select {
			case <-exited:
			case <-time.After(patience):
				t.Fatal("it did not end")
			}
			if code := l.cmd.ProcessState.ExitCode(); code != exitInterrupted {
				t.Fatalf("exit code %d, want %d: %s", code, exitInterrupted, stderr.String())
			}
			if tt.signals == 2 {
				return
			}
			if s := l.summary(); !s.Interrupted || s.Verdict == "pass" || s.Requests.Sent == 0 || s.Outcomes["error:interrupted"].Count == 0 {
				t.Errorf("%+v; want an interrupted run with what was in flight", s)
			}
			l.rendersAgain()
		})
	}
}

// stillThere waits until the process has taken a signal in, or is gone.
func stillThere(t *testing.T, c *exec.Cmd, exited <-chan struct{}) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.Process.Pid))
		if err != nil || !strings.Contains(string(status), "ShdPnd:\t0000000000000002") {
			return
		}
		select {
		case <-exited:
			return
		case <-tick.C:
		}
	}
}

// stopFor keeps a process from running for a while: the while is the fault
// itself, and nothing waits for it.
func stopFor(p *os.Process, d time.Duration) {
	_ = p.Signal(syscall.SIGSTOP)
	<-time.After(d)
	_ = p.Signal(syscall.SIGCONT)
}

// A generator that could not run for a second voids the run, whatever the gates
// say; a target that could not fails it.
func TestLoadRunStalls(t *testing.T) {
	t.Parallel()
	needLinux(t)
	t.Run("generator", func(t *testing.T) {
		begun := make(chan struct{}, 1)
		target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				select {
				case begun <- struct{}{}:
				default:
				}
			}
			w.WriteHeader(http.StatusCreated)
		}))
		defer target.Close()
		tight := strings.Replace(loadPlan, "created.latency.p95 < 59m", "created.latency.p95 < 300ms", 1)
		l := newLoad(t, target.URL, strings.Replace(tight, "1500ms", "3s", 1))
		if err := l.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		<-begun
		stopFor(l.cmd.Process, time.Second)
		code := await(t, l.cmd)
		if s := l.summary(); code != exitUnknown || s.Verdict != "inconclusive" || !strings.Contains(s.Reasons[0], "generator") {
			t.Errorf("exit code %d, verdict %s, reasons %q; want 3 for the generator's sake", code, s.Verdict, s.Reasons)
		}
	})
	t.Run("target", func(t *testing.T) {
		n := startNode(t, newDatabase(t))
		brief := strings.Replace(loadPlan, "timeout: 60s", "timeout: 500ms", 1)
		l := newLoad(t, n.url, strings.Replace(brief, "1500ms", "3s", 1))
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			n.until("somebody has signed up", func() bool { return n.metrics().sum("gatehouse_sign_ups_total") > 10 })
			stopFor(n.cmd.Process, 2*time.Second)
		}()
		o := finish(t, l.cmd)
		<-stopped
		s := l.summary()
		late := s.Outcomes["error:timeout"]
		if p95 := late.Latency["p95"]; o.code != exitFailed || s.Verdict != "fail" || p95 == nil || *p95 < 500 {
			t.Errorf("exit code %d, verdict %s, %d late with p95 %v, reasons %q; want a fail that the percentiles show", o.code, s.Verdict, late.Count, p95, s.Reasons)
		}
		n.drain()
	})
}

// Reports that can't be written make the command fail, and the verdict is
// still told.
func TestLoadRunOnAFullDisk(t *testing.T) {
	t.Parallel()
	needLinux(t)
	var served atomic.Int64
	l := newLoad(t, answering(t, 201, &served), loadPlan)
	disk := t.TempDir()
	l.cmd.Args = append([]string{onSmallDisk, disk, strconv.Itoa(8 << 10)}, l.cmd.Args[1:]...)
	l.cmd.Args[len(l.cmd.Args)-1] = filepath.Join(disk, "out")
	ownMounts(l.cmd)
	if err := (&exec.Cmd{Path: self(t), Args: []string{"gatehouse", "version"}, SysProcAttr: l.cmd.SysProcAttr}).Run(); err != nil {
		t.Skipf("no file system can be mounted here (%v): run `sudo -E env PATH=\"$PATH\" go test ./cmd/gatehouse -run '^TestLoadRunOnAFullDisk$'`", err)
	}
	o := finish(t, l.cmd)
	if o.code != exitFailed || !strings.HasPrefix(o.stdout, "PASS") || !strings.Contains(o.stderr, "no space left on device") {
		t.Errorf("exit code %d, standard output %q, standard error %q; want 1, the verdict and why", o.code, o.stdout, o.stderr)
	}
	if served.Load() != 300 {
		t.Errorf("the target served %d, want the whole run", served.Load())
	}
}

// A run whose reader has left goes on and writes its reports.
func TestLoadRunWithoutAReader(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	l := newLoad(t, answering(t, 201, &served), loadPlan)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	l.cmd.Stdout, l.cmd.Stderr = w, w
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Closer(w).Close(), r.Close()
	hangs := time.AfterFunc(patience, func() { _ = l.cmd.Process.Kill() })
	defer hangs.Stop()
	_ = l.cmd.Wait() // its state says more
	if code := l.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	if s := l.summary(); s.Verdict != "pass" || served.Load() != 300 {
		t.Errorf("verdict %s, %d served; want pass and 300", s.Verdict, served.Load())
	}
}

// A reader that is there and reads nothing holds up neither the run nor its
// end: progress is lost.
func TestLoadRunWithAStuckReader(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	l := newLoad(t, answering(t, 201, &served), loadPlan)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	_ = w.SetWriteDeadline(time.Now().Add(time.Second)) // it fills the pipe, and would wait
	_, _ = w.Write(make([]byte, 1<<20))
	l.cmd.Stderr = w
	if err := l.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if code := await(t, l.cmd); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	if s := l.summary(); s.Verdict != "pass" || served.Load() != 300 {
		t.Errorf("verdict %s, %d served; want pass and 300", s.Verdict, served.Load())
	}
}

// await waits for the end of a command that was started.
func await(t *testing.T, c *exec.Cmd) int {
	t.Helper()
	hangs := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	_ = c.Wait() // its state says more
	if !hangs.Stop() {
		t.Fatal("it did not end")
	}
	return c.ProcessState.ExitCode()
}
