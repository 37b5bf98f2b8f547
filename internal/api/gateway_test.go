package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/fault"
)

// through makes a node whose gateway is a handler, and returns how to call it:
// what it answers is not openapi.yaml's.
func through(t *testing.T, h http.HandlerFunc, options ...option) (s *server, call func(method, path string, details ...detail) (answer, error)) {
	t.Helper()
	s = newServer(t, append(options, func(_ testing.TB, s *setup) { s.gateway = h })...)
	plain := &client{url: s.url, http: &http.Client{
		Transport:     &http.Transport{DisableCompression: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	t.Cleanup(plain.http.CloseIdleConnections)
	return s, func(method, path string, details ...detail) (answer, error) {
		return plain.try(t.Context(), method, path, details...)
	}
}

// The gateway gets every method and path below it, bodies of any length and
// type, and no limit but its own; of the API it has the request's id.
func TestGatewayIsMounted(t *testing.T) {
	s, call := through(t, func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Gatehouse-Error", "X")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %d %v", r.Method, r.URL.EscapedPath(), w.Header().Get("X-Request-Id"), n, err)
	}, limit("api", "1/60s"), limit("auth_failure", "1/60s"), limit("credential_exchange", "1/60s"))
	const long = 1 << 20
	for _, method := range []string{"GET", "POST", "PUT", "DELETE", "OPTIONS", "BREW"} {
		for _, path := range []string{"/gateway/", "/gateway/anthropic/v1/messages", "/gateway/openai/v1/models/ft:gpt%2Fx", "/gateway/nobody",
			// It refuses these itself, in its providers' shapes.
			"/gateway/anthropic//v1/messages", "/gateway/anthropic/v1/../v1/messages", "/gateway/./anthropic", "/gateway//anthropic", "/gateway/%2e%2e/health"} {
			got, err := call(method, path, header("X-Request-Id", "its id"), body(strings.Repeat("x", long)))
			if want := fmt.Sprintf("%s %s its id %d <nil>", method, path, long); err != nil || got.status != http.StatusTeapot || string(got.body) != want {
				t.Errorf("%s %s: %d %.200s (%v), want %s", method, path, got.status, got.body, err, want)
			}
			got.unlimited(t)
			if got.header.Get("X-Request-Id") != "its id" || got.header.Get("X-Gatehouse-Error") != "X" || got.header.Get("Cache-Control") != "" {
				t.Errorf("%s %s: headers %v", method, path, got.header)
			}
		}
	}
	for _, path := range []string{
		"/gateway", "//gateway/", "/x/../gateway/", "/gateways/", "/Gateway/",
	} {
		s.send(t, "GET", path).refused(t, http.StatusNotFound, "NOT_FOUND")
	}
}

func TestNoGateway(t *testing.T) {
	s := newServer(t)
	for _, path := range []string{"/gateway", "/gateway/", "/gateway/anthropic/v1/messages", "/gateway/anthropic//v1/messages"} {
		s.send(t, "POST", path, body("x")).refused(t, http.StatusNotFound, "NOT_FOUND")
	}
}

// Streams flow, and deadlines are the gateway's to set.
func TestGatewayStreams(t *testing.T) {
	seen := make(chan struct{})
	s, _ := through(t, func(w http.ResponseWriter, r *http.Request) {
		rc := http.NewResponseController(w)
		err := errors.Join(rc.SetReadDeadline(time.Time{}), rc.SetWriteDeadline(time.Time{}), rc.EnableFullDuplex())
		fmt.Fprintf(w, "first %v\n", err)
		if err := rc.Flush(); err != nil {
			t.Error(err)
		}
		select {
		case <-seen:
		case <-r.Context().Done():
		}
		fmt.Fprint(w, "second")
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // far beyond what it takes
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/gateway/openai/v1/responses", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	transport := new(http.Transport)
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	first := make([]byte, len("first <nil>\n"))
	if _, err := io.ReadFull(resp.Body, first); err != nil || string(first) != "first <nil>\n" {
		t.Fatalf("read %q (%v)", first, err)
	}
	close(seen)
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "second" {
		t.Errorf("read %q (%v)", rest, err)
	}
}

// routes are the metric series of answers, as route method status.
func (s *server) series(t testing.TB) map[string]uint64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]uint64)
	for _, f := range families {
		if f.GetName() != "gatehouse_http_request_duration_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			slices.Sort(labels)
			found[strings.Join(labels, " ")] = m.GetHistogram().GetSampleCount()
		}
	}
	return found
}

