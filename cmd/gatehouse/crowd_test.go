package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"
)

var clusterConnections = flag.Int("cluster.connections", 2000, "how many connections TestManyConnections holds")

// TestManyConnections holds many connections open that have nothing to say,
// from several addresses, spread over three nodes: sign-ups go on as if they
// were alone, all connections still work, and the nodes stay small.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	needLinux(t)
	const (
		addresses = 50
		largest   = 150 << 20 // bytes of a node
		slowest   = time.Second
	)
	c := newCluster(t, 3, newPostgres(t), nil)
	crowd := make([]idleClient, *clusterConnections)
	began := time.Now()
	for i := range crowd {
		n := c.places[i%len(c.places)].alive()
		crowd[i] = idleClient{n.dial(loopback(100_000 + i%addresses)), n}
	}
	askAll(t, crowd)
	t.Logf("%d connections were made, and answered once, in %s", len(crowd), time.Since(began).Round(time.Millisecond))

	var mu sync.Mutex
	var took []time.Duration
	known := make(map[string]told)
	var clients sync.WaitGroup
	for a := range 8 {
		n := c.places[a%len(c.places)].alive()
		clients.Go(func() {
			for i := range 5 * signUpLimit {
				client := newClient(loopback(a*5 + i/signUpLimit)) // with a new connection each, as if there were none yet
				c := signUp(client, n.url, fmt.Sprintf("beside-%d-%d@customers.dev", a, i))
				client.CloseIdleConnections()
				mu.Lock()
				took = append(took, c.received.Sub(c.sent))
				known[c.email] = told{call: c}
				if c.status != http.StatusCreated {
					t.Errorf("a sign-up beside the crowd: %d %s %v, want 201", c.status, c.body, c.err)
				}
				mu.Unlock()
			}
		})
	}
	clients.Wait()
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("%d sign-ups beside them: half within %s, 99 %% within %s, all within %s", len(took),
		took[len(took)/2].Round(100*time.Microsecond), p99.Round(100*time.Microsecond), took[len(took)-1].Round(100*time.Microsecond))
	if p99 > slowest {
		t.Errorf("99 %% of the sign-ups took up to %s, want %s at most", p99, slowest)
	}
	for _, p := range c.places {
		size := p.alive().metrics().sum("process_resident_memory_bytes")
		t.Logf("node %s takes %.1f MiB", p.name, size/(1<<20))
		if size > largest && !raced() {
			t.Errorf("node %s takes %.0f bytes, want %d at most", p.name, size, largest)
		}
	}
	askAll(t, crowd)
	for _, one := range crowd {
		if err := one.Close(); err != nil {
			t.Fatal(err)
		}
	}
	c.drain()
	mustAudit(t, c.database, known)
}

// raced says that the program, and so the nodes, has the race detector in it,
// with which it takes several times the memory.
func raced() bool {
	info, ok := debug.ReadBuildInfo()
	return ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// idleClient keeps a connection.
type idleClient struct {
	net.Conn
	n *node
}

// askAll has each of them send a request, and then read the answer.
func askAll(t *testing.T, crowd []idleClient) {
	t.Helper()
	for _, c := range crowd {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: gatehouse\r\n\r\n"); err != nil {
			t.Fatalf("ask over a connection that was kept: %v", err)
		}
	}
	for _, c := range crowd {
		resp, err := http.ReadResponse(bufio.NewReaderSize(c, 1024), nil)
		if err != nil {
			t.Fatalf("no answer over a connection that was kept: %v", err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if cerr := resp.Body.Close(); err == nil {
			err = cerr
		}
		if err != nil || resp.StatusCode != http.StatusOK || resp.Close {
			t.Fatalf("an answer over a connection that was kept: %s, closes %t, %v; want 200", resp.Status, resp.Close, err)
		}
	}
}
