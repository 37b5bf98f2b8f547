package native_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/vending"
	"gatehouse/internal/vending/native"
)

// provider is a stand-in for the administrative APIs of both providers.
type provider struct {
	mu    sync.Mutex
	keys  []map[string]any
	seen  []string       // methods and paths
	asked map[string]any // of the last key
	says  func(w http.ResponseWriter, r *http.Request) bool
	url   string
}

func start(t *testing.T) *provider {
	p := new(provider)
	s := httptest.NewServer(p)
	t.Cleanup(s.Close)
	p.url = s.URL
	return p
}

func (p *provider) openAI() *native.OpenAI {
	return native.NewOpenAI(p.url, "sk-admin", "proj/1", "svc 1")
}

func (p *provider) openRouter() *native.OpenRouter {
	return native.NewOpenRouter(p.url, "sk-or-management", 250)
}

// both are the two makers, each with the path of its keys.
func (p *provider) both() map[string]vending.Maker {
	return map[string]vending.Maker{"/v1/organization/projects/proj%2F1/api_keys": p.openAI(), "/api/v1/keys": p.openRouter()}
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, r.Method+" "+r.URL.EscapedPath())
	if p.says != nil && p.says(w, r) {
		return
	}
	if a := r.Header.Get("Authorization"); a != "Bearer sk-admin" && a != "Bearer sk-or-management" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	router := strings.HasPrefix(r.URL.Path, "/api/v1/")
	switch r.Method {
	case http.MethodPost:
		p.asked = nil
		_ = json.NewDecoder(r.Body).Decode(&p.asked)
		if router {
			fmt.Fprintf(w, `{"data": {"hash": "h/1", "name": %q, "expires_at": %q}, "key": "sk-or-v1-x"}`, p.asked["name"], p.asked["expires_at"])
		} else {
			fmt.Fprintf(w, `{"id": "key_1", "value": "sk-svcacct-x", "expires_at": %d}`, 1_800_000_000)
		}
	case http.MethodGet:
		from, _ := strconv.Atoi(r.URL.Query().Get("offset"))
		if after := r.URL.Query().Get("after"); after != "" {
			from = 1 + slices.IndexFunc(p.keys, func(k map[string]any) bool { return k["id"] == after })
		}
		some := p.keys[min(from, len(p.keys)):min(from+100, len(p.keys))]
		_ = json.NewEncoder(w).Encode(map[string]any{"data": some, "has_more": from+100 < len(p.keys)})
	case http.MethodDelete:
		_, id, _ := strings.Cut(r.URL.Path, "keys/")
		i := slices.IndexFunc(p.keys, func(k map[string]any) bool { return k["id"] == id })
		if i < 0 {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		p.keys = slices.Delete(p.keys, i, i+1)
		fmt.Fprint(w, `{"deleted": true}`)
	}
}

func (p *provider) fill(n int) {
	for i := range n {
		id := fmt.Sprintf("k/%d", i)
		p.keys = append(p.keys, map[string]any{"id": id, "hash": id, "name": fmt.Sprintf("gatehouse-%d", i)})
	}
}

var ends = time.Date(2027, 1, 15, 8, 0, 0, 123, time.FixedZone("", 3600))

func TestKeysAreAskedForAsEachProviderWants(t *testing.T) {
	p := start(t)
	got, err := p.openAI().Make(t.Context(), "gatehouse-1", 90*time.Minute, ends)
	if err != nil || got.ID != "key_1" || got.Secret.Reveal() != "sk-svcacct-x" || !got.ExpiresAt.Equal(time.Unix(1_800_000_000, 0)) {
		t.Errorf("made %+v, %v", got, err)
	}
	if p.asked["name"] != "gatehouse-1" || p.asked["expires_in_seconds"] != 5400.0 || p.seen[0] != "POST /v1/organization/projects/proj%2F1/service_accounts/svc%201/api_keys" {
		t.Errorf("asked %v for %v", p.seen, p.asked)
	}
	got, err = p.openRouter().Make(t.Context(), "gatehouse-1", 90*time.Minute, ends)
	if err != nil || got.ID != "h/1" || got.Secret.Reveal() != "sk-or-v1-x" || !got.ExpiresAt.Equal(ends.Truncate(time.Second)) {
		t.Errorf("made %+v, %v", got, err)
	}
	if p.asked["name"] != "gatehouse-1" || p.asked["expires_at"] != "2027-01-15T07:00:00Z" || p.asked["limit"] != 2.5 || p.seen[1] != "POST /api/v1/keys" {
		t.Errorf("asked %v for %v", p.seen, p.asked)
	}
	if _, err = native.NewOpenRouter(p.url, "sk-or-management", 0).Make(t.Context(), "n", time.Hour, ends); err != nil || p.asked["limit"] != nil {
		t.Errorf("without a limit: %v, %v", p.asked, err)
	}
}