// A call is one observation and one line, whatever its path, method and end,
// and tells nothing of what is in it.
func TestGatewayCallsAreCountedAndLogged(t *testing.T) {
	s, call := through(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/gateway/cut":
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "/gateway/odd":
			w.WriteHeader(999)
		case "/gateway/hint":
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusTooManyRequests)
		case "/gateway/bug":
			panic("gt_live_ jane@company.dev")
		}
	})
	const token = "gt_live_0123456789ab_0000000000000000000000000000000000000000000000000"
	for _, c := range []struct {
		method, path string
		status       int // 0: cut
		level        string
	}{
		{"POST", "/gateway/done", 200, "INFO"},
		{"POST", "/gateway/done/too", 200, "INFO"},
		{"BREW", "/gateway/done", 200, "INFO"},
		{"POST", "/gateway/cut", 0, "INFO"},
		{"POST", "/gateway/odd", 999, "INFO"},
		{"POST", "/gateway/hint", 429, "DEBUG"},
		{"POST", "/gateway/bug", 500, "ERROR"},
	} {
		id := "its id " + c.method + c.path
		got, err := call(c.method, c.path+"?key=secretive", key(token), header("X-Request-Id", id), body("a prompt"))
		if c.status == 0 {
			if err == nil {
				t.Errorf("%s ends well: %d", c.path, got.status)
			}
		} else if err != nil || got.status != c.status {
			t.Errorf("%s: %d (%v), want %d", c.path, got.status, err, c.status)
		}
		if record := s.logs.await(t, id); record["level"] != c.level || record["route"] != "gateway" {
			t.Errorf("%s is logged as %v", c.path, record)
		}
	}
	for _, line := range s.logs.lines() {
		for _, leak := range []string{"secretive", "prompt", "0123456789ab"} {
			if strings.Contains(line, leak) {
				t.Errorf("logged: %s", line)
			}
		}
	}
	want := map[string]uint64{
		"method=POST route=gateway status=200": 3, "method=other route=gateway status=200": 1, "method=POST route=gateway status=0": 1,
		"method=POST route=gateway status=429": 1, "method=POST route=gateway status=500": 1,
	}
	got := s.series(t)
	for labels, n := range want {
		if got[labels] != n {
			t.Errorf("%s is %d, want %d of %v", labels, got[labels], n, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("the series are %v", got)
	}
}

// await is the line of a log that has a request's id, once it is there: a line
// is written after the answer.
func (l *logs) await(t testing.TB, id string) map[string]any {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // far beyond what it takes
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !slices.ContainsFunc(l.lines(), func(line string) bool { return strings.Contains(line, `"request_id":"`+id+`"`) }) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("nothing is logged of %s", id)
		}
	}
	return l.record(t, id)
}

// A 401 of the gateway's takes a place among those of the API, and is a 429
// where there is none.
func TestGatewayCountsItsFailures(t *testing.T) {
	var s *server
	s, call := through(t, func(w http.ResponseWriter, r *http.Request) {
		err := s.handler.CountFailure(w, r)
		if err == nil {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind != fault.Limited || f.Code != "RATE_LIMITED" || f.RetryAfter <= 0 {
			t.Errorf("CountFailure = %v", err)
		}
		w.WriteHeader(http.StatusTooManyRequests)
	}, at(newClock()), limit("auth_failure", "3/60s"), func(_ testing.TB, s *setup) {
		s.trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	fail := func(address string, status, left int) {
		t.Helper()
		got, err := call("POST", "/gateway/anthropic/v1/messages", from(address))
		if err != nil {
			t.Fatal(err)
		}
		if l := got.want(t, status).limits(t, "auth_failure"); l.remaining != left {
			t.Errorf("%d places are left, want %d", l.remaining, left)
		}
	}
	fail("203.0.113.1", http.StatusUnauthorized, 2)
	if l := s.send(t, "GET", "/api/v1/keys", from("203.0.113.1")).want(t, http.StatusUnauthorized).limits(t, "auth_failure"); l.remaining != 1 {
		t.Errorf("%d places are left, want 1", l.remaining)
	}
	fail("203.0.113.1", http.StatusUnauthorized, 0)
	fail("203.0.113.1", http.StatusTooManyRequests, 0)
	fail("203.0.113.2", http.StatusUnauthorized, 2)
	s.send(t, "GET", "/api/v1/keys", from("203.0.113.1")).refusedBy(t, "auth_failure", "Rate limit exceeded. Maximum 3 failed authentications per minute per IP address.")
}

// Where it can't be counted it is not let pass as a 401.
func TestGatewayFailuresWithoutTheStore(t *testing.T) {
	var s *server
	s, call := through(t, func(w http.ResponseWriter, r *http.Request) {
		f, ok := errors.AsType[*fault.Error](s.handler.CountFailure(w, r))
		fmt.Fprint(w, ok && f.Kind == fault.Unavailable)
	})
	if err := s.database.close(); err != nil {
		t.Fatal(err)
	}
	got, err := call("GET", "/gateway/x")
	if err != nil || !bytes.Equal(got.body, []byte("true")) {
		t.Errorf("answered %s (%v)", got.body, err)
	}
	got.unlimited(t)
}
