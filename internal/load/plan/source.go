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
	lines    []string
	aliases  map[*ast.AliasNode]ast.Node // what each stands for, if anything
	mistakes []mistake
	failed   int // how often anything was wrong, the same again included
}

func (s *source) failAt(at spot, format string, args ...any) {
	s.failed++
	m := mistake{at, strings.Map(printable, fmt.Sprintf(format, args...))}
	// Profiles share what they do not replace, and it is wrong only once.
	if len(s.mistakes) <= maxMistakes && !slices.Contains(s.mistakes, m) {
		s.mistakes = append(s.mistakes, m)
	}
}

// printable keeps a mistake on its line, and off the terminal's controls.
func printable(r rune) rune {
	if !unicode.IsPrint(r) {
		return '?'
	}
	return r
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
	for i, m := range s.mistakes {
		if i == maxMistakes {
			errs = append(errs, fmt.Errorf("%s: and more", s.file))
			break
		}
		errs = append(errs, fmt.Errorf("%s:%d:%d: %s", s.file, m.line, m.column, m.text))
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
	s.lines = strings.Split(string(text), "\n")
	if i := bytes.IndexByte(text, 0); i >= 0 {
		s.failAt(spotAt(text, i), "a NUL byte; a plan is text")
		return nil
	}
	if !utf8.Valid(text) {
		s.failAt(spotAt(text, bytes.IndexRune(text, utf8.RuneError)), "not UTF-8; save the file as UTF-8")
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
	var root ast.Node
	for i, d := range file.Docs {
		if i > 0 {
			s.failAt(spotOf(cmp.Or(d.Start, file.Docs[i-1].End)), "another document; want one, without a directive and without `---` inside")
			return nil
		}
		root = d.Body
	}
	if root == nil {
		s.failAt(spot{1, 1}, "the plan is empty; it needs name, stages and requests")
		return nil
	}
	s.resolveAliases(root)
	return root
}

// spotAt is where a byte of the text is.
func spotAt(text []byte, i int) spot {
	line := bytes.LastIndexByte(text[:i], '\n') + 1
	return spot{bytes.Count(text[:i], []byte("\n")) + 1, utf8.RuneCount(text[line:i]) + 1}
}

// shallow is false, with a mistake, where the file would take the parser too
// much stack or time.
func (s *source) shallow(tokens token.Tokens) bool {
	if len(tokens) > maxTokens {
		s.failAt(spotOf(tokens[maxTokens]), "a plan has at most %d words and signs", maxTokens)
		return false
	}
	line, brackets, signs := 0, 0, 0
	for _, t := range tokens {
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
		if brackets > maxDepth || signs > maxDepth {
			s.failAt(spotOf(t), "nested too deeply; a plan needs four levels")
			return false
		}
	}
	return true
}

// resolveAliases finds what each alias stands for: the anchor of its name last
// seen before it.
func (s *source) resolveAliases(root ast.Node) {
	s.aliases = make(map[*ast.AliasNode]ast.Node)
	anchors := make(map[string]ast.Node)
	ast.Walk(visitor(func(n ast.Node) {
		switch v := n.(type) {
		case *ast.AnchorNode:
			anchors[v.Name.GetToken().Value] = v.Value
		case *ast.AliasNode:
			s.aliases[v] = anchors[v.Value.GetToken().Value]
		}
	}), root)
}

type visitor func(ast.Node)

// Visit is for ast.Walk.
func (v visitor) Visit(n ast.Node) ast.Visitor {
	v(n)
	return v
}

// resolve is the value behind anchors and aliases, or nil after a failure.
func (s *source) resolve(n ast.Node) ast.Node {
	for range maxDepth {
		switch v := n.(type) {
		case *ast.AnchorNode:
			n = v.Value
		case *ast.AliasNode:
			if s.aliases[v] == nil {
				s.fail(v, "*%s refers to nothing; there is no &%[1]s before it", short(v.Value.GetToken().Value))
				return nil
			}
			n = s.aliases[v]
		case *ast.TagNode:
			s.fail(v, "a tag; write the value without it")
			return nil
		default:
			return n
		}
	}
	s.fail(n, "it refers to itself; write the value")
	return nil
}
