package plan

import (
	"net/http"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"gatehouse/internal/load"
)

// engineHeaders are the fields that the engine writes, or that change who reads
// how much of a request: given twice, they smuggle one request inside another.
var engineHeaders = []string{
	"Host", "Content-Length", "Transfer-Encoding", "Connection",
	"Keep-Alive", "Proxy-Connection", "Expect", "Te", "Trailer", "Upgrade",
}

func (b *builder) headers(n ast.Node, via load.Via) []load.Header {
	t, _ := b.table(n, "headers")
	var headers []load.Header
	seen := make(map[string]bool)
	for _, name := range t.keys {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !isToken(name):
			b.failAt(t.key[name], "headers: %q is no field's name; want letters, digits and -", name)
		case slices.Contains(engineHeaders, canonical):
			b.failAt(t.key[name], "headers: %s is written by the engine; leave it out", name)
		case canonical == "X-Forwarded-For" && via == load.ViaForwarded:
			b.failAt(t.key[name], "headers: %s is written by `via: forwarded`; leave one of them out", name)
		case seen[canonical]:
			b.failAt(t.key[name], "headers: %s is here twice", canonical)
		}
		seen[canonical] = true
		headers = append(headers, load.Header{Name: name, Value: b.template(t.value[name], name, oneLine)})
	}
	return headers
}

// oneLine is for header values: a line end would begin a field of its own.
func oneLine(text string) string {
	for _, c := range []byte(text) {
		switch {
		case c == '\r' || c == '\n':
			return "has a line end, and would end the header field; write it on one line"
		case c < ' ' && c != '\t' || c == 0x7f:
			return "has a control character"
		}
	}
	return ""
}

// urlPart is for paths: a space or a line end would end the request line.
func urlPart(text string) string {
	for _, c := range []byte(text) {
		switch {
		case c == ' ':
			return "has a space; write %20"
		case c < ' ' || c == 0x7f:
			return "has a line end or another control character; leave it out"
		case c > 0x7f:
			return "is not ASCII; write its bytes as %XX"
		case c == '#':
			return "has a fragment, which is never sent; leave out # and what follows"
		}
	}
	return ""
}

// anything is for bodies.
func anything(string) string { return "" }

func (b *builder) path(n ast.Node) load.Template {
	failed := b.failed
	t := b.template(n, "path", urlPart)
	if b.failed == failed && (len(t) == 0 || !strings.HasPrefix(t[0].Text, "/")) {
		b.fail(n, "path: it begins with /; the target's scheme and host are given apart")
	}
	return t
}

// isToken tells what RFC 9110 (5.6.2) allows as a method or a field's name.
func isToken(text string) bool {
	for _, c := range []byte(text) {
		alphanumeric := 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
		if !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return text != ""
}
