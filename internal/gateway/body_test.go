package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/gateway"
)

func TestBodiesPassAsTheyAre(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, body := range []string{
		`{}`, " {\r\n\t\"model\" : \"m\" , \"a\":[1.0e+5,\"\\u00e9\\ud83d\\ude00\",{}] }\n", `{"x":"` + strings.Repeat("é", 100_000) + `"}`,
		`{"messages":[{"content":"` + "\xff\xfe" + `"}]}`, `{"` + strings.Repeat("k", 20_000) + `":1}`, `{"stream":true,"stream_options":{"include_usage":true}}`,
		`{"a":{"b":1,"b":2},"a":3}`,
	} {
		for _, chunked := range []bool{false, true} {
			req := r.request("POST", "/gateway/openai/v1/chat/completions", body)
			if chunked {
				req.ContentLength = -1
			}
			if resp, b := r.get(req); resp.StatusCode != http.StatusOK {
				t.Fatalf("%d %s", resp.StatusCode, b)
			}
			if s.lastBody() != body {
				t.Errorf("%.60q became %.60q", body, s.lastBody())
			}
			if up := s.last(t); up.ContentLength != int64(len(body)) || len(up.TransferEncoding) > 0 {
				t.Errorf("sent on with length %d, encoding %s", up.ContentLength, up.TransferEncoding)
			}
		}
	}
}

func TestBodiesThatCouldBeReadInTwoWaysAreRefused(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, body := range []string{
		``, ` `, `null`, `[]`, `"x"`, `1`, `{`, `{"a"}`, `{"a":1,}`, `{'a':1}`, `{"a":NaN}`, `{} {}`, `{}x`, "{\"a\":\"\n\"}", "\ufeff{}", `{"a":1//
}`,
		`{"stream":true,"stream":false}`, `{"model":"a","model":"b"}`, `{"model":"a","Model":"b"}`, `{"stream":false,"\u0073tream":true}`,
		`{"stream":false,"ſtream":true}`, `{"max_tokens":1,"MAX_TOKENS":100000}`, `{"options":{"num_predict":1,"Num_Predict":100000}}`,
		`{"Model":"m"}`, `{"STREAM":false}`, `{"options":{"num_Predict":4}}`,
		`{"stream_options":{"include_usage":true},"stream_options":{"include_usage":false}}`, strings.Repeat(`{"a":`, 20_000),
	} {
		for _, path := range []string{"/gateway/anthropic/v1/messages", "/gateway/openai/v1/responses", "/gateway/ollama/api/chat"} {
			resp, _ := r.post(path, body)
			refused(t, resp, http.StatusBadRequest, "INVALID_JSON")
			if t.Failed() {
				t.Fatalf("%.60q", body)
			}
		}
	}
	if s.count() > 0 {
		t.Errorf("%d reached the provider", s.count())
	}
}

// A response in the background is made, and paid, when nobody listens and no
// revocation could end it.
func TestBackgroundIsRefused(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, path := range []string{"/gateway/openai/v1/responses", "/gateway/openrouter/api/v1/responses", "/gateway/ollama/v1/responses"} {
		for _, body := range []string{`{"background":true}`, `{"\u0062ackground":true}`, `{"background":1}`, `{"background":"true"}`, `{"background":{}}`} {
			resp, _ := r.post(path, body)
			refused(t, resp, http.StatusUnprocessableEntity, "VALIDATION_FAILED")
		}
		for _, body := range []string{`{"background":false}`, `{"background":null}`, `{}`} {
			if resp, _ := r.post(path, body); resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %d", body, resp.StatusCode)
			}
		}
	}
	if s.count() != 9 {
		t.Errorf("%d reached the provider, want 9", s.count())
	}
}

