package api_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
)

var madeID = regexp.MustCompile(`^[0-9a-f]{32}$`)

func TestRequestID(t *testing.T) {
	s := newServer(t)
	all := make([]byte, 0, 95)
	for c := byte(0x20); c <= 0x7e; c++ {
		all = append(all, c)
	}
	for _, test := range []struct {
		name  string
		lines []string
		taken bool
	}{
		{"one character", []string{"x"}, true},
		{"128 characters", []string{strings.Repeat("x", 128)}, true},
		{"each printable character", []string{"!" + string(all) + "!"}, true},
		{"quotes and markup", []string{`"\<script>&'`}, true},
		{"none", nil, false},
		{"empty", []string{""}, false},
		{"129 characters", []string{strings.Repeat("x", 129)}, false},
		{"a tab", []string{"a\tb"}, false},
		{"a letter beyond ASCII", []string{"é"}, false},
		{"a byte beyond ASCII", []string{"a\xffb"}, false},
		{"two lines", []string{"one", "two"}, false},
		{"two equal lines", []string{"one", "one"}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var ids []string
			for range 2 {
				got := s.send(t, "GET", "/nowhere", func(r *http.Request) { r.Header["X-Request-Id"] = test.lines })
				p := got.refused(t, http.StatusNotFound, "NOT_FOUND")
				id := got.header.Get("X-Request-Id")
				if p.RequestID != id {
					t.Errorf("the body has %q, the header %q", p.RequestID, id)
				}
				ids = append(ids, id)
			}
			if test.taken {
				if ids[0] != test.lines[0] {
					t.Errorf("%q is answered with %q", test.lines[0], ids[0])
				}
				return
			}
			if !madeID.MatchString(ids[0]) || ids[0] == ids[1] {
				t.Errorf("made %q, then %q: want two different ids of our own", ids[0], ids[1])
			}
		})
	}
}

// Every answer has the id, whatever it is.
func TestRequestIDIsOnEveryAnswer(t *testing.T) {
	s := newServer(t, limit("onboarding", "1/60s"))
	_, apiKey := s.signUp(t)
	id := header("X-Request-Id", "given")
	for _, got := range []answer{
		s.send(t, "GET", "/api/v1/account", key(apiKey), id).want(t, http.StatusOK),
		s.send(t, "GET", "/api/v1/account", id).want(t, http.StatusUnauthorized),
		s.send(t, "POST", "/api/v1/keys", key(apiKey), id).want(t, http.StatusCreated),
		s.send(t, "POST", onboard, id).want(t, http.StatusTooManyRequests),
		s.send(t, "PUT", onboard, id).want(t, http.StatusMethodNotAllowed),
		s.send(t, "POST", "/api/v1/keys", key(apiKey), id, body("x")).want(t, http.StatusUnsupportedMediaType),
		s.send(t, "GET", "/health", id).want(t, http.StatusOK),
		s.send(t, "HEAD", "/livez", id).want(t, http.StatusOK),
	} {
		if got.header.Get("X-Request-Id") != "given" {
			t.Errorf("%d has the id %q", got.status, got.header.Get("X-Request-Id"))
		}
	}
}
