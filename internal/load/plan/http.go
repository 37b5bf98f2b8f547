package plan

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/load"
)

// engineHeaders are the fields that the engine writes, or that change who reads
// how much of a request: given twice, they smuggle one request inside another.
var engineHeaders = strings.Fields("Host Content-Length Transfer-Encoding Connection Keep-Alive Proxy-Connection Expect Te Trailer Upgrade")

// A field's name may have a few signs more (RFC 9110, 5.6.2), which nobody uses.
var fieldName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (b *builder) headers(t table, via load.Via) []load.Header {
	t = b.table(t.value["headers"], "headers", "", "")
	var headers []load.Header
	seen := make(map[string]bool)
	for _, name := range t.keys {
		canonical := http.CanonicalHeaderKey(name)
		switch {
		case !fieldName.MatchString(name):
			b.failAt(t.key[name], "headers: %q is no field's name; want letters, digits and -", name)
		case slices.Contains(engineHeaders, canonical):
			b.failAt(t.key[name], "headers: %s is written by the engine; leave it out", name)
		case canonical == "X-Forwarded-For" && via == load.ViaForwarded:
			b.failAt(t.key[name], "headers: %s is written by `via: forwarded`; leave one of them out", name)
		case seen[canonical]:
			b.failAt(t.key[name], "headers: %s is here twice", canonical)
		}
		seen[canonical] = true
		headers = append(headers, load.Header{Name: name, Value: b.template(t, name, oneLine)})
	}
	return headers
}

// checkJSON refuses a body that isn't the JSON its Content-Type says, by one
// sample: every request would measure how fast the target refuses it.
func (b *builder) checkJSON(t table, r *load.Request) {
	for _, h := range r.Headers {
		kind, _, _ := strings.Cut(sample(h.Value), ";")
		if r.Body != nil && !given(r.Body) && strings.EqualFold(h.Name, "Content-Type") && strings.EqualFold(strings.TrimSpace(kind), "application/json") &&
			!jsontext.Value(sample(r.Body)).IsValid(jsontext.AllowDuplicateNames(true)) {
			b.fail(t.value["body"], "body: it is no JSON once its places are filled, and its Content-Type says so; does an {{env NAME}} hold a quote?")
		}
	}
}

// given says whether a script fills a part of t.
func given(t load.Template) bool {
	return slices.ContainsFunc(t, func(p load.Part) bool { return p.Place == load.Given })
}

var samples = map[load.Place]string{load.Seq: "1", load.UUID: "01234567-89ab-4def-8123-456789abcdef", load.Now: "2026-01-02T15:04:05Z"}

// sample is what a template may become.
func sample(t load.Template) (text string) {
	for _, p := range t {
		if text += p.Text + samples[p.Place]; p.Place == load.Pick {
			text += p.Picks[0]
		}
	}
	return text
}

// path reads a path that begins with a slash, and not with a place: a scheme and
// host in front would send the request elsewhere.
func (b *builder) path(t table) load.Template {
	if text, ok := b.text(t.value["path"], "path"); ok && !strings.HasPrefix(text, "/") {
		b.fail(t.value["path"], "path: it begins with /; the target's scheme and host are given apart")
	}
	return b.template(t, "path", urlPart)
}

// oneLine is for header values: a line end would begin a field of its own.
func oneLine(text string) string {
	if strings.ContainsFunc(text, func(c rune) bool { return c != '\t' && unicode.IsControl(c) }) {
		return "has a line end or another control character; leave it out"
	}
	return ""
}

// urlPart is for paths: a space or a line end would end the request line, and
// what follows # is never sent.
func urlPart(text string) string {
	if strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c == '#' || c >= 0x7f }) {
		return "has a space, a #, a control character or one beyond ASCII; write its bytes as %XX"
	}
	return ""
}

// anything is for bodies.
func anything(string) string { return "" }
