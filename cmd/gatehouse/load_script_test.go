package main

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse/internal/load/report"
	"gatehouse/plans"
)

// briefly is a plan inside with its smoke profile's twenty seconds cut to three,
// and gates that a generator and a target on a busy machine meet.
func briefly(t *testing.T, name string) string {
	t.Helper()
	text, ok := plans.Named(name)
	if !ok {
		t.Fatalf("there is no plan %s", name)
	}
	short := regexp.MustCompile(`\{duration: 1ms, rate: \d+\}\n +- \{duration: 20s, rate: \d+\}`).ReplaceAll(text, []byte("{duration: 1ms, rate: 80}\n      - {duration: 3s, rate: 80}"))
	return regexp.MustCompile(`p95 < \S+`).ReplaceAllString(string(short), "p95 < 59m")
}

// scripted are what a node and a run need to know of each other.
type scripted struct{ provider, secret string }

func newScripted(t *testing.T) scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return scripted{l.Addr().String(), "GATEHOUSE_STRIPE_WEBHOOK_SECRETS=whsec_scripted"}
}

func (s scripted) node(t *testing.T) *node {
	t.Helper()
	return startNodeWith(t, []string{s.secret, "GATEHOUSE_OLLAMA_BASE_URL=http://" + s.provider}, newDatabase(t))
}

func (s scripted) load(t *testing.T, target, plan string, args ...string) *aLoad {
	t.Helper()
	l := newLoad(t, target, briefly(t, plan), append([]string{"--profile", "smoke", "--seed", "1", "--provider-listen", s.provider}, args...)...)
	l.cmd.Env = append(l.cmd.Env, s.secret)
	return l
}

// TestLoadRunsWithAScript runs each plan against a node of its own, and then
// holds what the node has against what the run says was acknowledged.
func TestLoadRunsWithAScript(t *testing.T) {
	t.Parallel()
	for _, plan := range []string{"credentials", "webhooks", "mixed"} {
		t.Run(plan, func(t *testing.T) {
			s := newScripted(t)
			n := s.node(t)
			l := s.load(t, n.url, plan, "--target-admin", n.adminURL)
			o := finish(t, l.cmd)
			if sum := l.summary(); o.code != exitOK || sum.Verdict != "pass" {
				t.Fatalf("exit code %d, verdict %s, reasons %q\n%s%s", o.code, sum.Verdict, sum.Reasons, o.stdout, o.stderr)
			}
			n.drain()
			compareWrites(t, l, n)
		})
	}
}

// compareWrites looks for what was acknowledged, and for what was not, in the
// node's database.
func compareWrites(t *testing.T, l *aLoad, n *node) {
	t.Helper()
	f, err := os.Open(filepath.Join(l.out, report.WritesFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	writes, err := report.ReadWrites(f)
	if err != nil {
		t.Fatal(err)
	}
	db := openSQL(t, n.database)
	for _, kind := range []struct {
		requests []string
		there    string // what the database has of it
	}{
		{[]string{"POST /api/v1/customers/onboard"}, "SELECT substr(email, 6, 36) FROM customers"}, // load-UUID@
		{[]string{"POST /api/v1/credentials/exchange", "POST /api/v1/credentials/refresh"}, "SELECT id FROM credentials"},
		{[]string{"DELETE /api/v1/credentials/{}"}, "SELECT credential_id FROM audit WHERE outcome = 'deleted'"},
		{[]string{"POST /api/webhooks/stripe"}, "SELECT id FROM stripe_events"},
	} {
		acknowledged := make(map[string]bool)
		for _, w := range writes {
			if slices.Contains(kind.requests, w.Request) {
				if !w.Acknowledged() {
					t.Errorf("%+v was not acknowledged, by a node that ran all the while", w)
				}
				acknowledged[w.ID] = true
			}
		}
		there, err := column(db, kind.there)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range there {
			if !acknowledged[id] {
				t.Errorf("%s: the node has %s, which nobody was told of", kind.requests, id)
			}
			delete(acknowledged, id)
		}
		for id := range acknowledged {
			t.Errorf("%s: %s was acknowledged, and is not there", kind.requests, id)
		}
	}
}

// TestLoadRunInterruptedAsItCompares: the load is over, and its target hangs as
// it is asked what came of it. Ctrl-C ends that too, with reports.
func TestLoadRunInterruptedAsItCompares(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	n := s.node(t)
	u, err := url.Parse(n.url)
	if err != nil {
		t.Fatal(err)
	}
	asked, ever := make(chan struct{}), make(chan struct{})
	var once sync.Once
	pass := httputil.NewSingleHostReverseProxy(u)
	target := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/ledger") {
			once.Do(func() { close(asked) })
			<-ever
			return
		}
		pass.ServeHTTP(w, r)
	}))
	defer target.Close()
	defer close(ever)
	l := s.load(t, target.URL, "webhooks")
	var stderr strings.Builder
	l.cmd.Stderr = &stderr
	exited := begin(t, l.cmd)
	select {
	case <-asked:
	case <-exited:
		t.Fatalf("it ended before it compared: %s", stderr.String())
	case <-time.After(patience):
		t.Fatal("it never compared anything")
	}
	_ = l.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-exited:
	case <-time.After(patience):
		t.Fatal("it did not end")
	}
	if code := l.cmd.ProcessState.ExitCode(); code != exitInterrupted {
		t.Errorf("exit code %d, want %d: %s", code, exitInterrupted, stderr.String())
	}
	if sum := l.summary(); !sum.Interrupted || sum.Verdict != "inconclusive" || !strings.Contains(fmt.Sprint(sum.Reasons), "interrupted before all of it was compared") {
		t.Errorf("%+v; want it told that it was interrupted", sum)
	}
}
