package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestDrainUnderLoad stops a node that many clients keep connections to: no
// request goes without its answer, not even one that began before and ends
// after the listener has closed.
func TestDrainUnderLoad(t *testing.T) {
	t.Parallel()
	needLinux(t)
	n := startNode(t, newDatabase(t), longDrain)
	half := halfSignUp(n, "half@customers.dev")
	l := newDrainLoad(n, newClient)
	l.drain(t)
	awaitListenerClosed(n)
	if _, err := io.WriteString(half, halfSignUpEnd); err != nil {
		t.Errorf("finish a request that began before the drain: %v", err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(half), nil)
	if err != nil {
		t.Fatalf("no answer to a request that began before the drain: %v", err)
	}
	if resp.StatusCode != http.StatusCreated {
		t.Errorf("a request that began before the drain: %s, want 201", resp.Status)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	l.known["half@customers.dev"] = told{}
	l.ended(t)
}

// TestDrainUnderLoadOverHTTP2 is the same for clients whose connections carry
// many requests.
func TestDrainUnderLoadOverHTTP2(t *testing.T) {
	t.Parallel()
	needLinux(t)
	certFile, keyFile, trusted := certificate(t)
	n := startNode(t, newDatabase(t), longDrain, "--tls-cert="+certFile, "--tls-key="+keyFile)
	l := newDrainLoad(n, func(source string) *http.Client { return newTLSClient(source, "HTTP/2.0", trusted) })
	l.http2 = true
	l.drain(t)
	l.ended(t)
}

// longDrain has a delay of three seconds, in which the clients notice.
const longDrain = "--drain-timeout=12s"

// drain loads the node, stops it, and returns when all clients have noticed.
func (l *drainLoad) drain(t *testing.T) {
	t.Helper()
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() { l.client(i) })
	}
	<-l.begun
	l.n.signal(syscall.SIGTERM)
	l.n.awaitLog("draining")
	l.draining.Store(true)
	probe := l.newClient("")
	defer probe.CloseIdleConnections()
	if c := do(probe, http.MethodGet, l.n.url+"/readyz", "", ""); c.status != http.StatusServiceUnavailable {
		t.Errorf("/readyz of a node that drains: %d, want 503", c.status)
	}
	if c := do(probe, http.MethodGet, l.n.url+"/livez", "", ""); c.status != http.StatusOK {
		t.Errorf("/livez of a node that drains: %d, want 200", c.status)
	}
	clients.Wait()
	for _, wrong := range l.wrong {
		t.Error(wrong)
	}
}

// ended wants the node to end well, with all that it acknowledged.
func (l *drainLoad) ended(t *testing.T) {
	t.Helper()
	if code := l.n.await(); code != exitOK {
		t.Errorf("exit code %d, want %d", code, exitOK)
	}
	mustAudit(t, l.n.database, l.known)
	t.Logf("%d answers before the signal, %d in all", drainAfter, l.answers.Load())
}

// halfSignUp begins a sign-up on a node that has had none; halfSignUpEnd ends
// it.
func halfSignUp(n *node, email string) io.ReadWriter {
	n.t.Helper()
	c := n.dial(loopback(700_000))
	body := `{"name": "Half", "email": "` + email + `"`
	if _, err := fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", signUpHead, len(body)+len(halfSignUpEnd), body); err != nil {
		n.t.Fatal(err)
	}
	n.until("the node has begun with half a sign-up", func() bool {
		return n.metrics().sum("gatehouse_rate_limit_decisions_total", "policy=onboarding", "outcome=admitted") > 0
	})
	return c
}

const halfSignUpEnd = "}"

// awaitListenerClosed waits until nobody new is let in.
func awaitListenerClosed(n *node) {
	n.t.Helper()
	n.until("the listener is closed", func() bool {
		c, err := dialer("").Dial("tcp", n.host())
		if err != nil {
			return true
		}
		_ = c.Close() // only a question
		return false
	})
}

// drainAfter is how many answers come before the signal.
const drainAfter = 200

// drainLoad is what the clients of a node that drains see.
type drainLoad struct {
	n         *node
	newClient func(source string) *http.Client
	http2     bool
	draining  atomic.Bool // the node has said so
	answers   atomic.Int64
	begun     chan struct{} // closed at drainAfter answers

	mu    sync.Mutex
	wrong []string
	known map[string]told
}

