package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const okAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// each calls answer for each request on a connection until that returns false.
func each(answer func(c net.Conn) bool) func(net.Conn) {
	return func(c net.Conn) {
		defer func() { _ = c.Close() }()
		for r := bufio.NewReader(c); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			if !answer(c) {
				return
			}
		}
	}
}

// says answers so, and then closes or not.
func says(text string, more bool) func(net.Conn) {
	return each(func(c net.Conn) bool {
		_, err := io.WriteString(c, text)
		return err == nil && more
	})
}

// floods answers with a head and then text without end.
func floods(head, text string) func(net.Conn) {
	more := []byte(strings.Repeat(text, 64<<10/len(text)+1))
	return each(func(c net.Conn) bool {
		_, err := io.WriteString(c, head)
		for err == nil {
			_, err = c.Write(more)
		}
		return false
	})
}

func TestFaultyTargets(t *testing.T) {
	silent := func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }
	tests := []struct {
		name  string
		serve func(net.Conn)
		want  string // the only outcome
	}{
		{"silent", silent, "error:timeout"},
		{"stalling in its answer", says(okAnswer[:30], true), "error:timeout"},
		{"closing at once", func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite(); silent(c) }, "error:closed"},
		{"closing after the request", says("", false), "error:closed"},
		{"resetting", each(func(c net.Conn) bool { return c.(*net.TCPConn).SetLinger(0) != nil }), "error:reset"},
		{"half answering", says(okAnswer[:len(okAnswer)-1], false), "error:truncated"},
		{"half a head", says(okAnswer[:20], false), "error:truncated"},
		{"SSH", func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.9\r\n"); silent(c) }, "error:protocol"},
		{"sending 1 GB", floods("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n", "x"), "error:too_large"},
		{"chunks without end", floods(chunkedHead, "400\r\n"+strings.Repeat("x", 0x400)+"\r\n"), "error:too_large"},
		{"a head without end", floods("HTTP/1.1 200 OK\r\n", "X-More: and more\r\n"), "error:too_large"},
		{"a body without end", floods("HTTP/1.1 200 OK\r\n\r\n", "x"), "error:too_large"},
		{"redirecting", says("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", true), "302"},
		{"answering twice at once", says(okAnswer+"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n", true), "200"},
		{"closing as it said", says("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", false), "200"},
		{"closing to end its answer", says("HTTP/1.1 200 OK\r\n\r\nuntil here", false), "200"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var asked atomic.Int64
			ln := listen(t, func(c net.Conn) { asked.Add(1); tt.serve(c) })
			j := jobFor(t, "http://"+ln.Addr().String(), 5, 25*time.Millisecond)
			j.MaxInFlight = 4
			if tt.want == "error:timeout" {
				j.Timeout, j.MaxInFlight = 200*time.Millisecond, 100
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r := run(t.Context(), t, j)
			runtime.ReadMemStats(&after)
			if got := keys(r); got[tt.want] != r.Sent || r.Sent != r.Scheduled || r.Sent == 0 {
				t.Errorf("%d scheduled; outcomes %v, want %s alone: %s", r.Scheduled, got, tt.want, r.Series[0].Example)
			}
			if made := after.TotalAlloc - before.TotalAlloc; made > 32<<20 {
				t.Errorf("%d MiB of memory for %d answers", made>>20, r.Sent)
			}
			if s := r.Series[0]; s.Kind != Success && s.Example == "" && tt.want != "302" || len(s.Example) > 500 {
				t.Errorf("as an example it says %q", s.Example)
			}
			if tt.want != "302" && tt.want != "error:timeout" && asked.Load() != r.Connections.Opened {
				t.Errorf("%d connections at the target, %d opened", asked.Load(), r.Connections.Opened)
			}
		})
	}
}

func TestDeadTarget(t *testing.T) {
	ln := listen(t, func(net.Conn) {})
	_ = ln.Close()
	r := run(t.Context(), t, jobFor(t, "http://"+ln.Addr().String(), 100, 100*time.Millisecond))
	if got := keys(r); got["error:refused"] != r.Scheduled || r.Generator.OwnErrors != 0 || !strings.Contains(r.Series[0].Example, "refused") {
		t.Errorf("outcomes %v", got)
	}
}

// What a target does with a connection after its answer is no failure, and no
// answer to what comes next. Each client's turn comes after many others'.
func TestConnectionsBetweenRequests(t *testing.T) {
	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	const more = "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
	for name, serve := range map[string]func(net.Conn){
		"closed without a word":       says(okAnswer, false),
		"said to be closed, and open": says("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", true),
		"a second answer over TLS": func(c net.Conn) {
			if held, s, err := shake(c, secure.TLS); err == nil {
				each(func(net.Conn) bool { return held.together(s, okAnswer, more) == nil })(s)
			}
		},
		"a second answer": each(func(c net.Conn) bool {
			for _, text := range []string{okAnswer, more} {
				if _, err := io.WriteString(c, text); err != nil {
					return false
				}
			}
			return true
		}),
	} {
		t.Run(name, func(t *testing.T) {
			ln := listen(t, serve)
			j := jobFor(t, "http://"+ln.Addr().String(), 80, 400*time.Millisecond)
			j.Requests[0].Clients = &Clients{Count: 40, Via: ViaSource}
			if strings.HasSuffix(name, "TLS") {
				j.Targets[0].Scheme, j.TLS = "https", &tls.Config{InsecureSkipVerify: true}
			}
			r := run(t.Context(), t, j)
			if got := keys(r); got["200"] != r.Scheduled {
				t.Errorf("%d scheduled, %v", r.Scheduled, got)
			}
			if c := r.Connections; c.Opened != r.Sent || c.Reused != 0 {
				t.Errorf("%d opened, %d reused", c.Opened, c.Reused)
			}
		})
	}
}

