package api_test

import (
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func bearer(apiKey string) detail { return header("Authorization", "Bearer "+apiKey) }

// How a key may be presented, on each endpoint that asks for one.
func TestPresentedKeys(t *testing.T) {
	s := newServer(t, unlimited)
	_, mine := s.signUp(t)
	_, other := s.signUp(t)
	const required, invalid = "AUTH_REQUIRED", "INVALID_API_KEY"
	tests := []struct {
		name    string
		details []detail
		code    string // "": it passes
	}{
		{"X-API-Key", []detail{key(mine)}, ""},
		{"X-API-Key with spaces around", []detail{key("  " + mine + " ")}, ""}, // net/http's, for any header
		{"Bearer", []detail{bearer(mine)}, ""},
		{"bearer, small", []detail{header("Authorization", "bearer "+mine)}, ""},
		{"BEARER, capitals", []detail{header("Authorization", "BEARER "+mine)}, ""},
		{"BeArEr", []detail{header("Authorization", "BeArEr "+mine)}, ""},
		{"Bearer, two spaces", []detail{header("Authorization", "Bearer  "+mine)}, ""},
		{"both, equal", []detail{key(mine), bearer(mine)}, ""},
		{"key in the query too", []detail{key(mine), query("api_key=" + other)}, ""},

		{"nothing", nil, required},
		{"empty X-API-Key", []detail{key("")}, required},
		{"empty Bearer", []detail{header("Authorization", "Bearer ")}, required},
		{"Bearer alone", []detail{header("Authorization", "Bearer")}, required},
		{"empty Authorization", []detail{header("Authorization", "")}, required},
		{"both empty", []detail{key(""), header("Authorization", "Bearer ")}, required},
		{"in the query alone", []detail{query("api_key=" + mine + "&key=" + mine + "&access_token=" + mine + "&X-API-Key=" + mine)}, required},
		{"in a cookie", []detail{header("Cookie", "X-API-Key="+mine)}, required},

		{"both, different", []detail{key(mine), bearer(other)}, invalid},
		{"both, different, the other way", []detail{key(other), bearer(mine)}, invalid},
		{"both, one of them wrong", []detail{key(mine), bearer("x")}, invalid},
		{"two X-API-Key lines, different", []detail{key(mine), key(other)}, invalid},
		{"two Authorization lines, different", []detail{bearer(mine), bearer(other)}, invalid},
		{"two in one line", []detail{key(mine + ", " + mine)}, invalid},
		{"two in one Authorization line", []detail{header("Authorization", "Bearer "+mine+", Bearer "+mine)}, invalid},
		{"a word", []detail{key("secret")}, invalid},
		{"its prefix", []detail{key(mine[:len("gk_live_")+12])}, invalid},
		{"cut", []detail{key(mine[:len(mine)-1])}, invalid},
		{"longer", []detail{key(mine + "0")}, invalid},
		{"in small letters", []detail{key(strings.ToLower(mine))}, invalid},
		{"of the other kind", []detail{key(strings.Replace(mine, "live", "test", 1))}, invalid},
		{"space inside", []detail{key(mine[:30] + " " + mine[30:])}, invalid},
		{"percent-encoded", []detail{key(strings.ReplaceAll(mine, "_", "%5F"))}, invalid},
		{"beyond ASCII", []detail{key(mine[:len(mine)-1] + "é")}, invalid},
		{"10,000 characters", []detail{key(strings.Repeat("k", 10_000))}, invalid},
		{"scheme twice", []detail{header("Authorization", "Bearer Bearer "+mine)}, invalid},
		{"with quotes", []detail{key(`"` + mine + `"`)}, invalid},
	}
	for _, endpoint := range []struct{ method, path string }{
		{"GET", "/api/v1/account"}, {"GET", "/api/v1/account/ledger"}, {"GET", "/api/v1/keys"}, {"POST", "/api/v1/keys"},
		{"DELETE", "/api/v1/keys/" + someID}, {"POST", "/api/v1/keys/" + someID + "/rotate"},
	} {
		for _, test := range tests {
			t.Run(endpoint.method+endpoint.path+"/"+test.name, func(t *testing.T) {
				got := s.send(t, endpoint.method, endpoint.path, test.details...)
				if test.code != "" {
					got.refused(t, http.StatusUnauthorized, test.code)
				} else if got.status == http.StatusUnauthorized {
					t.Errorf("is refused: %s", got.body)
				}
			})
		}
	}
}

func query(q string) detail { return func(r *http.Request) { r.URL.RawQuery = q } }

// A scheme that is not Bearer is no key of ours, and is in nobody's way.
func TestOtherSchemes(t *testing.T) {
	s := newServer(t)
	_, apiKey := s.signUp(t)
	for _, value := range []string{"Basic dXNlcjpwYXNz", "Digest x", apiKey, "Bearerx " + apiKey, "Token " + apiKey, "ApiKey " + apiKey} {
		s.send(t, "GET", "/api/v1/account", header("Authorization", value)).refused(t, http.StatusUnauthorized, "AUTH_REQUIRED")
	}
	s.send(t, "GET", "/api/v1/account", header("Authorization", "Basic dXNlcjpwYXNz"), key(apiKey)).want(t, http.StatusOK)
}

// A header beyond all reason is net/http's to refuse.
func TestMegabyteKey(t *testing.T) {
	s := newServer(t)
	s.report = func(error) {} // it is answered before there is a request
	got, err := s.try(t.Context(), "GET", "/api/v1/account", key(strings.Repeat("k", 1<<20)))
	if err == nil && got.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("is answered with %d", got.status)
	}
	s.send(t, "GET", "/livez").want(t, http.StatusOK)
}

