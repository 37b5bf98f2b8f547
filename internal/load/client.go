package load

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
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
	idle      [][]*conn  // by target, the last used last; guarded by the engine's mu
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

// newSenders makes the clients of all requests, in the order of the requests,
// each with room for connections to so many targets.
// Addresses begin at a random one, so that a run does not find the last one's
// rate limits used up.
func newSenders(requests []Request, targets int) []*senders {
	made := make(map[*Clients]*senders)
	all := make([]*senders, len(requests))
	next := rand.Uint32()
	for i, r := range requests {
		if s := made[r.Clients]; s != nil {
			all[i] = s
			continue
		}
		s := &senders{clients: make([]client, max(r.Clients.Count, 1))}
		idle := make([][]*conn, len(s.clients)*targets)
		for k := range s.clients {
			s.clients[k].idle, idle = idle[:targets:targets], idle[targets:]
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

// endpoint is where connections go. Addresses are looked up once, so that a
// resolver is no part of what is measured.
type endpoint struct {
	addrs []string // addresses and ports, each once
	tls   *tls.Config
	host  string // what requests say
	path  string // put before theirs
}

// resolve finds the targets' addresses.
func resolve(ctx context.Context, j *Job) (*endpoint, error) {
	target := j.Targets[0]
	e := &endpoint{host: target.Host, path: strings.TrimSuffix(target.EscapedPath(), "/")}
	if target.Scheme == "https" {
		e.tls = j.TLS.Clone()
		if e.tls == nil {
			e.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		}
		if e.tls.ServerName == "" {
			e.tls.ServerName = target.Hostname()
		}
	}
	for _, t := range j.Targets {
		addrs, port, err := addressesOf(ctx, t)
		if err != nil {
			return nil, err
		}
		for _, addr := range addrs {
			for _, r := range j.Requests {
				if r.Clients.Via == ViaSource && (!addr.Is4() || !addr.IsLoopback()) {
					return nil, fmt.Errorf("clients with source addresses are on IPv4's loopback, and the target %s is not", addr)
				}
			}
			if to := netip.AddrPortFrom(addr, port).String(); !slices.Contains(e.addrs, to) {
				e.addrs = append(e.addrs, to)
			}
		}
	}
	return e, nil
}

// addressesOf looks a target up.
func addressesOf(ctx context.Context, target *url.URL) (addrs []netip.Addr, to uint16, err error) {
	text := cmp.Or(target.Port(), map[string]string{"http": "80", "https": "443"}[target.Scheme])
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return nil, 0, fmt.Errorf("the target's port is %q", text)
	}
	addrs, err = net.DefaultResolver.LookupNetIP(ctx, "ip", target.Hostname())
	if err != nil {
		return nil, 0, fmt.Errorf("look up the target: %w", err)
	}
	if len(addrs) == 0 {
		return nil, 0, fmt.Errorf("the target %s has no address", target.Hostname())
	}
	return oneFamily(addrs), uint16(port), nil
}

// oneFamily keeps the IPv4 addresses if there are any, since a name commonly has
// one node's address in both families. They are in order, whatever the resolver's.
func oneFamily(addrs []netip.Addr) []netip.Addr {
	var four, six []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			four = append(four, a)
		} else {
			six = append(six, a)
		}
	}
	if len(four) == 0 {
		four = six
	}
	slices.SortFunc(four, netip.Addr.Compare)
	return slices.Compact(four)
}

// rota gives each target one request of every round, in an order that the seed
// draws anew for each. In a fixed one a client, or a kind of request, that comes
// at the same step would always meet the same target.
type rota struct {
	rng   *rand.Rand
	round []int
	done  int // of the round
}

func newRota(seed uint64, targets int) *rota {
	r := &rota{rng: rand.New(rand.NewPCG(seed, 3)), round: make([]int, targets)}
	for i := range r.round {
		r.round[i] = i
	}
	return r
}

func (r *rota) next() int {
	if r.done == 0 && len(r.round) > 1 {
		r.rng.Shuffle(len(r.round), func(i, j int) { r.round[i], r.round[j] = r.round[j], r.round[i] })
	}
	target := r.round[r.done]
	if r.done++; r.done == len(r.round) {
		r.done = 0
	}
	return target
}

// dial opens a client's connection to a target. The times are of TCP and of TLS.
func (e *endpoint) dial(ctx context.Context, c *client, target int) (cn *conn, connect, handshake time.Duration, err error) {
	d := net.Dialer{KeepAlive: -1}
	if c.local.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: c.local.AsSlice()}
		d.ControlContext = shareLocalPorts
	}
	began := time.Now()
	plain, err := d.DialContext(ctx, "tcp", e.addrs[target])
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
