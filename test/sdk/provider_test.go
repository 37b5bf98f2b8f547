package sdk

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// usage is what a provider's calls come to.
type usage struct {
	Requests     int64 `json:"requests"`
	InputTokens  int64 `json:"input_tokens"`
	OutputTokens int64 `json:"output_tokens"`
}

// standIn is Anthropic, OpenAI and OpenRouter at once. A stream stops after its
// first piece until the client has it, so one that is held back never ends.
type standIn struct {
	*httptest.Server
	t     *testing.T
	first chan struct{} // the client has a stream's first piece

	mu    sync.Mutex
	calls int              // all of them
	told  map[string]usage // what was said to be used, by provider
}

// keys are those that an operator has from the providers.
var keys = map[string]string{"anthropic": "sk-ant-real", "openai": "sk-proj-real", "openrouter": "sk-or-v1-real"}

func newStandIn(t *testing.T) *standIn {
	p := &standIn{t: t, first: make(chan struct{}), told: map[string]usage{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/messages", p.messages)
	mux.HandleFunc("POST /v1/messages/count_tokens", func(w http.ResponseWriter, r *http.Request) {
		p.asked(w, r, "anthropic")
		p.tell("anthropic", 0, 0) // it costs nothing, and is a request all the same
		fmt.Fprint(w, `{"input_tokens":17}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { p.chat(w, r, "openai") })
	mux.HandleFunc("POST /api/v1/chat/completions", func(w http.ResponseWriter, r *http.Request) { p.chat(w, r, "openrouter") })
	mux.HandleFunc("POST /v1/responses", p.responses)
	mux.HandleFunc("POST /v1/embeddings", func(w http.ResponseWriter, r *http.Request) {
		p.asked(w, r, "openai")
		p.tell("openai", 8, 0)
		fmt.Fprint(w, `{"object":"list","model":"text-embedding-3-small","data":[{"object":"embedding","index":0,"embedding":[0.25,-0.5]}],"usage":{"prompt_tokens":8,"total_tokens":8}}`)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("a provider was asked for %s %s", r.Method, r.URL)
		http.NotFound(w, r)
	})
	p.Server = httptest.NewServer(mux)
	t.Cleanup(func() { p.CloseClientConnections(); p.Close() })
	return p
}

type question struct {
	Model         string `json:"model"`
	Stream        bool   `json:"stream"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

// asked reads a call, and looks whose key is in it.
func (p *standIn) asked(w http.ResponseWriter, r *http.Request, provider string) (q question) {
	p.mu.Lock()
	p.calls++
	p.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	if err := json.Unmarshal(body, &q); err != nil {
		p.t.Errorf("%s was sent %q: %v", provider, body, err)
	}
	want := http.Header{"X-Api-Key": {keys[provider]}}
	if provider != "anthropic" {
		want = http.Header{"Authorization": {"Bearer " + keys[provider]}}
	}
	for _, name := range []string{"X-Api-Key", "Authorization"} {
		if got := r.Header.Values(name); strings.Join(got, ",") != strings.Join(want[name], ",") {
			p.t.Errorf("%s was sent %s %q, want %q", provider, name, got, want[name])
		}
	}
	if all := fmt.Sprint(r.URL, r.Header, string(body)); strings.Contains(all, "gt_live_") {
		p.t.Errorf("%s was sent a token of ours: %s", provider, all)
	}
	w.Header().Set("Content-Type", "application/json")
	if q.Stream {
		w.Header().Set("Content-Type", "text/event-stream")
	}
	return q
}

func (p *standIn) tell(provider string, input, output int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.told[provider]
	p.told[provider] = usage{u.Requests + 1, u.InputTokens + input, u.OutputTokens + output}
}

func (p *standIn) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls
}

// pause sends what there is, and waits until the client has it.
func (p *standIn) pause(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).Flush()
	select {
	case <-p.first:
	case <-r.Context().Done():
	}
}

// event writes one with its type as its name, as Anthropic and Responses do.
func event(w io.Writer, kind, rest string) {
	fmt.Fprintf(w, "event: %s\ndata: {\"type\":%q%s}\n\n", kind, kind, rest)
}

func (p *standIn) messages(w http.ResponseWriter, r *http.Request) {
	q := p.asked(w, r, "anthropic")
	switch q.Model {
	case "claude-limited":
		w.Header().Set("Retry-After-Ms", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		fmt.Fprint(w, `{"type":"error","error":{"type":"rate_limit_error","message":"too fast"},"request_id":"req_1"}`)
		return
	case "claude-overloaded":
		w.Header().Set("X-Should-Retry", "false")
		w.WriteHeader(529)
		fmt.Fprint(w, `{"type":"error","error":{"type":"overloaded_error","message":"too many"},"request_id":"req_2"}`)
		return
	}
	if !q.Stream {
		p.tell("anthropic", 12, 34)
		fmt.Fprint(w, `{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"Hello, whole."}],"stop_reason":"end_turn","usage":{"input_tokens":12,"output_tokens":34}}`)
		return
	}
	p.tell("anthropic", 56, 78)
	event(w, "message_start", `,"message":{"id":"msg_2","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[],"usage":{"input_tokens":56,"output_tokens":1}}`)
	event(w, "content_block_start", `,"index":0,"content_block":{"type":"text","text":""}`)
	event(w, "ping", "")
	event(w, "content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":"Hello, "}`)
	p.pause(w, r)
	event(w, "content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":"in parts."}`)
	event(w, "content_block_stop", `,"index":0`)
	event(w, "message_delta", `,"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":78}`)
	event(w, "message_stop", "")
}

func (p *standIn) chat(w http.ResponseWriter, r *http.Request, provider string) {
	const used = `"usage":{"prompt_tokens":21,"completion_tokens":43,"total_tokens":64,"cost":0.0012}`
	q := p.asked(w, r, provider)
	p.tell(provider, 21, 43)
	if !q.Stream {
		fmt.Fprint(w, `{"id":"c1","object":"chat.completion","model":"gpt-4.1","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"Hello, whole."}}],`+used+`}`)
		return
	}
	chunk := func(choices, rest string) {
		fmt.Fprintf(w, "data: {\"id\":\"c2\",\"object\":\"chat.completion.chunk\",\"model\":\"gpt-4.1\",\"choices\":[%s]%s}\n\n", choices, rest)
	}
	if provider == "openrouter" {
		fmt.Fprint(w, ": OPENROUTER PROCESSING\n\n")
	}
	chunk(`{"index":0,"delta":{"role":"assistant","content":"Hello, "}}`, "")
	p.pause(w, r)
	chunk(`{"index":0,"delta":{"content":"in parts."}}`, "")
	chunk(`{"index":0,"delta":{},"finish_reason":"stop"}`, "")
	if provider == "openrouter" || q.StreamOptions.IncludeUsage {
		chunk("", ","+used)
	}
	fmt.Fprint(w, "data: [DONE]\n\n")
}

func (p *standIn) responses(w http.ResponseWriter, r *http.Request) {
	p.asked(w, r, "openai")
	p.tell("openai", 31, 53)
	event(w, "response.created", `,"sequence_number":0,"response":{"id":"resp_1","object":"response","model":"gpt-4.1","status":"in_progress","output":[]}`)
	event(w, "response.output_text.delta", `,"sequence_number":1,"item_id":"m","output_index":0,"content_index":0,"delta":"Hello, "`)
	p.pause(w, r)
	event(w, "response.output_text.delta", `,"sequence_number":2,"item_id":"m","output_index":0,"content_index":0,"delta":"in parts."`)
	event(w, "response.completed", `,"sequence_number":3,"response":{"id":"resp_1","object":"response","model":"gpt-4.1","status":"completed","output":[],"usage":{"input_tokens":31,"output_tokens":53,"total_tokens":84}}`)
}
