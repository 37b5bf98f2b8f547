package api

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
)

// exchange is one request on its way to its answer.
type exchange struct {
	http.ResponseWriter
	Request *http.Request
	route   *route
	start   time.Time
	id      string     // of the request
	client  netip.Addr // see clientAddr
	who     apikey.Principal
	raw     []byte               // the body, once read
	once    *idempotency.Request // nil: without an Idempotency-Key
	status  int                  // of the answer; 0: none yet

	values [6]string // of headers; see value
	used   int
}

// value returns s as a header's only value. The slices of an exchange's few
// headers share one array: a refused request is a third of its allocations.
func (x *exchange) value(s string) []string {
	if x.used == len(x.values) {
		return []string{s}
	}
	x.values[x.used] = s
	x.used++
	return x.values[x.used-1 : x.used : x.used]
}

// WriteHeader notes the status.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 && status >= http.StatusOK { // what is below goes before the answer
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write answers 200 when no status was written.
func (x *exchange) Write(b []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	return x.ResponseWriter.Write(b)
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// finish guards against panics and counts the answer.
func (a *API) finish(x *exchange) {
	if p := recover(); p != nil {
		if p == http.ErrAbortHandler { //nolint:errorlint // net/http compares the panic value itself
			a.tell(x)
			panic(p)
		}
		a.Log.ErrorContext(x.context(), "request failed", "request_id", x.id, "route", x.route.path, "err", fault.Panicked(p))
		if x.status != 0 { // half an answer is out: all that is left is to cut it
			panic(http.ErrAbortHandler)
		}
		a.fail(x, &fault.Error{Kind: fault.Internal, Code: codeInternal, Message: messageInternal})
	}
	a.tell(x)
}

// tell counts and logs an answer, be it cut.
func (a *API) tell(x *exchange) {
	took := time.Since(x.start)
	x.route.observe(x.Request.Method, x.status, took)
	a.logRequest(x, took)
}

// logRequest writes one line for an answer. What anybody may cause in floods
// (refusals by limits, failed authentication, paths that there are not, what
// no gate bounds) is counted, and told one by one only at level debug, as
// health checks are.
func (a *API) logRequest(x *exchange, took time.Duration) {
	level := slog.LevelInfo
	switch x.status {
	case http.StatusTooManyRequests, http.StatusUnauthorized, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusServiceUnavailable:
		level = slog.LevelDebug
	}
	if x.route.quiet || x.route.gate == nil && x.status >= http.StatusBadRequest {
		level = slog.LevelDebug
	}
	if !a.Log.Enabled(x.context(), level) {
		return
	}
	a.Log.LogAttrs(x.context(), level, "request", slog.String("request_id", x.id), slog.String("method", knownMethod(x.Request.Method)),
		slog.String("route", x.route.path), slog.Int("status", x.status), slog.String("customer_id", x.who.CustomerID), slog.Float64("duration_ms", float64(took.Microseconds())/1000))
}

type observer struct{ prometheus.Observer }

// observe counts an answer. Metrics are looked up once for each status, since
// a look-up costs more than all else that is done for a refused request.
func (r *route) observe(method string, status int, took time.Duration) {
	if status < 0 || status >= len(r.seen) { // the gateway's answers are others' to make
		status = 0
	}
	if r.method == "" || method != r.method { // 404 and 405, the gateway; and HEAD
		r.api.Metrics.Request(r.path, knownMethod(method), strconv.Itoa(status)).Observe(took.Seconds())
		return
	}
	o := r.seen[status].Load()
	if o == nil {
		o = &observer{r.api.Metrics.Request(r.path, r.method, strconv.Itoa(status))}
		r.seen[status].Store(o)
	}
	o.Observe(took.Seconds())
}

// knownMethod keeps made-up methods from becoming series.
func knownMethod(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}

// maxRequestID is the longest request id that is taken over, in bytes.
const maxRequestID = 128

// requestID takes the client's id if it is printable ASCII, or makes one.
func requestID(r *http.Request) string {
	if given := r.Header["X-Request-Id"]; len(given) == 1 && len(given[0]) <= maxRequestID && printable(given[0]) {
		return given[0]
	}
	return newRequestID()
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return s != ""
}

// Request ids are 8 random bytes of the process and a count: unique, and
// cheaper than randomness for each.
var (
	processID = func() (b [8]byte) { rand.Read(b[:]); return b }()
	requests  atomic.Uint64
)

func newRequestID() string {
	var raw [16]byte
	copy(raw[:], processID[:])
	binary.BigEndian.PutUint64(raw[8:], requests.Add(1))
	var text [32]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}