func TestEncodedBodiesAreRefused(t *testing.T) {
	r := newRig(t, nil)
	for _, encoding := range []string{"gzip", "identity", "br, gzip", ""} {
		req := r.request("POST", "/gateway/anthropic/v1/messages", `{}`)
		req.Header["Content-Encoding"] = []string{encoding}
		resp, body := r.get(req)
		refused(t, resp, http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE")
		if !strings.Contains(body, `"type":"error"`) {
			t.Errorf("%s", body)
		}
	}
}

func TestBodiesTo34MiB(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	r.server.Client().Transport.(*http.Transport).ExpectContinueTimeout = 10 * time.Second
	const most = 34 << 20
	body := func(n int) string { return `{"x":"` + strings.Repeat("a", n-8) + `"}` }
	for _, tt := range []struct {
		n, status int
	}{{most, 200}, {most + 1, 413}, {most + 1<<20, 413}} {
		for _, length := range []int64{int64(tt.n), -1} {
			req := r.request("POST", "/gateway/anthropic/v1/messages", body(tt.n))
			req.ContentLength = length
			req.Header.Set("Expect", "100-continue")
			if length < 0 && tt.n > most+1 {
				continue // a client that goes on sending may not live to see the refusal
			}
			resp, _ := r.get(req)
			switch {
			case tt.status == http.StatusOK && resp.StatusCode != http.StatusOK:
				t.Errorf("%d bytes: %d", tt.n, resp.StatusCode)
			case tt.status == http.StatusOK && len(s.lastBody()) != tt.n:
				t.Errorf("%d bytes arrived of %d", len(s.lastBody()), tt.n)
			case tt.status != http.StatusOK:
				refused(t, resp, tt.status, "PAYLOAD_TOO_LARGE")
			}
		}
	}
}

// Two lengths, or a length and chunks: what net/http lets through is sent on
// with one length, that of what was read.
func TestOneRequestStaysOne(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	head := "POST /gateway/openai/v1/responses HTTP/1.1\r\nHost: gatehouse\r\nX-Api-Key: " + token + "\r\n"
	smuggled := "GET /admin HTTP/1.1\r\nHost: x\r\n\r\n"
	for _, tt := range []struct {
		name, rest string
		body       string // that arrives; empty: none may
	}{
		{"two lengths", "Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}" + smuggled, ""},
		{"two lengths in one", "Content-Length: 2, 40\r\n\r\n{}" + smuggled, ""},
		{"twice the same length", "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", "{}"},
		{"a signed length", "Content-Length: +2\r\n\r\n{}", ""},
		{"length and chunks", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "{}"},
		{"another encoding", "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", ""},
		{"a disguised encoding", "Transfer-Encoding : chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", ""},
		{"a header with a line feed", "X-A: b\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "{}"},
		{"a trailer with a token", "Transfer-Encoding: chunked\r\nTrailer: X-Api-Key\r\n\r\n2\r\n{}\r\n0\r\nX-Api-Key: " + operatorKey + "\r\n\r\n", "{}"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := s.count()
			resp := r.raw(head + tt.rest)
			switch {
			case tt.body == "" && (resp.StatusCode < 400 || s.count() != before):
				t.Errorf("%d, and %d reached the provider", resp.StatusCode, s.count()-before)
			case tt.body != "" && (s.count() != before+1 || s.lastBody() != tt.body || s.last(t).ContentLength != int64(len(tt.body)) || len(s.last(t).Trailer) > 0):
				t.Errorf("%d, and %d reached the provider", resp.StatusCode, s.count()-before)
			}
			for _, up := range s.requests {
				if up.RequestURI != "/v1/responses" {
					t.Errorf("smuggled: %s", up.RequestURI)
				}
			}
		})
	}
}

func TestABodyThatIsCutOffReachesNobody(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, rest := range []string{"Content-Length: 10\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n"} {
		conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "POST /gateway/openai/v1/responses HTTP/1.1\r\nHost: gatehouse\r\nX-Api-Key: "+token+"\r\n"+rest)
		_ = conn.(*net.TCPConn).CloseWrite()
		refused(t, answerOn(t, conn), http.StatusBadRequest, "INVALID_JSON")
		_ = conn.Close()
	}
	if s.count() > 0 {
		t.Errorf("%d reached the provider", s.count())
	}
}

// newHoldingRig has a provider that takes bodies, says so, and answers none of them
// until answer is closed.
func newHoldingRig(t *testing.T, options ...option) (r *rig, entered, answer chan struct{}) {
	t.Helper()
	entered, answer = make(chan struct{}, 10), make(chan struct{})
	return newRig(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		entered <- struct{}{}
		<-answer
		_, _ = io.WriteString(w, `{}`)
	}, options...), entered, answer
}

