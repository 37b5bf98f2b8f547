package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"strconv"
	"strings"
	"time"
)

const (
	gatewayPath = "/gateway/openai/v1/chat/completions"
	providerKey = "sk-bench"
	// heldBeat is how often a stream that is held open says something, and
	// briskBeat how often one that ends soon does: so fast are models that are
	// called fast.
	heldBeat  = 3 * time.Second
	briskBeat = 5 * time.Millisecond
	briskly   = 5 // events after the first
)

var (
	providerWords  = strings.Repeat("A nil map can be read, and not be written to. ", 80)
	providerAnswer = []byte(`{"id":"chatcmpl-9xQ2bench","object":"chat.completion","created":1790000000,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"message":` +
		`{"role":"assistant","content":"` + providerWords + `","refusal":null},"logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":460,"completion_tokens":880,` +
		`"total_tokens":1340,"prompt_tokens_details":{"cached_tokens":0,"audio_tokens":0}},"service_tier":"default","system_fingerprint":"fp_50cad350e4"}`)
)

const (
	providerPart = `data: {"id":"chatcmpl-9xQ2bench","object":"chat.completion.chunk","created":1790000000,"model":"gpt-4o-2024-08-06","choices":[{"index":0,"delta":` +
		`{"content":" map"},"logprobs":null,"finish_reason":null}]}` + "\n\n"
	providerEnd = `data: {"id":"chatcmpl-9xQ2bench","object":"chat.completion.chunk","created":1790000000,"model":"gpt-4o-2024-08-06","choices":[],"usage":` +
		`{"prompt_tokens":460,"completion_tokens":6,"total_tokens":466}}` + "\n\ndata: [DONE]\n\n"
)

// asked is a request of 2 KiB; of a stream that ends soon, or of one that goes
// on until its client leaves.
func asked(stream, held bool) []byte {
	more := ""
	if stream {
		more = `"stream":true,`
	}
	if held {
		more += `"user":"held",`
	}
	return []byte(`{"model":"gpt-4o","max_tokens":1000,` + more + `"messages":[{"role":"user","content":"` + providerWords[:1920] + `"}]}`)
}

// appendCall appends a call.
func appendCall(buf []byte, token string, body []byte) []byte {
	buf = append(buf, "POST "+gatewayPath+" HTTP/1.1\r\nHost: bench\r\nAccept: application/json\r\nContent-Type: application/json\r\nAuthorization: Bearer "...)
	buf = append(append(buf, token...), "\r\nContent-Length: "...)
	buf = strconv.AppendInt(buf, int64(len(body)), 10)
	return append(append(buf, "\r\n\r\n"...), body...)
}

// provide answers as an AI provider that need not think, whatever the path.
func provide(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if !bytes.Contains(body, []byte(`"stream":true`)) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(providerAnswer)))
		_, _ = w.Write(providerAnswer)
		return
	}
	beat, left := briskBeat, briskly
	if bytes.Contains(body, []byte(`"user":"held"`)) {
		beat, left = heldBeat, -1
	}
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for ; left != 0; left-- {
		fmt.Fprint(w, providerPart)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
	fmt.Fprint(w, providerEnd)
}

// bareProxy is the least that passes calls on as they come, to a provider at an
// address. Without full duplex net/http closes a request's body as its answer
// begins, though the transport has yet to see its end, and now and then under
// load a call would be cut.
func bareProxy(addr string) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", addr },
		FlushInterval: -1,
		Transport:     &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/1 can
		proxy.ServeHTTP(w, r)
	})
}
