package verify

import (
	_ "embed" // the reports' templates
	"errors"
	"fmt"
	"html/template"
	"io"
	"strings"
	text "text/template"
	"time"

	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

var (
	//go:embed page.gohtml
	pageSource string
	//go:embed report.gomd
	markdownSource string

	pageTemplate     = template.Must(template.New("page").Funcs(words).Parse(pageSource))
	markdownTemplate = text.Must(text.New("report").Funcs(words).Funcs(report.MarkdownWords).Parse(markdownSource))

	words = template.FuncMap{"shown": shown, "told": told, "mark": AsGate}
)

// AsGate is what a verdict is for a gate.
func AsGate(v Verdict) gate.Verdict {
	return map[Verdict]gate.Verdict{Proved: gate.Pass, Violated: gate.Fail, Undecidable: gate.Inconclusive}[v]
}

// shownOf is how many requests of a witness a report shows; summary.json has
// all.
const shownOf = 40

func shown(witness []*Attempt) []*Attempt { return witness[:min(len(witness), shownOf)] }

// told is an attempt in a line.
func told(a *Attempt) string {
	key := ""
	if a.Key > 0 {
		key = fmt.Sprintf(", key %d", a.Key)
	}
	line := fmt.Sprintf("request %d (%s, target %d%s), sent %.3f ms, answered %.3f ms: %s", a.N, a.Phase, a.Target, key, milliseconds(a.Sent), milliseconds(a.Received), a.Outcome)
	switch {
	case a.Err != "":
		line += ", " + a.Err
	case a.Outcome == Denied:
		line += fmt.Sprintf(", %d, Retry-After %d", a.Status, a.RetryAfter)
	default:
		line += fmt.Sprintf(", %d, %d of %d remaining", a.Status, a.Remaining, a.Limit)
	}
	if a.Spoofed {
		line += ", claiming another address"
	}
	return line
}

// page is a summary as the templates read it.
type page struct {
	*Summary
	Style     template.CSS
	StyleHash string
}

// Headline is the outcome in one sentence, verdict first.
func (s *Summary) Headline() string {
	n, of := map[Verdict]int{}, 0
	var left []string
	for _, t := range s.Policies {
		if t.Why != "" {
			left = append(left, t.Policy)
		}
		for _, f := range t.Findings {
			n[f.Verdict]++
			of++
		}
	}
	line := fmt.Sprintf("%s: of %d properties %d are proved, %d violated and %d undecidable", strings.ToUpper(string(s.Verdict)), of, n[Proved], n[Violated], n[Undecidable])
	for _, t := range s.NotVerified {
		left = append(left, t.Policy)
	}
	if len(left) > 0 {
		line += "; NOT verified: " + strings.Join(left, ", ")
	}
	return line + "."
}

// Started is for people.
func (s *Summary) Started() string { return s.StartedAt.Format("2 January 2006, 15:04:05 UTC") }

// Write writes the reports into a folder that exists, summary.json last.
func Write(dir string, s *Summary) error {
	return errors.Join(render(dir, s), report.WriteSummary(dir, s))
}

// Render writes a verification's pages anew, from the summary in its folder.
func Render(dir string) error {
	s, err := Read(dir)
	if err != nil {
		return err
	}
	return render(dir, s)
}

func render(dir string, s *Summary) error {
	p := &page{Summary: s}
	p.Style, p.StyleHash = report.Style()
	return report.WritePages(dir, p, markdownTemplate, pageTemplate, junit)
}

func junit(w io.Writer, s *page) error {
	suite := report.NewSuite("load verify", s.StartedAt, time.Duration(s.Seconds*float64(time.Second)))
	suite.Add("verdict", "gatehouse.verify", AsGate(s.Verdict), s.Headline(), s.Headline()+"\n"+strings.Join(s.Reasons, "\n"))
	for _, t := range s.Policies {
		class := "gatehouse.verify." + t.Policy
		if t.Why != "" {
			suite.Add("verified", class, AsGate(t.Verdict), t.Why, t.Why)
		}
		for _, f := range t.Findings {
			body := []string{f.Why}
			for _, a := range shown(f.Witness) {
				body = append(body, told(a))
			}
			suite.Add(f.Property, class, AsGate(f.Verdict), f.Property+": "+string(f.Verdict), strings.Join(body, "\n"))
		}
	}
	return suite.Write(w)
}
