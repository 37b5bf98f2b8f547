package report

import (
	_ "embed" // the report's template
	"fmt"
	"io"
	"strings"
	"text/template"
	"unicode"
)

var (
	//go:embed report.gomd
	markdownSource string

	markdownTemplate = template.Must(template.New("report").Funcs(words).Funcs(MarkdownWords).Parse(markdownSource))

	// MarkdownWords are what templates of Markdown call to write what others
	// wrote.
	MarkdownWords = template.FuncMap{"plain": plain, "code": code, "row": MarkdownRow, "head": MarkdownHead, "outcome": outcomeName, "join": strings.Join}
)

// Markdown writes the run for people, most important first. It fails only
// where writing does.
func Markdown(w io.Writer, r *Report) error { return execute(w, markdownTemplate, r) }

// outcomeName is the plan's name with the status it is for.
func outcomeName(name, key string) string {
	if name == key {
		return name
	}
	return name + " (" + key + ")"
}

// MarkdownHead begins a table; a column whose head ends in a colon is set to the right.
func MarkdownHead(cells ...any) string {
	rules := make([]string, len(cells))
	for i, c := range cells {
		text, right := strings.CutSuffix(fmt.Sprint(c), ":")
		cells[i], rules[i] = text, "---"
		if right {
			rules[i] = "---:"
		}
	}
	return MarkdownRow(cells...) + "|" + strings.Join(rules, "|") + "|\n"
}

// MarkdownRow is a line of a table.
func MarkdownRow(cells ...any) string {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = plain(fmt.Sprint(c))
	}
	return "| " + strings.Join(texts, " | ") + " |\n"
}

// plain is text that Markdown shows as it is, on one line: a plan's names and a
// target's answers must not become markup.
func plain(text string) string { return escape(text, "\\`*_[]<>|&~$#") }

// code is text as it came, but for backticks, which would end it. A table reads
// | and a backslash before it even in code.
func code(text string) string {
	if text = escape(strings.ReplaceAll(text, "`", ""), "|"); text == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(text, `\\|`, `\ \|`) + "`"
}

// escape puts text on one line, and a backslash before some of its signs.
func escape(text, signs string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case strings.ContainsRune(signs, r):
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsSpace(r) || unicode.IsControl(r):
			b.WriteByte(' ')
		case !unicode.Is(unicode.Cf, r): // marks that turn the direction of text
			b.WriteRune(r)
		}
	}
	return strings.TrimSpace(b.String())
}
