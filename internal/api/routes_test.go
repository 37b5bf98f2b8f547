package api_test

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// allowed are the paths of this version and what Allow says of each.
var allowed = map[string]string{
	"/api/v1/customers/onboard":    "POST",
	"/api/v1/account":              "GET, HEAD",
	"/api/v1/account/ledger":       "GET, HEAD",
	"/api/v1/fixes":                "POST",
	"/api/webhooks/stripe":         "POST",
	"/api/v1/credentials":          "GET, HEAD",
	"/api/v1/credentials/exchange": "POST",
	"/api/v1/credentials/refresh":  "POST",
	"/api/v1/credentials/{id}":     "DELETE",
	"/api/v1/usage/report":         "POST",
	"/api/v1/keys":                 "GET, HEAD, POST",
	"/api/v1/keys/{id}":            "DELETE",
	"/api/v1/keys/{id}/rotate":     "POST",
	"/health":                      "GET, HEAD",
	"/api/health":                  "GET, HEAD",
	"/livez":                       "GET, HEAD",
	"/readyz":                      "GET, HEAD",
	"/openapi.json":                "GET, HEAD",
}

const someID = "0199c0de-7a1e-7c3d-9b2f-3d6a5e4f1b20"

func TestDescriptionHasTheRoutes(t *testing.T) {
	doc, err := description()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for path, item := range doc.Paths.Map() {
		methods := slices.Collect(maps.Keys(item.Operations()))
		if item.Get != nil {
			methods = append(methods, "HEAD")
		}
		slices.Sort(methods)
		got[path] = strings.Join(methods, ", ")
	}
	if diff := cmp.Diff(allowed, got); diff != "" {
		t.Errorf("openapi.yaml has other routes (- want, + got):\n%s", diff)
	}
}

func TestEachPathTakesItsMethodsAndNoOthers(t *testing.T) {
	s := newServer(t)
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "get", "Post", "M"}
	for path, allow := range allowed {
		for _, method := range methods {
			t.Run(method+path, func(t *testing.T) {
				got := s.send(t, method, strings.Replace(path, "{id}", someID, 1))
				if slices.Contains(strings.Split(allow, ", "), method) {
					if got.status == http.StatusMethodNotAllowed || got.status == http.StatusNotFound {
						t.Errorf("is answered with %d: %s", got.status, got.body)
					}
					return
				}
				got.want(t, http.StatusMethodNotAllowed)
				if got.header.Get("Allow") != allow {
					t.Errorf("Allow is %q, want %q", got.header.Get("Allow"), allow)
				}
			})
		}
	}
}

// A path that is not exactly one of ours is 404, whatever the method and the
// key, and never a redirect.
func TestOtherPathsAreNotFound(t *testing.T) {
	s := newServer(t)
	_, apiKey := s.signUp(t)
	for _, path := range []string{
		"/", "/api", "/api/", "/api/v1", "/api/v1/", "/api/v2/keys", "/api/v1/customers", "/nothing",
		"/metrics", "/debug/pprof/", "/openapi.yaml", "/.well-known/openapi.json", "/favicon.ico",
		"/health/", "/api/v1/keys/", "/api/v1/customers/onboard/", "/api/v1/keys/" + someID + "/", "/api/v1/keys/" + someID + "/rotate/",
		"/Health", "/HEALTH", "/API/v1/keys", "/api/V1/keys", "/api/v1/keys/" + someID + "/Rotate",
		"//", "///", "//health", "/health//", "/api//v1/keys", "/api/v1//keys", "/api/v1/keys//rotate", "/api/v1/keys/" + someID + "//rotate",
		"/.", "/..", "/./health", "/../health", "/health/.", "/health/..", "/health/../health", "/api/v1/../v1/keys", "/api/v1/keys/.", "/api/v1/keys/..",
		"/api/v1/keys/../keys", "/api/v1/keys/../account", "/api/v1/keys/./rotate", "/api/v1/keys/../rotate", "/api/v1/keys/%2e%2e/rotate",
		"/%2e", "/%2e%2e", "/%2E%2e/health", "/health/%2e", "/health/%2e%2e", "/api/v1/%2e%2e/v1/keys", "/api/v1/keys/%2e%2e/account",
		"/%2Fhealth", "/%2f%2f", "/%2f", "/health%2F", "/api%2Fv1/keys", "/api/v1%2Fkeys", "/api/v1/keys%2F" + someID,
		"/api/webhooks", "/api/webhooks/", "/api/webhooks/stripe/", "/api/webhooks/Stripe", "/api/v1/webhooks/stripe", "/webhooks/stripe", "/api/v1/fixes/", "/api/v1/fixes/" + someID,
		"/api/v1/credentials/", "/api/v1/credentials/exchange/", "/api/v1/credentials//exchange", "/api/v1/credentials/" + someID + "/", "/api/v1/credentials/" + someID + "/refresh",
		"/api/v1/usage", "/api/v1/usage/", "/api/v1/usage/report/", "/gateway", "/gateway/", "/gateway/anthropic/v1/messages", // no gateway here
		"/health%00", "/health%20", "/health;", "/health;a=b", "/health%3F", "/health%23", "/healt%C3%A9", "/%ff",
		`/\health`, `/api\v1\keys`, "/api/v1/keys/a/b/rotate", "/health/live", "/index.html",
	} {
		for _, method := range []string{"GET", "POST", "DELETE", "OPTIONS"} {
			t.Run(method+path, func(t *testing.T) {
				s.send(t, method, path, key(apiKey)).refused(t, http.StatusNotFound, "NOT_FOUND")
			})
		}
	}
}

