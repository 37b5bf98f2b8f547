package api

import (
	"context"
	"log/slog"
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
)

// Config is what the API is put together from.
type Config struct {
	Accounts    *account.Service
	Keys        *apikey.Service
	Ledger      *billing.Ledger
	Fixes       *billing.Fixes
	Door        *apikey.Door // authenticated calls, by the policy api
	Onboarding  *ratelimit.Limiter
	AuthFailure *ratelimit.Limiter
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

// API serves the public listener.
type API struct {
	Config
	mux         *http.ServeMux
	none        *route // stands for requests that match no route
	faults      map[fault.Kind]prometheus.Counter
	apiHeaders  *limitHeaders
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
	a.apiHeaders = newLimitHeaders(c.Door.Policy())
	a.failureGate = a.byAddress(c.AuthFailure)
	a.none = &route{api: a, path: "none", handle: func(*exchange) error {
		return fault.Missing("There is nothing here.")
	}}
	open := func(*exchange) error { return nil }
	a.route(
		&route{method: "POST", path: "/api/v1/customers/onboard", gate: a.byAddress(c.Onboarding), secret: true, handle: a.once(false, a.signUp)},
		&route{method: "GET", path: "/api/v1/account", gate: a.byKey, handle: a.account},
		&route{method: "GET", path: "/api/v1/account/ledger", gate: a.byKey, handle: a.ledger},
		&route{method: "GET", path: "/api/v1/keys", gate: a.byKey, handle: a.listKeys},
		&route{method: "POST", path: "/api/v1/keys", gate: a.byKey, secret: true, handle: a.once(true, a.createKey)},
		&route{method: "POST", path: "/api/v1/keys/{id}/rotate", gate: a.byKey, secret: true, handle: a.once(true, a.rotateKey)},
		&route{method: "DELETE", path: "/api/v1/keys/{id}", gate: a.byKey, handle: a.deleteKey},
		&route{method: "POST", path: "/api/v1/fixes", gate: a.byKey, handle: a.once(false, a.recordFix)},
		&route{method: "POST", path: "/api/webhooks/stripe", handle: a.webhook()},
		&route{method: "GET", path: "/health", gate: open, quiet: true, handle: a.health},
		&route{method: "GET", path: "/api/health", gate: open, quiet: true, handle: a.health},
		&route{method: "GET", path: "/livez", gate: open, quiet: true, handle: a.livez},
		&route{method: "GET", path: "/readyz", gate: open, quiet: true, handle: a.readyz},
		&route{method: "GET", path: "/openapi.json", gate: open, handle: a.openapi},
	)
	return a
}

// route registers routes, an answer for every other method of their paths,
// and one for every other path.
func (a *API) route(routes ...*route) {
	methods := make(map[string][]string)
	for _, r := range routes {
		r.api = a
		a.mux.Handle(r.method+" "+r.path, r)
		methods[r.path] = append(methods[r.path], r.method)
		if r.method == "GET" { // ServeMux answers HEAD by it, too
			methods[r.path] = append(methods[r.path], "HEAD")
		}
	}
	for p, allowed := range methods {
		slices.Sort(allowed)
		allow := strings.Join(allowed, ", ")
		a.mux.Handle(p, &route{api: a, path: p, handle: func(x *exchange) error {
			x.Header().Set("Allow", allow)
			return &fault.Error{
				Kind: fault.MethodNotAllowed, Code: "METHOD_NOT_ALLOWED",
				Message: "This path takes " + allow + ".",
			}
		}})
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
		a.none.serve(x)
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
