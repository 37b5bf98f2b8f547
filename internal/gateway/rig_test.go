package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/gateway"
)

const (
	token       = "gt_live_AbCdEfGhIjKl_0123456789012345678901234567890123456789012"
	operatorKey = "sk-operator-key-that-must-not-leave"
)

// rig is a gateway over one stand-in for all providers.
type rig struct {
	t        testing.TB
	gateway  *gateway.Gateway
	server   *httptest.Server // the gateway's
	upstream *httptest.Server
	meter    *meter
	lease    *gateway.Lease
	revoke   func()
	logs     *logs
}

type option func(*gateway.Config, *http.Server)

// bounded changes bounds.
func bounded(change func(*gateway.Bounds)) option {
	return func(c *gateway.Config, _ *http.Server) { change(&c.Bounds) }
}

// at puts the upstreams elsewhere than at the stand-in.
func at(base string) option {
	return func(c *gateway.Config, _ *http.Server) {
		for name, u := range c.Upstreams {
			u.Base = base
			c.Upstreams[name] = u
		}
	}
}

func capped(c *gateway.Config, _ *http.Server) { c.Door.(*door).lease.Capped = true }

func newRig(t testing.TB, provider http.HandlerFunc, options ...option) *rig {
	t.Helper()
	r := newRigWithout(t, provider, options...)
	r.server.Start()
	return r
}

// newRigWithout starts no server of the gateway's yet.
func newRigWithout(t testing.TB, provider http.HandlerFunc, options ...option) *rig {
	t.Helper()
	ended, revoke := context.WithCancel(context.Background())
	r := &rig{
		t: t, meter: &meter{settled: make(chan settled, 10_000), patience: 20 * time.Second}, revoke: revoke, logs: new(logs),
		lease: &gateway.Lease{CredentialID: "credential", CustomerID: "jane", KeyID: "key", ExpiresAt: time.Now().Add(time.Hour), Ended: ended},
	}
	if provider != nil {
		r.upstream = httptest.NewServer(provider)
		t.Cleanup(r.upstream.Close)
	}
	config := gateway.Config{
		Door: &door{lease: r.lease}, Meter: r.meter, Log: slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Upstreams: map[string]gateway.Upstream{},
	}
	for _, name := range []string{"anthropic", "openai", "openrouter", "ollama"} {
		u := gateway.Upstream{Key: operatorKey, Base: "http://127.0.0.1:1"}
		if r.upstream != nil {
			u.Base = r.upstream.URL
		}
		if name == "ollama" {
			u.Key = ""
		}
		config.Upstreams[name] = u
	}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.gateway.ServeHTTP(w, req)
	}))
	// The application's, which the gateway has to overcome.
	r.server.Config.ReadTimeout, r.server.Config.WriteTimeout = 10*time.Second, 30*time.Second
	r.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	for _, o := range options {
		o(&config, r.server.Config)
	}
	var err error
	if r.gateway, err = gateway.New(config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.gateway.Close()
		r.server.Close()
		for _, secret := range []string{token, operatorKey} {
			if strings.Contains(r.logs.String(), secret) {
				t.Errorf("the log has a secret:\n%s", r.logs)
			}
		}
		if s := r.gateway.Stats(); s != (gateway.Stats{}) {
			t.Errorf("at the end there is left: %+v", s)
		}
	})
	return r
}

// request makes one with the token.
func (r *rig) request(method, path, body string) *http.Request {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.server.URL+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if body == "" {
		req.Body, req.ContentLength = nil, 0
	}
	req.Header.Set("X-Api-Key", token)
	return req
}

// answer is one, whose body is closed when the test ends.
type answer struct {
	StatusCode      int
	Status          string
	Header, Trailer http.Header
	Body            io.ReadCloser
	Close           bool
}

// ask sends a request by a client.
func ask(t testing.TB, client *http.Client, req *http.Request) (*answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &answer{resp.StatusCode, resp.Status, resp.Header, resp.Trailer, resp.Body, resp.Close}, nil
}

// do sends a request; the answer is read by whoever wants it.
func (r *rig) do(req *http.Request) *answer {
	r.t.Helper()
	resp, err := ask(r.t, r.server.Client(), req)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp
}

// get sends a request and reads the answer.
func (r *rig) get(req *http.Request) (*answer, string) {
	r.t.Helper()
	resp := r.do(req)
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp, string(b)
}

// post calls a path with a body.
func (r *rig) post(path, body string) (*answer, string) {
	r.t.Helper()
	return r.get(r.request("POST", path, body))
}

// refused checks an error of ours.
func refused(t *testing.T, resp *answer, status int, code string) {
	t.Helper()
	if resp.StatusCode != status || resp.Header.Get("X-Gatehouse-Error") != code {
		t.Errorf("%d %q, want %d %s", resp.StatusCode, resp.Header.Get("X-Gatehouse-Error"), status, code)
	}
}

// raw writes bytes to the gateway and reads what it answers to the first request.
func (r *rig) raw(request string) *answer {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, request); err != nil {
		r.t.Fatal(err)
	}
	return answerOn(r.t, conn)
}

// door knows one token.
type door struct {
	lease *gateway.Lease
	err   error
	asked []string // providers
	mu    sync.Mutex
}

func (d *door) Enter(_ context.Context, presented, provider string) (*gateway.Lease, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, provider)
	if d.err != nil {
		return nil, d.err
	}
	if presented != token {
		return nil, &fault.Error{Kind: fault.Unauthenticated, Code: "INVALID_API_KEY", Message: "The token is not valid."}
	}
	return d.lease, nil
}

// settled is one call of Settle.
type settled struct {
	call        gateway.Call
	usage       gateway.Usage
	reservation gateway.Reservation
}

// meter has money for as long as err is nil.
type meter struct {
	settled  chan settled
	patience time.Duration // with the next one
	mu       sync.Mutex
	err      error
	reserved []gateway.Call
}

func (m *meter) Reserve(_ context.Context, _ *gateway.Lease, c *gateway.Call) (gateway.Reservation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return gateway.Reservation{}, m.err
	}
	m.reserved = append(m.reserved, *c)
	return gateway.Reservation{ID: "reservation", MicroUSD: 1}, nil
}

func (m *meter) Settle(ctx context.Context, _ *gateway.Lease, c *gateway.Call, u gateway.Usage, r gateway.Reservation) {
	if ctx.Err() != nil {
		panic("a settlement ends with its client")
	}
	m.settled <- settled{*c, u, r}
}

// next waits for a settlement.
func (m *meter) next(t testing.TB) settled {
	t.Helper()
	select {
	case s := <-m.settled:
		return s
	case <-time.After(m.patience):
		t.Fatal("nothing was settled")
		panic("unreachable")
	}
}

// none checks that nothing more was settled; all calls must be over.
func (m *meter) none(t testing.TB) {
	t.Helper()
	select {
	case s := <-m.settled:
		t.Errorf("settled too: %+v", s)
	default:
	}
}

// figures are a usage without what differs from run to run.
func figures(u gateway.Usage) gateway.Usage {
	u.Took = 0
	return u
}

type logs struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// replies is a provider that always says the same.
func replies(contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, body)
	}
}

// wait fails the test where a channel is not closed soon.
func wait(t testing.TB, c <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: it did not happen", what)
	}
}

var errAway = errors.New("dial 10.0.0.5: refused")
