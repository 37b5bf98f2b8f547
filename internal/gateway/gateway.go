package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what the gateway is made of.
type Config struct {
	// Upstreams are the providers that are offered, by their name in the path:
	// anthropic, openai, openrouter, ollama.
	Upstreams map[string]Upstream
	Door      Door
	Meter     Meter
	// Unauthenticated is called before each 401 of ours, and may set headers.
	// An error of its own, such as a fault.Limited, is answered instead. Nil:
	// nothing counts them.
	Unauthenticated func(w http.ResponseWriter, r *http.Request) error
	Log             *slog.Logger
	Now             func() time.Time // that Lease.ExpiresAt is compared with; nil: this machine's
	Bounds          Bounds
}

// Upstream is where a provider is, and the operator's key there.
type Upstream struct {
	// Base is scheme, host and perhaps the beginning of a path; what follows
	// /gateway/{provider} is appended to it.
	Base string
	Key  string // empty for ollama
}

// Bounds are what calls may take. The zero value of each stands for its default.
type Bounds struct {
	Body     int64         // the longest of a request: 34 MiB, since Anthropic's 32 MB should be refused by Anthropic
	Bodies   int64         // bytes of requests that are held at once, over all calls: 512 MiB; beyond them a call is 503
	Share    int64         // of these, one customer's: a quarter, and at least one longest; beyond it that customer's are 429
	BodyTime time.Duration // for a client to send one: 2 minutes
	Stall    time.Duration // for a client to take a piece of its answer, 32 KiB at the most: a minute
	Patience time.Duration // for an answer that does not come in parts, and for the silence of one that does: 10 minutes

	Drains       int64         // calls that are read to their end at once though their clients have left: 64; others are cut and estimated
	DrainTime    time.Duration // for one of them: a minute
	DrainSilence time.Duration // ends it sooner where a stream says nothing for so long: 5 s
}

// Gateway serves all paths below /gateway/. It sets its own deadlines on clients'
// connections, whatever the server's ReadTimeout and WriteTimeout.
type Gateway struct {
	config    Config
	upstreams map[string]*upstream
	transport *http.Transport
	bodies    budget // bytes
	shares    shares // of them, by customer
	drains    budget // calls
	open      atomic.Int64
	stopping  context.Context //nolint:containedctx // as Lease.Ended
	stop      context.CancelFunc
}

// upstream is a provider that is configured.
type upstream struct {
	*provider
	name string
	base url.URL
	key  string // as its header has it

	mu     sync.Mutex
	warned map[string]time.Time // when a failure was last logged as a warning, by how it failed: one of a few
}

const (
	connectTime = 10 * time.Second // for a provider's TCP handshake, and again for TLS
	keepTime    = 30 * time.Second // for which an idle connection is kept: less than providers' balancers do
	keepMost    = 256              // of them to a provider, so that a burst's next one finds them
	maxHead     = 64 << 10         // bytes of an answer's head
	// Of a connection to a provider, in bytes. A stream holds both for minutes, and
	// its events are short; what is longer passes by them.
	readBuffer, writeBuffer = 2 << 10, 1 << 10
)

