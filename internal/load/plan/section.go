package plan

import (
	"net/http"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// The bounds of a plan beside those of a job.
const (
	maxStages    = 1000
	maxGates     = 256
	maxProfiles  = 64
	maxPlaces    = 1000  // of one template
	minWeight    = 0.001 // one arrival in a thousand beside a weight of 1
	maxWeight    = 1_000_000
	maxForwarded = 2 << 16 // the addresses of 198.18.0.0/15, which X-Forwarded-For takes
)

// builder reads the keys of one variant of a plan.
type builder struct {
	*source
	options *Options      // nil: this is no variant to be run
	clients *load.Clients // of requests without their own
	shared  ast.Node      // what clients were read from, or nil
}

func (b *builder) stages(n ast.Node) []load.Stage {
	var stages []load.Stage
	var total, left = load.MaxDuration, load.MaxDuration
	var before, arrivals float64
	failed := b.failed
	for _, item := range b.list(n, "stages", maxStages) {
		t, ok := b.table(item, "stage", "duration", "rate")
		if !ok {
			continue
		}
		b.need(t, "duration", "rate")
		var st load.Stage
		if v := t.value["duration"]; v != nil {
			st.Duration = b.duration(v, "duration", load.MaxDuration)
			if left -= st.Duration; left < 0 {
				b.fail(v, "duration: all stages together take over %v", total)
			}
		}
		if v := t.value["rate"]; v != nil {
			st.Rate = b.number(v, "rate", " requests a second", 0, load.MaxRate)
		}
		arrivals += (before + st.Rate) / 2 * st.Duration.Seconds()
		before = st.Rate
		stages = append(stages, st)
	}
	if b.failed == failed && arrivals < 1 {
		b.fail(n, "stages: they send nothing; give one a rate, and time for a request")
	}
	return stages
}

func (b *builder) requests(n ast.Node) []load.Request {
	var requests []load.Request
	seen := make(map[string]bool)
	for _, item := range b.list(n, "requests", load.MaxRequests) {
		t, ok := b.table(item, "request", "name", "weight", "method", "path", "headers", "body", "clients")
		if !ok {
			continue
		}
		b.need(t, "name", "method", "path")
		r := load.Request{Weight: 1, Clients: b.clients}
		if v := t.value["name"]; v != nil {
			r.Name = b.name(v, "name")
			if seen[r.Name] {
				b.fail(v, "name: another request is named %q too", short(r.Name))
			}
			seen[r.Name] = true
		}
		if v := t.value["weight"]; v != nil {
			r.Weight = b.number(v, "weight", "", minWeight, maxWeight)
		}
		if v := t.value["method"]; v != nil {
			r.Method = b.method(v)
		}
		if v := t.value["path"]; v != nil {
			r.Path = b.path(v)
		}
		via := b.shared
		if v := t.value["clients"]; v != nil {
			via = v
			r.Clients = b.readClients(v)
		}
		b.checkTarget(via, r.Clients)
		if v := t.value["headers"]; v != nil {
			r.Headers = b.headers(v, r.Clients.Via)
		}
		if v := t.value["body"]; v != nil {
			r.Body = b.template(v, "body", anything)
		}
		requests = append(requests, r)
	}
	return requests
}

func (b *builder) method(n ast.Node) string {
	text, ok := b.text(n, "method")
	switch upper := strings.ToUpper(text); {
	case !ok:
	case !isToken(text):
		b.fail(n, "method: want a word such as GET or POST, found %q", short(text))
	case text != upper:
		b.fail(n, "method: write %s", short(upper))
	case text == http.MethodConnect:
		b.fail(n, "method: CONNECT asks for a tunnel, and is no request that can be measured")
	}
	return text
}

// readClients never returns nil, so that what is wrong is told once.
func (b *builder) readClients(n ast.Node) *load.Clients {
	c := &load.Clients{Count: 1, Via: load.ViaNone}
	t, ok := b.table(n, "clients", "count", "via")
	if !ok {
		return c
	}
	if v := t.value["via"]; v != nil {
		text, ok := b.text(v, "via")
		c.Via = load.Via(text)
		if ok && c.Via != load.ViaSource && c.Via != load.ViaForwarded && c.Via != load.ViaNone {
			b.fail(v, "via: want source, forwarded or none, found %q", short(text))
		}
	}
	v := t.value["count"]
	if v == nil {
		return c
	}
	switch c.Via {
	case load.ViaNone:
		if c.Count = b.integer(v, "count", 1, load.MaxClients); c.Count > 1 {
			b.fail(v, "count: %d clients can't be told apart; add `via: source` or `via: forwarded`", c.Count)
		}
	case load.ViaForwarded:
		c.Count = b.integer(v, "count", 1, maxForwarded)
	default:
		c.Count = b.integer(v, "count", 1, load.MaxClients)
	}
	if b.options != nil && b.options.Via != "" && c.Via != load.ViaNone {
		if c.Via = b.options.Via; c.Via == load.ViaNone {
			c.Count = 1
		}
	}
	return c
}

// checkTarget refuses loopback addresses for a target that they do not reach.
func (b *builder) checkTarget(n ast.Node, c *load.Clients) {
	if b.options != nil && !b.options.Loopback && c.Via == load.ViaSource {
		b.fail(n, "clients: `via: source` sends from loopback addresses, and the target is on none; write `via: forwarded` or `via: none`, or add --clients-via forwarded where the target trusts this machine as a proxy")
	}
}

func (b *builder) outcomes(n ast.Node) []load.Outcome {
	t, ok := b.table(n, "outcomes")
	if ok && len(t.keys) > load.MaxOutcomes {
		b.fail(n, "outcomes: want at most %d of them, found %d", load.MaxOutcomes, len(t.keys))
		return nil
	}
	var outcomes []load.Outcome
	seen := make(map[int]string)
	for _, name := range t.keys {
		at := t.key[name]
		if !isName(name) {
			b.failAt(at, "outcomes: want a letter, then letters, digits, - and _, found %q", name)
		}
		if slices.Contains([]string{"success", "expected", "failure", "all"}, name) {
			b.failAt(at, "outcomes: %s is what gates call many outcomes at once; take another name", name)
		}
		o := load.Outcome{Name: name}
		if v, ok := b.table(t.value[name], name, "status", "kind"); ok {
			b.need(v, "status", "kind")
			if n := v.value["status"]; n != nil {
				o.Status = b.integer(n, "status", 100, 599)
				if other := seen[o.Status]; other != "" && o.Status != 0 {
					b.fail(n, "status: %d is %s already", o.Status, other)
				}
				seen[o.Status] = name
			}
			if n := v.value["kind"]; n != nil {
				text, ok := b.text(n, "kind")
				o.Kind = load.Kind(text)
				if ok && o.Kind != load.Success && o.Kind != load.Expected && o.Kind != load.Failure {
					b.fail(n, "kind: want success, expected or failure, found %q", short(text))
				}
			}
		}
		outcomes = append(outcomes, o)
	}
	return outcomes
}

// gates reads the gates. Their names are looked up in a plan that is read so far.
func (b *builder) gates(n ast.Node, p *Plan) []gate.Gate {
	var requests, outcomes []string
	for _, r := range p.Requests {
		requests = append(requests, r.Name)
	}
	for _, o := range p.Outcomes {
		outcomes = append(outcomes, o.Name)
	}
	var gates []gate.Gate
	for _, item := range b.list(n, "gates", maxGates) {
		text, ok := b.text(item, "gate")
		if !ok {
			continue
		}
		g, err := gate.Parse(text)
		if err == nil && p.Stages != nil && p.Requests != nil { // a whole plan; other profiles may complete this one
			err = g.Known(requests, outcomes)
		}
		if err != nil {
			b.fail(item, "%v", err)
		}
		gates = append(gates, g)
	}
	return gates
}
