package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/load"
)

// Options is what a verification needs to know.
type Options struct {
	Targets     []*url.URL
	Loopback    bool     // they are on this machine, where a client can have an address of its own
	Policies    []string // by name; none: all, but for a long window of api's
	Keys        []string // API keys; none: where clients are apart, one of a sign-up's
	Via         load.Via // load.ViaForwarded: by X-Forwarded-For, where targets trust this machine as a proxy; "": by address
	Domain      string   // of sign-ups
	Secret      string   // that signs webhooks, or ""
	Windows     float64
	Patience    time.Duration // how long no target may answer; 0: one that does not is given up
	ToolVersion string
	Progress    io.Writer
}

// apart reports whether each client can have an address of its own.
func (o *Options) apart() bool { return o.Loopback || o.Via == load.ViaForwarded }

// Schema is the version of a verification's summary.json.
const Schema = "gatehouse.verify/1"

// longest is the window that a policy may have that nobody named.
const longest = 2 * time.Minute

// unasked is the policy that may have a longer one and be left out: the
// contract's is an hour.
const unasked = "api"

// Summary is what was found out, as summary.json has it.
type Summary struct {
	Schema      string    `json:"schema"`
	ToolVersion string    `json:"tool_version"`
	Targets     []string  `json:"targets"`
	StartedAt   time.Time `json:"started_at"`
	Seconds     float64   `json:"duration_seconds"`
	Interrupted bool      `json:"interrupted"`
	Requests    struct {
		Sent     int `json:"sent"`
		Overhead int `json:"overhead"` // of them for verify's own needs: a key, a clock
	} `json:"requests"`
	Policies    []*Trial `json:"policies"`
	NotVerified []*Trial `json:"not_verified"` // api, where nobody asked for it by name
	Verdict     Verdict  `json:"verdict"`
	Reasons     []string `json:"reasons"`
}

// Trial is one policy's.
type Trial struct {
	Policy   string    `json:"policy"`
	Limit    int       `json:"limit"`
	Window   float64   `json:"window_seconds"`
	OwnKey   bool      `json:"own_key"`        // nobody else can have used the key
	Taken    int       `json:"taken_at_start"` // places that others had
	Note     string    `json:"note,omitzero"`  // what that came to
	Sent     int       `json:"sent"`
	Admitted int       `json:"admitted"`
	Denied   int       `json:"denied"`
	Unclear  int       `json:"unclear"`
	Verdict  Verdict   `json:"verdict"`
	Why      string    `json:"why,omitzero"`      // nothing could be asked
	TooLong  bool      `json:"too_long,omitzero"` // that is, its window is longer than is waited for unasked
	Ended    string    `json:"ended,omitzero"`    // early: why
	Findings []Finding `json:"findings"`
	skipped  bool
}

// Run verifies policies, all at once. An error means that nothing was sent.
func Run(ctx context.Context, o Options) (*Summary, error) {
	nodes, err := find(ctx, o.Targets)
	if err != nil {
		return nil, err
	}
	s := &Summary{Schema: Schema, ToolVersion: o.ToolVersion, StartedAt: time.Now().UTC(), Policies: []*Trial{}, NotVerified: []*Trial{}, Reasons: []string{}}
	for i, n := range nodes {
		s.Targets = append(s.Targets, n.name)
		for _, other := range nodes[:i] { // elsewhere a host's name may decide who answers
			if o.Loopback && other.addr == n.addr && other.url.Path == n.url.Path {
				return nil, fmt.Errorf("%s and %s are one node: it proves nothing of two", other.name, n.name)
			}
		}
	}
	chosen := func(p Policy) bool { return len(o.Policies) == 0 || slices.Contains(o.Policies, p.Name) }
	customer := newClient(&o, Policies()[0], nodes)
	defer customer.close()
	var keys access
	// The sign-up comes before all else: were all clients one for the target, as
	// behind a proxy, it would have a place of onboarding's.
	if slices.ContainsFunc(Policies(), func(p Policy) bool { return p.NeedsKey && chosen(p) }) {
		keys = customer.access(ctx, &o, slices.ContainsFunc(Policies(), func(p Policy) bool { return p.customer && chosen(p) }))
	}
	var overhead atomic.Int64
	var wg sync.WaitGroup
	var progress sync.Mutex
	trials := make([]*Trial, len(Policies()))
	for i, p := range Policies() {
		if !chosen(p) {
			continue
		}
		say := func(text string) {
			progress.Lock()
			defer progress.Unlock()
			fmt.Fprintf(o.Progress, "%s: %s\n", p.Name, text)
		}
		wg.Go(func() {
			c := newClient(&o, p, nodes)
			defer c.close()
			subject := Subject{Policy: p, Targets: s.Targets, Windows: o.Windows, Patience: o.Patience, Send: c.send, Say: say}
			if subject.Alone = (c.forwarded != "" || o.Loopback && ownAddress(nodes)) && !p.Shared; p.NeedsKey {
				subject.Alone = len(o.Keys) == 0
			}
			if len(o.Policies) == 0 {
				subject.Longest = longest
			}
			var e *Evidence
			err := c.prepare(&o, keys)
			subject.Keys, subject.OneKey = len(c.keys), keys.why
			if err == nil && p.signed {
				c.readClock(ctx)
			}
			if valid := c.validKey(ctx, &o); p.passes && valid != "" {
				subject.Pass = func(ctx context.Context) []Attempt { return c.passes(ctx, valid) }
			}
			if err == nil {
				e, err = Try(ctx, subject)
			}
			overhead.Add(int64(c.own))
			trials[i] = newTrial(p.Name, subject.Alone, e, err)
			if why := trials[i].Why; why != "" {
				say("NOT VERIFIED: " + why)
			} else {
				say(string(trials[i].Verdict))
			}
		})
	}
	wg.Wait()
	if len(o.Keys) > 0 && keys.id != "" { // else it is purged with its customer
		if err := customer.revoke(ctx, keys); err != nil {
			fmt.Fprintln(o.Progress, err)
		}
	}
	s.Requests.Overhead = customer.own + int(overhead.Load())
	s.conclude(ctx, trials)
	return s, nil
}

