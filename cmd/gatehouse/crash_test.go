package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	crashRounds = flag.Int("crash.rounds", 20, "how often TestKilledAtAnyMoment kills the node")
	crashSeed   = flag.Uint64("crash.seed", 0, "what its choices follow from; 0: a new one")
)

// TestKilledAtAnyMoment kills the node with SIGKILL under load, again and
// again, and holds what is left against what the clients were told.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	needLinux(t)
	seed := *crashSeed
	for seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("once more: go test ./cmd/gatehouse -run '^%s$' -crash.seed=%d -crash.rounds=%d", t.Name(), seed, *crashRounds)
	r := &crashRun{t: t, random: rand.New(rand.NewPCG(seed, 0)), known: make(map[string]told), database: newDatabase(t)}
	for round := range *crashRounds {
		r.round(round)
		if t.Failed() {
			t.Fatalf("after the kill of round %d", round)
		}
	}
	n := startNode(t, r.database)
	for _, who := range r.known {
		r.checkPromises(n, who)
	}
	if t.Failed() {
		return
	}
	n.drain()
	mustAudit(t, r.database, r.known)
	byStatus, revoked := make(map[int]int), 0
	for _, who := range r.known {
		byStatus[who.status]++
		if who.revoked != "" {
			revoked++
		}
	}
	t.Logf("sign-ups by status, 0 is unanswered: %v; keys revoked: %d", byStatus, revoked)
}

// crashRun is what the clients of all rounds know.
type crashRun struct {
	t        *testing.T
	random   *rand.Rand
	database string
	fresh    int // client addresses used

	mu     sync.Mutex
	calls  []call          // all sign-ups
	known  map[string]told // by address
	recent []told          // of the last round
}

// Each round brings some client addresses that many requests come from, for
// so many rounds: their windows fill before and after a kill.
const (
	hotEach   = 2
	hotRounds = 3
)

// hotAddress is one of the addresses that a round's windows fill from.
func hotAddress(round int, random *rand.Rand) string {
	born := max(0, round-random.IntN(hotRounds))
	return loopback(900_000 + born*hotEach + random.IntN(hotEach))
}

// round serves, checks what the last round was promised, loads until so many
// answers have come, and kills.
func (r *crashRun) round(round int) {
	n := startNode(r.t, r.database)
	for _, who := range r.recent {
		r.checkPromises(n, who)
	}
	for range min(5, len(r.calls)) { // and some of the older ones
		if c := r.calls[r.random.IntN(len(r.calls))]; c.key != "" {
			r.checkPromises(n, r.known[c.email])
		}
	}
	mustAudit(r.t, r.database, r.known)
	r.recent = nil

	// The moment: when so many writes have been acknowledged or, now and then,
	// so many requests sent. Many at once, so that the node has more to do
	// than to commit what it is about to acknowledge.
	k := &killer{n: n, bySent: r.random.IntN(4) == 0, after: int64(1 + r.random.IntN(150))}
	var workers sync.WaitGroup
	for w := range 24 {
		random := rand.New(rand.NewPCG(r.random.Uint64(), uint64(w)))
		workers.Go(func() {
			for i := 0; !k.killed.Load(); i++ {
				r.request(n, k, random, fmt.Sprintf("crash-%d-%d-%d@customers.dev", round, w, i), round)
			}
		})
	}
	workers.Wait()
	<-n.exited
	for _, wrong := range append(overAdmitted(r.calls, signUpLimit, signUpWindow), wronglyDenied(r.calls, signUpLimit, signUpWindow)...) {
		r.t.Error(wrong)
	}
}

// killer kills the node when its count is full.
type killer struct {
	n           *node
	bySent      bool
	after       int64
	sent, acked atomic.Int64
	killed      atomic.Bool
}

func (k *killer) count(c *atomic.Int64, decides bool) {
	if c.Add(1) >= k.after && decides && k.killed.CompareAndSwap(false, true) {
		_ = k.n.cmd.Process.Kill() // its exit is waited for
	}
}

