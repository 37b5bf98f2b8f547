package script

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// TestWithoutAProvider drops the use of tokens, and says so.
func TestWithoutAProvider(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		edit func(*rig)
		note string
	}{
		{"another behind the gateway", func(r *rig) { r.provider = "http://" + freeAddress(r.t) }, "GATEHOUSE_OLLAMA_BASE_URL is to be http://127.0.0.1:"},
		{"none asked for", func(r *rig) { r.options.Provider = "" }, "No stand-in for a provider was asked for"},
		{"its address is taken", func(r *rig) { r.options.Provider = strings.TrimPrefix(r.URL, "http://") }, "could listen (--provider-listen): listen tcp"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "credentials")
			tt.edit(r)
			checks := r.checks()
			c := checks["the gateway"]
			if c.Verdict != gate.Inconclusive || !strings.Contains(c.Why, tt.note) || !strings.Contains(r.notes(), tt.note) {
				t.Errorf("%+v, notes %q; want %q", c, r.notes(), tt.note)
			}
			delete(checks, "the gateway")
			for name, c := range checks {
				if c.Verdict != gate.Pass {
					t.Errorf("%s: %s, %s", name, c.Verdict, c.Why)
				}
			}
			if counts := r.counts(); len(counts) != 4 || counts["revoke/gone"] == 0 {
				t.Errorf("it sent %v, want all but the use of tokens", counts)
			}
			verdict, reasons := gate.Judge(r.result, nil, []gate.Check{c})
			if verdict != gate.Inconclusive {
				t.Errorf("%s, %v", verdict, reasons)
			}
		})
	}
}

// TestWithoutTheGateway has a plan that never meant to use a token: nothing is
// missing then.
func TestWithoutTheGateway(t *testing.T) {
	t.Parallel()
	r := newRig(t, "credentials")
	r.provider = "http://" + freeAddress(t)
	p := r.options.Plan
	p.Requests = slices.DeleteFunc(p.Requests, func(q load.Request) bool { return strings.HasPrefix(q.Name, "use") })
	checks := r.checks()
	for name, c := range checks {
		if c.Verdict != gate.Pass {
			t.Errorf("%s: %s, %s", name, c.Verdict, c.Why)
		}
	}
	if len(checks) != 2 {
		t.Errorf("%d checks, want those of lists and of what is forbidden", len(checks))
	}
}

// TestNothingIsLimited has a target whose policies are off: one customer would
// do, but for its list.
func TestNothingIsLimited(t *testing.T) {
	t.Parallel()
	r := newRig(t, "credentials")
	r.unlimited = true
	for name, c := range r.checks() {
		if c.Verdict != gate.Pass {
			t.Errorf("%s: %s, %s", name, c.Verdict, c.Why)
		}
	}
	if n := len(r.script.customers); n != 1 {
		t.Errorf("%d customers, want 1", n)
	}
	r.options.Plan.Stages = []load.Stage{{Duration: 1000 * time.Second, Rate: 100}} // 50,000, of which 70 in 100 are exchanges
	if n, why := r.script.need(limit{}, limit{}); n != 7 || !strings.Contains(why, "is not read") {
		t.Errorf("%d customers, since %s; want 7", n, why)
	}
}

func TestOthersUseTheLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, "credentials")
	r.usedByOthers = true
	r.checks()
	for _, want := range []string{"Of 60 exchanges of a key's customer in 1m0s 3 had been used before the run", "were limited (429)"} {
		if !strings.Contains(r.notes(), want) {
			t.Errorf("the notes are %q; want %q", r.notes(), want)
		}
	}
}