// Calls hold no more than the bound together, hold it only while they have to,
// and hold nothing for what has not come.
func TestHeldBodiesAreBounded(t *testing.T) {
	r, entered, answer := newHoldingRig(t, bounded(func(b *gateway.Bounds) { b.Bodies = 3 << 20 }))
	big := `{"x":"` + strings.Repeat("a", 1<<20) + `"}`
	var g sync.WaitGroup
	defer g.Wait()
	for range 2 {
		g.Go(func() { r.post("/gateway/anthropic/v1/messages", big) })
		<-entered
	}
	if held := r.gateway.Stats().BodyBytes; held < 2<<20 || held > 3<<20 {
		t.Errorf("%d bytes are held", held)
	}
	resp, _ := r.post("/gateway/anthropic/v1/messages", big)
	refused(t, resp, http.StatusServiceUnavailable, "UNAVAILABLE")
	if resp.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %s", resp.Header.Get("Retry-After"))
	}
	// Those who announce much and send nothing.
	for range 20 {
		conn, err := net.Dial("tcp", r.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_, _ = io.WriteString(conn, "POST /gateway/openai/v1/responses HTTP/1.1\r\nHost: gatehouse\r\nX-Api-Key: "+token+"\r\nContent-Length: 30000000\r\n\r\n{")
	}
	g.Go(func() { r.post("/gateway/anthropic/v1/messages", `{}`) })
	<-entered
	close(answer)
}

// One customer's calls can't keep out another's.
func TestACustomersBodiesAreBounded(t *testing.T) {
	r, entered, answer := newHoldingRig(t, bounded(func(b *gateway.Bounds) { b.Share = 3 << 20 }), func(c *gateway.Config, _ *http.Server) { c.Door = customerByProvider{c.Door.(*door)} })
	big := `{"x":"` + strings.Repeat("a", 1<<20) + `"}`
	var g sync.WaitGroup
	defer g.Wait()
	for range 2 {
		g.Go(func() { r.post("/gateway/anthropic/v1/messages", big) })
		<-entered
	}
	resp, _ := r.post("/gateway/anthropic/v1/messages", big)
	refused(t, resp, http.StatusTooManyRequests, "RATE_LIMITED")
	if resp.Header.Get("Retry-After") != "1" {
		t.Errorf("Retry-After: %s", resp.Header.Get("Retry-After"))
	}
	g.Go(func() { r.post("/gateway/openai/v1/responses", big) }) // another customer's
	<-entered
	close(answer)
	g.Wait()
	if resp, _ := r.post("/gateway/anthropic/v1/messages", big); resp.StatusCode != http.StatusOK {
		t.Errorf("once the others are answered: %s", resp.Status)
	}
}

// customerByProvider lets in a customer for each provider.
type customerByProvider struct{ *door }

func (d customerByProvider) Enter(_ context.Context, _, provider string) (*gateway.Lease, error) {
	l := *d.lease
	l.CustomerID = provider
	return &l, nil
}

func TestABodyIsLetGoWhenTheAnswerBegins(t *testing.T) {
	done := make(chan struct{})
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		<-done
	})
	defer close(done)
	before := heap()
	for range 8 {
		r.do(r.request("POST", "/gateway/anthropic/v1/messages", `{"x":"`+strings.Repeat("a", 8<<20)+`"}`))
	}
	if held := r.gateway.Stats().BodyBytes; held != 0 {
		t.Errorf("%d bytes are held", held)
	}
	// The requests of this test's own client hold theirs: 64 MiB.
	if grown := heap() - before; grown > (64+24)<<20 {
		t.Errorf("8 streams with bodies of 8 MiB hold %d MiB", grown>>20)
	}
}

