package load

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sites are so many targets of one job of 300 requests.
func sites(t *testing.T, n int) (all []*site, j *Job) {
	t.Helper()
	for range n {
		all = append(all, newSite(t, statusOK))
	}
	j = jobFor(t, all[0].URL, 300, 300*time.Millisecond)
	for _, s := range all[1:] {
		u, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		j.Targets = append(j.Targets, u)
	}
	return all, j
}

// Each target gets its share, however few connections would do, and by its own
// count what the run says.
func TestTargetsTakeTurns(t *testing.T) {
	for _, tt := range []struct {
		clients Clients
		targets int
	}{
		{Clients{1, ViaNone}, 3},
		{Clients{30, ViaSource}, 3}, // in a fixed order each client would meet one target alone
		{Clients{7, ViaForwarded}, 2},
		{Clients{1, ViaNone}, 1},
	} {
		t.Run(fmt.Sprintf("%d %s to %d", tt.clients.Count, tt.clients.Via, tt.targets), func(t *testing.T) {
			all, j := sites(t, tt.targets)
			j.Requests[0].Clients, j.MaxInFlight = &tt.clients, 2
			r := run(t.Context(), t, j)
			var want []Target
			met := 0 // pairs of a source address and a target
			for i, s := range all {
				n := s.status[200]
				if each := r.Sent / int64(tt.targets); n != each && n != each+1 {
					t.Errorf("target %d got %d of %d requests", i, n, r.Sent)
				}
				want = append(want, Target{Address: s.Listener.Addr().String(), Sent: n, Answered: n})
				met += len(s.peers)
			}
			if diff := cmp.Diff(want, r.Targets); diff != "" {
				t.Errorf("-targets +run\n%s", diff)
			}
			if tt.clients.Via == ViaSource && met < tt.clients.Count*tt.targets*9/10 {
				t.Errorf("only %d pairs of %d clients and %d targets met", met, tt.clients.Count, tt.targets)
			}
			if c := r.Connections; c.Opened+c.Reused != r.Sent || c.Reused < r.Sent/2 {
				t.Errorf("%d connections opened and %d reused for %d requests", c.Opened, c.Reused, r.Sent)
			}
		})
	}
}

// A dead target costs its share of the requests, and no other's.
func TestADeadTargetOfTwo(t *testing.T) {
	all, j := sites(t, 2)
	all[1].Close()
	r := run(t.Context(), t, j)
	alive, dead := r.Targets[0], r.Targets[1]
	if alive.Answered != alive.Sent || alive.Sent != all[0].status[200] || dead.Answered != 0 || dead.Sent < r.Sent/2 || keys(r)["error:refused"] != dead.Sent {
		t.Errorf("%+v of %d, %v", r.Targets, r.Sent, keys(r))
	}
}

func TestRota(t *testing.T) {
	turns := func(seed uint64) (all []int) {
		rota := newRota(seed, 3)
		for range 90 {
			all = append(all, rota.next())
		}
		return all
	}
	first := turns(1)
	for round := range slices.Chunk(first, 3) {
		if slices.Sort(round); !slices.Equal(round, []int{0, 1, 2}) {
			t.Fatalf("a round was %v", round)
		}
	}
	if !slices.Equal(turns(1), turns(1)) || slices.Equal(turns(1), turns(2)) {
		t.Error("the seed does not decide the order")
	}
}

func TestOneFamily(t *testing.T) {
	for _, tt := range []struct{ name, addrs, want string }{
		{"localhost", "::1 127.0.0.1 127.0.0.1", "127.0.0.1"},
		{"IPv4 alone, in order", "10.0.0.2 10.0.0.1", "10.0.0.1 10.0.0.2"},
		{"IPv4 in IPv6", "::ffff:10.0.0.1 10.0.0.1", "10.0.0.1"},
		{"IPv6 alone", "fd00::2 fd00::1", "fd00::1 fd00::2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var addrs []netip.Addr
			for text := range bytes.FieldsSeq([]byte(tt.addrs)) {
				addrs = append(addrs, netip.MustParseAddr(string(text)))
			}
			if got := fmt.Sprint(oneFamily(addrs)); got != "["+tt.want+"]" {
				t.Errorf("%s; want %s", got, tt.want)
			}
		})
	}
}

// BenchmarkRun sends as fast as it can to targets that cost next to nothing.
func BenchmarkRun(b *testing.B) {
	for _, targets := range []int{1, 3} {
		b.Run(fmt.Sprint(targets), func(b *testing.B) {
			j := jobFor(b, "http://127.0.0.1", b.N, time.Duration(b.N)*time.Microsecond)
			j.MaxInFlight = 16
			j.Targets = nil
			for range targets {
				j.Targets = append(j.Targets, &url.URL{Scheme: "http", Host: listen(b, answers).Addr().String()})
			}
			b.ReportAllocs()
			b.ResetTimer()
			r, err := Run(b.Context(), j)
			if err != nil || r.Answered != r.Scheduled {
				b.Fatal(err, keys(r))
			}
		})
	}
}

// answers answers each read with a 200, which fits who sends one request at a time.
func answers(c net.Conn) {
	defer func() { _ = c.Close() }()
	request, answer := make([]byte, 4<<10), []byte(okAnswer)
	for {
		if _, err := c.Read(request); err != nil {
			return
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}
