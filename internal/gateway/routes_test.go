package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/gateway"
)

// answerOn reads an answer from a connection.
func answerOn(t testing.TB, conn net.Conn) *answer {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return &answer{resp.StatusCode, resp.Status, resp.Header, resp.Trailer, resp.Body, resp.Close}
}

// seen is a provider that notes what reaches it.
type seen struct {
	mu       sync.Mutex
	requests []*http.Request
	bodies   []string
}

func (s *seen) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.requests, s.bodies = append(s.requests, r), append(s.bodies, string(b))
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, `{"usage":{"input_tokens":1,"output_tokens":1,"prompt_tokens":1},"stop_reason":"end_turn"}`)
}

func (s *seen) last(t testing.TB) *http.Request {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.requests) == 0 {
		t.Fatal("nothing reached the provider")
	}
	return s.requests[len(s.requests)-1]
}

func (s *seen) lastBody() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bodies[len(s.bodies)-1]
}

func (s *seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

// What may be called is written down here a second time, on purpose.
var allowed = []string{
	"POST /gateway/anthropic/v1/messages", "POST /gateway/anthropic/v1/messages/count_tokens", "GET /gateway/anthropic/v1/models",
	"GET /gateway/anthropic/v1/models/claude-sonnet-4-5-20250929",
	"POST /gateway/openai/v1/chat/completions", "POST /gateway/openai/v1/completions", "POST /gateway/openai/v1/responses",
	"POST /gateway/openai/v1/embeddings", "GET /gateway/openai/v1/models", "GET /gateway/openai/v1/models/ft:gpt-4o-mini:org::abc123",
	"POST /gateway/openrouter/api/v1/chat/completions", "POST /gateway/openrouter/api/v1/completions", "POST /gateway/openrouter/api/v1/responses",
	"POST /gateway/openrouter/api/v1/messages", "POST /gateway/openrouter/api/v1/embeddings", "GET /gateway/openrouter/api/v1/models",
	"GET /gateway/openrouter/api/v1/generation",
	"POST /gateway/ollama/api/chat", "POST /gateway/ollama/api/generate", "POST /gateway/ollama/api/embed", "POST /gateway/ollama/api/show",
	"GET /gateway/ollama/api/tags", "GET /gateway/ollama/api/version", "POST /gateway/ollama/v1/chat/completions", "POST /gateway/ollama/v1/completions",
	"POST /gateway/ollama/v1/embeddings", "POST /gateway/ollama/v1/responses", "POST /gateway/ollama/v1/messages", "GET /gateway/ollama/v1/models",
	"GET /gateway/ollama/v1/models/llama3.2",
}

func TestListedPathsReachTheProvider(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, a := range allowed {
		method, path, _ := strings.Cut(a, " ")
		body := ""
		if method == "POST" {
			body = `{"model":"m"}`
		}
		resp, _ := r.get(r.request(method, path, body))
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", a, resp.StatusCode)
			continue
		}
		up := s.last(t)
		_, tail, _ := strings.Cut(path[len("/gateway/"):], "/")
		if up.RequestURI != "/"+tail || up.Method != method || up.Host != r.upstream.Listener.Addr().String() {
			t.Errorf("%s reached the provider as %s %s at %s", a, up.Method, up.RequestURI, up.Host)
		}
		r.meter.next(t)
	}
}

func TestListedPathsAreDocumented(t *testing.T) {
	const file = "../../docs/github-actions.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if table := "|---|---|\n" + gateway.Table(); !strings.HasSuffix(string(text), table) {
		t.Errorf("%s does not end with\n%s", file, table)
	}
}

func TestOtherMethodsAre405WithAllow(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, a := range allowed {
		method, path, _ := strings.Cut(a, " ")
		for _, other := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			if other == method {
				continue
			}
			resp, _ := r.get(r.request(other, path, ""))
			refused(t, resp, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
			if got := resp.Header.Get("Allow"); got != method {
				t.Errorf("%s %s: Allow: %s", other, path, got)
			}
		}
	}
	if s.count() > 0 {
		t.Errorf("%d requests reached the provider", s.count())
	}
}

