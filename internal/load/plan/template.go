package plan

import (
	"cmp"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"

	"gatehouse/internal/load"
	"gatehouse/internal/nearest"
)

// placeholder stands for what is not known of a variant that is only checked:
// it may begin a path and be anywhere in a header.
const placeholder = "/"

var placeNames = []string{"seq", "uuid", "now", "domain", "env", "pick"}

// template reads text with places. The check tells what is wrong with text that
// is sent as it is, from wherever it comes; "" is nothing.
func (b *builder) template(n ast.Node, what string, check func(string) string) load.Template {
	rest, ok := b.text(n, what)
	if !ok {
		return nil
	}
	var t load.Template
	literally := func(text string) {
		if last := len(t) - 1; last >= 0 && t[last].Place == load.Literal {
			t[last].Text += text
		} else if text != "" {
			t = append(t, load.Part{Text: text})
		}
	}
	for i := 0; ; i++ {
		before, after, found := strings.Cut(rest, "{{")
		if wrong := check(before); wrong != "" {
			b.fail(n, "%s: it %s", what, wrong)
		}
		literally(before)
		if !found {
			return t
		}
		inside, behind, closed := strings.Cut(after, "}}")
		if i == maxPlaces {
			b.fail(n, "%s: it has over %d places", what, maxPlaces)
			return t
		}
		if !closed || strings.Contains(inside, "{{") {
			b.failAt(b.place(n, i), "%s: {{ is not closed; write a place such as {{seq}}", what)
			return t
		}
		part, wrong := b.part(inside)
		for _, text := range append(part.Picks, part.Text) {
			if wrong == "" && check(text) != "" {
				wrong = "what it stands for " + check(text)
			}
		}
		if wrong != "" {
			b.failAt(b.place(n, i), "%s: {{%s}}: %s", what, short(strings.TrimSpace(inside)), wrong)
		}
		if part.Place == load.Literal {
			literally(part.Text)
		} else {
			t = append(t, part)
		}
		rest = behind
	}
}

// part reads what is between the braces of a place, and says what is wrong.
func (b *builder) part(inside string) (p load.Part, wrong string) {
	words := strings.Fields(inside)
	if len(words) == 0 {
		return p, "it names no place; there are " + strings.Join(placeNames, ", ")
	}
	name, words := words[0], words[1:]
	switch name {
	case "pick":
		if len(words) == 0 {
			return p, "it has nothing to pick from; write {{pick a b c}}"
		}
		return load.Part{Place: load.Pick, Picks: words}, ""
	case "env":
		if len(words) != 1 {
			return p, "it takes one variable; write {{env NAME}}"
		}
		return b.env(words[0])
	case "seq":
		p.Place = load.Seq
	case "uuid":
		p.Place = load.UUID
	case "now":
		p.Place = load.Now
	case "domain":
		p.Text = placeholder
		if b.options != nil {
			p.Text = b.options.Domain
		}
		if p.Text == "" {
			return p, "no domain was given; add --email-domain"
		}
	default:
		return p, "there is no such place" + cmp.Or(nearest.DidYouMean(name, placeNames), "; there are "+strings.Join(placeNames, ", "))
	}
	if len(words) > 0 {
		return p, "it takes nothing; write {{" + name + "}}"
	}
	return p, ""
}

func (b *builder) env(name string) (p load.Part, wrong string) {
	for i, c := range []byte(name) {
		if c != '_' && !('a' <= c|0x20 && c|0x20 <= 'z') && (i == 0 || c < '0' || c > '9') {
			return p, "that is no variable's name; want letters, digits and _"
		}
	}
	if b.options == nil {
		return load.Part{Text: placeholder}, ""
	}
	if b.options.Getenv != nil {
		if value, ok := b.options.Getenv(name); ok {
			return load.Part{Text: value}, "" // never part of a message: it may be a secret
		}
	}
	return p, "the variable " + short(name) + " is not set"
}

// place is where the i-th {{ of a value is in the file, in any of YAML's forms
// for text. Only braces written as escapes mislead it.
func (b *builder) place(n ast.Node, i int) spot {
	n = b.resolve(n)
	at := begin(n)
	line, from := at.line, at.column-1 // in characters
	if _, block := n.(*ast.LiteralNode); block {
		line, from = line+1, 0 // after its sign, and a comment
	}
	for ; line <= len(b.lines); line, from = line+1, 0 {
		text := b.lines[line-1]
		for range from {
			_, size := utf8.DecodeRuneInString(text)
			text = text[size:]
		}
		for column := from + 1; ; i-- {
			before, after, found := strings.Cut(text, "{{")
			if !found {
				break
			}
			column += utf8.RuneCountInString(before)
			if i == 0 {
				return spot{line, column}
			}
			column, text = column+2, after
		}
	}
	return at
}
