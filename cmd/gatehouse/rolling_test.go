package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// balancer passes requests on to nodes that say that they are ready, to one
// after the other, and never tries one twice. It asks them as often as one of
// production would that is set to notice soon.
type balancer struct {
	url string

	mu       sync.Mutex
	backends []*backend
	next     int
	wrong    []string
}

type backend struct {
	n     *node
	ready bool
	proxy *httputil.ReverseProxy
	pool  *http.Transport
	sent  int
}

// readyEvery is how often the balancer asks a node whether it is ready. The
// node's delay, a second at the least, is longer.
const readyEvery = 200 * time.Millisecond

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	b := new(balancer)
	server := httptest.NewServer(http.HandlerFunc(b.serve))
	b.url = server.URL
	asking, stop := context.WithCancel(context.Background())
	var asker sync.WaitGroup
	asker.Go(func() { b.ask(asking) })
	t.Cleanup(func() {
		stop()
		asker.Wait()
		server.Close()
		for _, e := range b.backends {
			e.pool.CloseIdleConnections()
		}
	})
	return b
}

// add puts a node behind the balancer.
func (b *balancer) add(n *node) {
	target, err := url.Parse(n.url)
	if err != nil {
		n.t.Fatal(err)
	}
	pool := &http.Transport{MaxIdleConnsPerHost: 64}
	e := &backend{n: n, pool: pool, proxy: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.SetXForwarded()
		},
		Transport: pool,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			b.say("%s %s to %s: %v", r.Method, r.URL.Path, target.Host, err)
			w.WriteHeader(http.StatusBadGateway)
		},
		ErrorLog: log.New(io.Discard, "", 0), // the client finds out
	}}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = append(b.backends, e)
}

// drop forgets a node that has ended.
func (b *balancer) drop(n *node) (sent int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := slices.IndexFunc(b.backends, func(e *backend) bool { return e.n == n })
	e := b.backends[at]
	b.backends = slices.Delete(b.backends, at, at+1)
	e.pool.CloseIdleConnections()
	return e.sent
}

// ready is how many nodes are.
func (b *balancer) ready() (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.backends {
		if e.ready {
			n++
		}
	}
	return n
}

func (b *balancer) ask(ctx context.Context) {
	client := newClient("")
	defer client.CloseIdleConnections()
	tick := time.NewTicker(readyEvery)
	defer tick.Stop()
	for {
		b.mu.Lock()
		all := slices.Clone(b.backends)
		b.mu.Unlock()
		for _, e := range all {
			c := do(client, http.MethodGet, e.n.url+"/readyz", "", "")
			b.mu.Lock()
			e.ready = c.status == http.StatusOK
			b.mu.Unlock()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (b *balancer) choose() *backend {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range b.backends {
		b.next++
		if e := b.backends[b.next%len(b.backends)]; e.ready {
			e.sent++
			return e
		}
	}
	return nil
}

func (b *balancer) serve(w http.ResponseWriter, r *http.Request) {
	e := b.choose()
	if e == nil {
		b.say("%s %s: no node is ready", r.Method, r.URL.Path)
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	// net/http tries what it could not send again, on another connection. A
	// balancer that does not would have failed.
	conns := 0
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { conns++ }}
	e.proxy.ServeHTTP(w, r.WithContext(httptrace.WithClientTrace(r.Context(), trace)))
	if conns > 1 {
		b.say("%s %s to %s: was tried %d times", r.Method, r.URL.Path, e.n.host(), conns)
	}
}

func (b *balancer) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = append(b.wrong, fmt.Sprintf(format, args...))
}

// TestRollingRestart stops and starts the nodes of a cluster, one after the
// other, under load that comes through a balancer: no request fails, and what
// was acknowledged is there.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	needLinux(t)
	const nodes = 3
	args := []string{"--trusted-proxies=127.0.0.1", "--limit-onboarding=10000/1s", "--limit-api=10000/1s"}
	c := newCluster(t, nodes, newPostgres(t), nil, args...)
	b := newBalancer(t)
	for _, p := range c.places {
		b.add(p.alive())
	}
	all := c.places[0].alive()
	all.until("the balancer knows all nodes", func() bool { return b.ready() == nodes })

	l := &rollingLoad{t: t, url: b.url, stop: make(chan struct{}), known: make(map[string]told)}
	var clients sync.WaitGroup
	end := sync.OnceFunc(func() { close(l.stop); clients.Wait() })
	defer end()
	for i := range 8 {
		clients.Go(func() { l.client(i) })
	}
	restarts := nodes * (1 + *clusterSeconds/60)
	for round := range restarts {
		p := c.places[round%nodes]
		old := p.alive()
		before := l.answers.Load()
		old.until("the node is under load", func() bool { return l.answers.Load() > before+200 })
		old.drain()
		sent := b.drop(old)
		if sent == 0 {
			t.Errorf("node %s was sent nothing", p.name)
		}
		c.start()
		b.add(p.alive())
		p.alive().until("the balancer knows the node that has come", func() bool { return b.ready() == nodes })
	}
	before := l.answers.Load()
	c.places[0].alive().until("all are under load", func() bool { return l.answers.Load() > before+200 })
	end()
	for _, wrong := range append(b.wrong, l.wrong...) {
		t.Error(wrong)
	}
	client := c.places[0].alive().client("")
	for i, who := range l.last {
		checkKey(t, client, c.places[i%nodes].alive().url, who)
	}
	c.drain()
	mustAudit(t, c.database, l.known)
	t.Logf("%d answers over %d restarts, %d sign-ups", l.answers.Load(), restarts, len(l.known))
}

// rollingLoad is what the clients of a rolling restart see.
type rollingLoad struct {
	t       *testing.T
	url     string
	stop    chan struct{}
	answers atomic.Int64

	mu    sync.Mutex
	wrong []string
	known map[string]told
	last  []call // each client's last sign-up
}

// client sends one request after the other over connections that it keeps.
func (l *rollingLoad) client(i int) {
	client := newClient(loopback(i))
	defer client.CloseIdleConnections()
	pace := time.NewTicker(10 * time.Millisecond)
	defer pace.Stop()
	var who call
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.last = append(l.last, who)
	}()
	for nth := 0; ; nth++ {
		select {
		case <-l.stop:
			return
		case <-pace.C:
		}
		var c call
		want := http.StatusOK
		switch nth % 4 {
		case 0:
			c, want = signUp(client, l.url, fmt.Sprintf("rolling-%d-%d@customers.dev", i, nth)), http.StatusCreated
			if c.key != "" {
				who = c
			}
		case 1:
			c = do(client, http.MethodGet, l.url+"/health", "", "")
		default:
			c = do(client, http.MethodGet, l.url+"/api/v1/account", who.key, "")
		}
		l.answers.Add(1)
		l.mu.Lock()
		if c.status != want {
			l.wrong = append(l.wrong, fmt.Sprintf("client %d: request %d: %d %s %v, want %d", i, nth, c.status, c.body, c.err, want))
		}
		if c.email != "" {
			l.known[c.email] = told{call: c}
		}
		l.mu.Unlock()
	}
}