// client is a client whose acknowledgements are counted.
func (k *killer) client(source string) *http.Client {
	client := newClient(source)
	transport := client.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return ackConn{c, k}, nil
	}
	return client
}

// ackConn counts an acknowledgement when its bytes arrive. A node that says
// so before it is true is exposed for some microseconds only: by the time that
// a client has read the answer they are over.
type ackConn struct {
	net.Conn
	k *killer
}

func (c ackConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bytes.HasPrefix(p[:n], []byte("HTTP/1.1 201 ")) || bytes.HasPrefix(p[:n], []byte("HTTP/1.1 204 ")) {
		c.k.count(&c.k.acked, !c.k.bySent)
	}
	return n, err
}

// request signs a customer up from some address, and now and then replaces
// his key at once.
func (r *crashRun) request(n *node, k *killer, random *rand.Rand, email string, round int) {
	source := r.address(random, round)
	client := k.client(source)
	defer client.CloseIdleConnections()
	k.count(&k.sent, k.bySent)
	c := signUp(client, n.url, email)
	c.source = source
	who := told{call: c}
	if c.key != "" && random.IntN(2) == 0 {
		who = replaceKey(client, n.url, who)
	}
	if !c.answered() && !k.killed.Load() {
		r.t.Errorf("no answer, and the node was not killed: %v", c.err)
		k.killed.Store(true)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, c)
	r.known[email] = who
	r.recent = append(r.recent, who)
}

// address is a hot one, or one that a few requests come from.
func (r *crashRun) address(random *rand.Rand, round int) string {
	if random.IntN(2) == 0 {
		return hotAddress(round, random)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fresh++
	return loopback(r.fresh / 5)
}

// replaceKey makes another key and revokes the first, as far as it gets.
func replaceKey(client *http.Client, base string, who told) told {
	var list struct{ Keys []struct{ ID string } }
	if c := do(client, http.MethodGet, base+"/api/v1/keys", who.key, ""); c.decode(&list) != nil || len(list.Keys) != 1 {
		return who // killed meanwhile
	}
	who.moreKeys = true
	var made struct {
		APIKey string `json:"api_key"`
	}
	if c := do(client, http.MethodPost, base+"/api/v1/keys", who.key, "{}"); c.status != http.StatusCreated || c.decode(&made) != nil {
		return who
	}
	first := who.key
	who.key = made.APIKey
	if c := do(client, http.MethodDelete, base+"/api/v1/keys/"+list.Keys[0].ID, who.key, ""); c.status == http.StatusNoContent {
		who.revoked = first
	}
	return who
}

// checkPromises wants a customer's key to work, and the one he revoked not to.
func (r *crashRun) checkPromises(n *node, who told) {
	r.t.Helper()
	if who.key == "" {
		return
	}
	r.fresh++ // failed authentications are limited, too
	client := newClient(loopback(500_000 + r.fresh/50))
	defer client.CloseIdleConnections()
	checkKey(r.t, client, n.url, who.call)
	if who.revoked == "" {
		return
	}
	if status, _, err := accountOf(client, n.url, who.revoked); status != http.StatusUnauthorized {
		r.t.Errorf("a key whose end was acknowledged: %d, %v; want 401", status, err)
	}
}

// TestKilledWhileStarting kills a node while it makes its database, at each
// file that it makes: the next start goes on from there.
func TestKilledWhileStarting(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"", ".lock", "-journal", "-wal", "-shm"} {
		t.Run("gatehouse.db"+file, func(t *testing.T) {
			database := newDatabase(t)
			n := launch(t, gatehouse(t, serveArgs(database)...))
			serving := func() bool { found, _ := n.log.with("serving"); return len(found) > 0 }
			for there := false; !there && !serving(); { // as soon as it can be seen
				_, err := os.Stat(database + file)
				there = err == nil
				runtime.Gosched()
			}
			n.kill()
			n = startNode(t, database)
			who := mustSignUp(t, n.client(""), n.url, "starter@customers.dev")
			checkKey(t, n.client(""), n.url, who)
			mustAudit(t, database, map[string]told{who.email: {call: who}})
		})
	}
}
