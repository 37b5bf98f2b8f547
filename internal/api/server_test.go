package api_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/internal/account"
	"gatehouse/internal/account/email"
	"gatehouse/internal/api"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/health"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/seal"
	"gatehouse/internal/store/sqlite"
	"gatehouse/internal/stripe"
	"gatehouse/internal/telemetry"
	"gatehouse/internal/vending"
)

// setup is what a test may want to be different from a node as app makes it.
type setup struct {
	database  *database // nil: a new one
	policies  map[ratelimit.Name]ratelimit.Policy
	trusted   []netip.Prefix
	ring      *seal.Ring       // master keys; by default one of its own
	clock     func() time.Time // the store's
	mode      string
	emailDeny []string
	mail      account.MailChecker
	accounts  func(account.Store) account.Store
	keys      func(apikey.Store) apikey.Store
	ledger    billing.Store
	fixes     func(billing.FixStore) billing.FixStore
	vending   func(vending.Store) vending.Store
	gateway   http.Handler
	provider  billing.Provider // nil: nobody can be charged
	secrets   string           // of Stripe's webhooks
	stripeNow func() time.Time // what signatures are compared with
	inbox     func(api.Inbox) api.Inbox
	cluster   func() health.Cluster // nil: there is none
}

type option func(testing.TB, *setup)

// limit configures a policy as GATEHOUSE_LIMIT_… would: "7/30s" or "off".
func limit(name ratelimit.Name, text string) option {
	return func(t testing.TB, s *setup) {
		t.Helper()
		p, err := s.policies[name].ParseLimit(text)
		if err != nil {
			t.Fatal(err)
		}
		s.policies[name] = p
	}
}

// unlimited switches all policies off.
func unlimited(_ testing.TB, s *setup) {
	for name, p := range s.policies {
		p.Off = true
		s.policies[name] = p
	}
}

// trust makes proxies trusted. The tests' client is at 127.0.0.1.
func trust(cidrs ...string) option {
	return func(_ testing.TB, s *setup) {
		for _, c := range cidrs {
			s.trusted = append(s.trusted, netip.MustParsePrefix(c))
		}
	}
}

// at gives the store a clock that only the test moves.
func at(c *clock) option { return func(_ testing.TB, s *setup) { s.clock = c.now } }

// sealedBy gives a node master keys that other nodes may have, too.
func sealedBy(ring *seal.Ring) option { return func(_ testing.TB, s *setup) { s.ring = ring } }

// beside makes a further node, which remembers nothing, over another's store.
func beside(other *server) option {
	return func(_ testing.TB, s *setup) { s.database = other.database }
}

// clock is a store's time, in a test's hand.
type clock struct {
	mu   sync.Mutex
	time time.Time
}

