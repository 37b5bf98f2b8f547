package script

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/plan"
)

// The places that a script fills, in the order of their numbers.
const (
	key        = iota // an API key
	token             // what a credential works with
	credential        // a credential's id
	brief             // the id of one in the last five minutes of its life
	event             // an event of Stripe's, whole
	signature         // of that event
)

// Places are the names of what a script fills in templates.
func Places() []string {
	return []string{"key", "token", "credential", "brief", "event", "signature"}
}

// role is what a script does for requests of one name.
type role struct {
	// What fills the request's places; false while there is nothing to fill them
	// with, and then the request named instead is sent.
	credentials func(*credentials, *turn) bool
	webhooks    func(*webhooks, *turn) bool
	instead     string
	gateway     bool // goes on to a provider
	limited     bool // by the exchange's policy; else, where it needs a key, by api's
}

// roles are by the requests' names.
var roles = map[string]role{
	"exchange":       {credentials: (*credentials).exchange, limited: true},
	"exchange_brief": {credentials: (*credentials).exchangeBrief, limited: true},
	"refresh":        {credentials: (*credentials).refresh, instead: "exchange_brief"},
	"revoke":         {credentials: (*credentials).revoke, instead: "exchange"},
	"use":            {credentials: (*credentials).use, instead: "exchange", gateway: true},
	"use_revoked":    {credentials: (*credentials).useRevoked, instead: "exchange", gateway: true},
	"account":        {credentials: (*credentials).account},
	"deliver":        {webhooks: (*webhooks).deliver},
	"redeliver":      {webhooks: (*webhooks).redeliver, instead: "deliver"},
	"stale":          {webhooks: (*webhooks).stale},
	"forged":         {webhooks: (*webhooks).forged},
}

// turn is one arrival under way: whose it is, and what to do at its end.
type turn struct {
	*load.Arrival
	of    *customer // whose key it has; nil for none
	ended func(a *load.Arrival, status int, body []byte)
}

func (t *turn) set(place int, value string) { t.Values[place] = value }

// as makes it a request of a customer's.
func (t *turn) as(of *customer) {
	t.of = of
	t.set(key, of.key)
}

// waits are how long things may take. Tests make them shorter.
type waits struct {
	dead     time.Duration // until a revoked token is dead on every node
	again    time.Duration // between looks at what takes a moment; each next is twice as long
	applying time.Duration // until events and calls have had their effects
	settling time.Duration // until events that were refused are taken: they are brought again, as Stripe would
	answers  time.Duration // for all answers of a comparison, should the target hang
	second   time.Duration // of a Retry-After
}

var usual = waits{dead: time.Second, again: 250 * time.Millisecond, applying: time.Minute, settling: 3 * time.Minute, answers: 2 * time.Minute, second: time.Second}

// Options is what a script needs to know.
type Options struct {
	Target   *url.URL
	Plan     *plan.Plan // its requests may become fewer: see Prepare
	Loopback bool       // the target is on this machine
	Domain   string     // of sign-ups
	Keys     []string   // API keys; none: customers are signed up
	Secret   string     // that signs events, or ""
	Provider string     // host:port where a stand-in for an AI provider listens, or ""
	Progress io.Writer
	// Wrote is told of sign-ups as load.Script.Ended would be.
	Wrote func(a *load.Arrival, method, path string, status int)
}

// Script is one run's. It is a load.Script.
type Script struct {
	o           Options
	waits       waits
	run         string // makes what it writes unlike any other run's
	http        *http.Client
	ahead       time.Duration // of the target's clock
	roles       []role        // of the plan's requests
	index       map[string]int
	customers   []*customer
	credentials *credentials
	webhooks    *webhooks
	provider    *http.Server
	serving     sync.WaitGroup // provider
	unused      string         // why no token was, where the plan wanted it
	notes       []string
	limited     atomic.Int64 // answers 429 to requests with a key

	mu         sync.Mutex
	violations []string // what must never happen, and did
}

// maxViolations bounds what is told of many alike.
const maxViolations = 20

