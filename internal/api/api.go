package api

import (
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/health"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/telemetry"
	"gatehouse/internal/vending"
)

// Config is what the API is put together from.
type Config struct {
	Accounts    *account.Service
	Keys        *apikey.Service
	Ledger      *billing.Ledger
	Fixes       *billing.Fixes
	Vending     *vending.Service
	Usage       Usage
	Door        *apikey.Door // authenticated calls, by the policy api
	Onboarding  *ratelimit.Limiter
	AuthFailure *ratelimit.Limiter
	// CredentialExchange admits exchanges, by customer.
	CredentialExchange *ratelimit.Limiter
	// Gateway serves all that is below /gateway/, and answers errors its own way;
	// see CountFailure. Nil: there is nothing there.
	Gateway     http.Handler
	Idempotency *idempotency.Guard
	// Webhook makes a receipt of what Stripe signed: it verifies a body by
	// its Stripe-Signature headers. Its error says that the body is not
	// authentic, and why, which is for the log alone. It is called from many
	// goroutines, and keeps nothing of body beyond its return but in the
	// receipt. Nil: no secret is configured, and the endpoint is off.
	Webhook func(signature []string, body []byte) (billing.Receipt, error)
	Inbox   Inbox
	// StripeWebhook counts authentic events, and WebhookUnauthentic the rest.
	StripeWebhook, WebhookUnauthentic *ratelimit.Limiter
	Health                            *health.Checker
	// Trusted are the proxies whose X-Forwarded-For counts.
	Trusted []netip.Prefix
	Metrics *telemetry.Metrics
	Log     *slog.Logger
	// Now is the time that answers tell; nil: this machine's.
	Now func() time.Time
}

// Inbox takes authentic events in.
type Inbox interface {
	TakeIn(ctx context.Context, r billing.Receipt) (isNew bool, err error)
}

// Usage sums up a customer's measured calls.
type Usage interface {
	// UsedBetween sums up the calls from start to before end, by provider.
	UsedBetween(ctx context.Context, customerID string, start, end time.Time) (map[vending.Provider]vending.Used, error)
}

// API serves the public listener.
type API struct {
	Config
	mux         *http.ServeMux
	none        *route // stands for requests that match no route
	gateway     *route // all that is below /gateway/; none where there is no gateway
	faults      map[fault.Kind]prometheus.Counter
	failureGate gate
	forgedAt    atomic.Int64 // when a forged webhook was last told of, in ns
}

// gate decides whether a request may reach its handler.
type gate func(*exchange) error

// route is one method and path of the contract.
type route struct {
	api          *API
	method, path string
	gate         gate
	handle       func(*exchange) error
	quiet        bool                          // asked for by machines, every few seconds
	secret       bool                          // answers with what nobody on the way may keep
	seen         [600]atomic.Pointer[observer] // by status, resolved once
}

// New returns the API's handler.
func New(c Config) *API {
	a := &API{Config: c, mux: http.NewServeMux(), faults: make(map[fault.Kind]prometheus.Counter)}
	if a.Now == nil {
		a.Now = time.Now
	}
	for kind := range statusOf {
		a.faults[kind] = c.Metrics.Fault(string(kind))
	}
	a.failureGate = a.byAddress(c.AuthFailure)
	a.none = &route{api: a, path: "none", handle: func(*exchange) error {
		return fault.Missing("There is nothing here.")
	}}
	a.gateway = a.none
	open := func(*exchange) error { return nil }
	byKey := a.byKey(newLimitHeaders(c.Door.Policy()), c.Door.Enter)
	a.route(
		&route{method: "POST", path: "/api/v1/customers/onboard", gate: a.byAddress(c.Onboarding), secret: true, handle: a.once(false, a.signUp)},
		&route{method: "GET", path: "/api/v1/account", gate: byKey, handle: a.account},
		&route{method: "GET", path: "/api/v1/account/ledger", gate: byKey, handle: a.ledger},
		&route{method: "GET", path: "/api/v1/keys", gate: byKey, handle: a.listKeys},
		&route{method: "POST", path: "/api/v1/keys", gate: byKey, secret: true, handle: a.once(true, a.createKey)},
		&route{method: "POST", path: "/api/v1/keys/{id}/rotate", gate: byKey, secret: true, handle: a.once(true, a.rotateKey)},
		&route{method: "DELETE", path: "/api/v1/keys/{id}", gate: byKey, handle: a.deleteKey},
		&route{method: "POST", path: "/api/v1/fixes", gate: byKey, handle: a.once(false, a.recordFix)},
		&route{method: "POST", path: "/api/v1/credentials/exchange", gate: a.byCustomer(c.CredentialExchange), secret: true, handle: a.once(false, a.exchangeKey)},
		&route{method: "POST", path: "/api/v1/credentials/refresh", gate: byKey, secret: true, handle: a.once(false, a.refreshCredential)},
		&route{method: "GET", path: "/api/v1/credentials", gate: byKey, handle: a.listCredentials},
		&route{method: "DELETE", path: "/api/v1/credentials/{id}", gate: byKey, handle: a.deleteCredential},
		&route{method: "POST", path: "/api/v1/usage/report", gate: byKey, handle: a.once(false, a.reportUsage)},
		&route{method: "POST", path: "/api/webhooks/stripe", handle: a.webhook()},
		&route{method: "GET", path: "/health", gate: open, quiet: true, handle: a.health},
		&route{method: "GET", path: "/api/health", gate: open, quiet: true, handle: a.health},
		&route{method: "GET", path: "/livez", gate: open, quiet: true, handle: a.livez},
		&route{method: "GET", path: "/readyz", gate: open, quiet: true, handle: a.readyz},
		&route{method: "GET", path: "/openapi.json", gate: open, handle: a.openapi},
	)
	if c.Gateway != nil {
		// Bodies, limits and errors are its own. Its bounded labels: any method,
		// one path.
		a.gateway = &route{api: a, path: "gateway", gate: open, handle: func(x *exchange) error {
			c.Gateway.ServeHTTP(x, x.Request)
			if x.status == 0 { // as net/http has it
				x.WriteHeader(http.StatusOK)
			}
			return nil
		}}
		a.mux.Handle("/gateway/", a.gateway)
		a.mux.Handle("/gateway", a.none) // which ServeMux would redirect
	}
	return a
}