func TestEverythingElseIs404AndReachesNobody(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, path := range []string{
		"/gateway/", "/gateway", "/gateway/anthropic", "/gateway/anthropic/", "/gateway/ANTHROPIC/v1/messages", "/gateway/mistral/v1/chat/completions",
		"/gateway/anthropic/v1/messages/", "/gateway/anthropic/v1/Messages", "/gateway/anthropic/v1/messages/batches", "/gateway/anthropic/v1/files",
		"/gateway/anthropic/v1/organizations/api_keys", "/gateway/anthropic/v1/complete", "/gateway/anthropic/v1/oauth/token", "/gateway/anthropic/v1/agents",
		"/gateway/openai/v1/files", "/gateway/openai/v1/organization/projects", "/gateway/openai/chat/completions", "/gateway/openai/v1/responses/resp_1",
		"/gateway/openai/v1/images/generations", "/gateway/openrouter/v1/chat/completions", "/gateway/openrouter/api/v1/keys", "/gateway/openrouter/api/v1/credits",
		"/gateway/ollama/api/pull", "/gateway/ollama/api/push", "/gateway/ollama/api/delete", "/gateway/ollama/api/create", "/gateway/ollama/api/copy",
		"/gateway/ollama/api/blobs/sha256:abc", "/gateway/ollama/api/me", "/gateway/ollama/api/signout", "/gateway/ollama/api/ps", "/gateway/ollama/",
		// Paths that something on the way could read as a listed one.
		"/gateway/anthropic//v1/messages", "//gateway/anthropic/v1/messages", "/gateway//anthropic/v1/messages", "/gateway/anthropic/v1//messages",
		"/gateway/anthropic/./v1/messages", "/gateway/anthropic/x/../v1/messages", "/gateway/anthropic/v1/messages/../files", "/gateway/anthropic/../../etc",
		"/gateway/anthropic/%2e%2e/v1/messages", "/gateway/anthropic/v1%2fmessages", "/gateway/anthropic/v1%2Fmessages", "/gateway/anthropic/v1%5cmessages",
		"/gateway/anthropic/v1/messages%2f..%2ffiles", "/gateway/anthropic/v1/%6dessages", "/gateway/anthropic/v1/messages%00", "/gateway/anthropic/v1/messages;x",
		"/gateway/anthropic/v1/messages%23", "/gateway/anthropic/v1/messages%0d%0aHost:%20evil", `/gateway/anthropic\v1\messages`,
		"/gateway/anthropic@evil/v1/messages", "/gateway/anthropic:80@evil/v1/messages", "/gateway/%61nthropic/v1/messages",
		// A model's name is one plain segment.
		"/gateway/anthropic/v1/models/", "/gateway/anthropic/v1/models/.", "/gateway/anthropic/v1/models/..", "/gateway/anthropic/v1/models/...",
		"/gateway/anthropic/v1/models/a/b", "/gateway/anthropic/v1/models/a%2fb", "/gateway/anthropic/v1/models/%2e%2e", "/gateway/anthropic/v1/models/a@b",
		"/gateway/anthropic/v1/models/a b", "/gateway/anthropic/v1/models/" + strings.Repeat("a", 257), "/gateway/ollama/v1/models/..%2fapi%2fpull",
		// And a query is what everybody takes for one.
		"/gateway/anthropic/v1/models?a#b", "/gateway/anthropic/v1/models?limit=1#@evil", "/gateway/anthropic/v1/models#@evil/",
		"/gateway/anthropic/v1/models?limit=" + strings.Repeat("1", 2100),
	} {
		for _, method := range []string{"GET", "POST"} {
			if strings.ContainsAny(path, " ") { // a request line of its own
				continue
			}
			resp := r.raw(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: gatehouse\r\nX-Api-Key: %s\r\nContent-Length: 2\r\n\r\n{}", method, path, token))
			if resp.StatusCode == http.StatusBadRequest && resp.Header.Get("X-Gatehouse-Error") == "" {
				continue // net/http itself could not read it
			}
			refused(t, resp, http.StatusNotFound, "NOT_FOUND")
			if t.Failed() {
				t.Fatalf("%s %q", method, path)
			}
		}
	}
	if s.count() > 0 {
		t.Errorf("%d requests reached the provider, the first as %s", s.count(), s.last(t).RequestURI)
	}
	r.meter.none(t)
}

// Whatever of a provider's is asked for, its SDK can read that it is not there,
// and its user where it would be.
func TestA404HasTheProvidersShapeAndNamesAPath(t *testing.T) {
	r := newRig(t, nil)
	for provider, want := range map[string]string{
		"anthropic":  `{"type":"error","error":{"type":"not_found_error","message":"%"},"request_id":""}`,
		"openai":     `{"error":{"message":"%","type":"invalid_request_error","param":null,"code":"unknown_url"}}`,
		"openrouter": `{"error":{"code":404,"message":"%"}}`,
		"ollama":     `{"error":"%"}`,
	} {
		i := slices.IndexFunc(allowed, func(a string) bool { return strings.HasPrefix(a, "POST /gateway/"+provider+"/") })
		message := "Only the provider's inference paths are passed on, such as " + allowed[i] + ": is base_url right?"
		for _, path := range []string{"", "/", "//v1/messages", "/v1/../v1/messages", "/v1/nothing"} {
			resp := r.raw("POST /gateway/" + provider + path + " HTTP/1.1\r\nHost: gatehouse\r\nContent-Length: 2\r\n\r\n{}")
			refused(t, resp, http.StatusNotFound, "NOT_FOUND")
			if got, _ := io.ReadAll(resp.Body); strings.TrimSpace(string(got)) != strings.Replace(want, "%", message, 1) {
				t.Errorf("%s%s: %s", provider, path, got)
			}
		}
	}
}

func TestARequestThatNamesAHostIsNotPassedOn(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, uri := range []string{
		"http://169.254.169.254/gateway/anthropic/v1/models", "http://evil.test/gateway/openai/v1/models", "https://evil.test:443/latest/meta-data",
		"http://user:pw@evil.test/gateway/openai/v1/models", "*", "evil.test:443",
	} {
		resp := r.raw("GET " + uri + " HTTP/1.1\r\nHost: gatehouse\r\nX-Api-Key: " + token + "\r\n\r\n")
		if resp.StatusCode < 400 {
			t.Errorf("%s: %d", uri, resp.StatusCode)
		}
	}
	resp := r.raw("CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\nX-Api-Key: " + token + "\r\n\r\n")
	if resp.StatusCode < 400 {
		t.Errorf("CONNECT: %d", resp.StatusCode)
	}
	if s.count() > 0 {
		t.Errorf("%d requests reached the provider", s.count())
	}
}

// Neither the Host that a client names nor what proxies add decides where a
// request goes, and none of it goes along.
func TestForeignHostsDecideNothing(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	resp := r.raw("GET /gateway/ollama/api/tags HTTP/1.1\r\nHost: 169.254.169.254\r\nX-Forwarded-Host: evil.test\r\nForwarded: host=evil.test\r\n" +
		"X-Original-Url: /api/pull\r\nX-Rewrite-Url: /api/pull\r\nX-Http-Method-Override: DELETE\r\nX-Api-Key: " + token + "\r\n\r\n")
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.StatusCode)
	}
	// mlflow#25761: nor does a body's.
	r.post("/gateway/openai/v1/embeddings", `{"api_base":"http://169.254.169.254","base_url":"http://169.254.169.254","host":"evil.test"}`)
	if s.count() != 2 || s.last(t).Host != r.upstream.Listener.Addr().String() {
		t.Errorf("a body led to %s", s.last(t).Host)
	}
	up := s.requests[0]
	if up.Host != r.upstream.Listener.Addr().String() || up.RequestURI != "/api/tags" {
		t.Errorf("it went to %s%s", up.Host, up.RequestURI)
	}
	if got := names(up.Header); !slices.Equal(got, []string{"Accept-Encoding"}) {
		t.Errorf("what went along: %s", got)
	}
}

