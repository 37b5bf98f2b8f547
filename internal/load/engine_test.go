package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// site is a well-behaved target that keeps its own counts.
type site struct {
	*httptest.Server
	mu       sync.Mutex
	status   map[int]int64
	peers    map[string]int64 // by address
	headers  map[string]int64 // by X-Forwarded-For
	paths    map[string]int64
	bodies   map[string]int64
	inFlight atomic.Int64
	most     atomic.Int64
}

// newSite serves with what answer does, and returns a status.
func newSite(t *testing.T, answer func(w http.ResponseWriter, r *http.Request) int) *site {
	t.Helper()
	s := &site{
		status: make(map[int]int64), peers: make(map[string]int64), headers: make(map[string]int64),
		paths: make(map[string]int64), bodies: make(map[string]int64),
	}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now := s.inFlight.Add(1)
		defer s.inFlight.Add(-1)
		for most := s.most.Load(); now > most && !s.most.CompareAndSwap(most, now); most = s.most.Load() {
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read a request: %v", err)
		}
		status := answer(w, r)
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		s.mu.Lock()
		s.status[status]++
		s.peers[host]++
		s.headers[r.Header.Get("X-Forwarded-For")]++
		s.paths[r.Method+" "+r.URL.String()]++
		s.bodies[string(body)]++
		s.mu.Unlock()
		w.WriteHeader(status)
	}))
	s.Config.ErrorLog = nil
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func statusOK(http.ResponseWriter, *http.Request) int { return http.StatusOK }

// jobFor is a job of about n requests in so long a time.
func jobFor(t testing.TB, target string, n int, span time.Duration) *Job {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	rate := float64(n) / span.Seconds()
	return &Job{
		Targets: []*url.URL{u}, Stages: []Stage{{time.Millisecond, rate}, {span, rate}},
		Requests: []Request{{Name: "one", Weight: 1, Method: http.MethodGet, Path: Literally("/one"), Clients: &Clients{Count: 1, Via: ViaNone}}},
		Outcomes: []Outcome{{"created", 201, Success}, {"limited", 429, Expected}}, MaxInFlight: 1000, Timeout: 10 * time.Second, Seed: 1,
	}
}

func run(ctx context.Context, t *testing.T, j *Job) *Result {
	t.Helper()
	before := resources(j.Targets[0].Port())
	r, err := Run(ctx, j)
	if err != nil {
		t.Fatal(err)
	}
	checkSums(t, r)
	before.checkGone(t, j.Targets[0].Port())
	if r.Planned != j.Planned() || r.InFlightMax > j.MaxInFlight {
		t.Errorf("planned %v, at most %d in flight", r.Planned, r.InFlightMax)
	}
	return r
}

// keys are the counts by outcome over all requests.
func keys(r *Result) map[string]int64 {
	all := make(map[string]int64)
	for _, s := range r.Series {
		all[s.Key] += s.Count()
	}
	return all
}

