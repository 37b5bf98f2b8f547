package report

import (
	"bufio"
	"crypto/sha256"
	_ "embed" // the page's parts
	"encoding/base64"
	"errors"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

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
	words = template.FuncMap{"count": count, "quantile": quantile, "known": known, "minutes": minutes, "memory": memory}
)

// tableRows bounds a table; outcomes can be many.
const tableRows = 200

// HTML writes the run as one page that needs nothing else: no script, no font
// and no request, which its content security policy holds it to. It fails only
// where writing does.
func HTML(w io.Writer, r *Run) error { return execute(w, pageTemplate, r) }

// Style is what pages look like, and its SHA-256 in base64, for a policy that
// allows it alone.
func Style() (style template.CSS, hash string) {
	sum := sha256.Sum256([]byte(pageStyle))
	return template.CSS(pageStyle), base64.StdEncoding.EncodeToString(sum[:]) //nolint:gosec // G203: it is embedded, ours
}

func execute(w io.Writer, t interface{ Execute(io.Writer, any) error }, r *Run) error {
	p := &page{Run: r, Outcomes: byOutcome(r.Result)}
	p.Style, p.StyleHash = Style()
	p.Word, p.Sentence, _ = strings.Cut(Headline(r), ": of ")
	all := slices.Concat(p.Outcomes, r.Result.Series)
	p.Series = all[:min(len(all), tableRows)]
	p.MoreSeries = len(all) - len(p.Series)
	b := bufio.NewWriter(w)
	return errors.Join(t.Execute(b, p), b.Flush())
}

// page is a run as the templates of report.html and report.md read it.
type page struct {
	*Run
	Style          template.CSS
	StyleHash      string         // SHA-256 in base64: the one style that the page's policy allows
	Word, Sentence string         // the headline's verdict, and what follows "of"
	Outcomes       []*load.Series // over all requests
	Series         []*load.Series // the same, then each request's, as far as a table goes
	MoreSeries     int            // that Series leaves out
}

// Started is when the first request could be due.
func (p *page) Started() string { return p.Result.Started.UTC().Format("2 January 2006, 15:04:05 UTC") }

// Took is the real duration.
func (p *page) Took() string {
	took := p.Result.Elapsed.Round(time.Millisecond).String()
	if p.Result.Interrupted {
		took += ", interrupted"
	}
	return took
}

// Rate is a number of requests by the planned duration, which an interrupted
// run did not have.
func (p *page) Rate(n int64) string {
	if p.Result.Planned <= 0 || p.Result.Interrupted {
		return unknown
	}
	return gate.PerSecond.Text(over(n, p.Result.Planned))
}

// Share is a number's part of all answered, errored and unsent requests.
func (p *page) Share(n int64) string {
	all := p.Result.Sent + p.Result.Unsent
	if all == 0 {
		return unknown
	}
	return gate.Share.Text(float64(n) / float64(all))
}

// Failures is what went wrong, most frequent first.
func (p *page) Failures() []*load.Series {
	failures := slices.DeleteFunc(slices.Clone(p.Outcomes), func(s *load.Series) bool { return s.Kind != load.Failure })
	slices.SortStableFunc(failures, func(a, b *load.Series) int { return int(b.Count() - a.Count()) })
	return failures[:min(len(failures), tableRows)]
}

// phase is one part of a request's way over the network.
type phase struct {
	Name string
	Of   *load.Distribution
}

// Phases are in the order in which they happen.
func (p *page) Phases() []phase {
	c := p.Result.Connections
	return []phase{
		{"Connect (TCP), of each connection", c.Connect},
		{"TLS handshake, of each connection", c.Handshake},
		{"Waiting, request written to first byte", c.Waiting},
		{"Receiving, first byte to last", c.Receiving},
	}
}