func TestQuiet(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it can't be told here")
	}
	for name, tt := range map[string]struct {
		do    func(*net.TCPConn) error
		quiet bool
	}{
		"nothing happened": {func(*net.TCPConn) error { return nil }, true},
		"more was said":    {func(c *net.TCPConn) error { _, err := c.Write([]byte("x")); return err }, false},
		"closed":           {func(c *net.TCPConn) error { return c.Close() }, false},
		"reset":            {func(c *net.TCPConn) error { _ = c.SetLinger(0); return c.Close() }, false},
	} {
		dialled, did := make(chan struct{}), make(chan error, 1)
		ln := listen(t, func(c net.Conn) { <-dialled; did <- tt.do(c.(*net.TCPConn)) })
		to := &endpoint{addrs: []string{ln.Addr().String()}}
		cn, _, _, err := to.dial(t.Context(), &client{}, 0)
		if close(dialled); err != nil {
			t.Fatal(err)
		}
		if err := <-did; err != nil {
			t.Fatal(err)
		}
		if got := cn.watch.quiet(); got != tt.quiet || cn.readAhead(time.Now()) {
			t.Errorf("%s: quiet %v", name, got)
		}
		_ = cn.Close()
	}
}

// With TLS an extra answer may have been read already, beneath what reads.
func TestTLSThatReadAhead(t *testing.T) {
	secure := httptest.NewTLSServer(nil)
	defer secure.Close()
	over := make(chan struct{})
	ln := listen(t, func(c net.Conn) {
		if held, s, err := shake(c, secure.TLS); err == nil {
			_ = held.together(s, "a", "b")
		}
		<-over
	})
	to := &endpoint{addrs: []string{ln.Addr().String()}, tls: &tls.Config{InsecureSkipVerify: true}}
	cn, _, _, err := to.dial(t.Context(), &client{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cn.Close() }()
	b := make([]byte, 100)
	if n, err := cn.Read(b); n != 1 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	for _, want := range []bool{true, false} { // the first look takes what was there
		if got := cn.readAhead(time.Now().Add(time.Minute)); got != want {
			t.Errorf("more is there: %v, want %v", got, want)
		}
	}
	close(over)
}

func shake(c net.Conn, config *tls.Config) (*holding, *tls.Conn, error) {
	held := &holding{Conn: c}
	s := tls.Server(held, config)
	return held, s, s.HandshakeContext(context.Background())
}

// together writes texts as a TLS record each and sends them in one piece, so
// that one read of the other end takes them all.
func (h *holding) together(s *tls.Conn, texts ...string) error {
	h.hold, h.kept = true, nil
	defer func() { h.hold = false }()
	for _, text := range texts {
		if _, err := io.WriteString(s, text); err != nil {
			return err
		}
	}
	_, err := h.Conn.Write(h.kept)
	return err
}

// holding keeps what is written, when told to.
type holding struct {
	net.Conn
	hold bool
	kept []byte
}

func (h *holding) Write(p []byte) (int, error) {
	if h.hold {
		h.kept = append(h.kept, p...)
		return len(p), nil
	}
	return h.Conn.Write(p)
}

func TestTLS(t *testing.T) {
	newServer := func(config *tls.Config) *httptest.Server {
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
		s.TLS, s.Config.ErrorLog = config, log.New(io.Discard, "", 0)
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	plain := newSite(t, statusOK)
	secure, mutual := newServer(nil), newServer(&tls.Config{ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13})
	known := x509.NewCertPool()
	known.AddCert(secure.Certificate())
	known.AddCert(mutual.Certificate())
	trusting := &tls.Config{RootCAs: known, MinVersion: tls.VersionTLS12}
	closing := listen(t, func(c net.Conn) { _ = c.Close() })
	tests := []struct {
		name, target string
		config       *tls.Config
		want         string
	}{
		{"a known authority", secure.URL, trusting, "200"},
		{"an unknown one", secure.URL, nil, "error:tls"},
		{"a plain port", "https://" + plain.Listener.Addr().String(), trusting, "error:tls"},
		{"a target that wants our certificate", mutual.URL, trusting, "error:tls"},
		{"a target that closes", "https://" + closing.Addr().String(), trusting, "error:tls"},
		{"plain to a secure port", "http://" + secure.Listener.Addr().String(), nil, "400"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			j := jobFor(t, tt.target, 20, 100*time.Millisecond)
			j.TLS = tt.config
			r := run(t.Context(), t, j)
			if got := keys(r); got[tt.want] != r.Scheduled {
				t.Errorf("%d scheduled, %v, want %s: %s", r.Scheduled, slices.Collect(maps.Keys(got)), tt.want, r.Series[0].Example)
			}
			if c := r.Connections; tt.want == "200" && (c.Handshake.Count() != c.Opened || c.Reused == 0) {
				t.Errorf("%d handshakes of %d connections, %d reused", c.Handshake.Count(), c.Opened, c.Reused)
			}
		})
	}
}
