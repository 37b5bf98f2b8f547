package api_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Whatever a body is, and whatever it says it is, the answer is one that
// openapi.yaml has, and never a 500. (Bodies that are right make customers and
// keys: that is part of it.)
func FuzzBody(f *testing.F) {
	for _, text := range []string{
		`{"name": "Ada", "email": "ada@company.dev", "company": null, "source": "api"}`, `{"grace_minutes": 5}`, `{"expires_at": "2040-01-01T00:00:00Z"}`,
		`{}`, ``, `[]`, `null`, `{"name": "a", "name": "b"}`, `{"name": "\ud800"}`, "\xef\xbb\xbf{}", "{\"name\": \"\x00\"}", `{"name": "\u0000"}`, `{"x": [[[[{}]]]]}`, `{"grace_minutes": 1e99}`,
		`{"email": "\"a\"@[::1]"}`, `{"email": "a@xn--\u00e9.dev"}`, `{"name": 1}`, `{`, `{} {}`,
		`{"external_id": "x", "repository": "engines/analytical", "pull_request": 42}`, `{"external_id": "\u0000", "pull_request": "#42"}`, `{"external_id": 1, "pull_request": [1e400]}`,
	} {
		f.Add(text, "application/json", "")
	}
	f.Add(`{}`, "", "")
	f.Add(`{}`, "application/json; charset=utf-8", "identity")
	f.Add(`{}`, "application/json;;=", "")
	s := newServer(f, unlimited)
	id, apiKey := s.signUp(f)
	s.grant(f, id, 1_000_000)
	f.Fuzz(func(t *testing.T, text, contentType, encoding string) {
		for _, path := range []string{onboard, fixes, "/api/v1/keys", "/api/v1/keys/" + someID + "/rotate"} {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(text))
			r.Header.Set("X-Api-Key", apiKey)
			if contentType != "" {
				r.Header.Set("Content-Type", contentType)
			}
			if encoding != "" {
				r.Header.Set("Content-Encoding", encoding)
			}
			w := httptest.NewRecorder()
			s.handler.ServeHTTP(w, r)
			header := make(http.Header)
			for name, lines := range w.Result().Header {
				header[http.CanonicalHeaderKey(name)] = lines
			}
			if err := checkAnswer(r, answer{status: w.Code, header: header, body: w.Body.Bytes()}, s.off); err != nil {
				t.Errorf("POST %s %q: %v", path, text, err)
			}
			if w.Code >= 500 {
				t.Errorf("POST %s %q is answered with %d: %s", path, text, w.Code, w.Body)
			}
		}
	})
}
