package script

import (
	"context"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/plan"
	"gatehouse/plans"
)

func newTurn() *turn {
	return &turn{Arrival: &load.Arrival{Values: make([]string, len(Places()))}}
}

// rig is one of the plans inside, to be run against a target in a fifth of a second.
type rig struct {
	t *testing.T
	*target
	options Options
	waits   waits
	prepare func(*Script) // before the run

	script *Script
	result *load.Result

	writing sync.Mutex
	wrote   map[string]int // by id, and who acknowledged
}

func newRig(t *testing.T, name string) *rig {
	t.Helper()
	r := &rig{t: t, target: newTarget(t), wrote: make(map[string]int)}
	text, ok := plans.Named(name)
	if !ok {
		t.Fatalf("there is no plan %s", name)
	}
	p, err := plan.Parse(name, text, plan.Options{Domain: "load.example", Via: load.ViaForwarded, Given: Places()})
	if err != nil {
		t.Fatal(err)
	}
	p.Stages = []load.Stage{{Duration: time.Millisecond, Rate: 2000}, {Duration: 200 * time.Millisecond, Rate: 2000}}
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	provider := freeAddress(t)
	r.provider = "http://" + provider
	r.options = Options{
		Target: u, Plan: p, Loopback: true, Domain: "load.example", Secret: secret, Provider: provider, Progress: io.Discard,
		Wrote: func(a *load.Arrival, method, path string, status int) {
			r.writing.Lock()
			defer r.writing.Unlock()
			if status >= 200 && status < 300 {
				r.wrote[method+" "+path+" "+a.ID]++
			}
		},
	}
	r.waits = waits{dead: time.Nanosecond, again: time.Millisecond, applying: 50 * time.Millisecond, settling: time.Minute, answers: time.Minute, second: time.Millisecond}
	return r
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// play prepares and runs the plan.
func (r *rig) play(ctx context.Context) error {
	r.t.Helper()
	if err := r.options.Check(); err != nil {
		return err
	}
	s, err := Prepare(ctx, r.options)
	if err != nil {
		return err
	}
	r.t.Cleanup(s.Close)
	r.script, s.waits = s, r.waits
	if r.prepare != nil {
		r.prepare(s)
	}
	p := r.options.Plan
	r.result, err = load.Run(ctx, &load.Job{
		Targets: []*url.URL{r.options.Target}, Stages: p.Stages, Requests: p.Requests, Outcomes: p.Outcomes, MaxInFlight: 64, Timeout: time.Minute, Seed: 1, Script: s,
	})
	return err
}

// checks plays the plan, and returns what is asked of it afterwards by name.
func (r *rig) checks() map[string]gate.Check {
	r.t.Helper()
	if err := r.play(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	all := make(map[string]gate.Check)
	for _, c := range r.script.Checks(r.t.Context(), false) {
		if c.Unit != gate.Truth || (c.Verdict == gate.Inconclusive) != (c.Observed == nil) || (c.Verdict == gate.Pass) != (c.Why == "") {
			r.t.Errorf("the check %+v is not of a truth", c)
		}
		all[c.Name] = c
	}
	return all
}

// counts are what requests came to: "exchange/granted", by the plan's names.
func (r *rig) counts() map[string]int64 {
	all := make(map[string]int64)
	for _, s := range r.result.Series {
		all[s.Request+"/"+s.Name] += s.Count()
	}
	return all
}

func (r *rig) notes() string { return strings.Join(r.script.Notes(), "\n") }
