package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"gatehouse/internal/store/postgres/pgtest"
)

var (
	clusterSeconds = flag.Int("cluster.seconds", 10, "for how long TestCluster kills and restarts")
	clusterNodes   = flag.Int("cluster.nodes", 3, "how many nodes it has")
	clusterSeed    = flag.Uint64("cluster.seed", 0, "what its choices follow from; 0: a new one")
)

// cluster is some nodes on one PostgreSQL, each of which a test may kill and
// start again.
type cluster struct {
	t        testing.TB
	database string
	args     []string // of all nodes
	env      []string
	places   []*place
}

// place is one node of a cluster, and after its end the next.
type place struct {
	c    *cluster
	name string
	// acks is at which of the acknowledgements to come the node is killed.
	acks atomic.Int64

	mu   sync.Mutex
	n    *node // the last one
	mine tally
}

// newCluster starts nodes on a database, all at once.
func newCluster(t testing.TB, nodes int, database string, env []string, args ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, database: database, args: args, env: env}
	for i := range nodes {
		c.places = append(c.places, &place{c: c, name: string(rune('A' + i))})
	}
	c.start()
	return c
}

// start starts a node at each place where there is none, and waits for all.
func (c *cluster) start() {
	c.t.Helper()
	begun := make(map[*place]*node)
	for _, p := range c.places {
		if p.alive() == nil {
			begun[p] = launchNode(c.t, c.env, c.database, c.args...)
		}
	}
	for p, n := range begun {
		n.awaitServing()
		p.take(n)
	}
}

func (p *place) take(n *node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n = n
}

// alive is the place's node; nil when there is none, or it has ended.
func (p *place) alive() *node {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.n == nil {
		return nil
	}
	select {
	case <-p.n.exited:
		return nil
	default:
		return p.n
	}
}

// some is any node that is alive, rather at another place than not; where none
// is it waits until one is, and gives up with nil.
func (c *cluster) some(random *rand.Rand, not *place) (*place, *node) {
	space, tired := time.NewTicker(5*time.Millisecond), time.NewTimer(patience)
	defer space.Stop()
	defer tired.Stop()
	for {
		for _, i := range random.Perm(len(c.places)) {
			if p := c.places[i]; p != not || len(c.places) == 1 {
				if n := p.alive(); n != nil {
					return p, n
				}
			}
		}
		not = nil
		select {
		case <-space.C:
		case <-tired.C:
			return nil, nil
		}
	}
}

// drain stops all nodes as an operator would.
func (c *cluster) drain() {
	c.t.Helper()
	var all []*node
	for _, p := range c.places {
		if n := p.alive(); n != nil {
			n.signal(syscall.SIGTERM)
			all = append(all, n)
		}
	}
	for _, n := range all {
		if code := n.await(); code != exitOK {
			c.t.Fatalf("a drained node exited with %d, want %d:\n%s", code, exitOK, n.log.text())
		}
	}
}

// client is one client of a place's node, whose acknowledgements are counted.
func (p *place) client(n *node, source string) *http.Client {
	client := newClient(source)
	transport := client.Transport.(*http.Transport)
	dial := transport.DialContext
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return fatalConn{c, p, n}, nil
	}
	return client
}

// fatalConn kills its node when the acknowledgement arrives that is its last;
// see ackConn.
type fatalConn struct {
	net.Conn
	p *place
	n *node
}

func (c fatalConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if bytes.HasPrefix(b[:n], []byte("HTTP/1.1 201 ")) || bytes.HasPrefix(b[:n], []byte("HTTP/1.1 204 ")) {
		if c.p.acks.Add(-1) == 0 {
			_ = c.n.cmd.Process.Kill() // its exit is waited for
		}
	}
	return n, err
}

// tally counts what was sent to a place and what came of it.
type tally struct {
	sent, created, limited, away, other, unanswered int // sign-ups
	keys                                            int // other requests
	kills                                           int
}

func (t *tally) add(o tally) {
	t.sent += o.sent
	t.created += o.created
	t.limited += o.limited
	t.away += o.away
	t.other += o.other
	t.unanswered += o.unanswered
	t.keys += o.keys
	t.kills += o.kills
}

func (t *tally) count(c call) {
	t.sent++
	switch {
	case !c.answered():
		t.unanswered++
	case c.status == http.StatusCreated:
		t.created++
	case c.status == http.StatusTooManyRequests:
		t.limited++
	case c.status == http.StatusServiceUnavailable:
		t.away++
	default:
		t.other++
	}
}

