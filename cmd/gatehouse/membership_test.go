package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/mail/mailtest"
	"gatehouse/internal/stripe/sim"
)

// health is what a node says of itself and the others.
type health struct {
	Status     string
	Clustering struct {
		Enabled        bool
		Status         string
		NodeCount      int      `json:"node_count"`
		CurrentNode    string   `json:"current_node"`
		ConnectedNodes []string `json:"connected_nodes"`
	}
	Database    struct{ Status, Driver string }
	RateLimiter struct {
		Status, Backend string
		Differing       []string
	} `json:"rate_limiter"`
	Jobs struct {
		Queued        int
		OldestSeconds int64 `json:"oldest_seconds"`
	}
	code int // of the answer
}

func (n *node) health(client *http.Client) (h health) {
	n.t.Helper()
	c := do(client, http.MethodGet, n.url+"/health", "", "")
	if err := c.decode(&h); err != nil {
		n.t.Fatalf("/health: %d %s %v", c.status, c.body, err)
	}
	h.code = c.status
	return h
}

// awaitHealth waits until all nodes say so.
func awaitHealth(nodes []*node, bound time.Duration, what string, so func(*node, health) bool) (took time.Duration) {
	began := time.Now()
	for _, n := range nodes {
		client := n.client("")
		n.within(bound-time.Since(began), what, func() bool { return so(n, n.health(client)) })
	}
	return time.Since(began)
}

// counts wants so many nodes, by names that tell them apart.
func counts(want int) func(*node, health) bool {
	return func(_ *node, h health) bool {
		c := h.Clustering
		others := slices.Compact(slices.Sorted(slices.Values(c.ConnectedNodes)))
		return h.code == http.StatusOK && h.Status == "ok" && c.Enabled && c.Status == "healthy" && c.NodeCount == want &&
			len(others) == want-1 && !slices.Contains(others, c.CurrentNode) && c.CurrentNode != ""
	}
}

// The goals for how soon an end is seen. One that was announced is seen at the
// next heartbeat, two seconds later.
const (
	deathSeen = 10 * time.Second
	leaveSeen = 4 * time.Second
)

// TestMembership has nodes come, die and leave, and be of other limits.
func TestMembership(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, newPostgres(t), nil)
	var nodes []*node
	for _, p := range c.places {
		nodes = append(nodes, p.alive())
	}
	awaitHealth(nodes, leaveSeen, "there are three nodes", counts(3))
	if d := nodes[0].health(nodes[0].client("")); d.Database.Driver != "postgres" || d.RateLimiter.Backend != "postgres" {
		t.Errorf("/health: %+v", d)
	}

	nodes[1].kill()
	rest := []*node{nodes[0], nodes[2]}
	took := awaitHealth(rest, deathSeen, "there are two nodes after one was killed", counts(2))
	t.Logf("a death was seen after %s", took.Round(time.Millisecond))

	other := startNode(t, c.database, "--limit-api=7/1s")
	differ := func(_ *node, h health) bool {
		return h.code == http.StatusOK && h.Status == "degraded" && h.Clustering.Status == "degraded" && h.Clustering.NodeCount == 3 &&
			h.RateLimiter.Status == "degraded" && slices.Equal(h.RateLimiter.Differing, []string{"api"})
	}
	all := append(slices.Clone(rest), other)
	awaitHealth(all, leaveSeen, "a limit differs", differ)
	for _, n := range all {
		wantMetrics(t, n, 3, map[string]float64{"api": 1, "onboarding": 0, "auth_failure": 0})
		if c := do(n.client(""), http.MethodGet, n.url+"/readyz", "", ""); c.status != http.StatusOK {
			t.Errorf("/readyz where a limit differs: %d, want 200", c.status)
		}
	}
	mustSignUp(t, other.client(""), other.url, "differing@customers.dev")
	other.drain()
	took = awaitHealth(rest, leaveSeen, "all is as before", counts(2))
	t.Logf("a stop was seen after %s", took.Round(time.Millisecond))
	for _, n := range rest {
		wantMetrics(t, n, 2, map[string]float64{"api": 0})
	}
	c.drain()
	if left, err := column(openSQL(t, c.database), "SELECT count(*) FROM nodes WHERE beat_at > now_us() - 6000000"); err != nil || left[0] != "0" {
		t.Errorf("%v nodes are left after their stop, %v", left, err)
	}
}

