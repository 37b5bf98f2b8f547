package main

import (
	"fmt"
	"net/http"
	"syscall"
	"testing"
)

// TestClientsWhoLeave has clients hang up without waiting for their answers,
// and stops nodes as soon as they serve: neither is a failure of the database.
func TestClientsWhoLeave(t *testing.T) {
	t.Parallel()
	database := newPostgres(t)
	n := startNode(t, database)
	client := n.client("")
	who := mustSignUp(t, client, n.url, "stays@customers.dev")
	for i := range 200 {
		c := n.dial("")
		path := []string{"account", "account/ledger", "keys"}[i%3]
		if _, err := fmt.Fprintf(c, "GET /api/v1/%s HTTP/1.1\r\nHost: gatehouse\r\nX-API-Key: %s\r\n\r\n", path, who.key); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	checkKey(t, client, n.url, who)
	if c := do(client, http.MethodGet, n.url+"/health", "", ""); c.status != http.StatusOK {
		t.Errorf("/health after clients left: %d %s", c.status, c.body)
	}
	n.drain()
	var hasty []*node
	for range 3 {
		n := launchNode(t, nil, database, "--drain-timeout=2s")
		n.awaitServing()
		n.signal(syscall.SIGTERM)
		hasty = append(hasty, n)
	}
	for _, n := range hasty {
		if code := n.await(); code != exitOK {
			t.Errorf("a node that is stopped as soon as it serves: exit code %d, want %d", code, exitOK)
		}
	}
}
