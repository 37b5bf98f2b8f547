package verify

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/load"
)

func parsed(t *testing.T, urls ...string) (all []*url.URL) {
	t.Helper()
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

// One client has one address, so all targets are asked over one family.
func TestFind(t *testing.T) {
	t.Parallel()
	nodes, err := find(t.Context(), parsed(t, "http://127.0.0.1:8080", "https://127.0.0.2"))
	if err != nil || len(nodes) != 2 || nodes[0].addr != "127.0.0.1:8080" || nodes[1].addr != "127.0.0.2:443" || nodes[1].name != "https://127.0.0.2" {
		t.Errorf("find = %+v, %v", nodes, err)
	}
	if nodes, err := find(t.Context(), parsed(t, "http://127.0.0.1", "http://[::1]")); err == nil {
		t.Errorf("two families: %+v, want an error", nodes)
	}
	if nodes, err := find(t.Context(), parsed(t, "http://[::1]", "http://[::2]:81")); err != nil || len(nodes) != 2 || nodes[1].addr != "[::2]:81" {
		t.Errorf("IPv6: %+v, %v", nodes, err)
	}
}

// A request is sent once, be it that the connection dies after it; one that
// could not be sent is no evidence.
func TestSendOnce(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if served.Add(1) > 1 {
			panic(http.ErrAbortHandler) // on a connection that has been used
		}
		if r.Header.Get("X-Forwarded-For") != "198.18.0.7" || !strings.HasPrefix(r.RemoteAddr, "127.") || strings.HasPrefix(r.RemoteAddr, "127.0.0.1:") {
			t.Errorf("%v from %s; want a claimed address, and a loopback one of its own", r.Header, r.RemoteAddr)
		}
		w.Header().Set("RateLimit", `"api";r=4;t=3`)
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = w.Write([]byte(`{"error": {"code": "A\u001b", "message": "m"}}`))
	}))
	defer s.Close()
	nodes, err := find(t.Context(), parsed(t, s.URL))
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(&Options{Loopback: true, Domain: "load.example.org"}, Policies()[0], nodes)
	defer c.close()
	a := c.send(t.Context(), Ask{N: 7, Spoofed: true, Epoch: time.Now()})
	if a.Status != http.StatusTooManyRequests || a.RName != "api" || a.R != 4 || a.T != 3 || a.Limit != -1 || a.Code != "A\uFFFD" || a.Message != "m" || a.Received <= a.Sent {
		t.Errorf("%+v", a)
	}
	if a := c.send(t.Context(), Ask{N: 8, Epoch: time.Now()}); a.Err == "" || a.Unsent || served.Load() != 2 {
		t.Errorf("%+v after %d requests; want it lost, and not sent again", a, served.Load())
	}
	s.Close()
	if a := c.send(t.Context(), Ask{N: 9, Epoch: time.Now()}); a.Err == "" || !a.Unsent {
		t.Errorf("%+v; want it not sent", a)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if a := c.send(ctx, Ask{N: 10, Epoch: time.Now()}); a.Err == "" || a.Unsent {
		t.Errorf("%+v; want no target taken for dead after an interruption", a)
	}
}