// heap is how much is alive.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestWhatIsReadOfABody(t *testing.T) {
	type call = gateway.Call
	for _, tt := range []struct {
		path, body string
		want       call
	}{
		{"anthropic/v1/messages", `{"model":"claude-sonnet-4-5","max_tokens":1024,"stream":true}`, call{Model: "claude-sonnet-4-5", Stream: true, MaxOutputTokens: 1024}},
		{"anthropic/v1/messages", `{"model":"\u0063laude","max_tokens":1e3}`, call{Model: "claude", MaxOutputTokens: 1000}},
		{"anthropic/v1/messages", `{"model":7,"max_tokens":"8","stream":"yes"}`, call{}},
		{"anthropic/v1/messages", `{"max_tokens":-5}`, call{}},
		{"anthropic/v1/messages", `{"max_tokens":1e300}`, call{}},
		{"anthropic/v1/messages", `{"model":"` + strings.Repeat("m", 257) + `"}`, call{}},
		{"openai/v1/chat/completions", `{"model":"gpt","max_tokens":5,"max_completion_tokens":7,"n":3}`, call{Model: "gpt", MaxOutputTokens: 21}},
		{"openai/v1/completions", `{"max_tokens":5,"n":2,"best_of":4}`, call{MaxOutputTokens: 20}},
		{"openai/v1/responses", `{"max_output_tokens":99,"stream":true}`, call{MaxOutputTokens: 99, Stream: true}},
		{"openai/v1/embeddings", `{"model":"e"}`, call{Model: "e", NoOutput: true}},
		{"ollama/api/chat", `{"model":"llama","options":{"num_predict":64}}`, call{Model: "llama", MaxOutputTokens: 64, Stream: true}},
		{"ollama/api/generate", `{"stream":false,"options":{"num_predict":-1}}`, call{}},
		{"ollama/api/chat", `{"options":[1],"stream":null}`, call{Stream: true}},
		{"openrouter/api/v1/chat/completions", `{"model":"anthropic/claude","stream":true}`, call{Model: "anthropic/claude", Stream: true}},
	} {
		r := newRig(t, replies("application/json", `{}`), capped)
		if resp, body := r.post("/gateway/"+tt.path, tt.body); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", tt.body, resp.StatusCode, body)
			continue
		}
		provider, path, _ := strings.Cut(tt.path, "/")
		tt.want.Provider, tt.want.Path, tt.want.InputTokens = provider, "/"+path, int64(len(tt.body)+2)/3
		s := r.meter.next(t)
		for _, got := range []call{r.meter.reserved[0], s.call} {
			got.Started = time.Time{}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tt.body, diff)
			}
		}
		if s.reservation != (gateway.Reservation{ID: "reservation", MicroUSD: 1}) {
			t.Errorf("the reservation is %+v", s.reservation)
		}
	}
}

// Where OpenAI tells a stream's usage only when asked, it is asked; every
// other byte stays.
func TestStreamsAreAskedForTheirUsage(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for _, tt := range []struct{ body, want string }{
		{`{"stream":true}`, `{"stream_options":{"include_usage":true},"stream":true}`},
		{" {\n \"a\" : 1.0, \"stream\" : true } ", " {\"stream_options\":{\"include_usage\":true},\n \"a\" : 1.0, \"stream\" : true } "},
		{`{"stream":true,"stream_options":null,"a":1}`, `{"stream":true,"stream_options":{"include_usage":true},"a":1}`},
		{`{"stream":true,"stream_options": { } ,"a":1}`, `{"stream":true,"stream_options": {"include_usage":true } ,"a":1}`},
		{`{"stream_options":{"include_obfuscation":false},"stream":true}`, `{"stream_options":{"include_usage":true,"include_obfuscation":false},"stream":true}`},
		{`{"stream_options":{"include_usage":false,"x":[1, 2]},"stream":true}`, `{"stream_options":{"include_usage":true,"x":[1, 2]},"stream":true}`},
		{`{"stream_options":{"include_usage":null},"stream":true}`, `{"stream_options":{"include_usage":true},"stream":true}`},
		{`{"stream_options":{"include_usage":true},"stream":true}`, ""},
		{`{"stream_options":{ "include_usage" : true },"stream":true}`, ""},
		{`{"stream_options":7,"stream":true}`, ""}, // OpenAI's to refuse
		{`{"stream":false}`, ""},
		{`{}`, ""},
	} {
		if tt.want == "" {
			tt.want = tt.body
		}
		for _, path := range []string{"openai/v1/chat/completions", "openai/v1/completions", "ollama/v1/chat/completions", "ollama/v1/completions"} {
			r.post("/gateway/"+path, tt.body)
			if got := s.lastBody(); got != tt.want {
				t.Errorf("%s: %s\nbecame %s\nwant   %s", path, tt.body, got, tt.want)
			}
			if up := s.last(t); up.ContentLength != int64(len(tt.want)) {
				t.Errorf("its length is %d, want %d", up.ContentLength, len(tt.want))
			}
		}
		for _, path := range []string{"openai/v1/responses", "openrouter/api/v1/chat/completions", "anthropic/v1/messages", "ollama/api/chat"} {
			r.post("/gateway/"+path, tt.body)
			if got := s.lastBody(); got != tt.body {
				t.Errorf("%s: %s\nbecame %s", path, tt.body, got)
			}
		}
	}
}