// Malformed, unknown, revoked and expired keys can't be told apart: not by the
// status, the body or the headers.
func TestUnusableKeysAnswerAlike(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now), trust("127.0.0.0/8"))
	_, mine := s.signUp(t)
	revoked := s.newKey(t, mine, "")
	s.send(t, "DELETE", "/api/v1/keys/"+revoked.ID, key(mine)).want(t, http.StatusNoContent)
	rotated := s.newKey(t, mine, "")
	s.send(t, "POST", "/api/v1/keys/"+rotated.ID+"/rotate", key(mine)).want(t, http.StatusCreated)
	expired := s.newKey(t, mine, `{"expires_at": "`+now.now().Add(time.Minute).Format(time.RFC3339)+`"}`)
	graced := s.newKey(t, mine, "")
	s.send(t, "POST", "/api/v1/keys/"+graced.ID+"/rotate", key(mine), document(`{"grace_minutes": 1}`)).want(t, http.StatusCreated)
	now.advance(time.Minute)
	stranger := newServer(t, trust("127.0.0.0/8"))
	_, unknown := stranger.signUp(t)

	var first answer
	for i, test := range []struct{ name, key string }{
		{"malformed", "secret"},
		{"one character off", mine[:40] + flip(mine[40]) + mine[41:]},
		{"unknown", unknown},
		{"revoked", revoked.Key},
		{"rotated", rotated.Key},
		{"expired", expired.Key},
		{"after its grace", graced.Key},
	} {
		t.Run(test.name, func(t *testing.T) {
			// From an address of its own, so that each meets the same window.
			got := s.send(t, "GET", "/api/v1/account", key(test.key), header("X-Request-Id", "same"), from("203.0.113."+string(rune('1'+i))))
			got.refused(t, http.StatusUnauthorized, "INVALID_API_KEY")
			got.header.Del("Date")
			got.header.Del("X-RateLimit-Reset") // moves on with the second
			if i == 0 {
				first = got
				return
			}
			if diff := cmp.Diff(string(first.body), string(got.body)); diff != "" {
				t.Errorf("the body differs (- malformed, + this):\n%s", diff)
			}
			if diff := cmp.Diff(first.header, got.header); diff != "" {
				t.Errorf("the headers differ (- malformed, + this):\n%s", diff)
			}
		})
	}
}

