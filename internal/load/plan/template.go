package plan

import (
	"slices"
	"strings"

	"gatehouse/internal/load"
)

var (
	placeNames = []string{"seq", "uuid", "now", "domain", "env", "pick"}
	// filledLater are the places that each arrival fills; the others are text from here on.
	filledLater = map[string]load.Place{"seq": load.Seq, "uuid": load.UUID, "now": load.Now, "pick": load.Pick}
)

// template reads text with places. The check tells what is wrong with text that
// is sent as it is, from wherever it comes; "" is nothing.
func (b *builder) template(t table, key string, check func(string) string) load.Template {
	n := t.value[key]
	text, _ := b.text(n, key)
	pieces := strings.SplitN(text, "{{", maxPlaces+2)
	if len(pieces) > maxPlaces+1 {
		b.fail(n, "%s: it has over %d places", key, maxPlaces)
		return nil
	}
	var parts load.Template
	add := func(p load.Part) {
		if p.Place != load.Literal || p.Text != "" {
			parts = append(parts, p)
		}
	}
	for i, literal := range pieces {
		if i > 0 {
			inside, behind, closed := strings.Cut(literal, "}}")
			if !closed {
				b.fail(n, "%s: {{%s is not closed; write a place such as {{seq}}", key, short(inside))
				continue
			}
			part, wrong := b.place(strings.Fields(inside))
			for _, text := range append(part.Picks, part.Text) {
				if wrong == "" && check(text) != "" {
					wrong = "what it stands for " + check(text)
				}
			}
			if wrong != "" {
				b.fail(n, "%s: {{%s}}: %s", key, short(strings.TrimSpace(inside)), wrong)
			}
			add(part)
			literal = behind
		}
		if wrong := check(literal); wrong != "" {
			b.fail(n, "%s: it %s", key, wrong)
		}
		add(load.Part{Text: literal})
	}
	return parts
}

// place reads the words between braces, and says what is wrong.
func (b *builder) place(words []string) (p load.Part, wrong string) {
	if len(words) == 0 {
		return p, "it names no place" + hint("", placeNames)
	}
	name, args := words[0], words[1:]
	known := slices.Concat(placeNames, b.options.Given)
	form := map[string]string{"env": " NAME", "pick": " a b c"}[name]
	switch {
	case !slices.Contains(known, name):
		return p, "there is no such place" + hint(name, known)
	case (form == "") != (len(args) == 0), name == "env" && len(args) > 1:
		return p, "write {{" + name + form + "}}"
	}
	if p.Given = slices.Index(b.options.Given, name); p.Given >= 0 {
		p.Place = load.Given
		return p, ""
	}
	p.Given, p.Place = 0, filledLater[name]
	switch name {
	case "pick":
		p.Picks = args
	case "domain":
		if p.Text = b.options.Domain; b.run && p.Text == "" {
			wrong = "no domain was given; add --email-domain"
		}
	case "env":
		ok := !b.run
		if b.run && b.options.Getenv != nil {
			p.Text, ok = b.options.Getenv(args[0]) // never part of a message: it may be a secret
		}
		if !ok {
			wrong = "the variable " + short(args[0]) + " is not set"
		}
	}
	return p, wrong
}
