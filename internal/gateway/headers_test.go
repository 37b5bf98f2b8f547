package gateway_test

import (
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"gatehouse/internal/gateway"
)

// Every header that a client could send its credentials, another's, or its
// connection's business in.
func TestRequestHeadersPassByList(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	tests := []struct{ path, credential, value string }{
		{"/gateway/anthropic/v1/messages", "X-Api-Key", operatorKey},
		{"/gateway/openai/v1/responses", "Authorization", "Bearer " + operatorKey},
		{"/gateway/openrouter/api/v1/messages", "Authorization", "Bearer " + operatorKey},
		{"/gateway/ollama/api/chat", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.path, func(t *testing.T) {
			req := r.request("POST", tt.path, `{}`)
			for _, name := range []string{
				"Cookie", "Proxy-Authorization", "X-Goog-Api-Key", "Api-Key", "X-Auth-Token", "Openai-Organization", "Openai-Project", "Anthropic-Organization-Id",
				"Idempotency-Key", "X-Forwarded-For", "X-Forwarded-Proto", "X-Real-Ip", "Via", "Te", "Upgrade", "X-Stainless-Lang", "Http-Referer", "X-Title",
				"Range", "If-None-Match", "Origin", "Referer", "X-Request-Id", "Traceparent", "Baggage", "Expect-Ct", "Anthropic-Dangerous-Direct-Browser-Access",
			} {
				req.Header.Set(name, token)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			req.Header.Set("Accept-Encoding", "gzip, br")
			pass := map[string]string{
				"Accept": "text/event-stream", "Anthropic-Version": "2023-06-01", "Content-Type": "application/json; charset=utf-8", "Openai-Beta": "responses=v1",
				"User-Agent": "Anthropic/Go 1.84.0",
			}
			for name, v := range pass {
				req.Header.Set(name, v)
			}
			if resp, _ := r.get(req); resp.StatusCode != http.StatusOK {
				t.Fatal(resp.StatusCode)
			}
			up := s.last(t).Header
			want := []string{"Accept", "Accept-Encoding", "Anthropic-Version", "Content-Length", "Content-Type", "Openai-Beta", "User-Agent"}
			if tt.credential != "" {
				want = append(want, tt.credential)
				if v := up[tt.credential]; len(v) != 1 || v[0] != tt.value {
					t.Errorf("%s: %q", tt.credential, v)
				}
			}
			slices.Sort(want)
			if got := names(up); !slices.Equal(got, want) {
				t.Errorf("what went along: %s, want %s", got, want)
			}
			if up.Get("Accept-Encoding") != "identity" {
				t.Errorf("Accept-Encoding: %s", up["Accept-Encoding"])
			}
			for name, v := range pass {
				if up.Get(name) != v {
					t.Errorf("%s: %q, want %q", name, up[name], v)
				}
			}
			if strings.Contains(fmt.Sprint(up), token) {
				t.Errorf("the token went along: %v", up)
			}
		})
	}
}

func TestNothingIsSentThatTheClientLeftOut(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	r.raw("GET /gateway/openai/v1/models HTTP/1.1\r\nHost: gatehouse\r\nAuthorization: Bearer " + token + "\r\n\r\n")
	if got := names(s.last(t).Header); !slices.Equal(got, []string{"Accept-Encoding", "Authorization"}) {
		t.Errorf("what went along: %s", got)
	}
}

// golang.org/issue/50580: hop-by-hop headers named by the client must not take
// our key away.
func TestConnectionNamesNoHeaderOfOurs(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, names := range []string{"x-api-key", "X-Api-Key, anthropic-version, content-type", "close, x-api-key", "keep-alive, authorization, x-api-key, host, content-length"} {
		resp := r.raw("POST /gateway/anthropic/v1/messages HTTP/1.1\r\nHost: gatehouse\r\nConnection: " + names + "\r\nX-Api-Key: " + token +
			"\r\nAnthropic-Version: 2023-06-01\r\nContent-Length: 2\r\n\r\n{}")
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", names, resp.StatusCode)
		}
		up := s.last(t).Header
		if up.Get("X-Api-Key") != operatorKey || up.Get("Anthropic-Version") != "2023-06-01" || up.Get("Content-Type") == "" {
			t.Errorf("Connection: %s took something away: %v", names, up)
		}
	}
}