// Behind a proxy's word each client has an address of its own, which no claim
// replaces, while all other header fields are claimed in.
func TestForwarded(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r
		w.WriteHeader(http.StatusUnauthorized)
		if r.URL.Path == Policies()[0].path {
			_, _ = w.Write([]byte(`{"api_key": "gk_of_a_sign_up"}`))
		}
	}))
	defer s.Close()
	o := Options{Targets: parsed(t, s.URL), Via: load.ViaForwarded, Domain: "load.example.org", Windows: 1, Progress: io.Discard}
	nodes, err := find(t.Context(), o.Targets)
	if err != nil {
		t.Fatal(err)
	}
	one, two := newClient(&o, Policies()[0], nodes), newClient(&o, Policies()[0], nodes)
	defer one.close()
	defer two.close()
	one.send(t.Context(), Ask{N: 1, Epoch: time.Now()})
	one.send(t.Context(), Ask{N: 2, Spoofed: true, Epoch: time.Now()})
	two.send(t.Context(), Ask{N: 3, Epoch: time.Now()})
	plain, spoofed, other := <-seen, <-seen, <-seen
	address := plain.Header.Get("X-Forwarded-For")
	if !strings.HasPrefix(address, "198.1") || !slices.Equal(spoofed.Header["X-Forwarded-For"], []string{address}) || other.Header.Get("X-Forwarded-For") == address {
		t.Errorf("%q, %q, %q; want an address of each client's own", plain.Header, spoofed.Header, other.Header)
	}
	if spoofed.Header.Get("X-Real-Ip") != "198.18.0.2" || spoofed.Header.Get("Forwarded") != "for=198.18.0.2" || !strings.HasPrefix(spoofed.RemoteAddr, "127.0.0.1:") {
		t.Errorf("%q from %s; want claims, from the proxy's own address", spoofed.Header, spoofed.RemoteAddr)
	}
	// Off loopback, too, somebody can sign up for a key then.
	o.Policies = []string{"credential_exchange"}
	v, err := Run(t.Context(), o)
	if err != nil || len(v.Policies) != 1 || !v.Policies[0].OwnKey {
		t.Fatalf("%+v, %v; want a key that nobody else has", v, err)
	}
	signUp, second, exchange := <-seen, <-seen, <-seen
	if second.URL.Path != keysPath || second.Header.Get("X-Api-Key") != "gk_of_a_sign_up" {
		t.Errorf("%s %q; want a second key asked for", second.URL, second.Header)
	}
	if from := signUp.Header.Get("X-Forwarded-For"); signUp.URL.Path != Policies()[0].path || from == "" || from == exchange.Header.Get("X-Forwarded-For") || exchange.Header.Get("X-Api-Key") != "gk_of_a_sign_up" {
		t.Errorf("%s %q, then %q; want a sign-up, and its key used", signUp.URL, signUp.Header, exchange.Header)
	}
}

// A customer's second key is made, used in turn, and revoked where its customer
// stays.
func TestTwoKeys(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		file  []string
		asked []string
	}{
		{[]string{"gk_of_a_file"}, []string{"POST /api/v1/keys gk_of_a_file", "POST /api/v1/credentials/exchange gk_of_a_file", "DELETE /api/v1/keys/id-2 gk_of_a_file"}},
		{nil, []string{"POST /api/v1/customers/onboard ", "POST /api/v1/keys gk_of_a_sign_up", "POST /api/v1/credentials/exchange gk_of_a_sign_up"}},
	} {
		var mu sync.Mutex
		var asked []string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("X-Api-Key"))
			switch r.Method + " " + r.URL.Path {
			case "POST " + Policies()[0].path:
				_, _ = w.Write([]byte(`{"api_key": "gk_of_a_sign_up"}`))
			case "POST " + keysPath:
				_, _ = w.Write([]byte(`{"id": "id-2", "api_key": "gk_second"}`))
			case "DELETE " + keysPath + "/id-2":
				w.WriteHeader(http.StatusNoContent)
			default: // the limit is off
				w.WriteHeader(http.StatusUnprocessableEntity)
			}
		}))
		t.Cleanup(s.Close)
		var progress strings.Builder
		o := Options{Targets: parsed(t, s.URL), Keys: tt.file, Loopback: true, Domain: "load.example.org", Policies: []string{"credential_exchange"}, Windows: 1, Progress: &progress}
		v, err := Run(t.Context(), o)
		if err != nil || !slices.Equal(asked, tt.asked) || v.Requests.Overhead != 2 || strings.Contains(progress.String(), "revoke") {
			t.Errorf("%q, %d of them overhead, %v, %s; want %q", asked, v.Requests.Overhead, err, &progress, tt.asked)
		}
	}
}

