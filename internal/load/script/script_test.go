package script

import (
	"strings"
	"testing"
	"time"

	"gatehouse/internal/load/gate"
)

// TestTrueTarget has all that a plan does work, and all that is asked hold.
func TestTrueTarget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		plan   string
		checks int
		counts []string // what must have happened, and nothing else
	}{
		{
			"credentials", 3,
			[]string{"exchange/granted", "exchange_brief/granted", "refresh/granted", "revoke/gone", "use/granted", "use_revoked/dead"},
		},
		{"webhooks", 2, []string{"deliver/taken", "redeliver/taken", "stale/refused", "forged/refused"}},
		{
			"mixed", 4,
			[]string{"onboard/created", "exchange/done", "use/done", "revoke/gone", "account/done", "deliver/done", "redeliver/done"},
		},
	} {
		t.Run(tt.plan, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.plan)
			for name, c := range r.checks() {
				tt.checks--
				if c.Verdict != gate.Pass {
					t.Errorf("%s: %s, %s", name, c.Verdict, c.Why)
				}
			}
			if tt.checks != 0 {
				t.Errorf("there are %d checks fewer than wanted", tt.checks)
			}
			counts := r.counts()
			for _, want := range tt.counts {
				if counts[want] == 0 {
					t.Errorf("no %s", want)
				}
				delete(counts, want)
			}
			if len(counts) > 0 || strings.Contains(r.notes(), "limited") {
				t.Errorf("there is also %v; notes: %s", counts, r.notes())
			}
			if tt.plan == "webhooks" && r.pages == 0 {
				t.Error("no page of a ledger was turned")
			}
			// What it wrote itself, each once: customers, and events brought afterwards.
			signedUp := 0
			for what, n := range r.wrote {
				if strings.Contains(what, onboardPath) {
					signedUp++
				}
				if n != 1 || strings.HasSuffix(what, " ") {
					t.Errorf("%q was written %d times", what, n)
				}
			}
			if signedUp != len(r.script.customers) {
				t.Errorf("%d sign-ups were written, of %d", signedUp, len(r.script.customers))
			}
		})
	}
}

// TestLies has a target for each thing that a target could do wrong, and names
// the check that tells.
func TestLies(t *testing.T) {
	t.Parallel()
	const forbidden, credentials, usage, effects, keys = "nothing forbidden", "credentials", "usage", "effects of events", "keys"
	type told map[string]string // what fails, and a part of why; all other checks hold
	for _, tt := range []struct {
		name, plan string
		lie        func(*rig)
		want       told
	}{
		{"a revoked token works on", "credentials", func(r *rig) { r.revokedWorks = true }, told{forbidden: "after its revocation was answered"}},
		{"a replaced token works on", "credentials", func(r *rig) { r.replacedWorks = true }, told{forbidden: "after its revocation was answered"}},
		{"a live token is refused", "credentials", func(r *rig) { r.refusesLive = true }, told{forbidden: "that nobody had revoked"}},
		{"a key is refused", "credentials", func(r *rig) { r.refusesKey = true }, told{keys: "were refused (401) during the run", forbidden: "", credentials: "?status 401", usage: "?status 401"}},
		{"an exchange grants nothing", "credentials", func(r *rig) { r.forgetsToGrant = true }, told{forbidden: "without a new credential", credentials: "that no exchange was answered with"}},
		{"the list misses one", "credentials", func(r *rig) { r.unlists = true }, told{credentials: "is not listed"}},
		{"the list has one twice", "credentials", func(r *rig) { r.listsTwice = true }, told{credentials: "is listed twice"}},
		{"the list has an unknown one", "credentials", func(r *rig) { r.listsMore = true }, told{credentials: "has 1 credentials that no exchange was answered with"}},
		{"the list hides revocations", "credentials", func(r *rig) { r.hidesRevoked = true }, told{credentials: "is listed as if it were not"}},
		{"the list invents revocations", "credentials", func(r *rig) { r.showsRevoked = true }, told{credentials: "nobody revoked it"}},
		{"a call is not counted", "credentials", func(r *rig) { r.losesCall = true }, told{usage: "are counted"}},
		{"calls are counted twice", "credentials", func(r *rig) { r.countsTwice = true }, told{usage: "are counted"}},
		{"the month ends", "credentials", func(r *rig) { r.newPeriod = true }, told{usage: "?period of usage began"}},
		{"events are applied twice", "webhooks", func(r *rig) { r.appliesTwice = true }, told{effects: "customers differ"}},
		{"an event is acknowledged and lost", "webhooks", func(r *rig) { r.loses = true }, told{effects: "customers differ"}},
		{"refunds change nothing", "webhooks", func(r *rig) { r.keepsMoney = true }, told{effects: "customers differ"}},
		{"a duplicate is said to be new", "webhooks", func(r *rig) { r.alwaysNew = true }, told{forbidden: "was new twice"}},
		{"nothing is said of duplicates", "webhooks", func(r *rig) { r.mute = true }, told{forbidden: "without saying whether"}},
		{"forged events are taken", "webhooks", func(r *rig) { r.takesForged = true }, told{forbidden: "the forged event", effects: "customers differ"}},
		{"stale events are taken", "webhooks", func(r *rig) { r.takesStale = true }, told{forbidden: "the stale event", effects: "customers differ"}},
		{"events are applied as they come", "webhooks", func(r *rig) { r.byArrival = true }, told{effects: "customers differ"}},
		{"events are never taken", "webhooks", func(r *rig) { r.refusesAll, r.waits.settling = true, 20*time.Millisecond }, told{effects: "?were still refused"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, tt.plan)
			tt.lie(r)
			for name, c := range r.checks() {
				why, wrong := tt.want[name]
				delete(tt.want, name)
				verdict := gate.Pass
				if part, unknown := strings.CutPrefix(why, "?"); unknown {
					verdict, why = gate.Inconclusive, part
				} else if why != "" {
					verdict = gate.Fail
				}
				if c.Verdict != verdict || wrong && !strings.Contains(c.Why, why) {
					t.Errorf("%s: %s, %q; want %s, %q", name, c.Verdict, c.Why, verdict, why)
				}
			}
			if len(tt.want) > 0 {
				t.Errorf("there is no check %v", tt.want)
			}
		})
	}
}