func TestAnthropicBetasPassByList(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, tt := range []struct {
		given []string
		want  string
	}{
		{[]string{"interleaved-thinking-2025-05-14"}, "interleaved-thinking-2025-05-14"},
		{[]string{"claude-code-20250219,oauth-2025-04-20, context-1m-2025-08-07"}, "claude-code-20250219, context-1m-2025-08-07"},
		{[]string{"files-api-2025-04-14", "prompt-caching-2024-07-31"}, "prompt-caching-2024-07-31"},
		{[]string{"oauth-2025-04-20,oidc-federation-2026-04-01,message-batches-2024-09-24,skills-2025-10-02,code-execution-2025-05-22,mcp-client-2025-04-04"}, ""},
		{[]string{"", ","}, ""},
	} {
		req := r.request("POST", "/gateway/anthropic/v1/messages", `{}`)
		req.Header["Anthropic-Beta"] = tt.given
		r.get(req)
		if got := s.last(t).Header.Get("Anthropic-Beta"); got != tt.want {
			t.Errorf("%q became %q, want %q", tt.given, got, tt.want)
		}
	}
}

func TestTheTokenComesInEitherHeader(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, tt := range []struct {
		name   string
		header http.Header
		code   string // empty: let in
	}{
		{"x-api-key", http.Header{"X-Api-Key": {token}}, ""},
		{"bearer", http.Header{"Authorization": {"Bearer " + token}}, ""},
		{"bearer in any case", http.Header{"Authorization": {"bearer  " + token + " "}}, ""},
		{"both alike", http.Header{"X-Api-Key": {token}, "Authorization": {"Bearer " + token}}, ""},
		{"twice alike", http.Header{"X-Api-Key": {token, token}}, ""},
		{"beside an empty one", http.Header{"X-Api-Key": {token}, "Authorization": {"Bearer "}}, ""},
		{"beside another scheme", http.Header{"X-Api-Key": {token}, "Authorization": {"Basic YTpi"}}, ""},
		{"none", http.Header{}, "AUTH_REQUIRED"},
		{"an empty one", http.Header{"X-Api-Key": {""}}, "AUTH_REQUIRED"},
		{"another scheme", http.Header{"Authorization": {"Basic " + token}}, "AUTH_REQUIRED"},
		{"no scheme", http.Header{"Authorization": {token}}, "AUTH_REQUIRED"},
		{"two that differ", http.Header{"X-Api-Key": {token}, "Authorization": {"Bearer " + token + "x"}}, "INVALID_API_KEY"},
		{"two that differ in one header", http.Header{"X-Api-Key": {token, "other"}}, "INVALID_API_KEY"},
		{"one off", http.Header{"X-Api-Key": {token[:len(token)-1] + "3"}}, "INVALID_API_KEY"},
		{"the operator's", http.Header{"X-Api-Key": {operatorKey}}, "INVALID_API_KEY"},
	} {
		for _, path := range []string{"/gateway/anthropic/v1/models", "/gateway/openai/v1/models", "/gateway/openrouter/api/v1/models", "/gateway/ollama/api/tags"} {
			req := r.request("GET", path, "")
			req.Header = tt.header.Clone()
			before := s.count()
			resp, _ := r.get(req)
			if tt.code != "" {
				refused(t, resp, http.StatusUnauthorized, tt.code)
			} else if resp.StatusCode != http.StatusOK {
				t.Errorf("%s at %s: %d", tt.name, path, resp.StatusCode)
			}
			if passed := s.count() > before; passed != (tt.code == "") {
				t.Errorf("%s at %s: passed on: %t", tt.name, path, passed)
			}
		}
	}
}