// TestKeysFile uses customers that are there.
func TestKeysFile(t *testing.T) {
	t.Parallel()
	enough := func(r *rig) {
		for range 10 {
			r.options.Keys = append(r.options.Keys, r.signUp().key)
		}
	}
	t.Run("enough", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, "credentials")
		enough(r)
		for _, b := range r.buyers { // what they have from before, and what others do meanwhile, is not the run's
			b.calls = 7
			r.grant(discard{}, b, 60)
		}
		r.hook = func(string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.buyers[r.options.Keys[0]].calls++
		}
		for name, c := range r.checks() {
			if c.Verdict != gate.Pass {
				t.Errorf("%s: %s, %s", name, c.Verdict, c.Why)
			}
		}
		if len(r.signUps) > 0 {
			t.Errorf("customers signed up: %v", r.signUps)
		}
	})
	t.Run("a call is not counted", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, "credentials")
		enough(r)
		for _, b := range r.buyers {
			b.calls = 7
		}
		r.prepare = func(*Script) { r.losesCall = true }
		if c := r.checks()["usage"]; c.Verdict != gate.Fail {
			t.Errorf("%+v; want it told", c)
		}
	})
	t.Run("a key dies during the run", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, "credentials")
		enough(r)
		var requests atomic.Int64
		doomed := r.buyers[r.options.Keys[3]]
		r.hook = func(string) {
			if requests.Add(1) == 100 {
				r.mu.Lock()
				defer r.mu.Unlock()
				delete(r.buyers, doomed.key)
			}
		}
		c := r.checks()["keys"]
		if c.Verdict != gate.Inconclusive || !strings.Contains(c.Why, doomed.id) {
			t.Errorf("%+v; want the key of %s told", c, doomed.id)
		}
	})
	for _, tt := range []struct {
		name string
		edit func(*rig)
		want string
	}{
		{"too few", func(r *rig) { r.options.Keys = []string{r.signUp().key} }, "--keys-file has 1 keys, and the plan needs 7: 281 exchanges in 1m0s, and a customer may make 60"},
		{"one was revoked", func(r *rig) { enough(r); delete(r.buyers, r.options.Keys[1]) }, "key 2 of --keys-file: GET /api/v1/account: status 401"},
		{"two of one customer", func(r *rig) {
			enough(r)
			r.buyers["second"] = r.buyers[r.options.Keys[2]]
			r.options.Keys = append(r.options.Keys, "second")
		}, "keys 3 and 11 of --keys-file are of one customer"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "credentials")
			tt.edit(r)
			if err := r.play(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
}

// discard is an answer that nobody reads.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// TestNotPrepared is what stops a run before it begins.
func TestNotPrepared(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, plan string
		edit       func(*rig)
		want       string
	}{
		{"another secret", "webhooks", func(r *rig) { r.secret = "whsec_other" }, "is GATEHOUSE_STRIPE_WEBHOOK_SECRETS the same there and here?"},
		{"webhooks off", "webhooks", func(r *rig) { r.secret = "" }, "it has no GATEHOUSE_STRIPE_WEBHOOK_SECRETS"},
		{"no secret here", "webhooks", func(r *rig) { r.options.Secret = "" }, "set GATEHOUSE_STRIPE_WEBHOOK_SECRETS here"},
		{"keys for events", "mixed", func(r *rig) { r.options.Keys = []string{"k"} }, "--keys-file is not for a plan with events"},
		{"off loopback", "credentials", func(r *rig) {
			r.options.Loopback = false
			for i := range r.options.Plan.Requests {
				r.options.Plan.Requests[i].Clients = &load.Clients{Count: 1, Via: load.ViaNone}
			}
		}, "--keys-file, or add --clients-via forwarded"},
		{"nobody may sign up", "credentials", func(r *rig) { r.closed = true }, "of 1 customers 0 could be signed up, by --clients-via forwarded; the last that could not: status 429"},
		{"a dead target", "credentials", func(r *rig) { r.Close() }, "of 1 customers 0 could be signed up, by --clients-via forwarded; the last that could not: it had no answer"},
		{"another request's name", "credentials", func(r *rig) { r.options.Plan.Requests[0].Name = "trade" }, `the request "trade" has a place that a script fills`},
		{"nothing to revoke", "credentials", func(r *rig) { r.options.Plan.Requests = r.options.Plan.Requests[3:] }, `the request "revoke" works on what one named "exchange" began`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.plan)
			tt.edit(r)
			if err := r.play(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
}

// TestInterrupted ends a script wherever it is, while the target hangs.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	// hang makes the target hang from a request on, and ends ctx then.
	hang := func(t *testing.T, r *rig, from func(n int64, path string) bool) context.Context {
		ctx, cancel := context.WithCancel(t.Context())
		ever := make(chan struct{})
		t.Cleanup(func() { cancel(); close(ever) })
		var requests atomic.Int64
		r.hook = func(path string) {
			if from(requests.Add(1), path) {
				cancel()
				<-ever
			}
		}
		return ctx
	}
	for _, at := range []int64{1, 2, 3, 5, 11, 12, 13} { // a sign-up, looks at two limits, more sign-ups, an exchange, a call, an event
		t.Run(fmt.Sprint("before the run, at request ", at), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "mixed")
			ctx := hang(t, r, func(n int64, _ string) bool { return n >= at })
			if s, err := Prepare(ctx, r.options); s != nil || !errors.Is(err, context.Canceled) {
				t.Errorf("%v, %v; want it cancelled", s, err)
			}
		})
	}
	for _, path := range []string{webhookPath, accountPath, accountPath + "/ledger"} {
		t.Run("after the run, at "+path, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, "webhooks")
			r.refusesHalf = true // so that there is something to bring again
			if err := r.play(t.Context()); err != nil {
				t.Fatal(err)
			}
			ctx := hang(t, r, func(_ int64, asked string) bool { return asked == path })
			checks := r.script.Checks(ctx, false)
			if len(checks) != 2 || checks[0].Verdict != gate.Inconclusive || !strings.Contains(checks[0].Why, "interrupted") || checks[1].Verdict != gate.Pass {
				t.Errorf("%+v; want it told that not all was compared", checks)
			}
		})
	}
	t.Run("what was seen is told", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, "webhooks")
		r.takesForged = true
		if err := r.play(t.Context()); err != nil {
			t.Fatal(err)
		}
		checks := r.script.Checks(t.Context(), true)
		if len(checks) != 2 || checks[0].Verdict != gate.Inconclusive || checks[1].Verdict != gate.Fail {
			t.Errorf("%+v; want it told that a forged event was taken", checks)
		}
	})
}
