package runner

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/load/gate"
)

// told is a target that answers /health and /environment with these texts,
// the last for ever.
func told(t *testing.T, health []string, environment string) (target *url.URL, admin string) {
	t.Helper()
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
			fmt.Fprint(w, health[min(int(asked.Add(1)), len(health))-1])
		case "/environment":
			fmt.Fprint(w, environment)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	target, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return target, s.URL
}

func node(name string, uptime float64) string {
	return fmt.Sprintf(`{"status": "ok", "version": "v1", "mode": "live", "node": %q, "uptime_seconds": %v,
		"clustering": {"node_count": 2}, "database": {"driver": "sqlite"}}`, name, uptime)
}

func TestStayedUp(t *testing.T) {
	for _, tt := range []struct {
		name    string
		health  []string // the first is from before the run of a minute
		asked   bool
		verdict gate.Verdict
		why     string
	}{
		{"the same process", []string{node("a", 5), node("a", 65)}, true, gate.Pass, ""},
		{"uptimes are rounded", []string{node("a", 5.9), node("a", 65)}, true, gate.Pass, ""},
		{"restarted during the run", []string{node("a", 500), node("a", 20)}, true, gate.Fail, "started anew 20 s before"},
		{"young, and restarted", []string{node("a", 0), node("a", 20)}, true, gate.Fail, "started anew"},
		{"young, and restarted early", []string{node("a", 1), node("a", 50)}, true, gate.Fail, "started anew"},
		{"another node answers first", []string{node("a", 5), node("b", 9), node("b", 9), node("a", 65)}, true, gate.Pass, ""},
		{"only another node answers", []string{node("a", 5), node("b", 900)}, true, gate.Inconclusive, "the node a did not answer"},
		{"it answers with a page", []string{node("a", 5), "<html>"}, true, gate.Fail, "did not answer"},
		{"it has no uptime", []string{`{"status": "ok"}`}, false, "", ""},
		{"it has no health", []string{"<html>"}, false, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target, _ := told(t, tt.health, "")
			p := newProbe(target, "")
			before := p.look(t.Context())
			after := p.lookAgain(t.Context(), before)
			after.at = before.at.Add(time.Minute)
			c, ok := stayedUp(before, after, false)
			if ok != tt.asked || c.Verdict != tt.verdict || !strings.Contains(c.Why, tt.why) {
				t.Errorf("%+v, %v; want %s because of %q, %v", c, ok, tt.verdict, tt.why, tt.asked)
			}
		})
	}
}

func TestStayedUpWhenTheTargetIsGone(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	target, err := url.Parse(gone.URL)
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	uptime := 5.0
	before := look{alive: true, health: health{Node: "a", Uptime: &uptime}}
	p := newProbe(target, "")
	if c, ok := stayedUp(before, p.lookAgain(t.Context(), before), false); !ok || c.Verdict != gate.Fail {
		t.Errorf("%+v, %v; want a fail", c, ok)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if c, ok := stayedUp(before, p.lookAgain(over, before), true); !ok || c.Verdict != gate.Inconclusive {
		t.Errorf("interrupted: %+v, %v; want it left open", c, ok)
	}
}

func TestEnvironmentIsOfTheNodeThatIsLoaded(t *testing.T) {
	startedAt := func(ago time.Duration) string {
		return fmt.Sprintf(`{"node": "a", "version": "v1", "started_at": %q, "cpu": "Fast", "cores": 4, "nodes": 1,
			"database": {"driver": "sqlite", "settings": {"synchronous": "full"}}, "limits": {"onboarding": "10/60s"}}`,
			time.Now().Add(-ago).Format(time.RFC3339Nano))
	}
	environment := startedAt(time.Second)
	for _, tt := range []struct{ name, health, environment, source, err string }{
		{"both listeners are one node's", node("a", 1), environment, "admin listener", ""},
		{"they are two nodes'", node("b", 1), environment, "health", "another node"},
		{"they are two nodes' of one name", node("a", 1), startedAt(time.Hour), "health", "another node"},
		{"neither has a name", `{"uptime_seconds": 1}`, "{}", "health", "another node"},
		{"the admin listener is something else", node("a", 1), "<html>", "health", "not as expected"},
		{"neither says anything", "<html>", environment, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			target, admin := told(t, []string{tt.health}, tt.environment)
			before := newProbe(target, admin).look(t.Context())
			got := before.environment(true, []string{`"onboarding";q=10;w=60`})
			if got.Source != tt.source || !got.SameMachine || len(got.Policies) != 1 {
				t.Errorf("%+v; want it from %q", got, tt.source)
			}
			if (before.adminErr == nil) != (tt.err == "") || tt.err != "" && !strings.Contains(before.adminErr.Error(), tt.err) {
				t.Errorf("%v; want %q", before.adminErr, tt.err)
			}
			if tt.source == "admin listener" && (got.Facts == nil || got.CPU != "Fast" || got.Database.Settings["synchronous"] != "full" || got.Limits["onboarding"] != "10/60s") {
				t.Errorf("%+v; want all that it said", got)
			}
		})
	}
}

func TestStayedUpIsOpenWhenItCouldNotBeTold(t *testing.T) {
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer down.Close()
	target, err := url.Parse(down.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := newProbe(target, "")
	before := p.look(t.Context())
	if c, ok := stayedUp(before, p.lookAgain(t.Context(), before), false); !ok || c.Verdict != gate.Inconclusive {
		t.Errorf("%+v, %v; want it left open, since the target has a health and is not well", c, ok)
	}
}

func TestWhatATargetSaysIsClean(t *testing.T) {
	target, _ := told(t, []string{`{"status": "\u001b[2Jok\nPASS", "node": "` + strings.Repeat("n", 1000) + `", "uptime_seconds": 1}`}, "")
	l := newProbe(target, "").look(t.Context())
	if l.health.Status != "\uFFFD[2Jok PASS" || len(l.health.Node) != 64 {
		t.Errorf("%q, %d bytes of node; want nothing that steers a terminal, and little", l.health.Status, len(l.health.Node))
	}
}
