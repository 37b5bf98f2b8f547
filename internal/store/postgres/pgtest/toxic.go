package pgtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"testing" //nolint:depguard // for tests of several packages, so not in a _test.go

	"github.com/go-json-experiment/json"
)

// Proxy is a way to a server whose network can be spoiled: a toxiproxy of its
// own. It lives as long as its test, which it fails when it is not obeyed.
type Proxy struct {
	t      testing.TB
	client http.Client
	api    string // URL of the proxy's settings
	addr   string
}

// NewProxy starts a proxy to an address, such as Server.Addr. Without toxiproxy
// the test is skipped.
func NewProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	binary := os.Getenv("TOXIPROXY")
	if binary == "" {
		t.Skip("TOXIPROXY names no toxiproxy: run `make test`, narrowed by PKG")
	}
	ctx := context.WithoutCancel(t.Context()) // it ends after what uses it
	control, err := freePort(ctx)
	if err != nil {
		t.Fatal(err)
	}
	process, err := start(exec.CommandContext(ctx, binary, "-host", loopback, "-port", control)) //nolint:gosec // named by who runs the tests
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{t: t, client: http.Client{Timeout: patience}, api: "http://" + net.JoinHostPort(loopback, control)}
	t.Cleanup(func() {
		p.client.CloseIdleConnections()
		if err := process.end(os.Kill); err != nil {
			t.Error(err)
		}
	})
	waiting, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := process.until(waiting, func(context.Context) error { return p.call(http.MethodGet, "/version", nil) }); err != nil {
		t.Fatal(err)
	}
	port, err := freePort(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p.addr = net.JoinHostPort(loopback, port)
	p.must(http.MethodPost, "/proxies", map[string]any{"name": "it", "listen": p.addr, "upstream": upstream, "enabled": true})
	p.api += "/proxies/it"
	return p
}

// Addr is where clients connect, host:port.
func (p *Proxy) Addr() string { return p.addr }

// Through is a URL of the server behind the proxy, led through the proxy.
func (p *Proxy) Through(database string) string {
	p.t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		p.t.Fatal(err)
	}
	u.Host = p.addr
	return u.String()
}

// Toxic spoils what comes from the server. Kinds and their attributes are
// toxiproxy's: "latency" {"latency": ms, "jitter": ms}, "timeout" {"timeout": ms,
// 0 for never}, "reset_peer" {"timeout": ms}, "bandwidth" {"rate": KB/s},
// "limit_data" {"bytes": n}, "slow_close", "slicer".
func (p *Proxy) Toxic(name, kind string, attributes map[string]any) {
	p.t.Helper()
	p.toxic(name, kind, "downstream", attributes)
}

// ToxicUpstream spoils what goes to the server, as Toxic does.
func (p *Proxy) ToxicUpstream(name, kind string, attributes map[string]any) {
	p.t.Helper()
	p.toxic(name, kind, "upstream", attributes)
}

func (p *Proxy) toxic(name, kind, stream string, attributes map[string]any) {
	p.t.Helper()
	p.must(http.MethodPost, "/toxics", map[string]any{"name": name, "type": kind, "stream": stream, "attributes": attributes})
}

// Remove ends what Toxic began under a name.
func (p *Proxy) Remove(name string) {
	p.t.Helper()
	p.must(http.MethodDelete, "/toxics/"+name, nil)
}

// Enabled opens or closes the proxy. Closed it refuses connections, and cuts
// those that it has.
func (p *Proxy) Enabled(enabled bool) {
	p.t.Helper()
	p.must(http.MethodPost, "", map[string]any{"enabled": enabled})
}

func (p *Proxy) must(method, path string, body map[string]any) {
	p.t.Helper()
	if err := p.call(method, path, body); err != nil {
		p.t.Fatal(err)
	}
}

// call makes a request of toxiproxy, without a body if there is none.
func (p *Proxy) call(method, path string, body map[string]any) error {
	var sent []byte
	if body != nil {
		var err error
		if sent, err = json.Marshal(body); err != nil {
			return fmt.Errorf("ask toxiproxy: %w", err)
		}
	}
	request, err := http.NewRequestWithContext(context.WithoutCancel(p.t.Context()), method, p.api+path, bytes.NewReader(sent))
	if err != nil {
		return fmt.Errorf("ask toxiproxy: %w", err)
	}
	answer, err := p.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask toxiproxy: %w", err)
	}
	defer answer.Body.Close()
	said, err := io.ReadAll(answer.Body)
	if err != nil {
		return fmt.Errorf("ask toxiproxy: %w", err)
	}
	if answer.StatusCode >= http.StatusBadRequest {
		return fmt.Errorf("toxiproxy answers %s %s with %s: %s", method, path, answer.Status, said)
	}
	return nil
}
