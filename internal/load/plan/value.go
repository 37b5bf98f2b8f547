package plan

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"gatehouse/internal/nearest"
)

// table is a mapping with its keys in the file's order.
type table struct {
	at    spot
	keys  []string
	key   map[string]spot
	value map[string]ast.Node
}

// table reads a mapping whose keys are among those known, or any if there are
// none. ok is false where it is no mapping; a key that is wrong is left out.
func (s *source) table(n ast.Node, what string, known ...string) (t table, ok bool) {
	if n = s.resolve(n); n == nil {
		return t, false
	}
	var pairs []*ast.MappingValueNode
	switch v := n.(type) {
	case *ast.MappingNode:
		pairs = v.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{v}
	default:
		s.fail(n, "%s: want keys and values, found %s", what, kind(n))
		return t, false
	}
	t = table{at: begin(n), key: make(map[string]spot), value: make(map[string]ast.Node)}
	for _, p := range pairs {
		name := short(p.Key.GetToken().Value)
		switch p.Key.(type) {
		case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.NullNode:
		case *ast.MergeKeyNode:
			s.fail(p.Key, "<< is not read here; write the keys out")
			continue
		default:
			s.fail(p.Key, "want a plain key, such as `name: value`")
			continue
		}
		first, twice := t.key[name]
		switch {
		case len(s.mistakes) > maxMistakes:
			return t, true
		case known != nil && !slices.Contains(known, name):
			hint := nearest.DidYouMean(name, known)
			if hint == "" {
				hint = "; there are " + strings.Join(known, ", ")
			}
			s.fail(p.Key, "unknown key %q%s", name, hint)
		case twice:
			s.fail(p.Key, "%q is here twice, first in line %d", name, first.line)
		default:
			t.keys = append(t.keys, name)
			t.key[name] = begin(p.Key)
			t.value[name] = p.Value
		}
	}
	return t, true
}

// need says which of the keys are not there.
func (s *source) need(t table, keys ...string) {
	for _, k := range keys {
		if t.value[k] == nil {
			s.failAt(t.at, "%s is missing", k)
		}
	}
}

// list reads a list of at least one and at most a bound of values.
func (s *source) list(n ast.Node, what string, most int) []ast.Node {
	if n = s.resolve(n); n == nil {
		return nil
	}
	v, ok := n.(*ast.SequenceNode)
	if !ok {
		s.fail(n, "%s: want a list, found %s", what, kind(n))
		return nil
	}
	if len(v.Values) == 0 || len(v.Values) > most {
		s.fail(n, "%s: want 1 to %d of them, found %d", what, most, len(v.Values))
		return nil
	}
	return v.Values
}

// text reads text, in any of YAML's forms for it.
func (s *source) text(n ast.Node, what string) (string, bool) {
	switch v := s.resolve(n).(type) {
	case nil:
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	default:
		hint := ""
		if isScalar(v) {
			hint = "; put it in quotes"
		}
		s.fail(v, "%s: want text, found %s%s", what, kind(v), hint)
	}
	return "", false
}

// name reads what gates, reports and command lines refer to.
func (s *source) name(n ast.Node, what string) string {
	text, ok := s.text(n, what)
	if ok && !isName(text) {
		s.fail(n, "%s: want a letter, then letters, digits, - and _, %d in all, found %q", what, maxName, short(text))
	}
	return text
}

// number reads a number between two bounds, which may be met.
func (s *source) number(n ast.Node, what, unit string, low, high float64) float64 {
	v := s.resolve(n)
	if v == nil {
		return 0
	}
	f, err := strconv.ParseFloat(plain(v), 64)
	if err != nil || math.IsNaN(f) || f < low || f > high {
		s.fail(v, "%s: want a number from %s to %s%s, found %s", what, decimal(low), decimal(high), unit, kind(v))
		return 0
	}
	return f
}

// integer is number for whole ones.
func (s *source) integer(n ast.Node, what string, low, high int) int {
	v := s.resolve(n)
	if v == nil {
		return 0
	}
	i, err := strconv.Atoi(plain(v))
	if err != nil || i < low || i > high {
		s.fail(v, "%s: want a whole number from %d to %d, found %s", what, low, high, kind(v))
		return 0
	}
	return i
}

// duration reads a time greater than zero, as Go writes it.
func (s *source) duration(n ast.Node, what string, most time.Duration) time.Duration {
	v := s.resolve(n)
	if v == nil {
		return 0
	}
	text := plain(v)
	if t, ok := v.(*ast.StringNode); ok {
		text = t.Value
	}
	d, err := time.ParseDuration(text)
	if err == nil && 0 < d && d <= most {
		return d
	}
	hint := ""
	if f, err := strconv.ParseFloat(text, 64); err == nil && f > 0 && !math.IsInf(f, 0) {
		hint = "; write " + decimal(f) + "s for seconds"
	}
	s.fail(v, "%s: want a duration such as 60s or 5m, above 0 and at most %v, found %s%s", what, most, kind(v), hint)
	return 0
}

func isScalar(n ast.Node) bool {
	switch n.(type) {
	case *ast.StringNode, *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return true
	}
	return false
}

// plain is a scalar as it is written, or "" where it is quoted or none.
// Numbers are read from it because the library takes 1e9 for text.
func plain(n ast.Node) string {
	t := n.GetToken()
	if !isScalar(n) || t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType {
		return ""
	}
	return t.Value
}

// kind is what a node is, for people.
func kind(n ast.Node) string {
	switch v := n.(type) {
	case *ast.NullNode:
		return "nothing"
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode:
		return "the text " + strconv.Quote(short(v.Value))
	case *ast.LiteralNode:
		return "the text " + strconv.Quote(short(v.Value.Value))
	}
	return short(n.GetToken().Value)
}

// short keeps a message readable whatever the file holds.
func short(text string) string {
	const most = 60
	for i := range text {
		if i >= most {
			return text[:i] + "…"
		}
	}
	return text
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

const maxName = 64 // as long as a table's column can be

func isName(text string) bool {
	for i, c := range []byte(text) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || c != '-' && c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return text != "" && len(text) <= maxName
}
