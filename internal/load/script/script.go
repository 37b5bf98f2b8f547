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
	credentials func(*credentials, *turn)
	webhooks    func(*webhooks, *turn)
	gateway     bool // goes on to a provider
	limited     bool // by the exchange's policy; else, where it needs a key, by api's
}

// roles are by the requests' names.
var roles = map[string]role{
	"exchange":       {credentials: (*credentials).exchange, limited: true},
	"exchange_brief": {credentials: (*credentials).exchangeBrief, limited: true},
	"refresh":        {credentials: (*credentials).refresh},
	"revoke":         {credentials: (*credentials).revoke},
	"use":            {credentials: (*credentials).use, gateway: true},
	"use_revoked":    {credentials: (*credentials).useRevoked, gateway: true},
	"account":        {credentials: (*credentials).account},
	"deliver":        {webhooks: (*webhooks).deliver},
	"redeliver":      {webhooks: (*webhooks).redeliver},
	"stale":          {webhooks: (*webhooks).stale},
	"forged":         {webhooks: (*webhooks).forged},
}

// turn is one arrival under way: what it became, and what to do at its end.
type turn struct {
	*load.Arrival
	become string // the name of another request of the plan, to be sent instead
	ended  func(a *load.Arrival, status int, body []byte)
}

func (t *turn) set(place int, value string) { t.Values[place] = value }

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
	run         string // makes what it writes unlike any other run's
	http        *http.Client
	ahead       time.Duration // of the target's clock
	names       []string      // of the plan's requests
	index       map[string]int
	customers   []*customer
	credentials *credentials
	webhooks    *webhooks
	provider    *http.Server
	notes       []string

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

// Check says what is wrong before anything is sent.
func (o *Options) Check() error {
	var names []string
	for _, r := range o.Plan.Requests {
		if _, ok := roles[r.Name]; scripted(r) && !ok {
			return fmt.Errorf("the request %q has a place that a script fills ({{%s}}): then it is named one of %s",
				r.Name, strings.Join(Places(), "}}, {{"), strings.Join(slices.Sorted(maps.Keys(roles)), ", "))
		}
		names = append(names, r.Name)
	}
	hooks := slices.ContainsFunc(names, func(n string) bool { return roles[n].webhooks != nil })
	switch {
	case hooks && o.Secret == "":
		return errors.New("events are signed: set GATEHOUSE_STRIPE_WEBHOOK_SECRETS here to the secret that the target has")
	case hooks && len(o.Keys) > 0:
		return errors.New("--keys-file is not for a plan with events: they change their customers' subscriptions and credits, so it signs up its own")
	case !o.Loopback && len(o.Keys) == 0 && o.via() != load.ViaForwarded && !hooks:
		return errors.New("the target is not on this machine, and one address may sign up few customers: give keys with --keys-file, or add --clients-via forwarded where the target trusts this machine as a proxy")
	}
	return nil
}

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
	s := &Script{o: o, run: strings.ToLower(rand.Text()[:10]), http: &http.Client{
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
		s.names = append(s.names, r.Name)
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
	return slices.ContainsFunc(s.o.Plan.Requests, func(r load.Request) bool { return which(roles[r.Name]) })
}

// share is a kind of requests' part of all.
func (s *Script) share(which func(role) bool) float64 {
	var of, all float64
	for _, r := range s.o.Plan.Requests {
		if all += r.Weight; which(roles[r.Name]) {
			of += r.Weight
		}
	}
	return of / all
}

// drop takes requests out of the plan.
func (s *Script) drop(which func(role) bool) {
	s.o.Plan.Requests = slices.DeleteFunc(s.o.Plan.Requests, func(r load.Request) bool { return which(roles[r.Name]) })
}

// Next implements load.Script.
func (s *Script) Next(a *load.Arrival) {
	t := turn{Arrival: a}
	a.Values = slices.Grow(a.Values, len(Places()))[:len(Places())]
	clear(a.Values)
	for range 2 { // what a role becomes instead never becomes another
		switch r := roles[s.names[a.Request]]; {
		case r.credentials != nil:
			r.credentials(s.credentials, &t)
		case r.webhooks != nil:
			r.webhooks(s.webhooks, &t)
		}
		other, ok := s.index[t.become]
		if !ok {
			break
		}
		a.Request, t.become = other, ""
	}
	a.Ref = t.ended
}

// Ended implements load.Script.
func (s *Script) Ended(a *load.Arrival, status int, body []byte) {
	if ended, ok := a.Ref.(func(*load.Arrival, int, []byte)); ok && ended != nil {
		ended(a, status, body)
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
// for what the target does later, a minute at most, and for events that it
// refused to be taken, three.
func (s *Script) Checks(ctx context.Context, interrupted bool) []gate.Check {
	if interrupted {
		return []gate.Check{check("effects", "what the target says is what must have happened", gate.Inconclusive, "the run was interrupted before it could be compared")}
	}
	var all []gate.Check
	if s.has(func(r role) bool { return r.credentials != nil }) {
		all = append(all, s.credentials.checks(ctx)...)
	}
	if s.webhooks != nil {
		all = append(all, s.webhooks.checks(ctx)...)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	never := check("nothing forbidden", "no token works a second after its revocation, no forged or stale event is taken, none is new twice", gate.Pass, "")
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
