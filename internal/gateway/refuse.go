package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/fault"
)

// answer is a status, and what Anthropic and OpenAI call an error of that kind.
type answer struct {
	status                  int
	anthropic, openai, code string
}

// answers is the one mapping from what went wrong to how it is answered.
//
//exhaustive:enforce
var answers = map[fault.Kind]answer{
	fault.Malformed:        {http.StatusBadRequest, "invalid_request_error", "invalid_request_error", "invalid_request"},
	fault.Unauthenticated:  {http.StatusUnauthorized, "authentication_error", "invalid_request_error", "invalid_api_key"},
	fault.Unauthentic:      {http.StatusUnauthorized, "authentication_error", "invalid_request_error", "invalid_api_key"},
	fault.PaymentRequired:  {http.StatusPaymentRequired, "billing_error", "insufficient_quota", "insufficient_quota"},
	fault.Forbidden:        {http.StatusForbidden, "permission_error", "invalid_request_error", "permission_denied"},
	fault.NotFound:         {http.StatusNotFound, "not_found_error", "invalid_request_error", "unknown_url"},
	fault.MethodNotAllowed: {http.StatusMethodNotAllowed, "invalid_request_error", "invalid_request_error", "method_not_supported"},
	fault.Conflict:         {http.StatusConflict, "conflict_error", "invalid_request_error", "conflict"},
	fault.TooLarge:         {http.StatusRequestEntityTooLarge, "request_too_large", "invalid_request_error", "request_too_large"},
	fault.UnsupportedMedia: {http.StatusUnsupportedMediaType, "invalid_request_error", "invalid_request_error", "unsupported_content_type"},
	fault.Invalid:          {http.StatusUnprocessableEntity, "invalid_request_error", "invalid_request_error", "invalid_value"},
	fault.Limited:          {http.StatusTooManyRequests, "rate_limit_error", "rate_limit_error", "rate_limit_exceeded"},
	fault.Internal:         {http.StatusInternalServerError, "api_error", "server_error", "server_error"},
	fault.Unavailable:      {http.StatusServiceUnavailable, "api_error", "server_error", "unavailable"},
	upstreamFailed:         {http.StatusBadGateway, "api_error", "server_error", "upstream_error"},
	upstreamSlow:           {http.StatusGatewayTimeout, "timeout_error", "server_error", "upstream_timeout"},
}

// Failures of providers are kinds of the gateway's own: a 502 or 504 says that
// it is not Gatehouse that is down.
const (
	upstreamFailed fault.Kind = "upstream_failed"
	upstreamSlow   fault.Kind = "upstream_slow"
)

// orAway makes what is no fault a passing one of ours.
func orAway(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return &fault.Error{Kind: fault.Unavailable, Code: "UNAVAILABLE", Message: "Gatehouse can't do this just now. Try again shortly.", RetryAfter: 2 * time.Second, Err: err}
}

// failed makes a fault of a provider's failure. The first of its kind in a minute
// is logged as a warning: it is for the operator to mend.
func (u *upstream) failed(ctx context.Context, log *slog.Logger, kind fault.Kind, how string, err error) error {
	level := slog.LevelDebug
	u.mu.Lock()
	if now := time.Now(); now.Sub(u.warned[how]) > time.Minute {
		level, u.warned[how] = slog.LevelWarn, now
	}
	u.mu.Unlock()
	log.Log(ctx, level, "provider failed", "provider", u.name, "how", how, "err", err)
	code := "UPSTREAM_ERROR"
	if kind == upstreamSlow {
		code = "UPSTREAM_TIMEOUT"
	}
	return &fault.Error{Kind: kind, Code: code, Message: "The provider " + how + ".", Err: err}
}

// refuse answers with an error of ours, in the form that the provider's SDKs
// understand. By X-Gatehouse-Error it can be told from the provider's own.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, speaks dialect, err error) {
	f, ok := errors.AsType[*fault.Error](err)
	if ok && f.Kind == fault.Unauthenticated && g.config.Unauthenticated != nil {
		if instead := g.config.Unauthenticated(w, r); instead != nil {
			err = orAway(instead)
			f, ok = errors.AsType[*fault.Error](err)
		}
	}
	if !ok || answers[f.Kind].status == 0 { // the client learns nothing
		f = &fault.Error{Kind: fault.Internal, Code: "INTERNAL", Message: "Something went wrong on our side."}
	}
	a := answers[f.Kind]
	level := slog.LevelDebug // a flood of refusals must not become a flood of logs
	if f.Kind == fault.Internal {
		level = slog.LevelError
	}
	g.config.Log.Log(r.Context(), level, "call refused", "code", f.Code, "err", err)
	h := w.Header()
	if f.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(f.RetryAfter.Seconds()))))
	}
	if a.status == http.StatusUnauthorized {
		h.Set("Www-Authenticate", "Bearer")
	}
	h.Set("X-Gatehouse-Error", f.Code)
	h.Set("Content-Type", "application/json")
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(g.config.Bounds.Stall))
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body(speaks, f.Message, h.Get("X-Request-Id"))) // the client may have left
}

func (a answer) body(speaks dialect, message, requestID string) []byte {
	quoted := func(s string) string {
		b, _ := jsontext.AppendQuote(nil, s) // it fails on invalid UTF-8 alone, and then has replaced it
		return string(b)
	}
	switch speaks {
	case anthropic:
		return fmt.Appendf(nil, `{"type":"error","error":{"type":%q,"message":%s},"request_id":%s}`+"\n", a.anthropic, quoted(message), quoted(requestID))
	case ollama:
		return fmt.Appendf(nil, `{"error":%s}`+"\n", quoted(message))
	case openRouters:
		return fmt.Appendf(nil, `{"error":{"code":%d,"message":%s}}`+"\n", a.status, quoted(message))
	}
	return fmt.Appendf(nil, `{"error":{"message":%s,"type":%q,"param":null,"code":%q}}`+"\n", quoted(message), a.openai, a.code)
}
