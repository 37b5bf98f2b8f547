package gateway_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/gateway"
)

// A provider's SDK reads our errors as its own.
func TestRefusalsHaveTheProvidersShape(t *testing.T) {
	var d *door
	r := newRig(t, replies("application/json", `{}`), capped, func(c *gateway.Config, _ *http.Server) { d = c.Door.(*door) })
	type shape struct{ path, form string }
	anthropics, openais := `{"type":"error","error":{"type":"%a","message":"%m"},"request_id":""}`, `{"error":{"message":"%m","type":"%o","param":null,"code":"%c"}}`
	shapes := []shape{
		{"/gateway/anthropic/v1/messages", anthropics},
		{"/gateway/openai/v1/responses", openais},
		{"/gateway/openrouter/api/v1/chat/completions", `{"error":{"code":%s,"message":"%m"}}`},
		{"/gateway/openrouter/api/v1/messages", anthropics},
		{"/gateway/ollama/api/chat", `{"error":"%m"}`},
		{"/gateway/ollama/v1/chat/completions", openais},
		{"/gateway/ollama/v1/messages", anthropics},
	}
	for _, tt := range []struct {
		name                            string
		fault                           error
		money                           error
		status, anthropic, openai, code string
		ours                            string
		retry                           string
	}{
		{name: "unknown", fault: &fault.Error{Kind: fault.Unauthenticated, Code: "INVALID_API_KEY", Message: "No \"such\" token."},
			status: "401", anthropic: "authentication_error", openai: "invalid_request_error", code: "invalid_api_key", ours: "INVALID_API_KEY"},
		{name: "suspended", fault: &fault.Error{Kind: fault.Forbidden, Code: "FORBIDDEN", Message: "Suspended."},
			status: "403", anthropic: "permission_error", openai: "invalid_request_error", code: "permission_denied", ours: "FORBIDDEN"},
		{name: "stale", fault: &fault.Error{Kind: fault.Unavailable, Code: "UNAVAILABLE", Message: "Stale.", RetryAfter: 1500 * time.Millisecond},
			status: "503", anthropic: "api_error", openai: "server_error", code: "unavailable", ours: "UNAVAILABLE", retry: "2"},
		{name: "unexplained", fault: errAway,
			status: "503", anthropic: "api_error", openai: "server_error", code: "unavailable", ours: "UNAVAILABLE", retry: "2"},
		{name: "broke", money: &fault.Error{Kind: fault.PaymentRequired, Code: "BUDGET_EXCEEDED", Message: "Spent."},
			status: "402", anthropic: "billing_error", openai: "insufficient_quota", code: "insufficient_quota", ours: "BUDGET_EXCEEDED"},
		{name: "meter away", money: errAway,
			status: "503", anthropic: "api_error", openai: "server_error", code: "unavailable", ours: "UNAVAILABLE", retry: "2"},
		{name: "unheard of", fault: &fault.Error{Kind: "odd", Code: "ODD", Message: "secret"},
			status: "500", anthropic: "api_error", openai: "server_error", code: "server_error", ours: "INTERNAL"},
	} {
		for _, s := range shapes {
			t.Run(tt.name+s.path, func(t *testing.T) {
				d.err, r.meter.err = tt.fault, tt.money
				resp, body := r.post(s.path, `{}`)
				message := strings.NewReplacer("%a", tt.anthropic, "%o", tt.openai, "%c", tt.code, "%s", tt.status)
				before, after, _ := strings.Cut(message.Replace(s.form), "%m")
				if !strings.HasPrefix(body, before) || !strings.HasSuffix(strings.TrimSpace(body), after) || !json.Valid([]byte(body)) {
					t.Errorf("the body is %s", body)
				}
				if got := http.StatusText(resp.StatusCode); resp.Header.Get("X-Gatehouse-Error") != tt.ours || resp.Status != tt.status+" "+got {
					t.Errorf("%s %s", resp.Status, resp.Header.Get("X-Gatehouse-Error"))
				}
				if resp.Header.Get("Retry-After") != tt.retry || resp.Header.Get("Content-Type") != "application/json" {
					t.Errorf("%v", resp.Header)
				}
				if strings.Contains(body, "secret") || strings.Contains(body, "10.0.0.5") {
					t.Errorf("the body tells too much: %s", body)
				}
			})
		}
	}
	r.meter.none(t)
}