// The limit of sign-ups in a cluster's run: so short a window that it turns
// over again and again.
const (
	clusterLimit  = 10
	clusterWindow = 5 * time.Second
)

// backWithin is how long after its database a node serves again.
const backWithin = 5 * time.Second

// TestCluster kills nodes of a cluster with SIGKILL under load, one every two
// seconds, and now and then crashes the database, and holds what is left
// against what the clients were told.
func TestCluster(t *testing.T) {
	t.Parallel()
	needLinux(t)
	if _, err := pgtest.Find(); err != nil {
		t.Skip(err)
	}
	seed := *clusterSeed
	for seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("once more: go test ./cmd/gatehouse -v -run '^%s$' -cluster.seed=%d -cluster.seconds=%d -cluster.nodes=%d", t.Name(), seed, *clusterSeconds, *clusterNodes)
	pg, err := pgtest.New(pgtest.Options{}) // one of its own, which it crashes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := pg.Close(); err != nil {
			t.Error(err)
		}
	})
	database, err := pg.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r := &clusterRun{
		cluster: newCluster(t, *clusterNodes, database, nil, fmt.Sprintf("--limit-onboarding=%d/%s", clusterLimit, clusterWindow)),
		pg:      pg, random: rand.New(rand.NewPCG(seed, 2)),
		known: make(map[string]told), stop: make(chan struct{}),
	}
	r.run(time.Duration(*clusterSeconds) * time.Second)
	r.start()
	r.checkPromises()
	r.drain()
	r.judge()
}

// clusterRun is what the clients of a run know.
type clusterRun struct {
	*cluster
	pg     *pgtest.Server
	random *rand.Rand
	stop   chan struct{} // closed when nobody is to begin any more
	fresh  atomic.Int64  // client addresses used, and customers begun

	mu      sync.Mutex
	calls   []call          // all sign-ups
	known   map[string]told // by address
	kept    []keptAnswer
	outages []outage
	strange []string // answers that should not be
	let     []string // revoked keys that were let in
	broken  []string // promises that were not kept in the end
	// Counts of what was put to the test.
	revoked, refusedAfter, repeats, checked, crashes int
	slowestNode, slowestDatabase                     time.Duration
}

// outage is when the database was away, until it served again on all nodes.
type outage struct{ from, until time.Time }

// keptAnswer is the first answer to a request with an Idempotency-Key.
type keptAnswer struct {
	call
	once string
}

// run loads the cluster, and kills.
func (r *clusterRun) run(d time.Duration) {
	var clients sync.WaitGroup
	end := sync.OnceFunc(func() { close(r.stop); clients.Wait() })
	defer end() // also where a node does not start
	for w := range 12 {
		random := rand.New(rand.NewPCG(r.random.Uint64(), uint64(w)))
		clients.Go(func() { r.paced(40*time.Millisecond, func() { r.request(random) }) })
	}
	for w := range 2 {
		random := rand.New(rand.NewPCG(r.random.Uint64(), uint64(100+w)))
		clients.Go(func() { r.paced(200*time.Millisecond, func() { r.revoke(random) }) })
	}
	over := time.NewTimer(d)
	defer over.Stop()
	turn := time.NewTicker(2 * time.Second)
	defer turn.Stop()
	for i := 0; ; i++ {
		select {
		case <-turn.C:
		case <-over.C:
			end()
			return
		}
		if i == 1 || r.random.IntN(6) == 0 {
			r.crashDatabase()
		} else {
			r.killNode()
		}
	}
}

// paced does something again and again, not more often than every so often.
func (r *clusterRun) paced(every time.Duration, do func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}
		select {
		case <-r.stop:
			return
		default:
			do()
		}
	}
}

// pause lets some time go by.
func pause(d time.Duration) { <-time.After(d) }

// upTo is some time.
func (r *clusterRun) upTo(d time.Duration) time.Duration {
	return time.Duration(r.random.Int64N(int64(d)))
}

// killNode kills a node, at any moment or at one in which it has just
// acknowledged something, and starts the next at its place.
func (r *clusterRun) killNode() {
	r.t.Helper()
	p := r.places[r.random.IntN(len(r.places))]
	r.kill(p)
	pause(r.upTo(700 * time.Millisecond))
	began := time.Now()
	r.start()
	r.slowestNode = max(r.slowestNode, time.Since(began))
}

