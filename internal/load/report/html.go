package report

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	_ "embed" // the page's parts
	"encoding/base64"
	"fmt"
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

	pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
		"count": count, "quantile": quantile, "known": known,
		"longest": longest, "excerpt": excerpt,
	}).Parse(pageSource))
)

const (
	tableRows      = 200 // of one table; outcomes can be many
	excerptRunes   = 300 // of an answer, to recognise it by
	pageTimeLayout = "2 January 2006, 15:04:05 UTC"
)

// HTML writes the run as one page that needs nothing else: no script, no font
// and no request, which its content security policy holds it to. It fails only
// where writing does.
func HTML(w io.Writer, r *Run) error {
	p := &page{Run: r, Style: template.CSS(pageStyle), Outcomes: byOutcome(r.Result)} //nolint:gosec // G203: it is embedded, ours
	sum := sha256.Sum256([]byte(pageStyle))
	p.StyleHash = base64.StdEncoding.EncodeToString(sum[:])
	p.Word, p.Sentence, _ = strings.Cut(Headline(r), ": ")
	if p.Sentence != "" {
		p.Sentence = strings.ToUpper(p.Sentence[:1]) + p.Sentence[1:]
	}
	b := bufio.NewWriter(w)
	if err := cmp.Or(pageTemplate.Execute(b, p), b.Flush()); err != nil {
		return fmt.Errorf("write the page: %w", err)
	}
	return nil
}

// page is a run as the template reads it.
type page struct {
	*Run
	Style          template.CSS
	StyleHash      string // SHA-256 in base64: the one style that the page's policy allows
	Word, Sentence string // the headline's verdict, and the rest of it
	Outcomes       []*load.Series
}

// Started is when the first request could be due.
func (p *page) Started() string { return p.Result.Started.UTC().Format(pageTimeLayout) }

// Lasted is the planned duration.
func (p *page) Lasted() string { return minutes(p.Result.Planned.Seconds()) }

// Took is the real duration.
func (p *page) Took() string { return p.Result.Elapsed.Round(time.Millisecond).String() }

// Rate is a number of requests by the planned duration.
func (p *page) Rate(n int64) string {
	if p.Result.Planned <= 0 {
		return unknown
	}
	return gate.PerSecond.Text(float64(n) / p.Result.Planned.Seconds())
}

// Share is a number's part of all answered, errored and unsent requests.
func (p *page) Share(n int64) string {
	all := p.Result.Sent + p.Result.Unsent
	if all == 0 {
		return unknown
	}
	return percent(float64(n) / float64(all))
}

// Series is one row for each request and outcome.
func (p *page) Series() []*load.Series { return p.Result.Series[:min(len(p.Result.Series), tableRows)] }

// MoreSeries is how many rows Series leaves out.
func (p *page) MoreSeries() int { return len(p.Result.Series) - len(p.Series()) }

// Failures is what went wrong, most frequent first.
func (p *page) Failures() []*load.Series {
	failures := slices.DeleteFunc(slices.Clone(p.Outcomes), func(s *load.Series) bool { return s.Kind != load.Failure })
	slices.SortStableFunc(failures, func(a, b *load.Series) int { return int(b.Count() - a.Count()) })
	return failures[:min(len(failures), tableRows)]
}

// Refused says when expected refusals began; "" if there were none.
func (p *page) Refused() string {
	at, ok := p.FirstRefusal()
	if !ok {
		return ""
	}
	return minutes(at)
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

// MemoryUsed is the most that the generator used.
func (p *page) MemoryUsed() string { return memory(p.Result.Generator.MaxRSS) }

// longest is the longest of some times, "–" if there is none.
func longest(d *load.Distribution) string {
	if d.Count() == 0 {
		return unknown
	}
	return ms(d.Max())
}

// excerpt is the beginning of what a target answered.
func excerpt(s string) string {
	runes := 0
	for i := range s {
		if runes++; runes > excerptRunes {
			return s[:i] + "…"
		}
	}
	return s
}
