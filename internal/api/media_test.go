package api_test

import (
	"bytes"
	"compress/gzip"
	"maps"
	"net/http"
	"strings"
	"testing"
)

// posts are the endpoints that read a body, each with one that it accepts.
func posts(t testing.TB, s *server) map[string]struct {
	path string
	auth detail
	body func() string
} {
	t.Helper()
	customer, apiKey := s.signUp(t)
	s.grant(t, customer, 10_000)
	a := s.send(t, "POST", "/api/v1/keys", key(apiKey)).want(t, http.StatusCreated)
	id := decode[struct{ ID string }](t, a).ID
	return map[string]struct {
		path string
		auth detail
		body func() string
	}{
		"sign-up":  {onboard, func(*http.Request) {}, func() string { return `{"name": "Ada", "email": "` + someone() + `"}` }},
		"create":   {"/api/v1/keys", key(apiKey), func() string { return `{"name": "ci"}` }},
		"fix":      {"/api/v1/fixes", key(apiKey), func() string { return `{"external_id": "` + someFix() + `"}` }},
		"exchange": {exchange, key(apiKey), func() string { return `{"providers": ["anthropic", "openai"]}` }},
		"report": {report, key(apiKey), func() string {
			return `{"provider": "openai", "tokens_used": 5, "request_count": 1, "job_id": "` + someFix() + `"}`
		}},
		// It revokes nothing, so that it can be done again.
		"rotate": {"/api/v1/keys/" + id + "/rotate", key(apiKey), func() string { return `{"grace_minutes": 1440}` }},
	}
}

func TestMediaTypes(t *testing.T) {
	s := newServer(t, unlimited)
	tests := []struct {
		name  string
		lines map[string][]string
		ok    bool
	}{
		{"plain", map[string][]string{"Content-Type": {"application/json"}}, true},
		{"with charset", map[string][]string{"Content-Type": {"application/json; charset=utf-8"}}, true},
		{"with charset, quoted, in capitals", map[string][]string{"Content-Type": {`application/json;charset="UTF-8"`}}, true},
		{"in capitals", map[string][]string{"Content-Type": {"Application/JSON"}}, true},
		{"none", nil, false},
		{"empty", map[string][]string{"Content-Type": {""}}, false},
		{"text", map[string][]string{"Content-Type": {"text/plain"}}, false},
		{"a form", map[string][]string{"Content-Type": {"application/x-www-form-urlencoded"}}, false},
		{"a part of JSON's name", map[string][]string{"Content-Type": {"application/js"}}, false},
		{"more than JSON's name", map[string][]string{"Content-Type": {"application/jsonx"}}, false},
		{"of the family", map[string][]string{"Content-Type": {"application/merge-patch+json"}}, false},
		{"text of JSON", map[string][]string{"Content-Type": {"text/json"}}, false},
		{"Latin-1", map[string][]string{"Content-Type": {"application/json; charset=iso-8859-1"}}, false},
		{"UTF-16", map[string][]string{"Content-Type": {"application/json; charset=utf-16"}}, false},
		{"two in a line", map[string][]string{"Content-Type": {"application/json, text/plain"}}, false},
		{"two lines", map[string][]string{"Content-Type": {"application/json", "application/json"}}, false},
		{"anything", map[string][]string{"Content-Type": {"*/*"}}, false},
		{"gzip", map[string][]string{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, false},
		{"identity", map[string][]string{"Content-Type": {"application/json"}, "Content-Encoding": {"identity"}}, false},
		{"br", map[string][]string{"Content-Type": {"application/json"}, "Content-Encoding": {"br"}}, false},
		{"an encoding unheard of", map[string][]string{"Content-Type": {"application/json"}, "Content-Encoding": {"rot13"}}, false},
	}
	for name, post := range posts(t, s) {
		for _, test := range tests {
			t.Run(name+"/"+test.name, func(t *testing.T) {
				got := s.send(t, "POST", post.path, post.auth, body(post.body()), func(r *http.Request) { maps.Copy(r.Header, test.lines) })
				if test.ok {
					got.done(t)
					return
				}
				got.refused(t, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
			})
		}
	}
}

// 8 MiB of spaces in 8 KiB: it is refused for its encoding, and not unpacked.
func TestCompressedBodyIsRefused(t *testing.T) {
	s := newServer(t)
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := z.Write(bytes.Repeat([]byte(" "), 8<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	s.send(t, "POST", onboard, document(bomb.String()), header("Content-Encoding", "gzip")).
		refused(t, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
}

// Where every field is optional no body is {}, whatever its type.
func TestEmptyBody(t *testing.T) {
	s := newServer(t, unlimited)
	for name, post := range posts(t, s) {
		for _, test := range []struct {
			name     string
			details  []detail
			required int // status where a field is
		}{
			{"no type", nil, http.StatusUnsupportedMediaType},
			{"JSON", []detail{document("")}, http.StatusBadRequest},
			{"another type", []detail{header("Content-Type", "text/plain")}, http.StatusUnsupportedMediaType},
			{"chunked, no type", []detail{chunked(strings.NewReader(""))}, http.StatusUnsupportedMediaType},
			{"chunked, JSON", []detail{chunked(strings.NewReader("")), header("Content-Type", "application/json")}, http.StatusBadRequest},
		} {
			t.Run(name+"/"+test.name, func(t *testing.T) {
				want := http.StatusCreated
				if name != "create" && name != "rotate" {
					want = test.required
				} else if name == "rotate" {
					post.path = "/api/v1/keys/" + newKey(t, s, post.auth) + "/rotate" // without grace it works once
				}
				s.send(t, "POST", post.path, append(test.details, post.auth)...).want(t, want)
			})
		}
	}
}

func newKey(t testing.TB, s *server, auth detail) (id string) {
	t.Helper()
	return decode[struct{ ID string }](t, s.send(t, "POST", "/api/v1/keys", auth).want(t, http.StatusCreated)).ID
}

// A body that is there needs a type, also where it may be left out.
func TestBodyNeedsItsType(t *testing.T) {
	s := newServer(t, unlimited)
	for name, post := range posts(t, s) {
		t.Run(name, func(t *testing.T) {
			s.send(t, "POST", post.path, post.auth, body("{}")).refused(t, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
			s.send(t, "POST", post.path, post.auth, chunked(strings.NewReader("{}"))).refused(t, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
		})
	}
}