func (r *clusterRun) kill(p *place) {
	n := p.alive()
	if r.random.IntN(3) > 0 {
		p.acks.Store(1 + r.random.Int64N(20))
		select {
		case <-n.exited:
		case <-time.After(500 * time.Millisecond):
		}
		p.acks.Store(0)
	}
	n.kill()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mine.kills++
}

// crashDatabase stops the database, now and then a node too, and starts it
// again: then all nodes serve soon.
func (r *clusterRun) crashDatabase() {
	r.t.Helper()
	for _, p := range r.places {
		p.alive().faulty = true // it says that the database is away
	}
	r.mu.Lock()
	r.crashes++
	r.outages = append(r.outages, outage{from: time.Now()})
	this := len(r.outages) - 1
	r.mu.Unlock()
	if err := r.pg.Stop("immediate"); err != nil {
		r.t.Fatal(err)
	}
	pause(r.upTo(1200 * time.Millisecond))
	if r.random.IntN(3) == 0 {
		r.kill(r.places[r.random.IntN(len(r.places))])
	}
	if err := r.pg.Start(); err != nil {
		r.t.Fatal(err)
	}
	back := time.Now()
	for _, p := range r.places {
		n := p.alive()
		if n == nil {
			continue
		}
		n.within(backWithin, "it signs customers up again after the database's return", func() bool {
			i := r.fresh.Add(1)
			return r.signUp(p, n, ownAddress(i), fmt.Sprintf("back-%d@customers.dev", i), "").status == http.StatusCreated
		})
	}
	r.slowestDatabase = max(r.slowestDatabase, time.Since(back))
	r.mu.Lock()
	r.outages[this].until = time.Now()
	r.mu.Unlock()
	r.start()
}

// Client addresses: some that windows fill from, some that several requests
// come from, and some that are one customer's.
func hotClient(random *rand.Rand) string  { return loopback(900_000 + random.IntN(4)) }
func sharedAddress(i int64) string        { return loopback(int(i / 5)) }
func ownAddress(i int64) string           { return loopback(200_000 + int(i)) }
func askingAddress(i int64, p int) string { return loopback(500_000 + 8*int(i) + p) }

// request is what one of the clients does.
func (r *clusterRun) request(random *rand.Rand) {
	i := r.fresh.Add(1)
	email := fmt.Sprintf("cluster-%d@customers.dev", i)
	p, n := r.some(random, nil)
	if n == nil {
		return // the test has failed
	}
	switch random.IntN(10) {
	case 0, 1, 2, 3, 4:
		r.signUp(p, n, hotClient(random), email, "")
	case 5, 6, 7:
		r.signUp(p, n, sharedAddress(i), email, "")
	default:
		r.insist(random, ownAddress(i), email, fmt.Sprintf("cluster-customer-%d", i))
	}
}

// signUp signs a customer up and notes what came of it.
func (r *clusterRun) signUp(p *place, n *node, source, email, once string) call {
	client := p.client(n, source)
	defer client.CloseIdleConnections()
	c := signUpOnce(client, n.url, email, once)
	c.source = source
	r.lives(n, c)
	p.mu.Lock()
	p.mine.count(c)
	p.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if who := r.known[email]; who.customerID == "" || c.customerID != "" { // a later try may be in vain
		who.call = c
		if c.status == http.StatusServiceUnavailable { // the database may have died of it, or right after it
			who.status = 0
		}
		r.known[email] = who
	}
	light := c // there are many
	light.header, light.body = nil, nil
	r.calls = append(r.calls, light)
	switch c.status {
	case 0, http.StatusCreated, http.StatusTooManyRequests, http.StatusServiceUnavailable:
	default: // a killed node's try may run on for a moment
		if c.status != http.StatusConflict || once == "" {
			r.strange = append(r.strange, fmt.Sprintf("sign-up of %s: %d %s", email, c.status, c.body))
		}
	}
	return c
}

// lives wants a node that gave no answer to be dead.
func (r *clusterRun) lives(n *node, c call) {
	if c.answered() {
		return
	}
	select {
	case <-n.exited:
	case <-time.After(2 * time.Second):
		r.strangely("no answer, and the node was not killed: %v", c.err)
	}
}

// strangely notes an answer that should not be.
func (r *clusterRun) strangely(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.strange = append(r.strange, fmt.Sprintf(format, args...))
}

