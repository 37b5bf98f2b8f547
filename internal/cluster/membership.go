package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
)

// patience bounds a call of the store: it ends before the next beat is due.
const patience = Beat * 3 / 4

// NewNode returns this process's node. limits are policy to "10/60s" or "off".
func NewNode(name, version string, limits map[string]string) (Node, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return Node{}, fmt.Errorf("make node id: %w", err)
	}
	return Node{ID: id.String(), Name: name, Version: version, Limits: limits}, nil
}

// Membership is this node's place among the others. A nil one is that of a node
// without a cluster.
type Membership struct {
	store   Store
	self    Node
	observe func(State)
	log     *slog.Logger
	seen    atomic.Pointer[sample]
	failing bool // Run's alone
}

// sample is what one beat brought. It does not change.
type sample struct {
	at    time.Time // when the database's clock was read, by ours; zero before the first beat
	now   time.Time // what it said
	nodes []Node    // this one first; no two have the same name
	state State
}

// State is who is alive, as this node sees it.
//
// Nodes have the names they gave themselves. Where several have the same, each
// of them is "name#1a2b3c4d", with the beginning of its id's random end. Such a
// one may be a process that was killed and started anew, until Gone has passed.
type State struct {
	Node   string   // this one
	Others []string // sorted
	// Fresh says that a beat succeeded within Gone. Where none did, nothing is
	// known of the others: there are none then, and nothing differs.
	Fresh bool
	// Differing are the policies whose limit is not the same on all nodes,
	// sorted. A node that does not know a policy does not differ in it: it is
	// of another version.
	Differing []string
}

// Nodes is how many there are, with this one.
func (s State) Nodes() int { return 1 + len(s.Others) }

// New returns the membership of self, which begins with Run. observe is told
// the state after each beat, failed ones too.
func New(store Store, self Node, observe func(State), log *slog.Logger) *Membership {
	m := &Membership{store: store, self: self, observe: observe, log: log}
	m.seen.Store(&sample{nodes: []Node{self}})
	return m
}

// Run beats until ctx ends, at once at first, and then leaves: the others need
// not wait until this node has been silent for long.
func (m *Membership) Run(ctx context.Context) {
	tick := time.NewTicker(Beat)
	defer tick.Stop()
	for ctx.Err() == nil {
		m.beat(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := m.store.Leave(last, m.self.ID); err != nil {
		m.log.WarnContext(ctx, "the node could not leave the cluster: it counts as there for some seconds", "err", err)
	}
}

// Now is the time by the database's clock: what the last beat read, moved on by
// this process's monotonic clock, however long ago that was. Before the first
// beat, and of a nil Membership, it is this machine's.
//
// It is wrong by at most half of what the beat took. Between two beats it never
// steps back; at a beat it may, by a little, or by as much as the database's
// clock did. It is cheap: a clock is read, and nothing is locked.
func (m *Membership) Now() time.Time {
	if m == nil {
		return time.Now()
	}
	s := m.seen.Load()
	if s.at.IsZero() {
		return time.Now()
	}
	return s.now.Add(time.Since(s.at))
}

// State is who is alive now. Its slices are shared: don't change them. That of
// a nil Membership is a node alone, without a name.
func (m *Membership) State() State {
	if m == nil {
		return State{}
	}
	s := m.seen.Load()
	if time.Since(s.at) >= Gone {
		return State{Node: m.self.Name}
	}
	return s.state
}

func (m *Membership) beat(ctx context.Context) {
	// The end of ctx does not cut it off: the database could still commit it,
	// after Leave, and the node would be back.
	try, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	asked := time.Now()
	view, err := m.store.Beat(try, m.self)
	took := time.Since(asked)
	switch {
	case err == nil:
		m.see(ctx, asked.Add(took/2), view)
		if m.failing {
			m.log.InfoContext(ctx, "the node's heartbeat works again")
		}
	case !m.failing:
		m.log.WarnContext(ctx, "the node's heartbeat fails: it is tried again", "every", Beat.String(), "err", err)
	}
	m.failing = err != nil
	m.observe(m.State())
}

// see keeps what a beat brought, and logs what is new in it.
func (m *Membership) see(ctx context.Context, at time.Time, v View) {
	nodes := []Node{m.self} // it is there, whatever its row says
	for _, n := range v.Nodes {
		if n.ID != m.self.ID {
			nodes = append(nodes, n)
		}
	}
	tellApart(nodes)
	s := &sample{at: at, now: v.Now, nodes: nodes, state: State{Node: nodes[0].Name, Fresh: true, Differing: differing(nodes)}}
	for _, n := range nodes[1:] {
		s.state.Others = append(s.state.Others, n.Name)
	}
	slices.Sort(s.state.Others)
	last := m.seen.Swap(s)

	for _, n := range without(s.nodes, last.nodes) {
		m.log.InfoContext(ctx, "a node has come", "name", n.Name, "id", n.ID, "version", n.Version, "nodes", len(s.nodes))
	}
	for _, n := range without(last.nodes, s.nodes) {
		m.log.InfoContext(ctx, "a node is gone", "name", n.Name, "id", n.ID, "nodes", len(s.nodes))
	}
	for _, policy := range s.state.Differing {
		if !slices.Contains(last.state.Differing, policy) {
			m.log.WarnContext(ctx, "a rate limit differs between nodes", "policy", policy, "limits", limits(nodes, policy))
		}
	}
	for _, policy := range last.state.Differing {
		if !slices.Contains(s.state.Differing, policy) {
			m.log.InfoContext(ctx, "a rate limit is the same on all nodes again", "policy", policy)
		}
	}
}

// tellApart makes names that several nodes have different.
func tellApart(nodes []Node) {
	count := make(map[string]int)
	for _, n := range nodes {
		count[n.Name]++
	}
	for i, n := range nodes {
		if count[n.Name] > 1 {
			random := n.ID[strings.LastIndexByte(n.ID, '-')+1:]
			nodes[i].Name += "#" + random[:min(8, len(random))]
		}
	}
}

// differing are the policies, sorted, that have more than one limit.
func differing(nodes []Node) (policies []string) {
	first := make(map[string]string)
	for _, n := range nodes {
		for policy, limit := range n.Limits {
			if had, ok := first[policy]; !ok {
				first[policy] = limit
			} else if had != limit && !slices.Contains(policies, policy) {
				policies = append(policies, policy)
			}
		}
	}
	slices.Sort(policies)
	return policies
}

// limits are a policy's, by node.
func limits(nodes []Node, policy string) map[string]string {
	m := make(map[string]string)
	for _, n := range nodes {
		if limit, ok := n.Limits[policy]; ok {
			m[n.Name] = limit
		}
	}
	return m
}

// without are the nodes that are not among others.
func without(nodes, others []Node) (rest []Node) {
	for _, n := range nodes {
		if !slices.ContainsFunc(others, func(o Node) bool { return o.ID == n.ID }) {
			rest = append(rest, n)
		}
	}
	return rest
}