func newTrial(policy string, alone bool, e *Evidence, err error) *Trial {
	t := &Trial{Policy: policy, OwnKey: alone, Verdict: Undecidable, Findings: []Finding{}}
	if err != nil {
		t.Why = err.Error()
		if untried, ok := errors.AsType[*UntriedError](err); ok {
			t.TooLong = untried.TooLong
			t.skipped = t.TooLong && policy == unasked
		}
		return t
	}
	t.OwnKey, t.Taken = e.Alone, e.Taken
	if t.Taken > 0 {
		t.Note = fmt.Sprintf("When it began %d of %d places were taken by others, so it waited for a window first.", t.Taken, e.Limit)
	}
	t.Limit, t.Window, t.Sent = e.Limit, e.Window.Seconds(), e.Sent
	t.Admitted, t.Denied, t.Unclear = len(e.of(Admitted)), len(e.of(Denied)), len(e.of(Unclear))
	t.Findings = Judge(e)
	t.Verdict = Proved
	for _, f := range t.Findings {
		t.Verdict = worse(t.Verdict, f.Verdict)
	}
	if e.Stopped != "" { // what it had shown until then may be no more
		t.Ended, t.Verdict = e.Stopped, worse(t.Verdict, Undecidable)
	}
	return t
}

// worse is the verdict of two: a violation outweighs what can't be told.
func worse(a, b Verdict) Verdict {
	order := []Verdict{Proved, Undecidable, Violated}
	return order[max(slices.Index(order, a), slices.Index(order, b))]
}

func (s *Summary) conclude(ctx context.Context, trials []*Trial) {
	s.Seconds = time.Since(s.StartedAt).Round(time.Millisecond).Seconds()
	s.Interrupted = ctx.Err() != nil
	s.Requests.Sent, s.Verdict = s.Requests.Overhead, Proved
	for _, t := range trials {
		switch {
		case t == nil:
			continue
		case t.skipped:
			s.NotVerified = append(s.NotVerified, t)
			continue
		case t.Why != "":
			s.Reasons = append(s.Reasons, t.Policy+" was not verified: "+t.Why)
		case t.Ended != "":
			s.Reasons = append(s.Reasons, t.Policy+": it ended early: "+t.Ended)
		}
		s.Policies = append(s.Policies, t)
		s.Requests.Sent += t.Sent
		s.Verdict = worse(s.Verdict, t.Verdict)
		for _, f := range t.Findings {
			if f.Verdict != Proved {
				s.Reasons = append(s.Reasons, fmt.Sprintf("%s: %s is %s: %s", t.Policy, f.Property, f.Verdict, f.Why))
			}
		}
	}
	if len(s.Policies) == 0 {
		s.Verdict, s.Reasons = Undecidable, append(s.Reasons, "no policy was verified")
	}
	slices.SortStableFunc(s.Reasons, func(a, b string) int { // violations first
		return cmp.Compare(strings.Count(b, " is violated: "), strings.Count(a, " is violated: "))
	})
}
