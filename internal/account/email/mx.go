package email

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"gatehouse/internal/fault"
)

// Outcomes of MX.Check, as MXOptions.Observe hears them. They are metric
// labels: append only.
const (
	Accepted = "accepted" // the domain takes mail
	Refused  = "refused"  // it certainly does not
	Unknown  = "unknown"  // no answer, or none that decides: the address passes
	Busy     = "busy"     // not asked, too many look-ups under way: the address passes
)

const (
	// maxLookups bounds the look-ups under way, since each may hold a request
	// and sockets for the whole time-out while a resolver is away.
	maxLookups = 32

	// maxKnown bounds the domains remembered: a few MB, were all names as
	// long as they can be.
	maxKnown = 10_000

	acceptedFor = time.Hour       // a working domain rarely stops, and a mail that bounces does no harm
	refusedFor  = 5 * time.Minute // short: someone may be setting the domain up right now
	unknownFor  = 5 * time.Second // so that one dead resolver is not waited for by every sign-up
)

// Resolver is the part of *net.Resolver that MX needs.
type Resolver interface {
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// MXOptions may be left empty.
type MXOptions struct {
	Timeout time.Duration        // of all of one check's queries together; zero: 2 s
	Now     func() time.Time     // nil: time.Now
	Observe func(outcome string) // called once a check, by many goroutines; nil: nobody listens
}

// MX checks that a domain can receive mail. Only a definite no refuses: a
// resolver's outage must not close the door.
type MX struct {
	resolver Resolver
	timeout  time.Duration
	now      func() time.Time
	observe  func(outcome string)

	flights singleflight.Group // by domain
	places  chan struct{}      // one taken by each look-up under way

	mu    sync.Mutex
	known map[string]verdict // by domain, at most maxKnown
}

type verdict struct {
	outcome string
	until   time.Time
}

// NewMX returns a check that asks r, such as net.DefaultResolver.
func NewMX(r Resolver, o MXOptions) *MX {
	m := &MX{
		resolver: r,
		timeout:  cmp.Or(o.Timeout, 2*time.Second),
		now:      o.Now,
		observe:  o.Observe,
		places:   make(chan struct{}, maxLookups),
		known:    make(map[string]verdict),
	}
	if m.now == nil {
		m.now = time.Now
	}
	if m.observe == nil {
		m.observe = func(string) {}
	}
	return m
}

// Check refuses a domain, given as A-labels, that can't receive mail, with
// fault.NoMailServer and no other error.
//
// Checks of one domain at one time share a look-up. It runs on the first one's
// goroutine, so nobody has to stop it, and does not end with that one's
// context, so that a client who hangs up decides for no other. Hence Check may
// outlast ctx, by at most the time-out.
func (m *MX) Check(ctx context.Context, domain string) error {
	shared, _, _ := m.flights.Do(domain, func() (any, error) {
		return m.outcome(context.WithoutCancel(ctx), domain), nil
	})
	outcome := shared.(string)
	m.observe(outcome)
	if outcome == Refused {
		return fault.Field("email", fault.NoMailServer, "email must be at a domain that can receive mail")
	}
	return nil
}

func (m *MX) outcome(ctx context.Context, domain string) string {
	if outcome, ok := m.recall(domain); ok {
		return outcome
	}
	select {
	case m.places <- struct{}{}:
		defer func() { <-m.places }()
	default:
		return Busy
	}
	ctx, cancel := context.WithTimeout(ctx, m.timeout)
	defer cancel()
	outcome := lookUp(ctx, m.resolver, domain)
	m.remember(domain, outcome)
	return outcome
}

func lookUp(ctx context.Context, r Resolver, domain string) string {
	name := domain + "." // absolute: without the dot the host's search domains would be tried too
	hosts, err := r.LookupMX(ctx, name)
	switch {
	case len(hosts) > 0: // also beside an error, which then is about other records that can't be read
		for _, mx := range hosts {
			if mx.Host != "." {
				return Accepted
			}
		}
		return Refused // null MX, RFC 7505
	case err != nil && !notFound(err):
		return Unknown
	}
	// No MX: the domain itself is the mail server if it has an address (RFC
	// 5321 section 5.1). The families are asked one by one, because Go joins
	// them to one error, and "no A" may hide that AAAA was not answered.
	decided := Refused
	for _, family := range []string{"ip4", "ip6"} {
		addrs, err := r.LookupNetIP(ctx, family, name)
		if len(addrs) > 0 {
			return Accepted
		}
		if err != nil && !notFound(err) {
			decided = Unknown
		}
	}
	return decided
}

// notFound reports whether the DNS answered that there is no such name or no
// such record; Go does not tell these apart.
func notFound(err error) bool {
	dns, ok := errors.AsType[*net.DNSError](err)
	return ok && dns.IsNotFound
}

func (m *MX) recall(domain string) (outcome string, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, ok := m.known[domain]
	if !ok || !m.now().Before(v.until) {
		return "", false
	}
	return v.outcome, true
}

func (m *MX) remember(domain, outcome string) {
	keep := unknownFor
	switch outcome {
	case Accepted:
		keep = acceptedFor
	case Refused:
		keep = refusedFor
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.known) >= maxKnown {
		for victim := range m.known { // any one: cheap, and no order that a stranger could play on
			delete(m.known, victim)
			break
		}
	}
	// Cloned, since the name may be part of a request's far longer text.
	m.known[strings.Clone(domain)] = verdict{outcome, m.now().Add(keep)}
}