func TestRemoveByIDOrByName(t *testing.T) {
	for path := range new(provider).both() {
		p := start(t)
		p.fill(250)
		p.keys = append(p.keys, map[string]any{"id": "twin", "hash": "twin", "name": "gatehouse-203"})
		m := p.both()[path]
		for _, remove := range []struct{ name, id string }{{"gatehouse-7", "k/7"}, {"gatehouse-7", "k/7"}, {"gatehouse-203", ""}, {"gatehouse-203", ""}, {"gatehouse-2", "gone"}} {
			if err := m.Remove(t.Context(), remove.name, remove.id); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
		if len(p.keys) != 248 || slices.ContainsFunc(p.keys, func(k map[string]any) bool { return k["name"] == "gatehouse-203" || k["name"] == "gatehouse-7" }) {
			t.Errorf("%s: %d are left", path, len(p.keys))
		}
		if p.seen[0] != "DELETE "+path+"/k%2F7" {
			t.Errorf("asked for %s", p.seen[0])
		}
	}
}

// What certainly made no key is told from what may have made one, and nothing that
// a provider says gets into an error.
func TestFailuresAreToldApart(t *testing.T) {
	const secret = "sk-leak"
	status := func(code int) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(code)
			fmt.Fprint(w, secret)
			return true
		}
	}
	text := func(body string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool { _, _ = fmt.Fprint(w, body); return true }
	}
	for _, test := range []struct {
		name    string
		says    func(http.ResponseWriter, *http.Request) bool
		certain bool
	}{
		{"unauthorised", status(401), true},
		{"refused", status(403), true},
		{"too many", status(429), true},
		{"a conflict", status(409), false},
		{"a time-out", status(408), false},
		{"failing", status(500), false},
		{"no JSON", text(secret), false},
		{"nothing", text(""), false},
		{"no key", text(`{"data": {}}`), false},
		{"a key of too many characters", text(`{"id": "` + strings.Repeat("x", 300) + `", "value": "v", "key": "v", "data": {"hash": "` + strings.Repeat("x", 300) + `"}}`), false},
		{"without an end", text(strings.Repeat(" ", 5<<20)), false},
		{"cut", func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "{")
			return true
		}, false},
		{"elsewhere", func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusTemporaryRedirect)
			return true
		}, false},
	} {
		p := start(t)
		p.says = test.says
		for path, m := range p.both() {
			_, err := m.Make(t.Context(), "n", time.Hour, ends)
			if err == nil || errors.Is(err, vending.ErrNotMade) != test.certain || strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "127.0.0.1") {
				t.Errorf("%s of %s: %v", test.name, path, err)
			}
		}
	}
	dead := httptest.NewServer(nil)
	dead.Close()
	if _, err := native.NewOpenAI(dead.URL, "sk-admin", "p", "s").Make(t.Context(), "n", time.Hour, ends); err == nil || errors.Is(err, vending.ErrNotMade) {
		t.Errorf("nobody is there: %v", err)
	}
}

func TestRemoveFailsWhereAKeyMayBe(t *testing.T) {
	for _, code := range []int{401, 403, 429, 500} {
		p := start(t)
		p.says = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(code); return true }
		for path, m := range p.both() {
			for _, id := range []string{"", "k"} {
				if err := m.Remove(t.Context(), "n", id); err == nil {
					t.Errorf("%d of %s was taken for a removal", code, path)
				}
			}
		}
	}
	p := start(t)
	p.says = func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(http.StatusNotFound); return true }
	if err := p.openAI().Remove(t.Context(), "n", ""); err == nil {
		t.Error("a project that is not there was taken for one without keys")
	}
}