func newDrainLoad(n *node, newClient func(source string) *http.Client) *drainLoad {
	return &drainLoad{n: n, newClient: newClient, begun: make(chan struct{}), known: make(map[string]told)}
}

// client sends one request after the other over connections that it keeps,
// until it has been told several times that the node closes them.
func (l *drainLoad) client(i int) {
	client := l.newClient(loopback(i))
	defer client.CloseIdleConnections()
	for nth, closed := 0, 0; closed < 5; nth++ {
		after := l.draining.Load()
		var c call
		if nth%4 == 0 {
			c = signUp(client, l.n.url, fmt.Sprintf("drain-%d-%d@customers.dev", i, nth))
		} else {
			c = do(client, http.MethodGet, l.n.url+[]string{"/livez", "/health", "/nowhere"}[nth%3], "", "")
		}
		if l.answers.Add(1) == drainAfter {
			close(l.begun)
		}
		// HTTP/2 has no header for it: there the next request has to take
		// another connection, or soon.
		if c.closes || l.http2 && nth > 0 && !c.reused {
			closed++
		} else if after && c.answered() && !l.http2 {
			l.say("client %d: an answer of a node that drains keeps the connection", i)
		}
		if !c.answered() {
			l.say("client %d: request %d got no answer: %v", i, nth, c.err)
			return
		}
		if c.email != "" {
			l.mu.Lock()
			l.known[c.email] = told{call: c}
			l.mu.Unlock()
		}
	}
}

func (l *drainLoad) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
}

// TestDrainEnds stops nodes in other ways and beside other clients.
func TestDrainEnds(t *testing.T) {
	t.Parallel()
	needLinux(t)
	tests := []struct {
		name    string
		timeout string
		clients func(*node) // who are there when the signal comes
		signals []syscall.Signal
		code    int
	}{
		{"SIGINT is as good as SIGTERM", "4s", nil, []syscall.Signal{syscall.SIGINT}, exitOK},
		{"the shortest time-out", "2s", nil, []syscall.Signal{syscall.SIGTERM}, exitOK},
		{"clients who keep connections without a request are not waited for", "4s", keepsConnection, []syscall.Signal{syscall.SIGTERM}, exitOK},
		{"clients who have not said anything are not waited for", "4s", saysNothing, []syscall.Signal{syscall.SIGTERM}, exitOK},
		{"a request that hangs is cut off at the time-out", "2s", hangs, []syscall.Signal{syscall.SIGTERM}, exitFailed},
		// Without the second signal these would last for an hour.
		{"a second SIGTERM ends it at once", "1h", hangs, []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM}, exitInterrupted},
		{"a second SIGINT ends it at once", "1h", hangs, []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, exitInterrupted},
		{"the second may be the other one", "1h", hangs, []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}, exitInterrupted},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			database := newDatabase(t)
			n := launch(t, gatehouse(t, append(serveArgs(database), "--drain-timeout="+test.timeout)...))
			n.plain = test.code != exitOK // it says why
			n.awaitServing()
			if test.clients != nil {
				test.clients(n)
			}
			for i, s := range test.signals {
				n.signal(s)
				if i == 0 {
					n.awaitLog("draining")
				}
			}
			if code := n.await(); code != test.code {
				t.Errorf("exit code %d, want %d", code, test.code)
			}
			startNode(t, database) // nothing is left in the way
		})
	}
}

func keepsConnection(n *node) {
	c := n.dial("")
	if _, err := io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: gatehouse\r\n\r\n"); err != nil {
		n.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		n.t.Fatal(err)
	}
}

func saysNothing(n *node) { n.dial("") }

func hangs(n *node) { halfSignUp(n, "hangs@customers.dev") }

// TestDrainWithoutLog stops a node after the program that read its log has
// ended, as in `gatehouse serve 2>&1 | jq` when Ctrl-C reaches both.
func TestDrainWithoutLog(t *testing.T) {
	t.Parallel()
	c := gatehouse(t, serveArgs(newDatabase(t))...)
	log, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill() }) // it has ended, if all is well
	hangs := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	defer hangs.Stop()
	for lines, line := bufio.NewReader(log), ""; !strings.Contains(line, `"serving"`); {
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatalf("the log ends with %q, %v", line, err)
		}
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err != nil {
		t.Errorf("a node whose log nobody reads did not drain: %v", err)
	}
}
