package plan

import (
	"cmp"
	"math"
	"slices"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// The bounds of a plan beside those of a job.
const (
	maxStages   = 1000
	maxGates    = 256
	maxProfiles = 64
	maxPlaces   = 1000  // of one template
	minWeight   = 0.001 // one arrival in a thousand beside a weight of 1
	maxWeight   = 1_000_000
)

// builder reads the keys of one variant of a plan.
type builder struct {
	*source
	options  Options
	run      bool          // false: what depends on the options is left out
	shared   *load.Clients // of requests without their own
	requests []string      // the names read so far
	outcomes []string
}

func (b *builder) readStages(t table) []load.Stage {
	var stages []load.Stage
	left := load.MaxDuration
	var before, arrivals float64
	failed := b.failed
	for _, item := range b.list(t, "stages", maxStages) {
		t := b.table(item, "stage", "duration rate", "")
		st := load.Stage{
			Duration: b.duration(t, "duration", load.MaxDuration),
			Rate:     b.number(t, "rate", "a number of requests a second", 0, load.MaxRate),
		}
		if left -= st.Duration; left < 0 && st.Duration > 0 {
			b.fail(t.value["duration"], "duration: all stages together take over %v", load.MaxDuration)
		}
		arrivals += (before + st.Rate) / 2 * st.Duration.Seconds()
		before = st.Rate
		stages = append(stages, st)
	}
	if n := t.value["stages"]; n != nil && b.failed == failed && arrivals < 1 {
		b.fail(n, "stages: they send nothing, for they come to %s requests; give one a rate, and time for a request", decimal(math.Floor(1e3*arrivals)/1e3))
	}
	return stages
}

func (b *builder) readRequests(t table) []load.Request {
	var requests []load.Request
	for _, item := range b.list(t, "requests", load.MaxRequests) {
		failed := b.failed
		t := b.table(item, "request", "name method path", "weight headers body clients")
		r := load.Request{
			Name:    b.name(t, "name"),
			Weight:  cmp.Or(b.number(t, "weight", "a number", minWeight, maxWeight), 1),
			Method:  b.oneOf(t, "method", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"),
			Path:    b.path(t),
			Body:    b.template(t, "body", anything),
			Clients: b.readClients(t),
		}
		r.Headers = b.headers(t, r.Clients.Via)
		if r.Name != "" && slices.Contains(b.requests, r.Name) {
			b.fail(t.value["name"], "name: another request is named %q too", short(r.Name))
		}
		if b.run && b.failed == failed {
			b.checkJSON(t, &r)
		}
		b.requests = append(b.requests, r.Name)
		requests = append(requests, r)
	}
	return requests
}

// readClients reads a plan's or a request's clients. It never returns nil, so that
// what is wrong is told once.
func (b *builder) readClients(parent table) *load.Clients {
	n := parent.value["clients"]
	if n == nil {
		return b.shared
	}
	t := b.table(n, "clients", "", "count via")
	c := &load.Clients{
		Count: cmp.Or(b.integer(t, "count", 1, load.MaxClients), 1),
		Via:   cmp.Or(load.Via(b.oneOf(t, "via", string(load.ViaSource), string(load.ViaForwarded), string(load.ViaNone))), load.ViaNone),
	}
	if c.Via == load.ViaNone && c.Count > 1 {
		b.fail(t.value["count"], "count: %d clients can't be told apart; add `via: source` or `via: forwarded`", c.Count)
	}
	if b.run && c.Via != load.ViaNone {
		c.Via = cmp.Or(b.options.Via, c.Via)
	}
	if c.Via == load.ViaNone {
		c.Count = 1
	}
	if b.run && c.Via == load.ViaSource && !b.options.Loopback {
		b.fail(n, "clients: `via: source` sends from loopback addresses, and the target is on none; write `via: forwarded` or `via: none`, "+
			"or add --clients-via forwarded where the target trusts this machine as a proxy")
	}
	return c
}

func (b *builder) readOutcomes(t table) []load.Outcome {
	all := b.named(t, "outcomes", load.MaxOutcomes)
	var outcomes []load.Outcome
	seen := make(map[int]string)
	for _, name := range all.keys {
		switch name {
		case "success", "expected", "failure", "all":
			b.failAt(all.key[name], "outcomes: %s is what gates call many outcomes at once; take another name", name)
		case "lag":
			b.failAt(all.key[name], "outcomes: lag is the generator's own in samples.csv; take another name")
		}
		t := b.table(all.value[name], name, "status kind", "")
		o := load.Outcome{
			Name:   name,
			Status: b.integer(t, "status", 100, 599),
			Kind:   load.Kind(b.oneOf(t, "kind", string(load.Success), string(load.Expected), string(load.Failure))),
		}
		if other := seen[o.Status]; other != "" && o.Status != 0 {
			b.fail(t.value["status"], "status: %d is %s already", o.Status, other)
		}
		seen[o.Status] = name
		outcomes = append(outcomes, o)
	}
	b.outcomes = all.keys
	return outcomes
}

func (b *builder) readGates(t table) []gate.Gate {
	var gates []gate.Gate
	for _, item := range b.list(t, "gates", maxGates) {
		text, ok := b.text(item, "gate")
		if !ok {
			continue
		}
		g, err := gate.Parse(text)
		if err == nil && t.value["stages"] != nil && b.requests != nil { // a whole plan; other profiles may complete this one
			err = g.Known(b.requests, b.outcomes)
		}
		if err != nil {
			b.fail(item, "%v", err)
		}
		gates = append(gates, g)
	}
	return gates
}
