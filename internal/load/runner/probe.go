package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/resources"
)

// probe asks a target about itself, before a run and after it.
type probe struct {
	health, admin string // URLs; admin is the listener's, "" for none
	client        *http.Client
}

const (
	probePatience = 3 * time.Second
	hurried       = time.Second // when the run was interrupted
	maxProbe      = 4 << 20     // bytes of an answer: /metrics are the longest
	maxTold       = 64          // characters of what it says of itself that are kept
	// A cluster's nodes answer in turn: so often is asked for the one from before.
	probeTries = 16
)

func newProbe(target *url.URL, admin string) *probe {
	return &probe{health: target.JoinPath("health").String(), admin: strings.TrimRight(admin, "/"), client: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, Proxy: nil}, // another node each time
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// health is what matters here of GET /health.
type health struct {
	Status     string   `json:"status"`
	Version    string   `json:"version"`
	Mode       string   `json:"mode"`
	Node       string   `json:"node"`
	Uptime     *float64 `json:"uptime_seconds"`
	Clustering struct {
		Nodes int `json:"node_count"`
	} `json:"clustering"`
	Database struct {
		Driver string `json:"driver"`
	} `json:"database"`
}

// look is what a target said of itself at one moment.
type look struct {
	at       time.Time
	err      error // it said nothing
	absent   bool  // since it has no such thing as /health
	alive    bool  // it told its uptime
	health   health
	admin    *report.Target // from the admin listener; nil if that told nothing
	adminErr error
}

func (p *probe) look(ctx context.Context) look {
	l := p.lookAtHealth(ctx)
	if p.admin == "" || l.err != nil {
		return l
	}
	var told struct {
		report.Target
		StartedAt time.Time `json:"started_at"`
	}
	switch err := p.get(ctx, p.admin+"/environment", &told); {
	case err != nil:
		l.adminErr = fmt.Errorf("the admin listener did not say: %w", err)
	case told.Node == "" || load.Clean(told.Node, maxTold) != l.health.Node || !l.startedAt(told.StartedAt):
		l.adminErr = fmt.Errorf("the admin listener at %s is another node's", p.admin)
	default:
		l.admin = &told.Target
	}
	return l
}

// startedAt reports whether the health's uptime began then: two nodes of one
// machine can have one name.
func (l *look) startedAt(then time.Time) bool {
	const slack = 3 * time.Second // an uptime may be in whole seconds, and takes time to ask for
	return l.alive && (l.at.Sub(then)-time.Duration(*l.health.Uptime*float64(time.Second))).Abs() < slack
}

func (p *probe) lookAtHealth(ctx context.Context) look {
	l := look{}
	l.err = p.get(ctx, p.health, &l.health)
	l.at = time.Now()
	status, ok := errors.AsType[statusError](l.err)
	l.absent = ok && status < http.StatusInternalServerError || errors.Is(l.err, errForm)
	for _, s := range []*string{&l.health.Status, &l.health.Version, &l.health.Mode, &l.health.Node, &l.health.Database.Driver} {
		*s = load.Clean(*s, maxTold)
	}
	l.alive = l.err == nil && l.health.Uptime != nil
	return l
}

// lookAgain looks for the same node as before. It has little time when the run
// was interrupted, but some.
func (p *probe) lookAgain(ctx context.Context, before look) look {
	if !before.alive {
		return look{}
	}
	patience := probePatience
	if ctx.Err() != nil {
		patience = hurried
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	l := p.lookAtHealth(ctx)
	for range probeTries {
		if l.err != nil || l.health.Node == before.health.Node {
			break
		}
		l = p.lookAtHealth(ctx)
	}
	return l
}

// statusError is an answer other than 200.
type statusError int

func (e statusError) Error() string {
	return fmt.Sprintf("it answered %d %s", int(e), http.StatusText(int(e)))
}

var errForm = errors.New("the answer is not as expected")

func (p *probe) get(ctx context.Context, from string, to any) error {
	ctx, cancel := context.WithTimeout(ctx, probePatience)
	defer cancel()
	body, err := p.fetch(ctx, from)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, to); err != nil {
		return fmt.Errorf("%s: %w", from, errForm)
	}
	return nil
}

func (p *probe) fetch(ctx context.Context, from string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", from, err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, statusError(resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxProbe+1))
	if err == nil && len(body) > maxProbe {
		err = fmt.Errorf("it is longer than %d bytes", maxProbe)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", from, err)
	}
	return body, nil
}

// metrics are what the admin listener measures.
func (p *probe) metrics(ctx context.Context) ([]byte, error) { return p.fetch(ctx, p.admin+"/metrics") }

// environment is what is known of the target.
func (l *look) environment(sameMachine bool, policies []string) report.Target {
	t := report.Target{}
	switch {
	case l.admin != nil:
		t = *l.admin
		t.Source = "admin listener"
	case l.err == nil:
		t = report.Target{
			Source: "health", Node: l.health.Node, Version: l.health.Version, Mode: l.health.Mode,
			Nodes: max(l.health.Clustering.Nodes, 1), Database: report.Database{Driver: l.health.Database.Driver},
		}
	}
	t.SameMachine = sameMachine
	t.Policies = policies
	return t
}

// stayedUp is the gate that no plan has to ask for: the target is the process
// that it was before. ok is false where it can't be told for any target.
func stayedUp(before, after look, interrupted bool) (c gate.Check, ok bool) {
	if before.absent || before.err == nil && !before.alive {
		return c, false
	}
	yes, no := 1.0, 0.0
	c = gate.Check{
		Name: "the target stayed up", Expression: "the process that answers /health is the one from before the run",
		Unit: gate.Truth, Verdict: gate.Fail, Observed: &no,
	}
	switch {
	case before.err != nil:
		c.Verdict, c.Observed, c.Why = gate.Inconclusive, nil, "before the run it did not say how it was: "+before.err.Error()
	case after.err != nil && interrupted: // it had little time to answer
		c.Verdict, c.Observed, c.Why = gate.Inconclusive, nil, after.err.Error()
	case after.err != nil:
		c.Why = "after the run it did not answer: " + after.err.Error()
	case !after.alive || after.health.Node != before.health.Node:
		c.Verdict, c.Observed = gate.Inconclusive, nil
		c.Why = fmt.Sprintf("after the run the node %s did not answer, only %s", before.health.Node, after.health.Node)
	default:
		// Uptimes may be whole seconds, and clocks drift by less than a hundredth.
		grown := *after.health.Uptime - *before.health.Uptime
		passed := after.at.Sub(before.at).Seconds()
		if grown < passed-2-passed/100 {
			c.Why = fmt.Sprintf("it was started anew %.0f s before the end", *after.health.Uptime)
			break
		}
		c.Verdict, c.Observed = gate.Pass, &yes
	}
	return c, true
}

// everyAnswered is the gate of several addresses that no plan has to ask for: one
// without an answer was not measured, however well the others did. ok is false
// where there is one address.
func everyAnswered(targets []load.Target) (c gate.Check, ok bool) {
	yes, no := 1.0, 0.0
	c = gate.Check{
		Name: "every target answered", Expression: "each address gave at least one answer",
		Unit: gate.Truth, Verdict: gate.Pass, Observed: &yes,
	}
	var silent []string
	for _, t := range targets {
		if t.Answered == 0 {
			silent = append(silent, fmt.Sprintf("%s answered none of %s requests", t.Address, gate.Count.Text(float64(t.Sent))))
		}
	}
	if len(silent) > 0 {
		c.Verdict, c.Observed, c.Why = gate.Inconclusive, &no, strings.Join(silent, ", ")
	}
	return c, len(targets) > 1
}

// nodes are the targets, as each was before the run.
type nodes []struct {
	url    string
	probe  *probe
	before look
}

func (o *Options) nodes(ctx context.Context) nodes {
	n := make(nodes, len(o.Targets))
	for i, u := range o.Targets {
		admin := ""
		if i < len(o.Admins) {
			admin = o.Admins[i]
		}
		n[i].url, n[i].probe = u.String(), newProbe(u, admin)
		n[i].before = n[i].probe.look(ctx)
	}
	return n
}

// metrics are those of all nodes together, or of the first alone where an admin
// listener of another is not known to be its own, and then why.
func (n nodes) metrics() (sources []resources.Source, why string) {
	if n[0].before.admin == nil {
		return nil, "no admin listener is known to be the target's (--target-admin), so no metrics were read"
	}
	var all []resources.Fetch
	for _, node := range n {
		if node.before.admin == nil {
			all, why = all[:1], "of the first target alone, since of "+node.url+" no admin listener is known (--target-admin)"
			break
		}
		all = append(all, node.probe.metrics)
	}
	return []resources.Source{resources.Metrics(all...)}, why
}

// stayedUp has a gate for each node that can tell.
func (n nodes) stayedUp(ctx context.Context, interrupted bool) []gate.Check {
	var checks []gate.Check
	for _, node := range n {
		if c, ok := stayedUp(node.before, node.probe.lookAgain(ctx, node.before), interrupted); ok {
			if len(n) > 1 {
				c.Name += ": " + node.url
			}
			checks = append(checks, c)
		}
	}
	return checks
}
