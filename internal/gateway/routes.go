package gateway

import (
	"net/http"
	"slices"
	"strings"

	"gatehouse/internal/fault"
)

// dialect is how an answer tells what was used, and the form of errors.
type dialect uint8

const (
	anthropic   dialect = iota // Messages: usage in message_start and, cumulative, in message_delta
	chat                       // Chat Completions and its relatives: usage in a stream's last chunk
	responses                  // Responses: usage in the event that ends the response
	ollama                     // its own API: counts beside done
	openRouters                // of errors alone
)

// route is a method and a path that may be called.
type route struct {
	method string
	path   string // behind /gateway/{provider}; a last {id} stands for a model's name
	speaks dialect
	errors dialect
	traits trait
}

// trait is what sets a route apart.
type trait uint8

const (
	free       trait = 1 << iota // costs nothing
	noOutput                     // makes vectors, not tokens
	inParts                      // unless "stream" is false
	tellsAsked                   // a stream's usage, only when asked
	background                   // may be told to run on when nobody listens
)

func (r *route) is(t trait) bool { return r.traits&t != 0 }

// provider is one API as its clients know it.
type provider struct {
	errors dialect // where there is no route
	header string  // that carries our key
	scheme string  // before the key in it
	routes []route
}

// providers is all that may be called: there is no other list, and no way past
// it. What is not here could read others' files, spend unmeasured, or, at
// Ollama, fetch from any address without authentication.
var providers = map[string]*provider{
	"anthropic": {errors: anthropic, header: "X-Api-Key", routes: []route{
		{"POST", "/v1/messages", anthropic, anthropic, 0},
		{"POST", "/v1/messages/count_tokens", anthropic, anthropic, free},
		{"GET", "/v1/models", anthropic, anthropic, free},
		{"GET", "/v1/models/{id}", anthropic, anthropic, free},
	}},
	"openai": {errors: chat, header: "Authorization", scheme: "Bearer ", routes: []route{
		{"POST", "/v1/chat/completions", chat, chat, tellsAsked},
		{"POST", "/v1/completions", chat, chat, tellsAsked},
		{"POST", "/v1/responses", responses, chat, background},
		{"POST", "/v1/embeddings", chat, chat, noOutput},
		{"GET", "/v1/models", chat, chat, free},
		{"GET", "/v1/models/{id}", chat, chat, free},
	}},
	"openrouter": {errors: openRouters, header: "Authorization", scheme: "Bearer ", routes: []route{
		{"POST", "/api/v1/chat/completions", chat, openRouters, 0},
		{"POST", "/api/v1/completions", chat, openRouters, 0},
		{"POST", "/api/v1/responses", responses, openRouters, background},
		{"POST", "/api/v1/messages", anthropic, anthropic, 0},
		{"POST", "/api/v1/embeddings", chat, openRouters, noOutput},
		{"GET", "/api/v1/models", chat, openRouters, free},
		{"GET", "/api/v1/generation", chat, openRouters, free},
	}},
	"ollama": {errors: ollama, routes: []route{
		{"POST", "/api/chat", ollama, ollama, inParts},
		{"POST", "/api/generate", ollama, ollama, inParts},
		{"POST", "/api/embed", ollama, ollama, noOutput},
		{"POST", "/api/show", ollama, ollama, free},
		{"GET", "/api/tags", ollama, ollama, free},
		{"GET", "/api/version", ollama, ollama, free},
		{"POST", "/v1/chat/completions", chat, chat, tellsAsked},
		{"POST", "/v1/completions", chat, chat, tellsAsked},
		{"POST", "/v1/embeddings", chat, chat, noOutput},
		{"POST", "/v1/responses", responses, chat, background},
		{"POST", "/v1/messages", anthropic, anthropic, 0},
		{"GET", "/v1/models", chat, chat, free},
		{"GET", "/v1/models/{id}", chat, chat, free},
	}},
}

// queryNames may stand in a query; others are left out, so that no key that a
// client put there gets away.
var queryNames = []string{"after", "after_id", "before_id", "beta", "id", "limit"}

const (
	maxQuery = 2 << 10 // bytes
	maxModel = 256     // bytes of a model's name
)

// target is what a request is for.
type target struct {
	*route
	upstream    *upstream
	path, query string // as they follow the upstream's base
	errors      dialect
}

// find says what a request is for. A path is compared as it came, nothing
// unescaped: encoded dots and slashes, empty segments and a fragment are in
// no route, and so are never passed on, nor is a request that names a host,
// as one to a proxy does. With an error only target.errors is set.
func (g *Gateway) find(w http.ResponseWriter, r *http.Request) (target, error) {
	nothing := fault.Missing("There is nothing here that Gatehouse passes on.")
	raw, query, _ := strings.Cut(r.RequestURI, "?")
	rest, ok := strings.CutPrefix(raw, "/gateway/")
	name, _, _ := strings.Cut(rest, "/")
	p := providers[name]
	if !ok || p == nil {
		return target{errors: chat}, nothing
	}
	t := target{upstream: g.upstreams[name], path: rest[len(name):], errors: p.errors}
	if t.upstream == nil || len(query) > maxQuery || !printable(query) || strings.Contains(query, "#") {
		return t, nothing
	}
	for pair := range strings.SplitSeq(query, "&") {
		if name, _, _ := strings.Cut(pair, "="); slices.Contains(queryNames, name) {
			t.query += "&" + pair
		}
	}
	t.query = strings.TrimPrefix(t.query, "&")
	for i := range p.routes {
		if rt := &p.routes[i]; rt.matches(t.path) { // no path has two methods
			t.route, t.errors = rt, rt.errors
			if rt.method == r.Method {
				return t, nil
			}
			w.Header().Set("Allow", rt.method)
			return t, &fault.Error{Kind: fault.MethodNotAllowed, Code: "METHOD_NOT_ALLOWED", Message: "This path takes " + rt.method + "."}
		}
	}
	first := p.routes[0]
	return t, fault.Missing("Only the provider's inference paths are passed on, such as " + first.method + " /gateway/" + name + first.path + ": is base_url right?")
}

func (r *route) matches(path string) bool {
	fixed, open := strings.CutSuffix(r.path, "{id}")
	if !open {
		return path == r.path
	}
	id, ok := strings.CutPrefix(path, fixed)
	return ok && len(id) <= maxModel && strings.Trim(id, ".") != "" && strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-") == ""
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c > '~' })
}

var _ http.Handler = (*Gateway)(nil)