func TestResponseHeadersPassByList(t *testing.T) {
	pass := http.Header{
		"Content-Type": {"application/json"}, "Cache-Control": {"no-cache"}, "Retry-After": {"7"}, "Retry-After-Ms": {"7000"}, "X-Should-Retry": {"true"},
		"Request-Id": {"req_1"}, "X-Request-Id": {"req_2"}, "Anthropic-Ratelimit-Requests-Remaining": {"5"}, "Anthropic-Ratelimit-Tokens-Reset": {"2030-01-01T00:00:00Z"},
		"X-Generation-Id": {"gen-1"}, "Openai-Version": {"2020-10-01"}, "Openai-Processing-Ms": {"9"},
	}
	drop := []string{
		"Set-Cookie", "Anthropic-Organization-Id", "Openai-Organization", "Openai-Project", "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Tokens", "Server",
		"Via", "Cf-Ray", "Location", "Alt-Svc", "Strict-Transport-Security", "Access-Control-Allow-Origin", "X-Gatehouse-Error", "Www-Authenticate", "Keep-Alive",
		"Proxy-Authenticate", "Link", "X-Accel-Redirect", "Nel",
	}
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		for _, name := range drop {
			w.Header().Set(name, "org-of-the-operator")
		}
		maps.Copy(w.Header(), pass)
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{}`)
	})
	resp, _ := r.post("/gateway/anthropic/v1/messages", `{}`)
	for name, v := range pass {
		if got := resp.Header[name]; !slices.Equal(got, v) {
			t.Errorf("%s: %q, want %q", name, got, v)
		}
	}
	for name := range resp.Header {
		if pass[name] == nil && name != "Date" && name != "Content-Length" {
			t.Errorf("it passed %s: %q", name, resp.Header[name])
		}
	}
}

// The request's id is the caller's where there is one; the provider's is kept
// beside it, for support.
func TestOurRequestIDStays(t *testing.T) {
	r := newRigWithout(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-Request-Id", "theirs") })
	r.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("X-Request-Id", "ours")
		r.gateway.ServeHTTP(w, req)
	})
	r.server.Start()
	resp, _ := r.get(r.request("GET", "/gateway/openai/v1/models", ""))
	if resp.Header.Get("X-Request-Id") != "ours" || resp.Header.Get("X-Upstream-Request-Id") != "theirs" {
		t.Errorf("%v", resp.Header)
	}
	resp, body := r.get(r.request("GET", "/gateway/anthropic/v1/files", ""))
	refused(t, resp, http.StatusNotFound, "NOT_FOUND")
	if !strings.Contains(body, `"request_id":"ours"`) {
		t.Errorf("the refusal does not name it: %s", body)
	}
}

// A provider whose head is not HTTP, or tries to write a second answer.
func TestHostileHeads(t *testing.T) {
	for name, answer := range map[string]string{
		"not HTTP":             "SSH-2.0-OpenSSH_9.6\r\n",
		"a bare line feed":     "HTTP/1.1 200 OK\r\nX-Request-Id: a\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
		"a bare CR in a value": "HTTP/1.1 200 OK\r\nRequest-Id: a\rSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n",
		"NUL in a value":       "HTTP/1.1 200 OK\r\nRequest-Id: a\x00b\r\nContent-Length: 0\r\n\r\n",
		"a folded line":        "HTTP/1.1 200 OK\r\nRequest-Id: a\r\n Set-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n",
		"two lengths":          "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
		"an endless head":      "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("a", 1000)+"\r\n", 200) + "\r\n",
		"a status of none":     "HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
		"switching protocols":  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"nothing":              "",
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go serveRaw(l, answer)
			r := newRig(t, nil, at("http://"+l.Addr().String()))
			resp := r.raw("GET /gateway/anthropic/v1/models HTTP/1.1\r\nHost: gatehouse\r\nX-Api-Key: " + token + "\r\n\r\n")
			if resp.Header.Get("Set-Cookie") != "" {
				t.Errorf("a header was smuggled in: %v", resp.Header)
			}
			if resp.StatusCode == http.StatusOK { // read as one harmless value
				return
			}
			refused(t, resp, http.StatusBadGateway, "UPSTREAM_ERROR")
		})
	}
}

// serveRaw answers each connection's first request with bytes, and closes.
func serveRaw(l net.Listener, answer string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = conn.Read(make([]byte, 64<<10))
		_, _ = io.WriteString(conn, answer)
		_ = conn.Close()
	}
}

func TestTheConnectionsHeadersOfAnAnswerEndHere(t *testing.T) {
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close, X-Request-Id")
		w.Header().Set("Trailer", "Request-Id")
		_, _ = io.WriteString(w, "{}")
		w.(http.Flusher).Flush()
		w.Header().Set("Request-Id", "from the trailer")
	})
	resp, _ := r.get(r.request("GET", "/gateway/anthropic/v1/models", ""))
	if resp.Close || len(resp.Trailer) > 0 || resp.Header.Get("Request-Id") != "" {
		t.Errorf("close %t, trailer %v, header %v", resp.Close, resp.Trailer, resp.Header)
	}
}

var _ gateway.Door = (*door)(nil)
