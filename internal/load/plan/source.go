package plan

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// The bounds of a file, far beyond any plan. They keep the YAML library's time
// and stack bounded: both grow faster than the file.
const (
	maxBytes    = 1 << 20
	maxTokens   = 50_000 // words and signs of YAML
	maxDepth    = 32     // brackets in brackets, and signs before a value
	maxMistakes = 50     // told at once
)

// spot is a place in a file: line and column from 1, the column in characters.
type spot struct{ line, column int }

// mistake is something wrong with a plan.
type mistake struct {
	spot
	text string
}

// source is a plan's file, and what was found wrong with it.
type source struct {
	file     string
	anchors  map[string]ast.Node // those that Visit has come to
	mistakes []mistake
	failed   int // how often anything was wrong, the same again included
}

func (s *source) failAt(at spot, format string, args ...any) {
	s.failed++
	m := mistake{at, strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?' // a mistake stays on its line, and off the terminal's controls
		}
		return r
	}, fmt.Sprintf(format, args...))}
	// Profiles share what they do not replace, and it is wrong only once.
	if len(s.mistakes) <= maxMistakes && !slices.Contains(s.mistakes, m) {
		s.mistakes = append(s.mistakes, m)
	}
}

func (s *source) fail(n ast.Node, format string, args ...any) {
	s.failAt(begin(n), format, args...)
}

// err is all mistakes in the file's order, or nil.
func (s *source) err() error {
	slices.SortStableFunc(s.mistakes, func(a, b mistake) int {
		return cmp.Or(cmp.Compare(a.line, b.line), cmp.Compare(a.column, b.column))
	})
	var errs []error
	for _, m := range s.mistakes {
		errs = append(errs, fmt.Errorf("%s:%d:%d: %s", s.file, m.line, m.column, m.text))
	}
	if len(errs) > maxMistakes {
		errs[maxMistakes] = fmt.Errorf("%s: and more", s.file)
	}
	return errors.Join(errs...)
}

// begin is where a node's text starts.
func begin(n ast.Node) spot {
	switch v := n.(type) {
	case *ast.MappingNode: // a block's token is the colon of its first pair
		if !v.IsFlowStyle && len(v.Values) > 0 {
			return begin(v.Values[0].Key)
		}
	case *ast.MappingValueNode:
		return begin(v.Key)
	}
	return spotOf(n.GetToken())
}

func spotOf(t *token.Token) spot {
	if t == nil || t.Position == nil {
		return spot{1, 1}
	}
	return spot{max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// parse returns the root of the file's one document, or nil after a failure.
func (s *source) parse(text []byte) ast.Node {
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	if i := bytes.IndexFunc(text, func(c rune) bool { return c == 0 || c == utf8.RuneError }); i >= 0 {
		line := bytes.LastIndexByte(text[:i], '\n') + 1
		s.failAt(spot{bytes.Count(text[:i], []byte("\n")) + 1, utf8.RuneCount(text[line:i]) + 1}, "not UTF-8, or a NUL byte; save the file as UTF-8 text")
		return nil
	}
	tokens := lexer.Tokenize(string(text))
	if !s.shallow(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey()) // twice is told by table, with both places
	if err != nil {
		at, message := spot{1, 1}, err.Error()
		if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok {
			at, message = spotOf(syntax.Token), syntax.Message
		}
		if strings.Contains(message, "\t") || strings.Contains(message, "tab character") {
			message = "a tab; indent with spaces"
		}
		s.failAt(at, "no YAML: %s", message)
		return nil
	}
	if len(file.Docs) > 1 {
		s.failAt(spotOf(cmp.Or(file.Docs[1].Start, file.Docs[0].End)), "another document; want one, without a directive and without `---` inside")
		return nil
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		s.failAt(spot{1, 1}, "the plan is empty; it needs name, stages and requests")
		return nil
	}
	ast.Walk(s, file.Docs[0].Body)
	return file.Docs[0].Body
}

// shallow is false, with a mistake, where the file would take the parser too
// much stack or time.
func (s *source) shallow(tokens token.Tokens) bool {
	line, brackets, signs := 0, 0, 0
	for i, t := range tokens {
		if l := spotOf(t).line; l != line {
			line, signs = l, 0
		}
		switch t.Type {
		case token.MappingStartType, token.SequenceStartType:
			brackets++
		case token.MappingEndType, token.SequenceEndType:
			brackets--
		case token.SequenceEntryType, token.MappingKeyType, token.TagType, token.AnchorType, token.MappingValueType:
			if brackets <= 0 {
				signs++
			}
		}
		if i >= maxTokens || brackets > maxDepth || signs > maxDepth {
			s.failAt(spotOf(t), "over %d words and signs, or nested over %d deep; a plan needs four levels", maxTokens, maxDepth)
			return false
		}
	}
	return true
}

// Visit puts the value in place of each alias, in the file's order: that of the
// anchor of its name last seen, or none.
func (s *source) Visit(n ast.Node) ast.Visitor {
	switch v := n.(type) {
	case *ast.AnchorNode:
		s.anchors[v.Name.GetToken().Value] = v.Value
	case *ast.AliasNode:
		name := v.Value.GetToken().Value
		if v.Value = s.anchors[name]; v.Value == nil {
			s.fail(v, "*%s refers to nothing; there is no &%[1]s before it", short(name))
		}
		return nil // not into the value again
	}
	return s
}

// resolve is the value behind anchors and aliases, or nil: without any, and
// after a failure.
func (s *source) resolve(n ast.Node) ast.Node {
	for range maxDepth {
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			n = v.Value
		default:
			return n
		}
	}
	s.fail(n, "it refers to itself; write the value")
	return nil
}