func TestCountsEqualTheTargets(t *testing.T) {
	var n atomic.Int64
	s := newSite(t, func(http.ResponseWriter, *http.Request) int {
		return []int{201, 429, 201, 500, 404, 302}[n.Add(1)%6] // 302: followed, it would be counted at the target
	})
	j := jobFor(t, s.URL+"/base/", 600, 200*time.Millisecond)
	shared := &Clients{Count: 7, Via: ViaSource}
	j.Requests = []Request{
		{Name: "a", Weight: 3, Method: http.MethodPost, Path: Literally("/a"), Clients: shared, Body: Template{{Text: "n"}, {Place: Seq}}},
		{Name: "b", Weight: 1, Method: http.MethodGet, Path: Template{{Text: "/b?q="}, {Place: Pick, Picks: []string{"x", "y"}}}, Clients: shared},
		{Name: "c", Weight: 1, Method: http.MethodDelete, Path: Literally("/c"), Clients: &Clients{Count: 5, Via: ViaForwarded}},
		{Name: "never", Weight: 0, Method: http.MethodGet, Path: Literally("/never"), Clients: shared},
	}
	r := run(t.Context(), t, j)
	if r.Interrupted || r.Unsent != 0 || r.Errors != 0 || r.Scheduled < 600 {
		t.Fatalf("%d scheduled, %d sent, %d unsent, %d errors %v", r.Scheduled, r.Sent, r.Unsent, r.Errors, keys(r))
	}
	if n.Load() != r.Sent {
		t.Errorf("the target counts %d requests, the run %d", n.Load(), r.Sent)
	}
	want := make(map[string]int64)
	for status, count := range s.status {
		want[fmt.Sprint(status)] = count
	}
	if diff := cmp.Diff(want, keys(r)); diff != "" {
		t.Errorf("by status: -target +run\n%s", diff)
	}

	byRequest := make(map[string]int64)
	for _, series := range r.Series {
		byRequest[series.Request] += series.Count()
	}
	atTarget := map[string]int64{
		"a": s.paths["POST /base/a"], "b": s.paths["GET /base/b?q=x"] + s.paths["GET /base/b?q=y"], "c": s.paths["DELETE /base/c"],
	}
	if diff := cmp.Diff(atTarget, byRequest); diff != "" {
		t.Errorf("by request: -target +run\n%s\n%v", diff, s.paths)
	}
	// The same seed chooses the same requests, and picks the same.
	picked := s.paths["GET /base/b?q=x"]
	again := run(t.Context(), t, j)
	for _, series := range again.Series {
		byRequest[series.Request] -= series.Count()
	}
	if byRequest["a"] != 0 || byRequest["b"] != 0 || byRequest["c"] != 0 || s.paths["GET /base/b?q=x"] != 2*picked {
		t.Errorf("with one seed other requests: %v, %v", byRequest, s.paths)
	}
	for body, count := range s.bodies {
		if body != "" && count != 2 {
			t.Errorf("body %q came %d times in two runs", body, count)
		}
	}
}

func TestClientsTakeStrictTurns(t *testing.T) {
	for _, tt := range []struct {
		via   Via
		count int
		peers int
	}{{ViaSource, 50, 50}, {ViaForwarded, 50, 1}, {ViaNone, 1, 1}} {
		t.Run(string(tt.via), func(t *testing.T) {
			s := newSite(t, statusOK)
			j := jobFor(t, s.URL, 320, 200*time.Millisecond)
			j.Requests[0].Clients = &Clients{Count: tt.count, Via: tt.via}
			r := run(t.Context(), t, j)
			counts := s.peers
			if len(s.peers) != tt.peers {
				t.Errorf("%d addresses, want %d", len(s.peers), tt.peers)
			}
			if tt.via == ViaForwarded {
				counts = s.headers
			} else if s.headers[""] != r.Sent {
				t.Errorf("forwarded: %v", s.headers)
			}
			if len(counts) != tt.count {
				t.Errorf("%d clients, want %d", len(counts), tt.count)
			}
			for who, n := range counts {
				if each := r.Sent / int64(tt.count); n != each && n != each+1 {
					t.Errorf("%s sent %d, want %d or one more", who, n, each)
				}
				if tt.via == ViaSource && !strings.HasPrefix(who, "127.") || tt.via == ViaForwarded && !strings.HasPrefix(who, "198.1") {
					t.Errorf("client %q", who)
				}
			}
			if c := r.Connections; c.Opened+c.Reused != r.Sent || c.Reused == 0 {
				t.Errorf("%d opened, %d reused, %d sent", c.Opened, c.Reused, r.Sent)
			}
		})
	}
}