// TestRefusedEventsAreBroughtAgain has a target that takes every second new
// event: all is well in the end.
func TestRefusedEventsAreBroughtAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, "webhooks")
	r.refusesHalf = true
	for name, c := range r.checks() {
		if c.Verdict != gate.Pass {
			t.Errorf("%s: %s, %s", name, c.Verdict, c.Why)
		}
	}
	if n := r.counts()["deliver/limited"]; n == 0 {
		t.Error("no event was refused")
	}
	brought := 0
	for what := range r.wrote {
		if strings.HasPrefix(what, "POST "+webhookPath+" evt_load") {
			brought++
		}
	}
	if brought < 2 {
		t.Errorf("%d events are written as brought afterwards", brought)
	}
}

// TestClocksApart has a target that is ten minutes ahead, and one as far behind.
func TestClocksApart(t *testing.T) {
	t.Parallel()
	for _, skew := range []time.Duration{10 * time.Minute, -10 * time.Minute} {
		for plan, timed := range map[string]string{"credentials": "refresh/granted", "mixed": "deliver/done"} {
			t.Run(plan+" "+skew.String(), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, plan)
				r.skew = skew
				for name, c := range r.checks() {
					if c.Verdict != gate.Pass {
						t.Errorf("%s: %s, %s", name, c.Verdict, c.Why)
					}
				}
				if !strings.Contains(r.notes(), "The target's clock is") {
					t.Errorf("the notes are %q", r.notes())
				}
				counts := r.counts()
				for what, n := range counts {
					if strings.Contains(what, "/4") || counts[timed] == 0 {
						t.Errorf("%d %s, and %d %s", n, what, counts[timed], timed)
					}
				}
			})
		}
	}
}

// TestEndedCredentialsAreLeftAlone: a token that ends by itself is neither used
// nor revoked, on a run longer than its life.
func TestEndedCredentialsAreLeftAlone(t *testing.T) {
	c := newCredentials(&Script{ahead: time.Hour})
	in := func(d time.Duration) *held { return &held{expires: time.Now().Add(time.Hour + d)} } // by the target's clock
	lasts, lastsToo := in(time.Minute), in(time.Hour)
	c.live = []*held{in(-time.Minute), lasts, in(time.Second), lastsToo, in(closing / 2)}
	if got := c.take(&c.live, true); got != lastsToo {
		t.Errorf("the newest that lasts is %+v", got)
	}
	if got := c.take(&c.live, false); got != lasts {
		t.Errorf("the oldest that lasts is %+v", got)
	}
	if got := c.take(&c.live, true); got != nil || len(c.live) > 0 {
		t.Errorf("%+v lasts, of %d left", got, len(c.live))
	}
}