// Both keys are asked at each target.
func TestKeysTakeTurns(t *testing.T) {
	t.Parallel()
	_, e, err := try(t, 1, 10, 10*time.Second, func(f *fake) { f.keys, f.nodes = 2, 2 })
	if err != nil {
		t.Fatal(err)
	}
	asked := map[[2]int]int{}
	for _, a := range e.Attempts {
		asked[[2]int{a.Target, a.Key}]++
	}
	for target := range 2 {
		for key := 1; key <= 2; key++ {
			if n := asked[[2]int{target, key}]; n < len(e.Attempts)/5 {
				t.Errorf("target %d was asked %d times with key %d, of %d in all", target, n, key, len(e.Attempts))
			}
		}
	}
	c := client{policy: Policies()[1]}
	for want, tt := range map[string]struct {
		o Options
		a access
	}{
		"first second": {Options{Keys: []string{"first", "other"}}, access{first: "first", second: "second"}},
		"first":        {Options{}, access{first: "first", why: "none"}},
	} {
		if err := c.prepare(&tt.o, tt.a); err != nil || strings.Join(c.keys, " ") != want {
			t.Errorf("%q, %v; want %s", c.keys, err, want)
		}
	}
	e.OneKey = "no second key"
	if f := verdicts(Judge(e))["one limit over all keys"]; f.Verdict != Undecidable || f.Why != e.OneKey {
		t.Errorf("%+v; want it undecidable for want of a key", f)
	}
}

// Each node is asked whether a valid key still passes. A file's key that is none
// is not: it would be refused rightly.
func TestPasses(t *testing.T) {
	t.Parallel()
	var urls []string
	for _, status := range []int{http.StatusUnprocessableEntity, http.StatusTooManyRequests} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("RateLimit-Policy", `"auth_failure";q=60;w=60`)
			if r.Header.Get("X-Api-Key") == "none" {
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			w.WriteHeader(status)
		}))
		t.Cleanup(s.Close)
		urls = append(urls, s.URL)
	}
	nodes, err := find(t.Context(), parsed(t, urls...))
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(&Options{Loopback: true}, Policies()[5], nodes)
	defer c.close()
	e := &Evidence{Policy: c.policy, Targets: urls, Attempts: []Attempt{{Phase: burst, Outcome: Denied}}, Passed: c.passes(t.Context(), "key")}
	if f := e.passes(); f.Verdict != Violated || !strings.Contains(f.Why, urls[1]) || c.own != 2 {
		t.Errorf("%+v after %d requests; want the second node's refusal found", f, c.own)
	}
	if key := c.validKey(t.Context(), &Options{Keys: []string{"none"}}); key != "" {
		t.Errorf("a key that is none is used: %q", key)
	}
}

// What a broken answer has in it neither steers a terminal nor keeps the summary
// from being written.
func TestABrokenAnswerIsTold(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = conn.Write([]byte("HTTP/1.1 200 OK\r\n\xff\x1b[2J\r\n\r\n"))
		_ = conn.Close()
	}))
	defer s.Close()
	nodes, err := find(t.Context(), parsed(t, s.URL))
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(&Options{}, Policies()[0], nodes)
	defer c.close()
	a := c.send(t.Context(), Ask{N: 1, Epoch: time.Now()})
	if _, err := a.MarshalJSON(); err != nil || a.Unsent || !strings.Contains(a.Err, "malformed MIME header") || strings.Contains(a.Err, "\x1b") {
		t.Errorf("%+v, %v", a, err)
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add("10", `"onboarding";q=10;w=60`, `"onboarding";r=9;t=51`)
	f.Add("-1", `"";q=99999999999999999999;w=`, `x`)
	f.Fuzz(func(t *testing.T, n, policy, left string) {
		a := readAnswer(200, http.Header{"X-Ratelimit-Limit": {n}, "Ratelimit-Policy": {policy}, "Ratelimit": {left}})
		if a.Limit < -1 || a.Quota < -1 || a.Window < -1 || a.R < -1 || a.T < -1 || (a.Policy == "") != (a.Quota < 0) || (a.RName == "") != (a.R < 0) {
			t.Errorf("%q, %q, %q read as %+v", n, policy, left, a)
		}
	})
}