func wantMetrics(t *testing.T, n *node, nodes float64, differs map[string]float64) {
	t.Helper()
	m := n.metrics()
	if got := m.sum("gatehouse_cluster_nodes"); got != nodes {
		t.Errorf("the metric counts %v nodes, want %v", got, nodes)
	}
	for policy, want := range differs {
		if got := m.sum("gatehouse_cluster_limit_differs", "policy="+policy); got != want {
			t.Errorf("the metric says of %s's limits %v, want %v", policy, got, want)
		}
	}
}

// TestNodesMigrateAtOnce starts nodes on an empty database.
func TestNodesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, newPostgres(t), nil)
	for i, p := range c.places {
		n := p.alive()
		mustSignUp(t, n.client(""), n.url, fmt.Sprintf("first-%d@customers.dev", i))
	}
	applied, err := column(openSQL(t, c.database), "SELECT version_id FROM goose_db_version WHERE version_id > 0 ORDER BY id")
	if err != nil || len(applied) != len(slices.Compact(slices.Clone(applied))) || len(applied) == 0 {
		t.Errorf("migrations were applied: %v, %v; want each once", applied, err)
	}
	c.drain()
}

// TestTwoVersionsOnOneDatabase has a newer version migrate the database under
// nodes of this one.
func TestTwoVersionsOnOneDatabase(t *testing.T) {
	t.Parallel()
	n := startNode(t, newPostgres(t))
	before := mustSignUp(t, n.client(""), n.url, "before@customers.dev")
	db := openSQL(t, n.database)
	change := func(statement string) {
		t.Helper()
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	change("ALTER TABLE customers ADD COLUMN later text; INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)")
	mustSignUp(t, n.client(""), n.url, "under-way@customers.dev")
	second := startNode(t, n.database)
	checkKey(t, second.client(""), second.url, before)
	mustSignUp(t, second.client(""), second.url, "after@customers.dev")
	for _, args := range [][]string{{"migrate", "status"}, {"migrate", "up"}, {"admin", "ledger", "verify"}} {
		if o := finish(t, gatehouse(t, append(args, databaseFlag(n.database))...)); o.code != exitOK {
			t.Errorf("%v on a newer schema: exit code %d, %s%s", args, o.code, o.stdout, o.stderr)
		}
	}

	// A version that older ones can't live with says so. Those that serve go on.
	change("UPDATE cluster SET least_schema = 9999")
	refused(t, n.database, nil, nil, exitFailed, "needs a gatehouse that knows at least 9999", "use a newer version")
	mustSignUp(t, n.client(""), n.url, "last@customers.dev")
	second.drain()
	n.drain()
}

// refused starts a node that must be, and say why.
func refused(t *testing.T, database string, env, args []string, code int, why ...string) {
	t.Helper()
	c := gatehouse(t, append(serveArgs(database), args...)...)
	c.Env = append(append(c.Env, masterKey), env...)
	o := finish(t, c)
	if o.code != code {
		t.Errorf("a node that is to be refused: exit code %d, want %d; it said %s", o.code, code, o.stderr)
	}
	for _, text := range why {
		if !strings.Contains(o.stderr, text) {
			t.Errorf("a node that is refused does not say %q: %s", text, o.stderr)
		}
	}
}

// TestNodesOfAnotherCluster are refused, as are those without the master key.
func TestNodesOfAnotherCluster(t *testing.T) {
	t.Parallel()
	database := newPostgres(t)
	n := startNode(t, database, "--cluster=production")
	refused(t, database, nil, []string{"--cluster=staging"}, exitFailed, `is the cluster "production"'s`, `"staging"`, "--cluster")
	refused(t, database, nil, nil, exitFailed, `is the cluster "production"'s`)
	refused(t, database, []string{"GATEHOUSE_MASTER_KEY="}, []string{"--cluster=production"}, exitUsage, "GATEHOUSE_MASTER_KEY", "openssl rand -base64 32")
	second := startNode(t, database, "--cluster=production")
	mustSignUp(t, second.client(""), second.url, "production@customers.dev")
	second.drain()
	n.drain()
}

// TestWrongClock has nodes whose clock is wrong: the database's is another, and
// that decides.
func TestWrongClock(t *testing.T) {
	t.Parallel()
	needLinux(t)
	for _, off := range []time.Duration{5 * time.Minute, -5 * time.Minute} {
		t.Run(off.String(), func(t *testing.T) {
			t.Parallel()
			database := newPostgres(t)
			if o := finish(t, gatehouse(t, "migrate", "up", databaseFlag(database))); o.code != exitOK {
				t.Fatal(o.stderr)
			}
			if _, err := openSQL(t, database).Exec(fmt.Sprintf(`CREATE OR REPLACE FUNCTION now_us() RETURNS bigint LANGUAGE sql VOLATILE
				AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + %d'`, off.Microseconds())); err != nil {
				t.Fatal(err)
			}
			o := newOutside(t)
			o.trouble(mailtest.None, sim.Trouble{})
			c := newCluster(t, 2, database, o.use(), fmt.Sprintf("--limit-onboarding=%d/%s", clockLimit, clockWindow))
			a, b := c.places[0].alive(), c.places[1].alive()
			w := &wrongClock{t: t, off: off, a: a, b: b}
			w.times()
			w.keyExpires()
			w.windows()
			awaitHealth([]*node{a, b}, leaveSeen, "there are two nodes", counts(2))
			a.awaitDone()
			c.drain()
			o.judge(t, database).fail(t)
		})
	}
}

const (
	clockLimit  = 10
	clockWindow = 2 * time.Second
)

// wrongClock is a database's clock that is off, and two nodes.
type wrongClock struct {
	t    *testing.T
	off  time.Duration
	a, b *node
}

// now is the database's time.
func (w *wrongClock) now() time.Time { return time.Now().Add(w.off) }

// near wants a time that the nodes tell to be the database's, within what
// reading it over the network and the seconds of a header make of it.
func (w *wrongClock) near(what string, got, want time.Time) {
	w.t.Helper()
	if d := got.Sub(want).Abs(); d > 2*time.Second {
		w.t.Errorf("%s is %s, want %s or near it", what, got, want)
	}
}

// times wants all times that clients are told to be the database's.
func (w *wrongClock) times() {
	w.t.Helper()
	const once = "a-client-of-a-wrong-clock"
	client := w.a.client(loopback(1))
	c := signUpOnce(client, w.a.url, "clock@customers.dev", once)
	now := w.now()
	var told struct {
		Customer struct {
			CreatedAt time.Time `json:"created_at"`
		}
	}
	if err := c.decode(&told); err != nil || c.status != http.StatusCreated {
		w.t.Fatalf("sign-up: %d %s %v", c.status, c.body, err)
	}
	w.near("created_at", told.Customer.CreatedAt, now)
	reset, err := strconv.ParseInt(c.header.Get("X-RateLimit-Reset"), 10, 64)
	if err != nil {
		w.t.Fatal(err)
	}
	w.near("X-RateLimit-Reset", time.Unix(reset, 0), now.Add(clockWindow))
	again := signUpOnce(w.b.client(loopback(1)), w.b.url, "clock@customers.dev", once)
	if string(again.body) != string(c.body) || again.status != http.StatusCreated {
		w.t.Errorf("the sign-up again: %d %s, want the first answer", again.status, again.body)
	}
}

// keyExpires wants keys to end by the database's clock, to the moment.
func (w *wrongClock) keyExpires() {
	w.t.Helper()
	client := w.a.client(loopback(2))
	who := mustSignUp(w.t, client, w.a.url, "expires@customers.dev")
	issue := func(expires time.Time) call {
		body, err := json.Marshal(map[string]string{"expires_at": expires.UTC().Format(time.RFC3339Nano)})
		if err != nil {
			w.t.Fatal(err)
		}
		return do(client, http.MethodPost, w.a.url+"/api/v1/keys", who.key, string(body))
	}
	// By the nodes' clocks one of these is in the future, and the other past.
	if c := issue(w.now().Add(-time.Minute)); c.status != http.StatusUnprocessableEntity {
		w.t.Errorf("a key that has expired by the database's clock: %d %s, want 422", c.status, c.body)
	}
	if c := issue(w.now().Add(time.Minute)); c.status != http.StatusCreated {
		w.t.Errorf("a key that expires in a minute by the database's clock: %d %s, want 201", c.status, c.body)
	}
	expires := w.now().Add(1500 * time.Millisecond)
	made := issue(expires)
	var told struct {
		APIKey string `json:"api_key"`
	}
	if err := made.decode(&told); err != nil || told.APIKey == "" {
		w.t.Fatalf("a key: %d %s %v", made.status, made.body, err)
	}
	expires = expires.Add(-w.off) // by our clock
	for _, n := range []*node{w.a, w.b} {
		client := n.client("")
		n.until("the key has expired", func() bool {
			c := do(client, http.MethodGet, n.url+"/api/v1/account", told.APIKey, "")
			if c.status == http.StatusOK && c.sent.After(expires) || c.status == http.StatusUnauthorized && c.received.Before(expires) {
				w.t.Errorf("%d to a key %s before it expires", c.status, expires.Sub(c.sent))
			}
			return c.status == http.StatusUnauthorized
		})
	}
}

// windows wants the limit to be exact over both nodes.
func (w *wrongClock) windows() {
	w.t.Helper()
	over := time.NewTimer(2*clockWindow + clockWindow/2)
	defer over.Stop()
	stop := make(chan struct{})
	var mu sync.Mutex
	var calls []call
	var clients sync.WaitGroup
	for i := range 4 {
		n := []*node{w.a, w.b}[i%2]
		clients.Go(func() {
			source := loopback(3)
			client := newClient(source)
			defer client.CloseIdleConnections()
			pace := time.NewTicker(20 * time.Millisecond)
			defer pace.Stop()
			for nth := 0; ; nth++ {
				select {
				case <-stop:
					return
				case <-pace.C:
				}
				c := signUp(client, n.url, fmt.Sprintf("window-%d-%d@customers.dev", i, nth))
				c.source = source
				mu.Lock()
				calls = append(calls, c)
				mu.Unlock()
			}
		})
	}
	<-over.C
	close(stop)
	clients.Wait()
	admitted := 0
	for _, c := range calls {
		if c.admitted() {
			admitted++
		}
		if c.status == http.StatusTooManyRequests {
			if wait, err := strconv.Atoi(c.header.Get("Retry-After")); err != nil || wait < 1 || wait > int(clockWindow/time.Second) {
				w.t.Errorf("Retry-After %q, want whole seconds from 1 to %s", c.header.Get("Retry-After"), clockWindow)
			}
		}
	}
	if admitted < 2*clockLimit {
		w.t.Errorf("%d were admitted in more than two windows, want %d at least", admitted, 2*clockLimit)
	}
	for _, wrong := range append(overAdmitted(calls, clockLimit, clockWindow), wronglyDenied(calls, clockLimit, clockWindow)...) {
		w.t.Error(wrong)
	}
}
