package email_test

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"gatehouse/internal/account/email"
	"gatehouse/internal/fault"
)

// answer is what the test's DNS server says to one question. The zero answer
// is that the name exists and has no such record.
type answer struct {
	code    dnsmessage.RCode
	records []dnsmessage.ResourceBody
	silent  bool // no answer at all
	garbage bool // bytes that are no DNS message
}

type question struct {
	name string
	kind dnsmessage.Type
}

const anyType dnsmessage.Type = 0 // in a zone: for the types that are not listed

type zone map[question]answer

// serveDNS answers on loopback UDP from the zone, with NXDOMAIN for names that
// are not in it, until the test ends. It returns a resolver that asks it alone
// and a function that tells which names were asked for.
func serveDNS(t *testing.T, z zone) (r *net.Resolver, asked func() map[string]bool) {
	t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	names := make(map[string]bool)
	var server sync.WaitGroup
	server.Go(func() {
		packet := make([]byte, 1500)
		for {
			n, client, err := conn.ReadFromUDPAddrPort(packet)
			if err != nil {
				return // closed
			}
			var m dnsmessage.Message
			if err := m.Unpack(packet[:n]); err != nil || len(m.Questions) != 1 {
				t.Errorf("a query that is none: %v", err)
				continue
			}
			q := m.Questions[0]
			name := strings.ToLower(q.Name.String())
			mu.Lock()
			names[name] = true
			mu.Unlock()
			a, ok := z[question{name, q.Type}]
			if !ok {
				a, ok = z[question{name, anyType}]
			}
			if !ok {
				a.code = dnsmessage.RCodeNameError
			}
			if a.silent {
				continue
			}
			reply, err := a.pack(m.ID, q)
			if err != nil {
				t.Errorf("pack the answer: %v", err)
			}
			if _, err := conn.WriteToUDPAddrPort(reply, client); err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
		server.Wait()
	})
	return dial(conn.LocalAddr().String()), func() map[string]bool {
		mu.Lock()
		defer mu.Unlock()
		return maps.Clone(names)
	}
}

func (a answer) pack(id uint16, q dnsmessage.Question) ([]byte, error) {
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: id, Response: true, RecursionDesired: true, RecursionAvailable: true, RCode: a.code},
		Questions: []dnsmessage.Question{q},
	}
	for _, body := range a.records {
		m.Answers = append(m.Answers, dnsmessage.Resource{
			Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: body,
		})
	}
	packed, err := m.Pack()
	if a.garbage {
		packed = packed[:len(packed)-3]
	}
	return packed, err
}

// dial returns a resolver, in Go on every platform, that asks one server.
func dial(server string) *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", server)
	}}
}

func mx(host string) dnsmessage.ResourceBody {
	return &dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName(host)}
}

