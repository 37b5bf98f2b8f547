package suite

import (
	_ "embed" // the reports' templates
	"html/template"
	"io"
	"slices"
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

	words = template.FuncMap{
		"verdict": func(cell string) bool {
			return slices.Contains([]string{string(gate.Pass), string(gate.Fail), string(gate.Inconclusive)}, cell)
		},
		"number": func(head string) bool { return strings.HasSuffix(head, ":") },
		"title":  func(head string) string { return strings.TrimSuffix(head, ":") },
		"headOf": func(cells []string) string { return report.MarkdownHead(anys(cells)...) },
		"rowOf":  func(cells []string) string { return report.MarkdownRow(anys(cells)...) },
	}
)

func anys(texts []string) []any {
	all := make([]any, len(texts))
	for i, t := range texts {
		all[i] = t
	}
	return all
}

// section is one part of a suite's report.
type section struct {
	ID, Title string
	Text      []string
	Tables    []table
}

// table has a head, whose columns end in a colon where they hold numbers.
type table struct {
	Head []string
	Rows [][]string
}

func (t *table) add(cells ...string) { t.Rows = append(t.Rows, cells) }

type page struct {
	*Summary
	Style     template.CSS
	StyleHash string
	Sections  []section
}

// Started is for people.
func (s *Summary) Started() string { return s.StartedAt.Format("2 January 2006, 15:04:05 UTC") }

// Render writes a suite's pages anew.
func Render(dir string) error {
	s, err := Read(dir)
	if err != nil {
		return err
	}
	return render(dir, s)
}

func render(dir string, s *Summary) error {
	p := &page{Summary: s, Sections: sections(s)}
	p.Style, p.StyleHash = report.Style()
	return report.WritePages(dir, p, markdownTemplate, pageTemplate, junit)
}

func junit(w io.Writer, s *page) error {
	cases := report.NewSuite("load suite", s.StartedAt, time.Duration(s.Seconds*float64(time.Second)))
	cases.Add("verdict", "gatehouse.suite", s.Verdict, s.Headline(), s.Headline()+"\n"+strings.Join(s.Reasons, "\n"))
	for _, p := range s.Parts {
		why := strings.Join(p.Reasons, "\n")
		if p.Why != "" {
			why = p.Why + "\n" + why
		}
		cases.Add(p.Name, "gatehouse.suite", p.Verdict, p.Name+": "+string(p.Verdict), why)
		if c := p.Comparison; c != nil {
			cases.Add(p.Name+" beside the earlier suite", "gatehouse.suite", c.Gate.Verdict, string(c.Gate.Verdict), strings.Join(c.Gate.Reasons, "\n"))
		}
	}
	for _, h := range s.Health {
		v, why := h.judge(s.Seconds)
		cases.Add("health of "+h.Target, "gatehouse.suite", v, why, why)
	}
	return cases.Write(w)
}
