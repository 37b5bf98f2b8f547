package api_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// An answer that is wrong in one place must be reported, or the check that
// all other tests rest on is worth nothing.
func TestWrongAnswersAreReported(t *testing.T) {
	s := newServer(t, limit("onboarding", "1/60s"))
	var req *http.Request
	call := func(method, path string, details ...detail) (*http.Request, answer) {
		got := s.send(t, method, path, append(details, func(r *http.Request) { req = r })...)
		return req, got
	}
	signUp, signedUp := call("POST", onboard, document(`{"name": "Ada", "email": "`+someone()+`"}`))
	_, limited := call("POST", onboard)
	apiKey := decode[struct {
		Key string `json:"api_key"`
	}](t, signedUp).Key
	account, shown := call("GET", "/api/v1/account", key(apiKey))
	_, noKey := call("GET", "/api/v1/account")
	ledger, entries := call("GET", "/api/v1/account/ledger", key(apiKey))
	keys, list := call("GET", "/api/v1/keys", key(apiKey))
	create, made := call("POST", "/api/v1/keys", key(apiKey))
	retry, _ := call("POST", "/api/v1/keys", key(apiKey), under(onceKey))
	_, mismatch := call("POST", "/api/v1/keys", key(apiKey), under(onceKey), document("{}"))
	remove, gone := call("DELETE", "/api/v1/keys/0199c0de-7a1e-7c3d-9b2f-3d6a5e4f1b20", key(apiKey))
	trade, traded := call("POST", exchange, key(apiKey), document(`{"providers": ["openai"]}`))
	creds, shownCreds := call("GET", credentials, key(apiKey))
	tell, told := call("POST", report, key(apiKey), document(`{"provider": "openai", "tokens_used": 1, "request_count": 1, "job_id": "x"}`))
	fix, recorded := call("POST", fixes, key(apiKey), document(`{"external_id": "x"}`))
	hook, taken := call("POST", webhooks, signed(event(someEvent())))
	_, forged := call("POST", webhooks)
	_, over := call("POST", webhooks, signed(strings.Repeat(" ", maxEvent+1)))
	report, health := call("GET", "/health")
	nowhere, nothing := call("GET", "/nowhere")
	wrong, method := call("PUT", "/health")

	text := func(right, wrong string) func(*answer) {
		return func(a *answer) {
			if !bytes.Contains(a.body, []byte(right)) {
				t.Fatalf("there is no %s in %s", right, a.body)
			}
			a.body = bytes.Replace(a.body, []byte(right), []byte(wrong), 1)
		}
	}
	set := func(name, value string) func(*answer) { return func(a *answer) { a.header.Set(name, value) } }
	drop := func(name string) func(*answer) { return func(a *answer) { a.header.Del(name) } }
	status := func(code int) func(*answer) { return func(a *answer) { a.status = code } }

	for _, test := range []struct {
		name  string
		req   *http.Request
		got   answer
		spoil func(*answer)
	}{
		{"201: status not documented", signUp, signedUp, status(200)},
		{"201: field of another name", signUp, signedUp, text(`"company"`, `"firm"`)},
		{"201: field too many", signUp, signedUp, text(`"company":`, `"secret": 1, "company":`)},
		{"201: field too many outside", signUp, signedUp, text(`{"customer":`, `{"id": 1, "customer":`)},
		{"201: number for text", signUp, signedUp, text(`"name":"Ada"`, `"name":5`)},
		{"201: text for number", signUp, signedUp, text(`"credit_balance":5`, `"credit_balance":"5"`)},
		{"201: fraction for number", signUp, signedUp, text(`"credit_balance":5`, `"credit_balance":5.5`)},
		{"201: null where none may be", signUp, signedUp, text(`"name":"Ada"`, `"name":null`)},
		{"201: plan unknown", signUp, signedUp, text(`"trial"`, `"free"`)},
		{"201: state unknown", signUp, signedUp, text(`"subscription_state":null`, `"subscription_state":""`)},
		{"201: id of another kind", signUp, signedUp, text(`"id":"`, `"id":"x`)},
		{"201: time not in UTC", signUp, signedUp, text(`Z"`, `+01:00"`)},
		{"201: no time", signUp, signedUp, text(`Z"`, `Zulu"`)},
		{"201: key too short", signUp, signedUp, text(`"api_key":"gk_live_`, `"api_key":"gk_live`)},
		{"201: field twice", signUp, signedUp, text(`"name":"Ada"`, `"name":"Ada","name":"Ada"`)},
		{"201: cut", signUp, signedUp, func(a *answer) { a.body = a.body[:len(a.body)-3] }},
		{"201: no body", signUp, signedUp, func(a *answer) { a.body = nil }},
		{"201: invalid UTF-8", signUp, signedUp, text("Ada", "\xff")},
		{"201: may be kept", signUp, signedUp, drop("Cache-Control")},
		{"201: other type", signUp, signedUp, set("Content-Type", "text/plain")},
		{"201: no request id", signUp, signedUp, drop("X-Request-Id")},
		{"201: request id too long", signUp, signedUp, set("X-Request-Id", string(bytes.Repeat([]byte("x"), 129)))},
		{"201: two request ids", signUp, signedUp, func(a *answer) { a.header.Add("X-Request-Id", "two") }},
		{"201: unknown header", signUp, signedUp, set("X-Powered-By", "us")},
		{"201: one limit header missing", signUp, signedUp, drop("X-RateLimit-Reset")},
		{"201: all limit headers missing", signUp, signedUp, func(a *answer) {
			for _, name := range limitNames {
				a.header.Del(name)
			}
		}},
		{"201: limit headers of another policy", signUp, signedUp, func(a *answer) {
			a.header.Set("RateLimit", `"api";r=0;t=60`)
			a.header.Set("RateLimit-Policy", `"api";q=1;w=60`)
		}},
		{"201: limit headers contradict", signUp, signedUp, set("X-RateLimit-Limit", "2")},
		{"201: more left than there can be", signUp, signedUp, func(a *answer) {
			a.header.Set("X-RateLimit-Remaining", "1")
			a.header.Set("RateLimit", `"onboarding";r=1;t=60`)
		}},
		{"201: reset no number", signUp, signedUp, set("X-RateLimit-Reset", "soon")},
		{"201: wait beyond the window", signUp, signedUp, set("RateLimit", `"onboarding";r=0;t=61`)},
		{"429: no Retry-After", signUp, limited, drop("Retry-After")},
		{"429: Retry-After zero", signUp, limited, set("Retry-After", "0")},
		{"429: Retry-After other than RateLimit", signUp, limited, set("Retry-After", "59")},
		{"429: other code", signUp, limited, text("RATE_LIMITED", "CONFLICT")},
		{"429: unknown code", signUp, limited, text("RATE_LIMITED", "SLOW_DOWN")},
		{"429: no message", signUp, limited, text(`"message"`, `"text"`)},
		{"429: other request id", signUp, limited, text(`"request_id":"`, `"request_id":"x`)},
		{"429: field too many", signUp, limited, text(`"error":`, `"stack": "x", "error":`)},
		{"429: field too many inside", signUp, limited, text(`"code":`, `"stack": "x", "code":`)},
		{"429: empty details", signUp, limited, text(`"code":`, `"details": [], "code":`)},
		{"429: bare text", signUp, limited, func(a *answer) { a.body = []byte("slow down") }},
		{"429: lets out SQL", signUp, limited, text(`"message":"`, `"message":"SELECT `)},
		{"401: no WWW-Authenticate", account, noKey, drop("WWW-Authenticate")},
		{"401: limit headers of the key's policy", account, noKey, func(a *answer) {
			a.header.Set("RateLimit", `"api";r=1;t=60`)
			a.header.Set("RateLimit-Policy", `"api";q=60;w=60`)
		}},
		{"200: other customer field", account, shown, text(`"credit_debt":`, `"debt":`)},
		{"200: customer field too many", account, shown, text(`"credit_debt":`, `"hash": "", "credit_debt":`)},
		{"200: usage field missing", account, shown, text(`"fixes":0,`, ``)},
		{"200: unknown provider", account, shown, text(`"providers":{}`, `"providers":{"acme":{"requests":1,"input_tokens":1,"output_tokens":1}}`)},
		{"200: provider without calls", account, shown, text(`"providers":{}`, `"providers":{"openai":{"requests":0,"input_tokens":0,"output_tokens":0}}`)},
		{"200: ledger source unknown", ledger, entries, text(`"trial_signup"`, `"gift"`)},
		{"200: ledger balance below zero", ledger, entries, text(`"balance_after":5`, `"balance_after":-5`)},
		{"200: ledger cursor missing", ledger, entries, text(`,"next_cursor":null`, ``)},
		{"200: key with its hash", keys, list, text(`"prefix":`, `"hash": "", "prefix":`)},
		{"200: key shown again", keys, list, text(`"prefix":"`, `"prefix":"gk_live_0123456789ab_0`)},
		{"200: keys as null", keys, list, func(a *answer) { a.body = []byte(`{"keys":null}`) }},
		{"201: key without its secret", create, made, text(`"api_key":`, `"key":`)},
		{"201: key field missing", create, made, text(`"expires_at":null,`, ``)},
		{"201: other word for a replay", create, made, set("Idempotent-Replayed", "yes")},
		{"200: replay of what is none", account, shown, set("Idempotent-Replayed", "true")},
		{"422: other code", retry, mismatch, text("IDEMPOTENCY_MISMATCH", "IDEMPOTENCY_CONFLICT")},
		{"409: other code", retry, mismatch, status(409)},
		{"422: said to be a replay", retry, mismatch, set("Idempotent-Replayed", "true")},
		{"404: with limit headers", remove, gone, set("RateLimit", `"api";r=1;t=60`)},
		{"201: fix paid by nobody", fix, recorded, text(`"credit"`, `"favour"`)},
		{"201: fix for less than nothing", fix, recorded, text(`"amount_cents":0`, `"amount_cents":-1`)},
		{"201: fix with more than is told", fix, recorded, text(`"paid_by"`, `"method":"pm_1","paid_by"`)},
		{"201: fix without the balance", fix, recorded, text(`"credit_balance"`, `"balance"`)},
		{"201: fix as a secret", fix, recorded, set("Cache-Control", "no-store")},
		{"200: credential may be kept", trade, traded, drop("Cache-Control")},
		{"200: credential of an unknown provider", trade, traded, text(`"openai"`, `"acme"`)},
		{"200: no credential", trade, traded, func(a *answer) { a.body = []byte(`{"credentials":{},"usage":{"remaining_fixes":5,"reset_at":null}}`) }},
		{"200: credential is an API key", trade, traded, text(`"gt_live_`, `"gk_live_`)},
		{"200: credential enforced by nothing known", trade, traded, text(`"gateway"`, `"hope"`)},
		{"200: credential with its hash", trade, traded, text(`"base_url"`, `"hash":"x","base_url"`)},
		{"200: exchange without what is left", trade, traded, text(`"remaining_fixes"`, `"remaining"`)},
		{"200: exchange without reset_at", trade, traded, text(`,"reset_at":null`, ``)},
		{"200: exchange by the policy for all else", trade, traded, func(a *answer) {
			a.header.Set("RateLimit", `"api";r=59;t=60`)
			a.header.Set("RateLimit-Policy", `"api";q=60;w=60`)
		}},
		{"200: credential with its token", creds, shownCreds, text(`"provider"`, `"api_key":"x","provider"`)},
		{"200: credential without its revocation", creds, shownCreds, text(`,"revocation":null`, ``)},
		{"200: credential with an unknown revocation", creds, shownCreds, text(`"revocation":null`, `"revocation":"soon"`)},
		{"200: credential with an empty job", creds, shownCreds, text(`"github_job":null`, `"github_job":""`)},
		{"200: credentials as null", creds, shownCreds, func(a *answer) { a.body = []byte(`{"credentials":null}`) }},
		{"200: report not recorded", tell, told, text(`"recorded"`, `"noted"`)},
		{"200: report as a secret", tell, told, set("Cache-Control", "no-store")},
		{"200: event not received", hook, taken, text(`true`, `false`)},
		{"200: event without duplicate", hook, taken, text(`,"duplicate":false`, ``)},
		{"200: event by the policy for forged ones", hook, taken, func(a *answer) {
			a.header.Set("RateLimit", `"webhook_unauthentic";r=999;t=60`)
			a.header.Set("RateLimit-Policy", `"webhook_unauthentic";q=1000;w=60`)
		}},
		{"401: forged, by the policy for keys", hook, forged, func(a *answer) {
			a.header.Set("RateLimit", `"auth_failure";r=59;t=60`)
			a.header.Set("RateLimit-Policy", `"auth_failure";q=60;w=60`)
		}},
		{"401: forged, with a way to authenticate", hook, forged, set("WWW-Authenticate", "Bearer")},
		{"401: forged, with another code", hook, forged, text("INVALID_SIGNATURE", "INVALID_API_KEY")},
		{"413: event with limit headers", hook, over, set("RateLimit", `"stripe_webhook";r=1;t=60`)},
		{"200: health status unknown", report, health, text(`"status":"ok"`, `"status":"fine"`)},
		{"200: health part missing", report, health, text(`"jobs":`, `"tasks":`)},
		{"503: health without Retry-After", report, health, status(503)},
		{"unknown path served", nowhere, nothing, status(200)},
		{"unknown path redirected", nowhere, nothing, status(301)},
		{"unknown path with a code of its own", nowhere, nothing, text("NOT_FOUND", "CONFLICT")},
		{"other method as 404", wrong, method, status(404)},
		{"other method without Allow", wrong, method, drop("Allow")},
	} {
		t.Run(test.name, func(t *testing.T) {
			spoilt := answer{status: test.got.status, header: test.got.header.Clone(), body: bytes.Clone(test.got.body)}
			test.spoil(&spoilt)
			if err := checkAnswer(test.req, spoilt, nil); err == nil {
				t.Errorf("is not reported: %d %v %s", spoilt.status, spoilt.header, spoilt.body)
			}
		})
	}
}

// What the check finds must reach the test.
func TestClientReportsWrongAnswers(t *testing.T) {
	wrong := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer wrong.Close()
	c := newClient(t, wrong.URL, nil, newLogs(t))
	var reported []error
	c.report = func(err error) { reported = append(reported, err) }
	c.send(t, "GET", "/health")
	c.raw(t, "GET", "/health", "GET /health HTTP/1.1\r\nHost: gatehouse\r\n\r\n")
	if len(reported) != 2 {
		t.Fatalf("two answers 418 are reported %d times: %v", len(reported), reported)
	}
}