// Needed says whether a plan has places that only a script can fill.
func Needed(p *plan.Plan) bool { return slices.ContainsFunc(p.Requests, scripted) }

func scripted(r load.Request) bool {
	fields := []load.Template{r.Path, r.Body}
	for _, h := range r.Headers {
		fields = append(fields, h.Value)
	}
	return slices.ContainsFunc(fields, func(t load.Template) bool {
		return slices.ContainsFunc(t, func(p load.Part) bool { return p.Place == load.Given })
	})
}

// roleOf is what a script does for a request: nothing without such places.
func roleOf(r load.Request) role {
	if !scripted(r) {
		return role{}
	}
	return roles[r.Name]
}

// Check says what is wrong before anything is sent.
func (o *Options) Check() error {
	for _, r := range o.Plan.Requests {
		role, known := roles[r.Name]
		switch instead := func(r load.Request) bool { return r.Name == role.instead }; {
		case !scripted(r):
		case !known:
			return fmt.Errorf("the request %q has a place that a script fills ({{%s}}): then it is named one of %s",
				r.Name, strings.Join(Places(), "}}, {{"), strings.Join(slices.Sorted(maps.Keys(roles)), ", "))
		case role.instead != "" && !slices.ContainsFunc(o.Plan.Requests, instead):
			return fmt.Errorf("the request %q works on what one named %q began: the plan needs that too", r.Name, role.instead)
		}
	}
	hooks := slices.ContainsFunc(o.Plan.Requests, func(r load.Request) bool { return roleOf(r).webhooks != nil })
	switch {
	case hooks && o.Secret == "":
		return MissingError("events are signed: set GATEHOUSE_STRIPE_WEBHOOK_SECRETS here to the secret that the target has")
	case hooks && len(o.Keys) > 0:
		return errors.New("--keys-file is not for a plan with events: they change their customers' subscriptions and credits, so it signs up its own")
	case !o.Loopback && len(o.Keys) == 0 && o.via() != load.ViaForwarded && !hooks:
		return MissingError("the target is not on this machine, and one address may sign up few customers: give keys with --keys-file, or add --clients-via forwarded where the target trusts this machine as a proxy")
	}
	return nil
}

// MissingError is what has to be given for a plan to be run; nothing else is
// wrong.
type MissingError string

func (e MissingError) Error() string { return string(e) }

// via is how the plan's clients are told apart, or could be.
func (o *Options) via() load.Via {
	for _, r := range o.Plan.Requests {
		if r.Clients.Via != load.ViaNone {
			return r.Clients.Via
		}
	}
	if o.Loopback {
		return load.ViaSource
	}
	return load.ViaNone
}