func flip(c byte) string {
	if c == 'x' {
		return "y"
	}
	return "x"
}

func TestSuspendedCustomer(t *testing.T) {
	s := newServer(t, limit("api", "5/60s"))
	id, apiKey := s.signUp(t)
	_, other := s.signUp(t)
	if _, err := s.database.Suspend(t.Context(), id, time.Now()); err != nil {
		t.Fatal(err)
	}
	for i, endpoint := range []struct{ method, path string }{
		{"GET", "/api/v1/account"}, {"GET", "/api/v1/account/ledger"}, {"GET", "/api/v1/keys"}, {"POST", "/api/v1/keys"}, {"DELETE", "/api/v1/keys/" + someID},
	} {
		got := s.send(t, endpoint.method, endpoint.path, key(apiKey))
		got.refused(t, http.StatusForbidden, "FORBIDDEN")
		if l := got.limits(t, "api"); l.remaining != 4-i {
			t.Errorf("%d places are left, want %d: refusals of a suspended customer count", l.remaining, 4-i)
		}
	}
	s.send(t, "GET", "/api/v1/account", key(apiKey)).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
	s.send(t, "GET", "/api/v1/account", key(other)).want(t, http.StatusOK)
	if _, err := s.database.Resume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	s.send(t, "GET", "/api/v1/account", key(apiKey)).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
	newer := newServer(t, beside(s))
	newer.send(t, "GET", "/api/v1/account", key(apiKey)).want(t, http.StatusOK)
}

// A revoked key of a suspended customer is unknown, like any other.
func TestRevokedBeatsSuspended(t *testing.T) {
	s := newServer(t)
	id, mine := s.signUp(t)
	revoked := s.newKey(t, mine, "")
	s.send(t, "DELETE", "/api/v1/keys/"+revoked.ID, key(mine)).want(t, http.StatusNoContent)
	if _, err := s.database.Suspend(t.Context(), id, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.send(t, "GET", "/api/v1/account", key(revoked.Key)).refused(t, http.StatusUnauthorized, "INVALID_API_KEY")
}

// Another customer's things and unknown ones answer with the same bytes.
func TestStrangersThingsAreUnknown(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	_, theirs := s.signUp(t)
	their := s.newKey(t, theirs, "")
	gone := s.newKey(t, theirs, "")
	s.send(t, "DELETE", "/api/v1/keys/"+gone.ID, key(theirs)).want(t, http.StatusNoContent)
	var all []answer
	for _, id := range []string{someID, their.ID, gone.ID, "x", strings.Repeat("x", 65), "%20", their.Prefix, strings.ToUpper(their.ID), their.ID + "%00"} {
		for _, details := range [][]detail{nil, {document(`{"grace_minutes": 5}`)}} {
			all = append(all, s.send(t, "POST", "/api/v1/keys/"+id+"/rotate", append(details, key(mine), header("X-Request-Id", "same"))...))
		}
		all = append(all, s.send(t, "DELETE", "/api/v1/keys/"+id, key(mine), header("X-Request-Id", "same")))
	}
	for _, got := range all {
		got.refused(t, http.StatusNotFound, "NOT_FOUND")
		if !bytes.Equal(got.body, all[0].body) {
			t.Errorf("%s, and for an unknown id %s", got.body, all[0].body)
		}
		if names, first := slices.Sorted(maps.Keys(got.header)), slices.Sorted(maps.Keys(all[0].header)); !slices.Equal(names, first) {
			t.Errorf("headers %q, and for an unknown id %q", names, first)
		}
	}
	s.send(t, "GET", "/api/v1/account", key(their.Key)).want(t, http.StatusOK)
}
