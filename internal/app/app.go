package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"gatehouse/internal/account"
	"gatehouse/internal/account/email"
	"gatehouse/internal/api"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/cluster"
	"gatehouse/internal/fault"
	"gatehouse/internal/gateway"
	"gatehouse/internal/health"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/stripe"
	"gatehouse/internal/telemetry"
	"gatehouse/internal/vending"
)

// What a client may take its time with; each is far beyond what an honest one
// needs.
const (
	readTimeout  = 10 * time.Second // to send a request; one for head and body, since a second costs each request a timer
	writeTimeout = 30 * time.Second // to take the answer, from the head on
	idleTimeout  = 60 * time.Second // between two requests
	maxHead      = 16 << 10         // bytes of a request's head
)

// sweepEvery is how often windows that nobody used are removed.
const sweepEvery = time.Minute

// App is one node.
type App struct {
	ballast         []byte
	config          Config
	log             *slog.Logger
	store           Store
	metrics         *telemetry.Metrics
	tokens          *vending.Door
	meter           *vending.Meter
	gateway         *gateway.Gateway
	vending         *vending.Service
	api             *api.API
	jobs            *jobs.Runner
	health          *health.Checker
	public, admin   *http.Server
	publicL, adminL net.Listener        // adminL is nil when it is off
	serving         atomic.Int64        // requests under way on the public listener
	limits          map[string]string   // policy to "10/60s" or "off"
	members         *cluster.Membership // nil: there is no cluster
	joined          chan struct{}       // closed once the cluster knows this node, or could not be told
}

// New opens the store and the listeners, and starts nothing yet. Its caller
// runs the app, which closes them.
func New(ctx context.Context, c Config, version string, log *slog.Logger) (_ *App, err error) {
	ballast := newBallast()
	registry := prometheus.NewRegistry()
	metrics := telemetry.New(registry, version)
	store, err := serveStore(ctx, c, func(call string, took time.Duration, err error) { metrics.StoreCall(call, storeOutcome(err), took) }, log)
	if err != nil {
		return nil, err
	}
	metrics.ConnectionsInUse(store.InUse)
	a := &App{ballast: ballast, config: c, log: log, store: store, metrics: metrics, limits: make(map[string]string)}
	for name, p := range c.Policies {
		a.limits[string(name)] = p.String()
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.closeListeners(), store.Close())
		}
	}()
	node, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name this node: %w", err)
	}
	facts := health.Facts{Version: version, Mode: string(c.Mode), Node: node, Driver: c.Database.Driver(), Off: c.policiesOff()}
	if nodes, ok := store.(cluster.Store); ok {
		if err := a.member(nodes, node, version, metrics); err != nil {
			return nil, err
		}
		facts.Cluster = func() health.Cluster { return health.Cluster(a.members.State()) }
	}
	var payments *stripe.Client
	if c.StripeKey != nil {
		payments = stripe.New(*c.StripeKey, c.StripeBase)
	}
	now := a.members.Now
	if a.members == nil { // which of two answers of Stripe's is newer must not change with a step of the clock
		start := time.Now()
		now = func() time.Time { return start.Add(time.Since(start)) }
	}
	offered, _ := c.offered()
	a.vending = vending.NewService(store, c.Mode.KeyKind(), offered, c.makers(), a.publicURL)
	fixes := billing.NewFixes(store, c.Catalogue, provider(payments), now)
	intake := billing.NewIntake(store, log, countEvents(metrics))
	a.jobs = newRunner(c, store, intake, fixes, a.vending, payments, metrics, now, log)
	facts.Jobs = waiting(a.jobs)
	a.health = health.New(facts, store.Ping)
	ring, err := openRing(ctx, c, store, log)
	if err != nil {
		return nil, err
	}
	if a.publicL, err = listen(ctx, c); err != nil {
		return nil, err
	}
	if err := a.newGateway(now); err != nil {
		return nil, err
	}
	handler, err := a.newAPI(metrics, idempotency.NewGuard(store, ring), fixes, intake)
	if err != nil {
		return nil, err
	}
	quiet := slog.NewLogLogger(serverLog{log.Handler(), new(atomic.Int64)}, slog.LevelError)
	a.public = &http.Server{
		Handler: a.counted(handler), ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHead, ErrorLog: quiet,
		DisableGeneralOptionsHandler: true, // ours answers all
	}
	a.admin = &http.Server{Handler: adminHandler(registry, a.environment(node, version)), ReadHeaderTimeout: readTimeout, ErrorLog: quiet}
	if c.AdminListen != "" {
		if a.adminL, err = new(net.ListenConfig).Listen(ctx, "tcp", c.AdminListen); err != nil {
			return nil, fmt.Errorf("admin listener: %w", err)
		}
	}
	return a, nil
}

// member makes this node one of the cluster's.
func (a *App) member(nodes cluster.Store, name, version string, metrics *telemetry.Metrics) error {
	self, err := cluster.NewNode(name, version, a.limits)
	if err != nil {
		return fmt.Errorf("name this node: %w", err)
	}
	a.joined = make(chan struct{})
	first := sync.OnceFunc(func() { close(a.joined) })
	a.members = cluster.New(nodes, self, func(s cluster.State) {
		metrics.Nodes(s.Nodes())
		for policy := range a.limits {
			metrics.LimitDiffers(policy, slices.Contains(s.Differing, policy))
		}
		first()
	}, a.log)
	return nil
}

// serverLog takes what net/http has to say: clients' doings (broken
// handshakes, bad heads) at level debug; and that it can't accept connections,
// which it says hundreds of times a second, once a minute as an error.
type serverLog struct {
	slog.Handler
	said *atomic.Int64 // when that last was, in ns
}