// While all places are taken, arrivals keep their due times: latency shows the
// wait, and lag, which is the generator's own fault, does not.
func TestAFullHouseIsLatencyAndNotLag(t *testing.T) {
	const places = 4
	release := make(chan struct{})
	s := newSite(t, func(http.ResponseWriter, *http.Request) int {
		<-release
		return http.StatusOK
	})
	j := jobFor(t, s.URL, 200, 200*time.Millisecond)
	j.MaxInFlight = places
	const held = 2 * time.Second
	j.Observe = func(s *Sample) {
		if s.Second == 1 {
			close(release)
		}
	}
	r := run(t.Context(), t, j)
	if got := s.most.Load(); got != places || r.InFlightMax != places {
		t.Errorf("the target saw %d in flight and the run %d, want %d", got, r.InFlightMax, places)
	}
	if r.Errors != 0 || r.Unsent != 0 {
		t.Fatalf("%d errors, %d unsent", r.Errors, r.Unsent)
	}
	one := r.Series[0]
	if p5 := one.Latency.rawQuantile(0.05); p5 < held-time.Second {
		t.Errorf("a twentieth had a latency of %v at most, though all waited for the first", p5)
	}
	if p90 := one.Service.rawQuantile(0.9); p90 > held/2 {
		t.Errorf("nine in ten had a service of %v, though the target only held %d", p90, places)
	}
	if r.Lag.Max() > held/2 {
		t.Errorf("the wait for a place counts as lag: %v", r.Lag.Max())
	}
	if s := r.Samples[1]; s.Waiting != r.Scheduled-places || s.InFlight != places {
		t.Errorf("in its second second %d waited and %d were in flight", s.Waiting, s.InFlight)
	}
}

func TestWhatNeverGetsAPlaceIsUnsent(t *testing.T) {
	hold := make(chan struct{})
	s := newSite(t, func(http.ResponseWriter, *http.Request) int {
		<-hold
		return http.StatusOK
	})
	j := jobFor(t, s.URL, 100, 100*time.Millisecond)
	j.MaxInFlight, j.Timeout = 3, 300*time.Millisecond
	r := run(t.Context(), t, j)
	close(hold)
	if r.Interrupted || r.Unsent == 0 || r.Scheduled < 100 || r.Answered != 0 || keys(r)["error:timeout"] != r.Sent {
		t.Errorf("%d scheduled, %d unsent, %v", r.Scheduled, r.Unsent, keys(r))
	}
}

// A generator that can't keep up ends all the same, and says so. Here it takes
// far longer to write a request than there is time for.
func TestARateBeyondTheGeneratorEnds(t *testing.T) {
	s := newSite(t, statusOK)
	s.Close() // a refusal is quick, so there is always a place in flight
	j := jobFor(t, s.URL, 10_000, 100*time.Millisecond)
	j.Timeout = 100 * time.Millisecond
	j.Requests[0].Body = slices.Repeat(Template{{Place: UUID}}, 5000)
	r := run(t.Context(), t, j)
	if r.Scheduled < 10_000 || r.Unsent == 0 || r.Sent == 0 || r.InFlightMax == j.MaxInFlight || r.Lag.Max() == 0 {
		t.Errorf("%d scheduled, %d unsent, at most %d in flight, lag %v", r.Scheduled, r.Unsent, r.InFlightMax, r.Lag.Max())
	}
}

func TestInterruption(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	hold := make(chan struct{})
	var n atomic.Int64
	s := newSite(t, func(http.ResponseWriter, *http.Request) int {
		if n.Add(1) <= 20 {
			return http.StatusOK
		}
		if n.Load() == 30 {
			interrupt()
		}
		<-hold
		return http.StatusOK
	})
	j := jobFor(t, s.URL, 60_000, time.Minute)
	j.Timeout = time.Minute
	r := run(ctx, t, j)
	close(hold)
	if !r.Interrupted || r.Elapsed > 20*time.Second {
		t.Fatalf("interrupted: %v, after %v", r.Interrupted, r.Elapsed)
	}
	if got := keys(r); got["200"] != 20 || got["error:interrupted"] < 10 || len(got) != 2 {
		t.Errorf("outcomes %v", got)
	}
	if r.Scheduled < r.Sent || r.Scheduled > 40_000 {
		t.Errorf("%d scheduled, %d sent", r.Scheduled, r.Sent)
	}
}