// Prepare makes what the plan's requests need: customers, a stand-in for a
// provider, proof that events are taken. Requests that can't be sent are taken
// out of the plan, and the checks after the run say so.
func Prepare(ctx context.Context, o Options) (_ *Script, err error) {
	s := &Script{o: o, waits: usual, run: strings.ToLower(rand.Text()[:10]), http: &http.Client{
		Timeout:       10 * time.Second,
		Transport:     &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 16, DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	s.say("preparing")
	if err := s.makeCustomers(ctx); err != nil {
		return nil, err
	}
	s.credentials = newCredentials(s)
	if err := s.tryGateway(ctx); err != nil {
		return nil, err
	}
	if s.has(func(r role) bool { return r.webhooks != nil }) {
		if s.webhooks, err = newWebhooks(ctx, s); err != nil {
			return nil, err
		}
	}
	s.index = make(map[string]int)
	for i, r := range o.Plan.Requests {
		s.roles = append(s.roles, roleOf(r))
		s.index[r.Name] = i
	}
	s.say("%d customers are ready", len(s.customers))
	return s, nil
}

// Close ends what Prepare began.
func (s *Script) Close() {
	if s.provider != nil {
		_ = s.provider.Close()
	}
	s.serving.Wait()
	s.http.CloseIdleConnections()
}

// Notes are what a reader of the report should know.
func (s *Script) Notes() []string { return s.notes }

func (s *Script) say(format string, args ...any) {
	if s.o.Progress != nil {
		fmt.Fprintf(s.o.Progress, "%s: %s\n", s.o.Plan.Name, fmt.Sprintf(format, args...))
	}
}

func (s *Script) has(which func(role) bool) bool {
	return slices.ContainsFunc(s.o.Plan.Requests, func(r load.Request) bool { return which(roleOf(r)) })
}

// share is a kind of requests' part of all.
func (s *Script) share(which func(role) bool) float64 {
	var of, all float64
	for _, r := range s.o.Plan.Requests {
		if all += r.Weight; which(roleOf(r)) {
			of += r.Weight
		}
	}
	return of / all
}

// drop takes requests out of the plan.
func (s *Script) drop(which func(role) bool) {
	s.o.Plan.Requests = slices.DeleteFunc(s.o.Plan.Requests, func(r load.Request) bool { return which(roleOf(r)) })
}

// Next implements load.Script.
func (s *Script) Next(a *load.Arrival) {
	t := turn{Arrival: a}
	a.Values = slices.Grow(a.Values, len(Places()))[:len(Places())]
	clear(a.Values)
	for range 2 { // what is sent instead is always ready
		r := s.roles[a.Request]
		if r.credentials != nil && !r.credentials(s.credentials, &t) || r.webhooks != nil && !r.webhooks(s.webhooks, &t) {
			a.Request = s.index[r.instead] // Check has seen it
			continue
		}
		break
	}
	a.Ref = t
}

// Ended implements load.Script.
func (s *Script) Ended(a *load.Arrival, status int, body []byte) {
	t, _ := a.Ref.(turn)
	switch {
	case t.of == nil:
	case status == http.StatusUnauthorized:
		t.of.refused.Store(true)
	case status == http.StatusTooManyRequests:
		s.limited.Add(1)
	}
	if t.ended != nil {
		t.ended(a, status, body)
	}
}

// unclear says whether a request may have had its effect or not.
func unclear(status int) bool { return status == 0 || status >= 500 }

// violate takes note of what must never happen.
func (s *Script) violate(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.violations) < maxViolations {
		s.violations = append(s.violations, fmt.Sprintf(format, args...))
	}
}

// Checks compares what the target says with what must have happened. It waits
// for what the target does later, some minutes at most, and not at all once ctx
// ends. What was seen to be wrong is told of an interrupted run too.
func (s *Script) Checks(ctx context.Context, interrupted bool) []gate.Check {
	var all []gate.Check
	if !interrupted && s.has(func(r role) bool { return r.credentials != nil }) {
		all = append(all, s.credentials.checks(ctx)...)
	}
	if !interrupted && s.webhooks != nil {
		all = append(all, s.webhooks.checks(ctx)...)
	}
	if interrupted || ctx.Err() != nil {
		all = slices.DeleteFunc(all, func(c gate.Check) bool { return c.Verdict == gate.Inconclusive }) // for that same reason
		all = append(all, check("effects", "what the target says is what must have happened", gate.Inconclusive, "the run was interrupted before all of it was compared"))
	}
	if n := s.limited.Load(); n > 0 {
		s.notes = append(s.notes, fmt.Sprintf("%d requests with a customer's key were limited (429), and a run keeps a quarter of each limit free: others use these keys, or the target refuses too early.", n))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	never := check("nothing forbidden", "revoked tokens die within a second and others live; no event is taken that is forged, stale or known", gate.Pass, "")
	if len(s.violations) > 0 {
		never = check(never.Name, never.Expression, gate.Fail, strings.Join(s.violations, "; "))
	}
	return append(all, never)
}

// check makes a check that is of a truth.
func check(name, expression string, verdict gate.Verdict, why string) gate.Check {
	c := gate.Check{Name: name, Expression: expression, Unit: gate.Truth, Verdict: verdict, Why: why}
	if yes, no := 1.0, 0.0; verdict == gate.Pass {
		c.Observed = &yes
	} else if verdict == gate.Fail {
		c.Observed = &no
	}
	return c
}