func TestOnlyKnownNamesOfAQueryPass(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	r.get(r.request("GET", "/gateway/anthropic/v1/models?key="+token+"&limit=5&x-api-key=1&after_id=a%2Fb&limit&&=&beta=true", ""))
	if got := s.last(t).RequestURI; got != "/v1/models?limit=5&after_id=a%2Fb&limit&beta=true" {
		t.Errorf("passed on: %s", got)
	}
	r.get(r.request("GET", "/gateway/anthropic/v1/models?key=1", ""))
	if got := s.last(t).RequestURI; got != "/v1/models" {
		t.Errorf("passed on: %s", got)
	}
}

func TestABaseMayHaveAPath(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP, func(c *gateway.Config, _ *http.Server) {
		for name, u := range c.Upstreams {
			u.Base += "/behind/a/prefix/"
			c.Upstreams[name] = u
		}
	})
	r.post("/gateway/openai/v1/embeddings", `{}`)
	if got := s.last(t).RequestURI; got != "/behind/a/prefix/v1/embeddings" {
		t.Errorf("passed on: %s", got)
	}
}

func TestAProviderThatIsNotConfiguredIs404(t *testing.T) {
	r := newRig(t, nil, func(c *gateway.Config, _ *http.Server) { delete(c.Upstreams, "openai") })
	resp, _ := r.post("/gateway/openai/v1/embeddings", `{}`)
	refused(t, resp, http.StatusNotFound, "NOT_FOUND")
}

func TestNewRefusesUpstreamsThatItCantUse(t *testing.T) {
	for name, upstreams := range map[string]map[string]gateway.Upstream{
		"unknown provider":  {"mistral": {Base: "https://api.mistral.ai", Key: "k"}},
		"no scheme":         {"openai": {Base: "api.openai.com", Key: "k"}},
		"another scheme":    {"openai": {Base: "file:///etc", Key: "k"}},
		"no host":           {"openai": {Base: "https://", Key: "k"}},
		"user":              {"openai": {Base: "https://user:secret@api.openai.com", Key: "k"}},
		"query":             {"openai": {Base: "https://api.openai.com?x=1", Key: "k"}},
		"fragment":          {"openai": {Base: "https://api.openai.com#", Key: "k"}},
		"escapes":           {"openai": {Base: "https://api.openai.com/a%2fb", Key: "k"}},
		"no key":            {"anthropic": {Base: "https://api.anthropic.com"}},
		"key with newline":  {"anthropic": {Base: "https://api.anthropic.com", Key: "secret\n"}},
		"key where none is": {"ollama": {Base: "http://127.0.0.1:11434", Key: "secret"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := gateway.New(gateway.Config{Upstreams: upstreams})
			if err == nil || strings.Contains(err.Error(), "secret") {
				t.Errorf("New = %v", err)
			}
		})
	}
}

func names(h http.Header) (all []string) {
	for name := range h {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}