// Whatever is sent on means what the client wrote, but for the usage asked for.
func FuzzBody(f *testing.F) {
	for _, seed := range []string{
		`{"stream":true}`, `{"stream":true,"stream_options":{"a":1}}`, `{"stream_options":{"include_usage":false},"stream":true,"model":"m"}`, `{"a":[{}],"stream":false}`,
		`{"stream":true,"stream_options":null}`, ` {"stream":true , "x":"\ud800"}`, `{"stream":true}x`, `{"Stream":true,"STREAM_OPTIONS":{}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sent, hides, err := gateway.Sent("openai", "/v1/chat/completions", body)
		if err != nil {
			return
		}
		if !hides {
			if !bytes.Equal(sent, body) {
				t.Fatalf("%q became %q", body, sent)
			}
			return
		}
		var before, after map[string]any
		if json.Unmarshal(body, &before) != nil || json.Unmarshal(sent, &after) != nil {
			t.Fatalf("%q became %q", body, sent)
		}
		options, _ := before["stream_options"].(map[string]any)
		if options == nil {
			options = map[string]any{}
		}
		options["include_usage"] = true
		before["stream_options"] = options
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("%q became %q:\n%s", body, sent, diff)
		}
	})
}

func ExampleNew() {
	_, err := gateway.New(gateway.Config{Upstreams: map[string]gateway.Upstream{"openai": {Base: "https://user:secret@api.openai.com", Key: "k"}}})
	fmt.Println(err)
	// Output: the base URL of openai must be http(s)://HOST[/PATH], without user, query, fragment and escapes
}

// What a provider bills beside its tokens is not passed on.
func TestUnpricedIsRefused(t *testing.T) {
	for body, passes := range map[string]bool{
		`{"model":"m","tools":[{"type":"function","name":"f"},{"type":"custom"},{"name":"g"}],"service_tier":"flex"}`: true,
		`{"model":"m","tools":[{"type":"web_search"}]}`:                                                               false,
		`{"model":"m","tools":[{"type":"function"},{"type":"image_generation"}]}`:                                     false,
		`{"model":"m","web_search_options":{}}`:                                                                       false,
		`{"model":"m","web_search_options":null,"tools":null}`:                                                        true,
		`{"model":"m","service_tier":"priority"}`:                                                                     false,
		`{"model":"m","tools":[{"type":"function","type":"web_search"}]}`:                                             false,
	} {
		if _, _, err := gateway.Sent("openai", "/v1/responses", []byte(body)); (err == nil) != passes {
			t.Errorf("%s: %v", body, err)
		}
	}
	if _, _, err := gateway.Sent("anthropic", "/v1/messages", []byte(`{"model":"m","tools":[{"type":"web_search_20250305","name":"web_search"}]}`)); err != nil {
		t.Errorf("Anthropic tells of its searches, and they are priced: %v", err)
	}
	resp, _ := newRig(t, nil).post("/gateway/openai/v1/chat/completions", `{"model":"m","service_tier":"priority"}`)
	refused(t, resp, http.StatusUnprocessableEntity, "VALIDATION_FAILED")
}