// insist sends one sign-up, with its Idempotency-Key, to one node after the
// other until it is answered, and now and then once more.
func (r *clusterRun) insist(random *rand.Rand, source, email, once string) {
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	tired := time.NewTimer(patience)
	defer tired.Stop()
	var not *place
	for {
		p, n := r.some(random, not)
		if n == nil {
			return
		}
		c := r.signUp(p, n, source, email, once)
		if c.status == http.StatusCreated {
			r.keep(keptAnswer{c, once})
			if random.IntN(4) > 0 {
				return
			}
		}
		if not = p; !c.answered() {
			continue
		}
		select {
		case <-again.C:
		case <-tired.C:
			r.strangely("sign-up of %s was never answered with 201: at last %d %s", email, c.status, c.body)
			return
		}
	}
}

// keep wants the same answer as the first time.
func (r *clusterRun) keep(k keptAnswer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k.header.Get("Idempotent-Replayed") != "" {
		r.repeats++
	}
	for _, first := range slices.Backward(r.kept) {
		if first.once == k.once {
			if !bytes.Equal(first.body, k.body) {
				r.strange = append(r.strange, fmt.Sprintf("two answers to one request: %s and %s", first.body, k.body))
			}
			return
		}
	}
	r.kept = append(r.kept, k)
}

// revoke signs a customer up, has a key served by all nodes, and revokes it at
// one: from the acknowledgement on, no node lets it in.
func (r *clusterRun) revoke(random *rand.Rand) {
	i := r.fresh.Add(1)
	email := fmt.Sprintf("cluster-key-%d@customers.dev", i)
	p, n := r.some(random, nil)
	if n == nil {
		return
	}
	c := r.signUp(p, n, ownAddress(i), email, "")
	if c.key == "" {
		return
	}
	client := p.client(n, ownAddress(i))
	defer client.CloseIdleConnections()
	asks := make(chan struct{})
	var askers sync.WaitGroup
	answers := make([][]call, len(r.places))
	for at, p := range r.places {
		askers.Go(func() { answers[at] = r.ask(asks, p, askingAddress(i, at), c.key) })
	}
	who := replaceKey(client, n.url, told{call: c})
	done := time.Now()
	if who.revoked != "" {
		pause(150 * time.Millisecond)
	}
	close(asks)
	askers.Wait()

	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[email] = who
	if who.revoked == "" {
		return
	}
	r.revoked++
	for at, own := range answers {
		for _, c := range own {
			if !c.sent.After(done) {
				continue
			}
			if c.status == http.StatusOK {
				r.let = append(r.let, fmt.Sprintf("%s was let in by node %s %s after its end was acknowledged", email, r.places[at].name, c.sent.Sub(done)))
			} else if c.status == http.StatusUnauthorized {
				r.refusedAfter++
			}
		}
	}
}

// ask presents a key to a place's nodes until it need not any more.
func (r *clusterRun) ask(until chan struct{}, p *place, source, key string) (answers []call) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	client, with := newClient(source), (*node)(nil)
	defer func() {
		client.CloseIdleConnections()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mine.keys += len(answers)
	}()
	for {
		select {
		case <-until:
			return answers
		case <-tick.C:
		}
		n := p.alive()
		if n == nil {
			continue
		}
		if n != with {
			client.CloseIdleConnections()
			client, with = p.client(n, source), n
		}
		c := do(client, http.MethodGet, n.url+"/api/v1/account", key, "")
		r.lives(n, c)
		answers = append(answers, c)
	}
}

// checkPromises wants all nodes to know what clients were told.
func (r *clusterRun) checkPromises() {
	r.t.Helper()
	const most = 150 // of those that are all alike
	for _, at := range r.random.Perm(len(r.kept))[:min(most, len(r.kept))] {
		k := r.kept[at]
		p, n := r.some(r.random, nil)
		c := signUpOnce(p.client(n, k.source), n.url, k.email, k.once)
		r.holds(c.status == http.StatusCreated && bytes.Equal(c.body, k.body) && c.header.Get("Idempotent-Replayed") == "true",
			"the answer of %s, asked for again: %d %s %v; want the first one", k.email, c.status, c.body, c.err)
	}
	checked, asked := 0, 0
	for _, who := range r.known {
		if who.key == "" || who.revoked == "" && checked >= most {
			continue
		}
		checked++
		for at, p := range r.places {
			asked++ // failed authentications are limited, too
			client := newClient(loopback(800_000 + asked/50))
			n := p.alive()
			if at == 0 || who.revoked != "" {
				status, id, err := accountOf(client, n.url, who.key)
				r.holds(status == http.StatusOK && id == who.customerID, "the key that customer %s was given, at node %s: %d, customer %q, %v", who.customerID, p.name, status, id, err)
			}
			if who.revoked != "" {
				status, _, err := accountOf(client, n.url, who.revoked)
				r.holds(status == http.StatusUnauthorized, "a key of customer %s whose end was acknowledged, at node %s: %d, %v; want 401", who.customerID, p.name, status, err)
			}
			client.CloseIdleConnections()
		}
	}
}