// Of a query string nothing is a path.
func TestQueryIsNoPath(t *testing.T) {
	s := newServer(t)
	for _, query := range []string{"?", "?a=//..", "?/../x", "?%", "?a=%zz"} {
		s.send(t, "GET", "/livez"+query).want(t, http.StatusOK)
	}
}

func TestOddRequestLines(t *testing.T) {
	s := newServer(t)
	for _, test := range []struct {
		method, target, path string
		status               int
	}{
		{"GET", "http://elsewhere.dev/livez", "/livez", http.StatusOK}, // the form for proxies
		{"GET", "http://elsewhere.dev", "/", http.StatusNotFound},
		{"GET", "http://elsewhere.dev//livez", "//livez", http.StatusNotFound},
		{"CONNECT", "elsewhere.dev:443", "/elsewhere", http.StatusNotFound},
		{"CONNECT", "/livez", "/livez", http.StatusMethodNotAllowed},
		{"CONNECT", "/../livez", "/../livez", http.StatusNotFound},
	} {
		t.Run(test.method+" "+test.target, func(t *testing.T) {
			s.raw(t, test.method, test.path, test.method+" "+test.target+" HTTP/1.1\r\nHost: gatehouse\r\n\r\n").want(t, test.status)
		})
	}
}

// What matches no route takes no place: neither with a key nor without one.
func TestUnknownRoutesAreNotCounted(t *testing.T) {
	s := newServer(t, limit("onboarding", "2/60s"), limit("api", "2/60s"), limit("auth_failure", "2/60s"))
	_, apiKey := s.signUp(t)
	for range 5 {
		s.send(t, "GET", onboard).want(t, http.StatusMethodNotAllowed)
		s.send(t, "POST", onboard+"/").want(t, http.StatusNotFound)
		s.send(t, "PUT", "/api/v1/keys", key(apiKey)).want(t, http.StatusMethodNotAllowed)
		s.send(t, "PUT", "/api/v1/keys", key("wrong")).want(t, http.StatusMethodNotAllowed)
		s.send(t, "GET", "/api/v1/nothing", key(apiKey)).want(t, http.StatusNotFound)
		s.send(t, "GET", "/api/v1/nothing").want(t, http.StatusNotFound)
	}
	s.signUp(t) // the second
	if l := s.send(t, "GET", "/api/v1/keys", key(apiKey)).want(t, http.StatusOK).limits(t, "api"); l.remaining != 1 {
		t.Errorf("api: %d places are left, want 1", l.remaining)
	}
	if l := s.send(t, "GET", "/api/v1/keys").want(t, http.StatusUnauthorized).limits(t, "auth_failure"); l.remaining != 1 {
		t.Errorf("auth_failure: %d places are left, want 1", l.remaining)
	}
}

// HEAD is GET without the body, and counts like it.
func TestHead(t *testing.T) {
	s := newServer(t, limit("api", "5/60s"))
	_, apiKey := s.signUp(t)
	for i, path := range []string{"/api/v1/account", "/api/v1/keys", "/api/v1/account/ledger"} {
		got := s.send(t, "HEAD", path, key(apiKey)).want(t, http.StatusOK)
		if l := got.limits(t, "api"); l.remaining != 4-i {
			t.Errorf("%s: %d places are left, want %d", path, l.remaining, 4-i)
		}
	}
	s.send(t, "HEAD", "/api/v1/account").want(t, http.StatusUnauthorized)
	s.send(t, "HEAD", "/health").want(t, http.StatusOK)
	if got := s.send(t, "HEAD", "/nothing").want(t, http.StatusNotFound); fmt.Sprint(got.header["Content-Length"]) == "[0]" {
		t.Error("HEAD of an unknown path says that GET has no body")
	}
}
