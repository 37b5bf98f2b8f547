package health

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Status is how a part, or the whole, is.
type Status string

// The states, from best to worst.
const (
	OK          Status = "ok"
	Degraded    Status = "degraded" // still serves
	Unavailable Status = "unavailable"
)

// Report is the answer of /health, as the contract has it.
type Report struct {
	Status      Status      `json:"status"`
	Version     string      `json:"version"`
	Mode        string      `json:"mode"`
	Node        string      `json:"node"`
	Uptime      int64       `json:"uptime_seconds"`
	Clustering  Clustering  `json:"clustering"`
	Database    Database    `json:"database"`
	RateLimiter RateLimiter `json:"rate_limiter"`
	Jobs        Jobs        `json:"jobs"`
}

// Clustering is what is known of other nodes.
type Clustering struct {
	Enabled        bool     `json:"enabled"`
	Status         string   `json:"status"`
	NodeCount      int      `json:"node_count"`
	CurrentNode    string   `json:"current_node"`
	ConnectedNodes []string `json:"connected_nodes"`
}

// Database is how the store answered last.
type Database struct {
	Status    Status  `json:"status"`
	Driver    string  `json:"driver"`
	LatencyMS float64 `json:"latency_ms"`
}

// RateLimiter says where limits are kept, which policies are off, and which
// have another limit on another node.
type RateLimiter struct {
	Status    Status   `json:"status"`
	Running   bool     `json:"running"`
	Backend   string   `json:"backend"`
	Off       []string `json:"off"`
	Differing []string `json:"differing"`
}

// Jobs is how much work waits.
type Jobs struct {
	Status        Status `json:"status"`
	Queued        int    `json:"queued"`
	OldestSeconds int64  `json:"oldest_seconds"`
}

const (
	// fresh is how long an answer of the store is passed on.
	fresh = 250 * time.Millisecond
	// stale is for how long a job may be overdue: then nobody works, or what
	// the jobs need has been away for so long.
	stale = 10 * time.Minute
	// patience is how long the store may take to answer at all.
	patience = 2 * time.Second
)

// Facts are what does not change while a node runs.
type Facts struct {
	Version, Mode, Node, Driver string
	Off                         []string // policies without a limit
	// Jobs is how many jobs there are to do, how old the oldest is, and for how
	// long one could have been begun, as last seen; nil: none.
	Jobs func() (queued int, oldest, overdue time.Duration)
	// Cluster is what is known of the other nodes, as last seen; nil: there
	// can't be any.
	Cluster func() Cluster
}

// Cluster is what a node knows of itself and the others.
type Cluster struct {
	Node      string   // this one's name among them
	Others    []string // sorted
	Fresh     bool     // the node was in touch with them just now
	Differing []string // policies whose limit is not the same on all, sorted
}

// Checker knows how the node is.
type Checker struct {
	facts    Facts
	ping     func(context.Context) error
	started  time.Time
	draining atomic.Bool

	mu      sync.Mutex // held while the store is asked: one asks, the rest wait
	asked   time.Time
	latency time.Duration
	failure error
}

// New returns a checker that asks the store by ping.
func New(facts Facts, ping func(context.Context) error) *Checker {
	if facts.Off == nil {
		facts.Off = []string{}
	}
	return &Checker{facts: facts, ping: ping, started: time.Now()}
}

// Draining makes Ready false for good: the node is about to stop.
func (c *Checker) Draining() { c.draining.Store(true) }

// IsDraining says whether the node is about to stop.
func (c *Checker) IsDraining() bool { return c.draining.Load() }

// Ready says whether the node should be sent requests.
func (c *Checker) Ready() bool {
	if c.draining.Load() {
		return false
	}
	_, err := c.probe()
	return err == nil && !c.draining.Load() // the drain may have begun meanwhile
}

// Report says how the node and its parts are.
func (c *Checker) Report() Report {
	latency, err := c.probe()
	status := OK
	if err != nil {
		status = Unavailable
	}
	r := Report{
		Status: status, Version: c.facts.Version, Mode: c.facts.Mode, Node: c.facts.Node,
		Uptime:      int64(time.Since(c.started).Seconds()),
		Clustering:  Clustering{Status: "healthy", NodeCount: 1, CurrentNode: c.facts.Node, ConnectedNodes: []string{}},
		Database:    Database{Status: status, Driver: c.facts.Driver, LatencyMS: float64(latency.Microseconds()) / 1000},
		RateLimiter: RateLimiter{Status: status, Running: true, Backend: c.facts.Driver, Off: c.facts.Off, Differing: []string{}},
		Jobs:        Jobs{Status: status},
	}
	if c.facts.Cluster != nil {
		r.cluster(c.facts.Cluster())
	}
	if c.facts.Jobs != nil {
		queued, oldest, overdue := c.facts.Jobs()
		r.Jobs.Queued, r.Jobs.OldestSeconds = queued, int64(oldest.Seconds())
		if overdue > stale {
			r.degrade(&r.Jobs.Status)
		}
	}
	return r
}

// cluster fills in what is known of the other nodes.
func (r *Report) cluster(seen Cluster) {
	r.Clustering = Clustering{
		Enabled: true, Status: "healthy", NodeCount: 1 + len(seen.Others),
		CurrentNode: seen.Node, ConnectedNodes: append([]string{}, seen.Others...),
	}
	r.RateLimiter.Differing = append([]string{}, seen.Differing...)
	if len(seen.Differing) > 0 {
		r.degrade(&r.RateLimiter.Status)
	}
	if !seen.Fresh || len(seen.Differing) > 0 {
		r.Clustering.Status = "degraded"
		r.degrade(&r.Status)
	}
}

// degrade marks a part, and with it the whole; what is worse stays as it is.
func (r *Report) degrade(part *Status) {
	for _, s := range []*Status{part, &r.Status} {
		if *s == OK {
			*s = Degraded
		}
	}
}

func (c *Checker) probe() (time.Duration, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.asked.IsZero() && time.Since(c.asked) < fresh {
		return c.latency, c.failure
	}
	// Not a caller's context: the answer is for all who ask.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	start := time.Now()
	c.failure = c.ping(ctx)
	c.asked = time.Now()
	c.latency = c.asked.Sub(start)
	return c.latency, c.failure
}