// Handle implements slog.Handler.
func (l serverLog) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	if strings.HasPrefix(r.Message, "http: Accept error") {
		now, last := r.Time.UnixNano(), l.said.Load()
		if now-last > int64(time.Minute) && l.said.CompareAndSwap(last, now) {
			r.Level = slog.LevelError
		}
	}
	if !l.Enabled(ctx, r.Level) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

// counted knows how many requests are under way.
func (a *App) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.serving.Add(1)
		defer a.serving.Add(-1)
		h.ServeHTTP(w, r)
	})
}

func (a *App) newAPI(metrics *telemetry.Metrics, guard *idempotency.Guard, fixes *billing.Fixes, intake *billing.Intake) (http.Handler, error) {
	c, store := a.config, a.store
	rules, err := email.NewRules(c.EmailAllow, c.EmailDeny)
	if err != nil {
		return nil, fmt.Errorf("email-allow, email-deny: %w", err)
	}
	policy := account.Policy{Rules: rules.Exempt(c.LoadTestDomains), LoadTest: c.LoadTestDomains, FollowUps: followUps(a.jobs), Catalogue: c.Catalogue, KeyKind: c.Mode.KeyKind()}
	if c.CheckMX {
		policy.Mail = email.NewMX(net.DefaultResolver, email.MXOptions{Observe: metrics.MailDomain})
	}
	limiter := func(name ratelimit.Name) *ratelimit.Limiter {
		counters := make(map[ratelimit.Outcome]prometheus.Counter)
		for _, o := range []ratelimit.Outcome{ratelimit.Admitted, ratelimit.Denied, ratelimit.Remembered, ratelimit.Failed} {
			counters[o] = metrics.Decision(string(name), string(o))
		}
		return ratelimit.New(c.Policies[name], store, func(o ratelimit.Outcome) { counters[o].Inc() })
	}
	a.api = api.New(api.Config{
		Vending:            a.vending,
		CredentialExchange: limiter(ratelimit.CredentialExchange), Gateway: a.gateway, Usage: store,
		Accounts:   account.NewService(store, policy, a.members.Now, metrics.SignUp),
		Keys:       apikey.NewService(store, policy.KeyKind, a.members.Now),
		Ledger:     billing.NewLedger(store),
		Door:       apikey.NewDoor(store, limiter(ratelimit.API)),
		Onboarding: limiter(ratelimit.Onboarding), AuthFailure: limiter(ratelimit.AuthFailure),
		StripeWebhook: limiter(ratelimit.StripeWebhook), WebhookUnauthentic: limiter(ratelimit.WebhookUnauthentic),
		Fixes: fixes, Inbox: intake, Webhook: a.webhook(),
		Idempotency: guard, Health: a.health, Trusted: c.TrustedProxies, Metrics: metrics, Log: a.log, Now: a.members.Now,
	})
	return a.api, nil
}

// newGateway makes what takes tokens; that it counts failures as the API does is
// told when there is one.
func (a *App) newGateway(now func() time.Time) (err error) {
	_, upstreams := a.config.offered()
	// A pause or a step of the clock must not let tokens live on.
	process := now
	now = func() time.Time {
		if wall := a.members.Now(); wall.After(process()) {
			return wall
		}
		return process()
	}
	a.tokens = vending.NewDoor(a.store, now, a.log)
	a.meter = vending.NewMeter(a.store, a.config.Prices, now, a.log,
		func(provider string, outcome gateway.Outcome, estimated bool) {
			a.metrics.Call(provider, string(outcome), estimated)
		})
	a.gateway, err = gateway.New(gateway.Config{
		Upstreams: upstreams, Door: a.tokens, Meter: a.meter, Log: a.log, Now: now,
		Unauthenticated: func(w http.ResponseWriter, r *http.Request) error { return a.api.CountFailure(w, r) },
	})
	return err
}

// publicURL is where clients reach this node.
func (a *App) publicURL() string {
	if _, port, _ := net.SplitHostPort(a.config.Listen); port == "0" && strings.HasSuffix(a.config.PublicURL, "://"+a.config.Listen) {
		return strings.TrimSuffix(a.config.PublicURL, a.config.Listen) + a.publicL.Addr().String() // the port that it came to be
	}
	return a.config.PublicURL
}

// webhook reads what is signed with one of our secrets; nil without one.
func (a *App) webhook() func([]string, []byte) (billing.Receipt, error) {
	if !a.config.WebhookSecrets.Any() {
		return nil
	}
	return func(signature []string, body []byte) (billing.Receipt, error) {
		signed, err := a.config.WebhookSecrets.Verify(signature, body, a.members.Now())
		if err != nil {
			return billing.Receipt{}, err
		}
		return stripe.Receive(body, fmt.Sprintf("by webhook, signed at %s with secret %d", signed.At.Format(time.RFC3339), signed.Secret)), nil
	}
}

func (c Config) policiesOff() (off []string) {
	for _, p := range ratelimit.Defaults() {
		if c.Policies[p.Name].Off {
			off = append(off, string(p.Name))
		}
	}
	return off
}

// storeOutcome is a metric label: what a call of the store came to.
func storeOutcome(err error) string {
	if err == nil {
		return "ok"
	}
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind != fault.Unavailable {
		return "refused"
	}
	return "failed"
}

func listen(ctx context.Context, c Config) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w (another program may have the address; choose one with --listen)", err)
	}
	if c.TLS != nil {
		l = tls.NewListener(l, c.TLS)
	}
	return l, nil
}

func adminHandler(registry *prometheus.Registry, environment http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /environment", environment)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// Addr is where the public API listens.
func (a *App) Addr() net.Addr { return a.publicL.Addr() }

// AdminAddr is where metrics are, or nil.
func (a *App) AdminAddr() net.Addr {
	if a.adminL == nil {
		return nil
	}
	return a.adminL.Addr()
}