// New checks the upstreams and returns the gateway.
func New(c Config) (*Gateway, error) {
	b := &c.Bounds
	b.Body, b.Bodies, b.Drains = cmp.Or(b.Body, 34<<20), cmp.Or(b.Bodies, 512<<20), cmp.Or(b.Drains, 64)
	b.Share = cmp.Or(b.Share, max(b.Bodies/4, b.Body))
	b.BodyTime, b.Stall, b.Patience = cmp.Or(b.BodyTime, 2*time.Minute), cmp.Or(b.Stall, time.Minute), cmp.Or(b.Patience, 10*time.Minute)
	b.DrainTime, b.DrainSilence = cmp.Or(b.DrainTime, time.Minute), cmp.Or(b.DrainSilence, 5*time.Second)
	if c.Now == nil {
		c.Now = time.Now
	}
	g := &Gateway{config: c, upstreams: make(map[string]*upstream)}
	g.stopping, g.stop = context.WithCancel(context.Background())
	g.bodies.most, g.drains.most = b.Bodies, b.Drains
	g.shares = shares{most: b.Share, held: make(map[string]int64)}
	for name, u := range c.Upstreams {
		p := providers[name]
		if p == nil {
			return nil, fmt.Errorf("upstream %q is not a provider that the gateway knows", name)
		}
		base, err := url.Parse(strings.TrimSuffix(u.Base, "/"))
		if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.User != nil || strings.ContainsAny(u.Base, "?#%") {
			return nil, fmt.Errorf("the base URL of %s must be http(s)://HOST[/PATH], without user, query, fragment and escapes", name) // not the value: it may hold a password
		}
		if (u.Key == "") != (p.header == "") || !printable(u.Key) {
			return nil, fmt.Errorf("the key of %s must be printable ASCII, and absent for ollama alone", name)
		}
		g.upstreams[name] = &upstream{provider: p, name: name, base: *base, key: p.scheme + u.Key, warned: make(map[string]time.Time)}
	}
	// HTTP/1.1 alone, so that a connection is one call's: on HTTP/2 the gateway
	// would hold megabytes for a client that reads slowly, and one lost
	// connection would cut a hundred calls.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	g.transport = &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: connectTime}).DialContext,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: connectTime,
		ReadBufferSize: readBuffer, WriteBufferSize: writeBuffer,
		MaxIdleConnsPerHost: keepMost, IdleConnTimeout: keepTime, MaxResponseHeaderBytes: maxHead,
		DisableCompression: true, // bytes pass as they are
		Protocols:          protocols,
	}
	return g, nil
}

// Close ends all calls that are open, those that are read on too; their
// handlers settle them and abort. It is for when a shutdown can't wait longer.
func (g *Gateway) Close() {
	g.stop()
	g.transport.CloseIdleConnections()
}

// Stats are what is held just now.
type Stats struct{ Open, Draining, BodyBytes int64 }

// Stats are for gauges.
func (g *Gateway) Stats() Stats {
	return Stats{Open: g.open.Load(), Draining: g.drains.taken.Load(), BodyBytes: g.bodies.taken.Load()}
}

// ServeHTTP is the way of every request.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t, err := g.find(w, r)
	if err == nil {
		err = g.serve(w, r, t)
	}
	if err != nil {
		g.refuse(w, r, t.errors, err)
	}
}

// serve returns an error only while nothing has been answered.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, t target) error {
	started := time.Now()
	token, err := presented(r.Header)
	if err != nil {
		return err
	}
	lease, err := g.config.Door.Enter(r.Context(), token, t.upstream.name)
	if err != nil {
		return orAway(err)
	}
	c := &call{
		Call:   Call{Provider: t.upstream.name, Path: t.route.path, Started: started, Free: t.is(free), NoOutput: t.is(noOutput)},
		target: t, g: g, lease: lease, rc: http.NewResponseController(w),
	}
	body := &body{g: g, customer: lease.CustomerID}
	defer body.release()
	if t.method == http.MethodPost {
		_ = c.rc.SetReadDeadline(started.Add(g.config.Bounds.BodyTime))
		if err := body.read(w, r); err != nil {
			return err
		}
		if err := c.inspect(body); err != nil {
			return err
		}
	}
	_ = c.rc.SetReadDeadline(time.Time{}) // net/http takes one that passes for the client's leaving
	if lease.over(g.config.Now()) {       // a body may take its time
		return unknown()
	}
	if err := g.stopping.Err(); err != nil { // the watch that ends calls acts in its own time, and a quick answer would be first
		return orAway(err)
	}
	if lease.Capped && !c.Free {
		if c.reserved, err = g.config.Meter.Reserve(r.Context(), lease, &c.Call); err != nil {
			return orAway(err)
		}
		c.owed = true
	}
	return c.run(w, r, body)
}

// budget bounds how much of something is held at once.
type budget struct {
	most  int64
	taken atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.taken.Add(n) <= b.most {
		return true
	}
	b.taken.Add(-n)
	return false
}

// shares bound how much of something each customer holds at once, so that none
// keeps out all others.
type shares struct {
	most int64
	mu   sync.Mutex
	held map[string]int64 // none of them is 0
}

func (s *shares) take(customer string, n int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[customer]+n > s.most {
		return false
	}
	if s.held[customer] += n; s.held[customer] == 0 {
		delete(s.held, customer)
	}
	return true
}