// holds notes a promise that was looked at.
func (r *clusterRun) holds(kept bool, format string, args ...any) {
	r.checked++
	if !kept {
		r.broken = append(r.broken, fmt.Sprintf(format, args...))
	}
}

// judge says what was wrong, and prints a table.
func (r *clusterRun) judge() {
	r.t.Helper()
	found, err := auditDatabase(openSQL(r.t, r.database), r.known)
	if err != nil {
		r.t.Fatal(err)
	}
	var lost, doubled []string
	for _, f := range found {
		if strings.HasSuffix(f, "is gone") || strings.Contains(f, "was told") {
			lost = append(lost, f)
		} else {
			doubled = append(doubled, f)
		}
	}
	over := overAdmitted(r.calls, clusterLimit, clusterWindow)
	wrong := wronglyDenied(r.calls, clusterLimit, clusterWindow)
	away := r.awayWithoutReason()

	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 1, ' ', tabwriter.AlignRight|tabwriter.Debug)
	row := func(cells ...any) {
		for _, cell := range cells {
			fmt.Fprintf(w, "\t %v ", cell)
		}
		fmt.Fprintln(w, "\t")
	}
	row("node", "sent", "admitted 201", "refused 429", "refused 503", "other", "unanswered", "asked with keys", "kills")
	var sum tally
	for _, p := range r.places {
		m := p.mine
		sum.add(m)
		row(p.name, m.sent, m.created, m.limited, m.away, m.other, m.unanswered, m.keys, m.kills)
	}
	row("all", sum.sent, sum.created, sum.limited, sum.away, sum.other, sum.unanswered, sum.keys, sum.kills)
	if err := w.Flush(); err != nil {
		r.t.Fatal(err)
	}
	text.WriteByte('\n')
	for _, line := range []struct {
		what string
		n    any
	}{
		{"database crashed", r.crashes},
		{"lost", len(lost)},
		{"doubled", len(doubled)},
		{"over-admitted", len(over)},
		{"wrongly denied", len(wrong)},
		{"503 though the database was there", len(away)},
		{"keys revoked under way on all nodes", r.revoked},
		{"refused afterwards", r.refusedAfter},
		{"let in afterwards", len(r.let)},
		{"requests under Idempotency-Keys", len(r.kept)},
		{"answered again, alike", r.repeats},
		{"promises looked at in the end", r.checked},
		{"of these broken", len(r.broken)},
		{"slowest start of a node", r.slowestNode.Round(time.Millisecond)},
		{"slowest return of all nodes after the database", r.slowestDatabase.Round(time.Millisecond)},
	} {
		fmt.Fprintf(&text, "%50s: %v\n", line.what, line.n)
	}
	r.t.Logf("\n%s", text.String())
	for what, all := range map[string][]string{
		"lost": lost, "doubled": doubled, "over-admitted": over, "wrongly denied": wrong,
		"let in": r.let, "broken": r.broken, "strange": r.strange,
	} {
		const some = 10
		for i, one := range all[:min(some, len(all))] {
			r.t.Errorf("%s, %d of %d: %s", what, i+1, len(all), one)
		}
	}
	if len(away) > sum.sent/1000 { // a busy machine may make a call wait for too long
		r.t.Errorf("%d of %d sign-ups were answered with 503 though the database was there: %q …", len(away), sum.sent, away[0])
	}
	if sum.created == 0 || sum.limited == 0 || r.refusedAfter == 0 || r.repeats == 0 {
		r.t.Error("what was to be tested did not happen")
	}
}

// awayWithoutReason are sign-ups that were answered with 503 while the database
// was there.
func (r *clusterRun) awayWithoutReason() (found []string) {
	for _, c := range r.calls {
		if c.status == http.StatusServiceUnavailable && !slices.ContainsFunc(r.outages, func(o outage) bool {
			return c.received.After(o.from) && c.sent.Before(o.until)
		}) {
			found = append(found, fmt.Sprintf("503 at %s after %s", c.sent.Format(time.StampMilli), c.received.Sub(c.sent)))
		}
	}
	return found
}