func TestInterruptionWithAFullHouse(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	hold := make(chan struct{})
	s := newSite(t, func(http.ResponseWriter, *http.Request) int {
		time.AfterFunc(300*time.Millisecond, interrupt) // long after the last was due
		<-hold
		return http.StatusOK
	})
	j := jobFor(t, s.URL, 50, 50*time.Millisecond)
	j.MaxInFlight = 2
	r := run(ctx, t, j)
	close(hold)
	if !r.Interrupted || r.Scheduled < 50 || r.Unsent != r.Scheduled-2 || keys(r)["error:interrupted"] != 2 {
		t.Errorf("interrupted %v: %d scheduled, %d unsent, %v", r.Interrupted, r.Scheduled, r.Unsent, keys(r))
	}
}

// An interruption when all has been sent is one, whether or not it cost answers.
func TestInterruptionWhileAnswersAreAwaited(t *testing.T) {
	for _, patient := range []bool{true, false} {
		ctx, interrupt := context.WithCancel(t.Context())
		hold := make(chan struct{})
		var open sync.Once
		j := jobFor(t, "http://127.0.0.1", 20, 20*time.Millisecond)
		total := newSchedule(j.Stages).total
		var n atomic.Int64
		s := newSite(t, func(http.ResponseWriter, *http.Request) int {
			if n.Add(1) == total {
				interrupt()
				if patient {
					open.Do(func() { close(hold) })
				}
			}
			<-hold
			return http.StatusOK
		})
		j.Targets[0], _ = url.Parse(s.URL)
		r := run(ctx, t, j)
		open.Do(func() { close(hold) })
		if !r.Interrupted || r.Sent != total || patient != (r.Answered == total) {
			t.Errorf("answered in time: %v; interrupted %v, %v", patient, r.Interrupted, keys(r))
		}
	}
}

func TestInterruptedDials(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	ln := listen(t, func(net.Conn) { interrupt() }) // takes connections, and never shakes hands
	j := jobFor(t, "https://"+ln.Addr().String(), 1000, time.Second)
	j.Timeout = time.Minute
	r := run(ctx, t, j)
	if got := keys(r); !r.Interrupted || got["error:interrupted"] != r.Sent || r.Sent == 0 || r.Elapsed > 20*time.Second {
		t.Errorf("interrupted %v, %v", r.Interrupted, got)
	}
}

func TestWhatCanNotBegin(t *testing.T) {
	before := resources("")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		ctx    context.Context
		target string
	}{
		{t.Context(), "http://no..host"}, {gone, "http://no..host"}, {t.Context(), "http://127.0.0.1:99999"},
		{t.Context(), "http://[::1]:1"}, {t.Context(), "http://192.0.2.1"}, // where loopback addresses lead to nowhere
	} {
		j := jobFor(t, tt.target, 10, time.Second)
		j.Requests[0].Clients = &Clients{Count: 2, Via: ViaSource}
		if r, err := Run(tt.ctx, j); err == nil || r != nil {
			t.Errorf("%s: %v, %v", tt.target, r, err)
		}
	}
	before.checkGone(t, "")
	if _, err := Run(gone, jobFor(t, "http://127.0.0.1:1", 10, time.Second)); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted before it began: %v", err)
	}
}

func TestSendersKeepApart(t *testing.T) {
	shared := &Clients{Count: MaxClients, Via: ViaSource}
	all := newSenders([]Request{{Clients: shared}, {Clients: shared}, {Clients: &Clients{Count: 50, Via: ViaSource}}, {Clients: &Clients{Via: ViaNone}}}, 1)
	if all[0] != all[1] || all[0] == all[2] {
		t.Error("the same clients are others, or others the same")
	}
	var addrs []string
	for _, s := range []*senders{all[0], all[2]} {
		for range s.clients {
			addrs = append(addrs, s.next().local.String())
		}
		if s.next() != &s.clients[0] {
			t.Error("the turn did not begin again")
		}
	}
	slices.Sort(addrs)
	if n := len(slices.Compact(addrs)); n != MaxClients+50 {
		t.Errorf("%d addresses of %d clients", n, MaxClients+50)
	}
	if c := all[3].next(); c.local.IsValid() || c.forwarded != "" {
		t.Errorf("a client with no address has %v %q", c.local, c.forwarded)
	}
}
