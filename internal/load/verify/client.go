package verify

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load"
	"gatehouse/internal/load/signature"
)

const (
	requestTimeout = 10 * time.Second
	maxAnswer      = 64 << 10 // bytes
	maxTold        = 300      // characters of what it says that are kept
)

// node is one address behind a target's URL: each may be another process, and
// may be dead.
type node struct {
	url  *url.URL
	addr string // and port
	name string // in reports
}

// find looks the targets' addresses up. All are of one family: a client with
// both has an address of each, and so is two clients.
func find(ctx context.Context, targets []*url.URL) ([]node, error) {
	addrs := make([][]netip.Addr, len(targets))
	for i, t := range targets {
		var err error
		if addrs[i], err = net.DefaultResolver.LookupNetIP(ctx, "ip", t.Hostname()); err != nil {
			return nil, fmt.Errorf("look up the target: %w", err)
		}
	}
	for _, four := range []bool{true, false} {
		var nodes []node
		whole := true // every target has an address of this family
		for i, t := range targets {
			of := slices.DeleteFunc(slices.Clone(addrs[i]), func(a netip.Addr) bool { return a.Unmap().Is4() != four })
			whole = whole && len(of) > 0
			for _, a := range of {
				port := cmp.Or(t.Port(), map[string]string{"http": "80", "https": "443"}[t.Scheme])
				n := node{url: t, addr: net.JoinHostPort(a.Unmap().String(), port), name: t.String()}
				if len(of) > 1 {
					n.name += " at " + n.addr
				}
				nodes = append(nodes, n)
			}
		}
		if whole {
			return nodes, nil
		}
	}
	return nil, errors.New("the targets have neither IPv4 nor IPv6 in common, so one client can't ask them all")
}

// client is one client of one policy, on connections of its own.
type client struct {
	policy Policy
	nodes  []node
	http   []*http.Client // of each node
	keys   []string       // of one customer, that take turns
	domain string
	secret string
	run    string        // makes what it writes unlike any other run's
	ahead  time.Duration // of the target's clock: for signatures, and nothing else
	own    int           // requests for verify's own needs
	// forwarded is the X-Forwarded-For of all its requests, or "".
	forwarded string
}

// ownAddress reports whether loopback has an address for each client: IPv6 has
// one in all.
func ownAddress(nodes []node) bool { return strings.Contains(nodes[0].addr, ".") }

// newClient makes a client, at an address that nobody else has where there is
// one: in the blocks that load run's clients are in, too.
func newClient(o *Options, p Policy, nodes []node) *client {
	c := &client{policy: p, nodes: nodes, domain: o.Domain, secret: o.Secret, run: strings.ToLower(rand.Text()[:12])}
	dialer := &net.Dialer{Timeout: requestTimeout}
	var b [3]byte
	rand.Read(b[:])
	switch {
	case o.Via == load.ViaForwarded:
		c.forwarded = fmt.Sprintf("198.%d.%d.%d", 18+b[0]%2, b[1], b[2]) // RFC 2544's, for benchmarks
	case o.Loopback && ownAddress(nodes):
		dialer.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 16+b[0]%224, b[1], b[2])}
	}
	for _, n := range nodes {
		c.http = append(c.http, &http.Client{
			Timeout: requestTimeout,
			Transport: &http.Transport{
				MaxIdleConnsPerHost: inFlight, DisableCompression: true,
				IdleConnTimeout: 10 * time.Second, // sooner than a server or balancer gives up, which would cost an answer
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return dialer.DialContext(ctx, network, n.addr)
				},
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		})
	}
	return c
}

func (c *client) close() {
	for _, h := range c.http {
		h.CloseIdleConnections()
	}
}

// send makes one request of the policy's kind.
func (c *client) send(ctx context.Context, ask Ask) Attempt {
	h := http.Header{"Content-Type": {"application/json"}}
	body := c.policy.body
	switch {
	case c.policy.signed: // always the same event, of a type that has no effect: it is stored once
		body = fmt.Sprintf(`{"id": "evt_verify%s", "object": "event", "type": "gatehouse.verify", "created": 1, "livemode": false, "data": {"object": {}}}`, c.run)
		h.Set("Stripe-Signature", signature.Sign(c.secret, time.Now().Add(c.ahead), body))
	case c.policy.NeedsKey:
		h.Set("X-Api-Key", c.keys[ask.Key-1])
	case body == "":
		body = c.signUpBody(ask.N)
	}
	if ask.Spoofed {
		claim := fmt.Sprintf("198.18.%d.%d", ask.N>>8&255, ask.N&255)
		for _, name := range []string{"X-Forwarded-For", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Cluster-Client-Ip"} {
			h.Set(name, claim)
		}
		h.Set("Forwarded", "for="+claim)
		h.Set("User-Agent", "verify/"+claim)
	}
	a, _ := c.request(ctx, ask, http.MethodPost, c.policy.path, h, body)
	return a
}

func (c *client) signUpBody(n int) string {
	return fmt.Sprintf(`{"name": "Load verify", "email": "verify-%s-%d@%s"}`, c.run, n, c.domain)
}

// request sends once. The decision lies between the instants that it notes: before
// the request is written, and once the answer's header is here. net/http
// repeats nothing of what was written: it can't read the body again.
func (c *client) request(ctx context.Context, ask Ask, method, path string, h http.Header, body string) (a Attempt, text []byte) {
	var wrote atomic.Int64
	traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(int64(time.Since(ask.Epoch))) }})
	req, err := http.NewRequestWithContext(traced, method, c.nodes[ask.Target].url.JoinPath(path).String(), io.NopCloser(strings.NewReader(body)))
	if err != nil {
		return Attempt{Err: err.Error(), Unsent: true}, nil
	}
	if c.forwarded != "" { // a proxy's word, so it is no claim that buys nothing
		h.Set("X-Forwarded-For", c.forwarded)
	}
	req.Header, req.ContentLength = h, int64(len(body))
	a.Sent = time.Since(ask.Epoch)
	resp, err := c.http[ask.Target].Do(req)
	a.Received, a.Wrote = time.Since(ask.Epoch), time.Duration(wrote.Load())
	if err != nil {
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err // the URL is told elsewhere
		}
		a.Err, a.Unsent = load.Clean(err.Error(), maxTold), a.Wrote == 0 && ctx.Err() == nil
		return a, nil
	}
	defer resp.Body.Close()
	a.Answer = readAnswer(resp.StatusCode, resp.Header)
	var problem struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	text, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err == nil && json.Unmarshal(text, &problem) == nil { // else it is no error of the contract's, or was cut off
		a.Code, a.Message = load.Clean(problem.Error.Code, maxTold), load.Clean(problem.Error.Message, maxTold)
	}
	return a, text
}

// first asks the first target that answers, with a key or "".
func (c *client) first(ctx context.Context, method, path, key, body string) (a Attempt, text []byte) {
	for i := range c.nodes {
		c.own++
		h := http.Header{"Content-Type": {"application/json"}}
		if key != "" {
			h.Set("X-Api-Key", key)
		}
		if a, text = c.request(ctx, Ask{Target: i, Epoch: time.Now()}, method, path, h, body); a.Err == "" {
			break
		}
	}
	return a, text
}

// readClock learns how far the target's clock is ahead: a signature has a time.
// Any answer tells, and no policy counts this one.
func (c *client) readClock(ctx context.Context) {
	if a, _ := c.first(ctx, http.MethodPost, "/livez", "", ""); !a.Date.IsZero() {
		c.ahead = time.Until(a.Date)
	}
}
