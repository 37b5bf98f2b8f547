package load

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

// A connection that nobody used for so long is closed: common servers and
// balancers give up on them after a minute or more.
const maxIdle = 50 * time.Second

// client is one sender: an address of its own, or a header field.
type client struct {
	local     netip.Addr // zero: the machine's choice
	forwarded string     // X-Forwarded-For, or ""
	idle      []*conn    // the last used is the last; guarded by the engine's mu
}

// conn is one open connection. It belongs to its client while idle, and to one
// worker otherwise.
type conn struct {
	net.Conn
	raw   *net.TCPConn // beneath TLS
	watch *watch       // of raw
	used  time.Duration
}

// readAhead reports whether TLS has read more than it has given: an answer that
// nobody asked for. The deadline is set again afterwards.
func (c *conn) readAhead(deadline time.Time) bool {
	secured, ok := c.Conn.(*tls.Conn)
	if !ok {
		return false
	}
	var b [1]byte
	_ = secured.SetReadDeadline(time.Unix(1, 0)) // only what it has
	n, err := secured.Read(b[:])
	_ = secured.SetReadDeadline(deadline)
	return n > 0 || !errors.Is(err, os.ErrDeadlineExceeded)
}

// drop closes it without TLS's farewell, which can wait for five seconds.
func (c *conn) drop() {
	_ = c.raw.Close()
}

// senders are the clients of one or several requests, who take turns.
type senders struct {
	clients []client
	turn    int
}

func (s *senders) next() *client {
	c := &s.clients[s.turn]
	if s.turn++; s.turn == len(s.clients) {
		s.turn = 0
	}
	return c
}

// loopbackBlock is where source addresses start: 127.16.0.0. The machine's own
// services stay apart from it.
const (
	loopbackBlock = 127<<24 | 16<<16
	loopbackSize  = 224 << 16
	forwardBlock  = 198<<24 | 18<<16 // 198.18.0.0/15, RFC 2544's for benchmarks
	forwardSize   = 2 << 16
)

func address(block, size, i uint32) netip.Addr {
	n := block + i%size
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// newSenders makes the clients of all requests, in the order of the requests.
// Addresses begin at a random one, so that a run does not find the last one's
// rate limits used up.
func newSenders(requests []Request) []*senders {
	made := make(map[*Clients]*senders)
	all := make([]*senders, len(requests))
	next := rand.Uint32()
	for i, r := range requests {
		if s := made[r.Clients]; s != nil {
			all[i] = s
			continue
		}
		s := &senders{clients: make([]client, max(r.Clients.Count, 1))}
		for k := range s.clients {
			switch r.Clients.Via {
			case ViaSource:
				s.clients[k].local = address(loopbackBlock, loopbackSize, next%loopbackSize)
			case ViaForwarded:
				s.clients[k].forwarded = address(forwardBlock, forwardSize, next%forwardSize).String()
			}
			next++
		}
		made[r.Clients] = s
		all[i] = s
	}
	return all
}

// endpoint is where all connections go: looked up once, so that a resolver is
// no part of what is measured.
type endpoint struct {
	addr string // address and port
	tls  *tls.Config
	host string // what requests say
	path string // put before theirs
}

// resolve finds the target's address. An IPv4 one is taken if there is one.
func resolve(ctx context.Context, j *Job) (endpoint, error) {
	target := j.Target
	e := endpoint{host: target.Host, path: strings.TrimSuffix(target.EscapedPath(), "/")}
	port := target.Port()
	if target.Scheme == "https" {
		e.tls = j.TLS.Clone()
		if e.tls == nil {
			e.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if e.tls.ServerName == "" {
			e.tls.ServerName = target.Hostname()
		}
	}
	if port == "" {
		port = map[bool]string{true: "443", false: "80"}[e.tls != nil]
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", target.Hostname())
	if err != nil {
		return e, fmt.Errorf("look up the target: %w", err)
	}
	if len(addrs) == 0 {
		return e, fmt.Errorf("the target %s has no address", target.Hostname())
	}
	best := addrs[0]
	for _, a := range addrs {
		if a.Unmap().Is4() {
			best = a
			break
		}
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return e, fmt.Errorf("the target's port is %q", port)
	}
	for _, r := range j.Requests {
		if r.Clients.Via == ViaSource && (!best.Unmap().Is4() || !best.IsLoopback()) {
			return e, fmt.Errorf("clients with source addresses are on IPv4's loopback, and the target %s is not", best)
		}
	}
	e.addr = net.JoinHostPort(best.Unmap().String(), port)
	return e, nil
}

// dial opens a connection for a client. The times are of TCP and of TLS.
func (e *endpoint) dial(ctx context.Context, c *client) (cn *conn, connect, handshake time.Duration, err error) {
	d := net.Dialer{KeepAlive: -1}
	if c.local.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: c.local.AsSlice()}
		d.ControlContext = shareLocalPorts
	}
	began := time.Now()
	plain, err := d.DialContext(ctx, "tcp", e.addr)
	if err != nil {
		return nil, 0, 0, err
	}
	raw, ok := plain.(*net.TCPConn)
	if !ok {
		return nil, 0, 0, errors.Join(fmt.Errorf("dialled a %T", plain), plain.Close())
	}
	connect = time.Since(began)
	cn = &conn{Conn: raw, raw: raw}
	if cn.watch, err = newWatch(raw); err != nil {
		return nil, 0, 0, errors.Join(err, raw.Close())
	}
	if e.tls == nil {
		return cn, connect, 0, nil
	}
	began = time.Now()
	secured := tls.Client(raw, e.tls)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, connect, 0, errors.Join(handshakeError{err}, raw.Close())
	}
	cn.Conn = secured
	return cn, connect, time.Since(began), nil
}
