package gateway

import (
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"gatehouse/internal/fault"
)

// requestHeaders are those of a client's headers that pass. Anything else could
// be a credential, name another organization, or speak of a connection that
// ends here. Idempotency-Key is not among them: the provider would keep its
// answers under the operator's one account, where customers' keys can meet.
var requestHeaders = []string{"Accept", "Anthropic-Version", "Content-Type", "Openai-Beta", "User-Agent"}

// betas are the beginnings of the names of Anthropic's features in trial that
// pass: those of one call that the usage block measures. Not those that change
// who calls (oauth, federation), reach what is stored in the operator's
// account (files, batches, skills), or cost by other measures.
var betas = []string{
	"adaptive-thinking-", "advanced-tool-use-", "claude-code-", "compact-", "computer-use-", "context-1m-", "context-management-", "effort-",
	"extended-cache-ttl-", "fine-grained-tool-streaming-", "interleaved-thinking-", "max-tokens-", "model-context-window-exceeded-", "output-128k-",
	"pdfs-", "prompt-caching-", "redact-thinking-", "structured-outputs-", "token-counting-", "token-efficient-tools-", "tool-examples-",
	"tool-search-tool-", "web-fetch-",
}

// responseHeaders are those of an answer that pass. Not cookies, nor what
// names the operator's organization or tells the limits of its account, but
// for Anthropic's, which its SDKs go by. X-Request-Id: see answerHeader.
var responseHeaders = []string{
	"Cache-Control", "Content-Encoding", "Content-Type", "Openai-Processing-Ms", "Openai-Version", "Request-Id", "Retry-After", "Retry-After-Ms",
	"X-Generation-Id", "X-Should-Retry",
}

// requestHeader makes the header that a request is sent on with.
func (u *upstream) requestHeader(in http.Header, body bool) http.Header {
	h := make(http.Header, 8)
	for _, name := range requestHeaders {
		if v := in[name]; len(v) > 0 {
			h[name] = v
		}
	}
	if vetted := vetBetas(in["Anthropic-Beta"]); vetted != "" {
		h["Anthropic-Beta"] = []string{vetted}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = []string{""} // or net/http would name itself
	}
	if _, ok := h["Content-Type"]; !body {
		delete(h, "Content-Type")
	} else if !ok {
		h["Content-Type"] = []string{"application/json"}
	}
	h["Accept-Encoding"] = []string{"identity"} // what is compressed can't be measured
	if u.header != "" {
		h[u.header] = []string{u.key}
	}
	return h
}

func vetBetas(lines []string) string {
	names := strings.Split(strings.Join(lines, ","), ",")
	return strings.Join(slices.DeleteFunc(names, func(name string) bool {
		return !slices.ContainsFunc(betas, func(b string) bool { return strings.HasPrefix(textproto.TrimString(name), b) })
	}), ",")
}

// answerHeader puts what may pass of an answer's header into out.
func answerHeader(out, in http.Header) {
	for _, name := range responseHeaders {
		if v := in[name]; len(v) > 0 {
			out[name] = v
		}
	}
	for name, v := range in {
		if strings.HasPrefix(name, "Anthropic-Ratelimit-") {
			out[name] = v
		}
	}
	// The request's id is ours where somebody before us has given it one.
	if v := in["X-Request-Id"]; len(v) > 0 {
		name := "X-Request-Id"
		if len(out[name]) > 0 {
			name = "X-Upstream-Request-Id"
		}
		out[name] = v
	}
}

// presented reads the token from x-api-key or from Authorization: Bearer, as
// the vendors' SDKs send one or the other. Two that differ are as good as a
// wrong one.
func presented(h http.Header) (string, error) {
	given := slices.Clone(h["X-Api-Key"])
	for _, v := range h["Authorization"] {
		if scheme, token, _ := strings.Cut(v, " "); strings.EqualFold(scheme, "Bearer") {
			given = append(given, strings.Trim(token, " "))
		}
	}
	given = slices.Compact(slices.DeleteFunc(given, func(s string) bool { return s == "" }))
	switch len(given) {
	case 0:
		return "", &fault.Error{Kind: fault.Unauthenticated, Code: "AUTH_REQUIRED", Message: "A token of Gatehouse's is required, as x-api-key or as Authorization: Bearer."}
	case 1:
		return given[0], nil
	}
	return "", unknown()
}

func unknown() *fault.Error {
	return &fault.Error{Kind: fault.Unauthenticated, Code: "INVALID_API_KEY", Message: "The token is not valid, or no longer."}
}