// The API counts failed authentications, and may answer 429 instead.
func TestEvery401IsCounted(t *testing.T) {
	count := 0
	var instead error
	r := newRig(t, replies("application/json", `{}`), func(c *gateway.Config, _ *http.Server) {
		c.Unauthenticated = func(w http.ResponseWriter, _ *http.Request) error {
			count++
			w.Header().Set("X-RateLimit-Limit", "60")
			return instead
		}
	})
	ask := func(header, value string) *answer {
		req := r.request("GET", "/gateway/openai/v1/models", "")
		req.Header = http.Header{header: {value}}
		resp, _ := r.get(req)
		return resp
	}
	resp := ask("X-Api-Key", "wrong")
	refused(t, resp, http.StatusUnauthorized, "INVALID_API_KEY")
	if resp.Header.Get("X-RateLimit-Limit") != "60" || resp.Header.Get("Www-Authenticate") != "Bearer" {
		t.Errorf("%v", resp.Header)
	}
	refused(t, ask("X-Other", "1"), http.StatusUnauthorized, "AUTH_REQUIRED")
	instead = &fault.Error{Kind: fault.Limited, Code: "RATE_LIMITED", Message: "Too many.", RetryAfter: 41 * time.Second}
	resp = ask("X-Api-Key", "wrong")
	refused(t, resp, http.StatusTooManyRequests, "RATE_LIMITED")
	if resp.Header.Get("Retry-After") != "41" || resp.Header.Get("Www-Authenticate") != "" {
		t.Errorf("%v", resp.Header)
	}
	instead = errAway // the limiter's store: never an open door
	refused(t, ask("X-Api-Key", "wrong"), http.StatusServiceUnavailable, "UNAVAILABLE")
	if count != 4 {
		t.Errorf("%d were counted, want 4", count)
	}
	if resp := ask("X-Api-Key", token); resp.StatusCode != http.StatusOK || count != 4 {
		t.Errorf("a token that is good: %d, counted %d", resp.StatusCode, count)
	}
	if resp, _ := r.get(r.request("GET", "/gateway/openai/v1/files", "")); resp.StatusCode != http.StatusNotFound || count != 4 {
		t.Errorf("a 404: %d, counted %d", resp.StatusCode, count)
	}
}

// Who can't be let in is told so before he has sent a body.
func TestTheDoorComesBeforeTheBody(t *testing.T) {
	r := newRig(t, nil)
	for _, request := range []string{
		"X-Api-Key: wrong\r\nContent-Length: 1000000\r\n",
		"X-Api-Key: wrong\r\nContent-Encoding: gzip\r\nContent-Length: 1000000\r\n",
		"X-Api-Key: wrong\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n",
	} {
		resp := r.raw("POST /gateway/openai/v1/responses HTTP/1.1\r\nHost: gatehouse\r\n" + request + "\r\n")
		refused(t, resp, http.StatusUnauthorized, "INVALID_API_KEY")
	}
}

// A provider's refusal is its own to word; but not that of our key, which may
// quote a part of it and would be taken for a refusal of the token.
func TestProvidersRefusals(t *testing.T) {
	for status, passes := range map[int]bool{
		400: true, 401: false, 402: true, 403: true, 404: true, 409: true, 413: true, 429: true, 500: true, 502: true, 503: true, 529: true,
		300: false, 301: false, 302: false, 303: false, 304: false, 307: false, 308: false, 399: false,
	} {
		r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Location", "http://169.254.169.254/latest/meta-data")
			w.WriteHeader(status)
			if status != http.StatusNotModified {
				_, _ = w.Write([]byte(`{"error":"Incorrect API key provided: sk-op*****eave"}`))
			}
		}, capped)
		resp, body := r.post("/gateway/anthropic/v1/messages", `{}`)
		if passes {
			if resp.StatusCode != status || !strings.Contains(body, "sk-op") || resp.Header.Get("X-Gatehouse-Error") != "" {
				t.Errorf("%d: %d %s %v", status, resp.StatusCode, body, resp.Header)
			}
		} else {
			refused(t, resp, http.StatusBadGateway, "UPSTREAM_ERROR")
			if strings.Contains(body, "sk-op") || resp.Header.Get("Location") != "" {
				t.Errorf("%d: %s %v", status, body, resp.Header)
			}
		}
		s := r.meter.next(t)
		if got, want := figures(s.usage), (gateway.Usage{Status: status, Outcome: gateway.Failed}); got != want || s.reservation.ID == "" {
			t.Errorf("%d was settled as %+v", status, s)
		}
		r.meter.none(t)
	}
}

func TestAProviderThatIsDownIs502(t *testing.T) {
	r := newRig(t, nil, capped)
	for range 2 {
		resp, body := r.post("/gateway/openai/v1/responses", `{"model":"m"}`)
		refused(t, resp, http.StatusBadGateway, "UPSTREAM_ERROR")
		if strings.Contains(body, "127.0.0.1") {
			t.Errorf("it tells where: %s", body)
		}
		if s := r.meter.next(t); figures(s.usage) != (gateway.Usage{Outcome: gateway.Failed}) || s.reservation.ID == "" {
			t.Errorf("settled as %+v", s)
		}
	}
	if n := strings.Count(r.logs.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings, want one a minute:\n%s", n, r.logs)
	}
	// Nothing was reserved, and nothing reached the provider.
	r = newRig(t, nil)
	r.post("/gateway/openai/v1/responses", `{"model":"m"}`)
	r.meter.none(t)
}

// A wrong key must show though the provider could not be reached a moment before.
func TestEachWayToFailIsWarnedOf(t *testing.T) {
	var status atomic.Int64
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	for _, s := range []int64{302, 401, 302, 401} {
		status.Store(s)
		resp, _ := r.post("/gateway/openai/v1/responses", `{"model":"m"}`)
		refused(t, resp, http.StatusBadGateway, "UPSTREAM_ERROR")
	}
	for _, how := range []string{"answered with a redirect", "did not accept Gatehouse's key"} {
		if n := strings.Count(r.logs.String(), `level=WARN msg="provider failed" provider=openai how="`+how); n != 1 {
			t.Errorf("%q: %d warnings, want one a minute:\n%s", how, n, r.logs)
		}
	}
}