func newClock() *clock { return &clock{time: time.Date(2030, 1, 31, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.time
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.time = t
}

func (c *clock) advance(d time.Duration) { c.set(c.now().Add(d)) }

// database is a store that may be closed early.
type database struct {
	*sqlite.Store
	path  string
	close func() error
}

func newDatabase(t testing.TB, now func() time.Time, log *slog.Logger) *database {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gatehouse.db")
	store, err := sqlite.Open(t.Context(), sqlite.Options{Path: path, Serve: true, Migrate: true, Clock: now, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	d := &database{Store: store, path: path, close: sync.OnceValue(store.Close)}
	t.Cleanup(func() {
		if err := d.close(); err != nil {
			t.Errorf("close the store: %v", err)
		}
	})
	return d
}

// server is a node on loopback.
type server struct {
	*client
	database *database
	handler  *api.API
	health   *health.Checker
	registry *prometheus.Registry
	counted  *counted
	logs     *logs
}

// newServer puts a node together as app does, and serves it. Each answer that
// the server's own client gets is held to openapi.yaml, and the node's log is
// searched for secrets when the test ends.
func newServer(t testing.TB, options ...option) *server {
	t.Helper()
	s := setup{policies: make(map[ratelimit.Name]ratelimit.Policy), mode: "live", secrets: webhookSecret, stripeNow: time.Now}
	for _, p := range ratelimit.Defaults() {
		s.policies[p.Name] = p
	}
	for _, o := range options {
		o(t, &s)
	}
	if s.ring == nil {
		s.ring = newRing(t)
	}
	n := &server{logs: newLogs(t)}
	log, err := telemetry.NewLogger(n.logs, "json", "debug")
	if err != nil {
		t.Fatal(err)
	}
	if n.database = s.database; n.database == nil {
		n.database = newDatabase(t, s.clock, log)
	}
	off := make(map[string]bool)
	var offNames []string
	for _, p := range ratelimit.Defaults() {
		if s.policies[p.Name].Off {
			off[string(p.Name)] = true
			offNames = append(offNames, string(p.Name))
		}
	}
	n.health = health.New(health.Facts{Version: "v0.0.0-test", Mode: s.mode, Node: "node-1", Driver: "sqlite", Off: offNames, Cluster: s.cluster}, n.database.Ping)
	n.counted = &counted{store: n.database}
	n.handler = s.api(t, n, log)

	h := httptest.NewUnstartedServer(n.handler)
	h.Config.MaxHeaderBytes = 16 << 10
	h.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	h.Start()
	t.Cleanup(h.Close)
	n.client = newClient(t, h.URL, off, n.logs)
	return n
}

// newRing holds one new master key.
func newRing(t testing.TB) *seal.Ring {
	t.Helper()
	ring, err := seal.Parse(seal.NewKey())
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

func (s *setup) api(t testing.TB, n *server, log *slog.Logger) *api.API {
	t.Helper()
	rules, err := email.NewRules(nil, s.emailDeny)
	if err != nil {
		t.Fatal(err)
	}
	n.registry = prometheus.NewRegistry()
	metrics := telemetry.New(n.registry, "v0.0.0-test")
	limiter := func(name ratelimit.Name) *ratelimit.Limiter {
		return ratelimit.New(s.policies[name], n.counted, func(o ratelimit.Outcome) { metrics.Decision(string(name), string(o)).Inc() })
	}
	kind := apikey.Live
	if s.mode != "live" {
		kind = apikey.Test
	}
	var accounts account.Store = n.database
	if s.accounts != nil {
		accounts = s.accounts(accounts)
	}
	var keys apikey.Store = n.database
	if s.keys != nil {
		keys = s.keys(keys)
	}
	var ledger billing.Store = n.database
	if s.ledger != nil {
		ledger = s.ledger
	}
	var fixes billing.FixStore = n.database
	if s.fixes != nil {
		fixes = s.fixes(fixes)
	}
	var inbox api.Inbox = n.database
	if s.inbox != nil {
		inbox = s.inbox(inbox)
	}
	var grants vending.Store = n.database
	if s.vending != nil {
		grants = s.vending(grants)
	}
	catalogue := billing.DefaultCatalogue()
	return api.New(api.Config{
		Accounts:   account.NewService(accounts, account.Policy{Rules: rules, Mail: s.mail, Catalogue: catalogue, KeyKind: kind}, time.Now, metrics.SignUp),
		Keys:       apikey.NewService(keys, kind, time.Now),
		Ledger:     billing.NewLedger(ledger),
		Vending:    vending.NewService(grants, kind, []vending.Provider{vending.Anthropic, vending.OpenAI, vending.OpenRouter}, nil, func() string { return publicURL }), // but for ollama
		Usage:      n.database,
		Gateway:    s.gateway,
		Fixes:      billing.NewFixes(fixes, catalogue, s.provider, time.Now),
		Door:       apikey.NewDoor(n.database, limiter(ratelimit.API)),
		Onboarding: limiter(ratelimit.Onboarding), AuthFailure: limiter(ratelimit.AuthFailure),
		Webhook: s.webhook(t), Inbox: inbox,
		CredentialExchange: limiter(ratelimit.CredentialExchange),
		StripeWebhook:      limiter(ratelimit.StripeWebhook), WebhookUnauthentic: limiter(ratelimit.WebhookUnauthentic),
		Idempotency: idempotency.NewGuard(n.database, s.ring),
		Health:      n.health, Trusted: s.trusted, Metrics: metrics, Log: log,
	})
}

// webhook verifies as app does.
func (s *setup) webhook(t testing.TB) func([]string, []byte) (billing.Receipt, error) {
	t.Helper()
	secrets, err := stripe.ParseSecrets(s.secrets)
	if err != nil {
		t.Fatal(err)
	}
	if !secrets.Any() {
		return nil
	}
	return func(signature []string, body []byte) (billing.Receipt, error) {
		if _, err := secrets.Verify(signature, body, s.stripeNow()); err != nil {
			return billing.Receipt{}, err
		}
		return stripe.Receive(body, "by webhook"), nil
	}
}

// counted is a limiter's store that notes by what keys it was asked.
type counted struct {
	mu    sync.Mutex
	store ratelimit.Store
	keys  []string
}

// use puts another store in the place of the one there is, and returns that.
func (c *counted) use(store ratelimit.Store) (before ratelimit.Store) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, c.store = c.store, store
	return before
}

func (c *counted) Take(ctx context.Context, policy ratelimit.Name, limit ratelimit.Limit, key string) (ratelimit.Decision, error) {
	c.mu.Lock()
	c.keys = append(c.keys, key)
	store := c.store
	c.mu.Unlock()
	return store.Take(ctx, policy, limit, key)
}

// last is the key that was counted by most recently.
func (c *counted) last(t testing.TB) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.keys) == 0 {
		t.Fatal("no limit was asked for an address")
	}
	return c.keys[len(c.keys)-1]
}

// errStore is what a broken store says; its text must never reach a client.
var errStore = errors.New(`sqlite: SELECT "hash" FROM api_keys: disk I/O error`)

// customers are all that signed up.
func (s *server) customers(t testing.TB) []account.Customer {
	t.Helper()
	all, err := s.database.Customers(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
