package report

import (
	"cmp"
	"crypto/sha256"
	_ "embed" // the page's parts
	"encoding/base64"
	"html/template"
	"io"
	"maps"
	"slices"
	"strings"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

var (
	//go:embed page.gohtml
	pageSource string
	//go:embed page.css
	pageStyle string

	pageTemplate = template.Must(template.New("page").Funcs(words).Parse(pageSource))

	// words are what the templates of both reports can call.
	words = template.FuncMap{"count": count, "known": known, "minutes": minutes, "memory": memory, "took": took}
)

// tableRows bounds a table; outcomes can be many.
const tableRows = 200

// HTML writes the run as one page that needs nothing else: no script, no font
// and no request, which its content security policy holds it to. It fails only
// where writing does.
func HTML(w io.Writer, r *Report) error { return execute(w, pageTemplate, r) }

// Style is what pages look like, and its SHA-256 in base64, for a policy that
// allows it alone.
func Style() (style template.CSS, hash string) {
	sum := sha256.Sum256([]byte(pageStyle))
	return template.CSS(pageStyle), base64.StdEncoding.EncodeToString(sum[:]) //nolint:gosec // G203: it is embedded, ours
}

func execute(w io.Writer, t interface{ Execute(io.Writer, any) error }, r *Report) error {
	p := &page{Report: r, Overall: ordered(r.Outcomes)}
	p.Style, p.StyleHash = Style()
	p.Word, p.Sentence, _ = strings.Cut(Headline(r.Summary), ": of ")
	p.Series = slices.Clone(p.Overall)
	for _, request := range slices.Sorted(maps.Keys(r.ByRequest)) {
		for _, key := range slices.Sorted(maps.Keys(r.ByRequest[request])) {
			p.Series = append(p.Series, series{request, key, r.ByRequest[request][key]})
		}
	}
	p.MoreSeries = max(len(p.Series)-tableRows, 0)
	p.Series = p.Series[:len(p.Series)-p.MoreSeries]
	return Filled[*page](t)(w, p)
}

// page is a run as the templates of report.html and report.md read it.
type page struct {
	*Report
	Style          template.CSS
	StyleHash      string   // SHA-256 in base64: the one style that the page's policy allows
	Word, Sentence string   // the headline's verdict, and what follows "of"
	Overall        []series // over all requests
	Series         []series // the same, then each request's, as far as a table goes
	MoreSeries     int      // that Series leaves out
}

// Started is when the first request could be due.
func (p *page) Started() string { return p.StartedAt.UTC().Format("2 January 2006, 15:04:05 UTC") }

// PerSecond is a number of requests by the planned duration, which an
// interrupted run did not have.
func (p *page) PerSecond(n int64) string {
	if p.PlannedSeconds <= 0 || p.Interrupted {
		return unknown
	}
	return gate.PerSecond.Text(float64(n) / p.PlannedSeconds)
}

// Share is a number's part of all answered, errored and unsent requests.
func (p *page) Share(n int64) string {
	all := p.Requests.Sent + p.Requests.Unsent
	if all == 0 {
		return unknown
	}
	return gate.Share.Text(float64(n) / float64(all))
}

// Lag is one of the generator's, where enough were sent to tell it.
func (p *page) Lag(ms float64, needed int64) string {
	if p.Requests.Sent < needed {
		return unknown
	}
	return gate.Milliseconds.Text(ms)
}

// Failures is what went wrong, most frequent first.
func (p *page) Failures() []series {
	failures := slices.DeleteFunc(slices.Clone(p.Overall), func(s series) bool { return s.Kind != load.Failure })
	slices.SortStableFunc(failures, func(a, b series) int { return cmp.Compare(b.Count, a.Count) })
	return failures[:min(len(failures), tableRows)]
}

// phase is one part of a request's way over the network.
type phase struct {
	Name  string
	Count int64
	Times
}

// Phases are in the order in which they happen.
func (p *page) Phases() []phase {
	c, answered := p.Connections, p.Requests.Answered
	return []phase{
		{"Connect (TCP), of each connection", c.Opened, c.Connect},
		{"TLS handshake, of each connection", c.Handshakes, c.Handshake},
		{"Waiting, request written to first byte", answered, c.Waiting},
		{"Receiving, first byte to last", answered, c.Receiving},
	}
}