func TestMXAgainstDNS(t *testing.T) {
	const (
		typeA, typeAAAA, typeMX = dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeMX
		servfail, refused       = dnsmessage.RCodeServerFailure, dnsmessage.RCodeRefused
	)
	v4 := answer{records: []dnsmessage.ResourceBody{&dnsmessage.AResource{A: [4]byte{192, 0, 2, 1}}}}
	v6 := answer{records: []dnsmessage.ResourceBody{&dnsmessage.AAAAResource{AAAA: netip.MustParseAddr("2001:db8::1").As16()}}}
	rows := func(rows ...dnsmessage.ResourceBody) answer { return answer{records: rows} }
	tests := []struct {
		name    string
		types   map[dnsmessage.Type]answer // of acme.com; nil: there is no such name
		timeout time.Duration              // zero: long enough for any machine
		outcome string
	}{
		{"mail server", map[dnsmessage.Type]answer{typeMX: rows(mx("mail.acme.com."))}, 0, email.Accepted},
		{"two mail servers", map[dnsmessage.Type]answer{typeMX: rows(mx("a.acme.com."), mx("b.acme.com."))}, 0, email.Accepted},
		{"mail server by address, wrong but in use", map[dnsmessage.Type]answer{typeMX: rows(mx("192.0.2.1."))}, 0, email.Accepted},
		{"mail server beside one that can't be read", map[dnsmessage.Type]answer{typeMX: rows(mx("a b.com."), mx("b.acme.com."))}, 0, email.Accepted},
		{"null MX beside a mail server", map[dnsmessage.Type]answer{typeMX: rows(mx("."), mx("b.acme.com."))}, 0, email.Accepted},
		{"no MX but an IPv4 address", map[dnsmessage.Type]answer{typeA: v4, anyType: {}}, 0, email.Accepted},
		{"no MX but an IPv6 address", map[dnsmessage.Type]answer{typeAAAA: v6, anyType: {}}, 0, email.Accepted},
		{"no MX, an IPv6 address, IPv4 fails", map[dnsmessage.Type]answer{typeA: {code: servfail}, typeAAAA: v6, anyType: {}}, 0, email.Accepted},

		{"no such name", nil, 0, email.Refused},
		{"null MX", map[dnsmessage.Type]answer{typeMX: rows(mx(".")), typeA: v4}, 0, email.Refused},
		{"no MX and no address", map[dnsmessage.Type]answer{anyType: {}}, 0, email.Refused},

		{"server failure", map[dnsmessage.Type]answer{anyType: {code: servfail}}, 0, email.Unknown},
		{"query refused", map[dnsmessage.Type]answer{anyType: {code: refused}}, 0, email.Unknown},
		{"MX fails, though there is an address", map[dnsmessage.Type]answer{typeMX: {code: servfail}, typeA: v4}, 0, email.Unknown},
		{"no MX, IPv4 fails", map[dnsmessage.Type]answer{typeA: {code: servfail}, anyType: {}}, 0, email.Unknown},
		{"no MX, IPv6 fails", map[dnsmessage.Type]answer{typeAAAA: {code: servfail}, anyType: {}}, 0, email.Unknown},
		{"no mail server that can be read", map[dnsmessage.Type]answer{typeMX: rows(mx("a b.com."))}, 0, email.Unknown},
		{"silence", map[dnsmessage.Type]answer{anyType: {silent: true}}, 20 * time.Millisecond, email.Unknown},
		{"garbage", map[dnsmessage.Type]answer{anyType: {garbage: true}}, 20 * time.Millisecond, email.Unknown},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			z := make(zone)
			for kind, a := range tt.types {
				z[question{"acme.com.", kind}] = a
			}
			r, asked := serveDNS(t, z)
			o := &outcomes{}
			timeout := time.Minute
			if tt.timeout > 0 {
				timeout = tt.timeout
			}
			m := email.NewMX(r, email.MXOptions{Timeout: timeout, Observe: o.observe})

			want := ""
			if tt.outcome == email.Refused {
				want = fault.NoMailServer
			}
			if got := reason(t, m.Check(t.Context(), "acme.com")); got != want {
				t.Errorf("reason %q, want %q", got, want)
			}
			o.want(t, tt.outcome)
			for name := range asked() {
				if name != "acme.com." {
					t.Errorf("asked for %q too", name)
				}
			}
		})
	}
}

// ON-10: a resolver that is away refuses nobody.
func TestMXWithADeadResolver(t *testing.T) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	server := conn.LocalAddr().String()
	if err := conn.Close(); err != nil { // nobody listens there now
		t.Fatal(err)
	}

	o := &outcomes{}
	m := email.NewMX(dial(server), email.MXOptions{Timeout: 20 * time.Millisecond, Observe: o.observe})
	for range 3 {
		if err := m.Check(t.Context(), "acme.com"); err != nil {
			t.Errorf("Check = %v, want it to pass", err)
		}
	}
	o.want(t, email.Unknown, email.Unknown, email.Unknown)
}