// methods are a path's routes by their methods, and under "" what answers every
// other one. ServeMux knows paths alone: it would find that a path of any method
// conflicts with a pattern of one.
type methods map[string]*route

// ServeHTTP is called by the mux.
func (m methods) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found := m[r.Method]
	if found == nil {
		found = m[""]
	}
	found.ServeHTTP(w, r)
}

// route registers routes, an answer for every other method of their paths,
// and one for every other path.
func (a *API) route(routes ...*route) {
	paths := make(map[string]methods)
	for _, r := range routes {
		r.api = a
		if paths[r.path] == nil {
			paths[r.path] = make(methods)
		}
		paths[r.path][r.method] = r
		if r.method == "GET" {
			paths[r.path]["HEAD"] = r
		}
	}
	for p, all := range paths {
		allow := strings.Join(slices.Sorted(maps.Keys(all)), ", ")
		all[""] = &route{api: a, path: p, handle: func(x *exchange) error {
			x.Header().Set("Allow", allow)
			return &fault.Error{
				Kind: fault.MethodNotAllowed, Code: "METHOD_NOT_ALLOWED",
				Message: "This path takes " + allow + ".",
			}
		}}
		a.mux.Handle(p, all)
	}
	a.mux.Handle("/", a.none)
}

// ServeHTTP is the way of every request.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := &exchange{ResponseWriter: w, Request: r, route: a.none, start: time.Now()}
	x.id = requestID(r)
	w.Header()["X-Request-Id"] = x.value(x.id)
	w.Header()["X-Content-Type-Options"] = noSniff
	defer a.finish(x)
	if a.Health.IsDraining() {
		w.Header().Set("Connection", "close")
	}
	x.client = clientAddr(r, a.Trusted)
	if unclean(r.URL.Path) { // ServeMux would redirect
		found := a.none
		if strings.HasPrefix(r.URL.Path, "/gateway/") { // which takes paths as they came, and words its own 404
			found = a.gateway
		}
		found.serve(x)
		return
	}
	a.mux.ServeHTTP(x, r)
}

var noSniff = []string{"nosniff"}

// ServeHTTP is called by the mux; w is always an exchange.
func (r *route) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	x := w.(*exchange)
	x.Request = req // with its path values
	r.serve(x)
}

func (r *route) serve(x *exchange) {
	x.route = r
	var err error
	if r.gate != nil {
		err = r.gate(x)
	}
	if err == nil {
		err = r.handle(x)
	}
	if err != nil {
		r.api.fail(x, r.api.limitFailure(x, err))
	}
}

// context is the request's, under a name that handlers read well.
func (x *exchange) context() context.Context { return x.Request.Context() }

// unclean says whether a path has empty, "." or ".." segments.
func unclean(p string) bool {
	if p == "" || p[0] != '/' {
		return true
	}
	if !strings.Contains(p, "//") && !strings.Contains(p, "/.") {
		return false
	}
	clean := path.Clean(p)
	return clean != p && (clean == "/" || clean+"/" != p)
}
