package api

import (
	"errors"
	"net/http"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/fault"
)

const (
	codeInternal    = "INTERNAL"
	messageInternal = "Something went wrong on our side."
)

// statusOf is the one mapping from what went wrong to how it is answered.
//
//exhaustive:enforce
var statusOf = map[fault.Kind]int{
	fault.Malformed:        http.StatusBadRequest,
	fault.Unauthenticated:  http.StatusUnauthorized,
	fault.Unauthentic:      http.StatusUnauthorized,
	fault.PaymentRequired:  http.StatusPaymentRequired,
	fault.Forbidden:        http.StatusForbidden,
	fault.NotFound:         http.StatusNotFound,
	fault.MethodNotAllowed: http.StatusMethodNotAllowed,
	fault.Conflict:         http.StatusConflict,
	fault.TooLarge:         http.StatusRequestEntityTooLarge,
	fault.UnsupportedMedia: http.StatusUnsupportedMediaType,
	fault.Invalid:          http.StatusUnprocessableEntity,
	fault.Limited:          http.StatusTooManyRequests,
	fault.Internal:         http.StatusInternalServerError,
	fault.Unavailable:      http.StatusServiceUnavailable,
}

// fail answers with an error. It is the only place where one becomes a
// status, a count and a log line.
func (a *API) fail(x *exchange, err error) {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || statusOf[f.Kind] == 0 { // the client learns nothing
		f = &fault.Error{Kind: fault.Internal, Code: codeInternal, Message: messageInternal}
	}
	status := statusOf[f.Kind]
	a.faults[f.Kind].Inc()
	switch f.Kind {
	case fault.Internal:
		a.Log.ErrorContext(x.context(), "request failed", "request_id", x.id, "route", x.route.path, "err", err)
	case fault.Unavailable:
		// The store says once that it is away; each request need not.
		a.Log.DebugContext(x.context(), "request not served", "request_id", x.id, "route", x.route.path, "err", err)
	}
	h := x.Header()
	if f.RetryAfter > 0 {
		h["Retry-After"] = x.value(strconv.FormatInt(ceilSeconds(f.RetryAfter), 10))
	}
	switch f.Kind {
	case fault.NotFound, fault.MethodNotAllowed, fault.Unavailable:
		dropLimitHeaders(h)
	case fault.Unauthenticated:
		h["Www-Authenticate"] = bearer
	}
	h["Content-Type"] = jsonType
	x.WriteHeader(status)
	buf := problems.Get().(*[]byte)
	*buf = appendProblem((*buf)[:0], f, x.id)
	_, _ = x.Write(*buf) // the client may have left
	problems.Put(buf)
}

var (
	jsonType = []string{"application/json"}
	noStore  = []string{"no-store"}
	bearer   = []string{"Bearer"}
)

// problems are buffers for problem bodies; net/http copies what is written.
var problems = sync.Pool{New: func() any { return new([]byte) }}

// appendProblem writes the one shape of an error. Refusals in a storm are
// most of what is ever written, so it is done by hand.
func appendProblem(b []byte, f *fault.Error, requestID string) []byte {
	b = append(b, `{"error":{"code":"`...)
	b = append(b, f.Code...)
	b = append(b, `","message":`...)
	b = appendQuoted(b, f.Message)
	if len(f.Details) > 0 {
		b = append(b, `,"details":[`...)
		for i, d := range f.Details {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"field":`...)
			b = appendQuoted(b, d.Field)
			b = append(b, `,"reason":`...)
			b = appendQuoted(b, d.Reason)
			b = append(b, `,"message":`...)
			b = appendQuoted(b, d.Message)
			b = append(b, '}')
		}
		b = append(b, ']')
	}
	b = append(b, `},"request_id":`...)
	b = appendQuoted(b, requestID)
	return append(b, "}\n"...)
}

func appendQuoted(b []byte, s string) []byte {
	// It fails on invalid UTF-8 alone, and then has written a replacement.
	b, _ = jsontext.AppendQuote(b, s)
	return b
}

// reply answers with a value as JSON.
func (x *exchange) reply(status int, v any) error {
	body, err := json.Marshal(v, json.Deterministic(true)) // for a map, whose answer may be repeated
	if err != nil {
		return err
	}
	x.send(status, body)
	return nil
}

// send answers with JSON as it is.
func (x *exchange) send(status int, body []byte) {
	h := x.Header()
	h["Content-Type"] = jsonType
	if x.route.secret {
		h["Cache-Control"] = noStore
	}
	x.WriteHeader(status)
	_, _ = x.Write(append(body, '\n')) // the client may have left
}
