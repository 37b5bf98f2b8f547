package plan

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"

	"gatehouse/internal/nearest"
)

// table is a mapping with its keys in the file's order. What reads one of its
// values returns the zero value where there is none, or after a failure.
type table struct {
	at    spot
	keys  []string
	key   map[string]spot
	value map[string]ast.Node
}

// table reads a mapping, the zero table where it is none. Its keys are among
// those required and optional, which are separated by spaces; any are, if both
// are empty. A key that is wrong is left out.
func (s *source) table(n ast.Node, what, required, optional string) table {
	n = s.resolve(n)
	var pairs []*ast.MappingValueNode
	switch v := n.(type) {
	case nil:
		return table{}
	case *ast.MappingNode:
		pairs = v.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{v}
	default:
		s.fail(v, "%s: want keys and values, found %s", what, kind(v))
		return table{}
	}
	known := strings.Fields(required + " " + optional)
	t := table{at: begin(n), key: make(map[string]spot), value: make(map[string]ast.Node)}
	for _, p := range pairs {
		if len(s.mistakes) > maxMistakes {
			return t // a hint for each of many unknown keys would take long
		}
		name := short(p.Key.GetToken().Value)
		_, isText := p.Key.(*ast.StringNode)
		first, twice := t.key[name]
		switch {
		case !isText:
			s.fail(p.Key, "want a plain key, such as `name: value`, found %s", kind(p.Key))
		case len(known) > 0 && !slices.Contains(known, name):
			s.fail(p.Key, "unknown key %q%s", name, hint(name, known))
		case twice:
			s.fail(p.Key, "%q is here twice, first in line %d", name, first.line)
		default:
			t.keys = append(t.keys, name)
			t.key[name] = begin(p.Key)
			t.value[name] = p.Value
		}
	}
	s.need(t, strings.Fields(required)...)
	return t
}

// named reads a mapping from names to values, at most so many.
func (s *source) named(t table, key string, most int) table {
	all := s.table(t.value[key], key, "", "")
	if len(all.keys) > most {
		s.failAt(all.at, "%s: want at most %d of them, found %d", key, most, len(all.keys))
		all.keys = all.keys[:most]
	}
	for _, name := range all.keys {
		s.checkName(all.key[name], key, name)
	}
	return all
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
func (s *source) list(t table, key string, most int) []ast.Node {
	switch v := s.resolve(t.value[key]).(type) {
	case nil:
	case *ast.SequenceNode:
		if 0 < len(v.Values) && len(v.Values) <= most {
			return v.Values
		}
		s.fail(v, "%s: want 1 to %d of them, found %d", key, most, len(v.Values))
	default:
		s.fail(v, "%s: want a list, found %s", key, kind(v))
	}
	return nil
}

// text reads text, in any of YAML's forms for it. ok is false without any.
func (s *source) text(n ast.Node, what string) (text string, ok bool) {
	switch v := s.resolve(n).(type) {
	case nil:
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return v.Value.Value, true
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		s.fail(v, "%s: want text, found %s; put it in quotes", what, kind(v))
	default:
		s.fail(v, "%s: want text, found %s", what, kind(v))
	}
	return "", false
}

// oneOf reads one of the texts that are known.
func (s *source) oneOf(t table, key string, known ...string) string {
	text, ok := s.text(t.value[key], key)
	if ok && !slices.Contains(known, text) {
		s.fail(t.value[key], "%s: want one of %s, found %q", key, strings.Join(known, ", "), short(text))
	}
	return text
}

// name reads what gates, reports and command lines refer to.
func (s *source) name(t table, key string) string {
	text, ok := s.text(t.value[key], key)
	if ok {
		s.checkName(begin(t.value[key]), key, text)
	}
	return text
}

// A name is at most as long as a table's column can be.
var nameForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)

func (s *source) checkName(at spot, what, name string) {
	if !nameForm.MatchString(name) {
		s.failAt(at, "%s: want a letter, then letters, digits, - and _, 64 in all, found %q", what, short(name))
	}
}

// number reads a number between two bounds, which may be met. What is wanted is
// said in words.
func (s *source) number(t table, key, want string, low, high float64) float64 {
	v := s.resolve(t.value[key])
	if v == nil {
		return 0
	}
	word := v.GetToken() // what is written, because the library takes 1e9 for text
	quoted := word.Type == token.SingleQuoteType || word.Type == token.DoubleQuoteType
	digits := numberForm.FindStringSubmatch(word.Value)
	f, err := strconv.ParseFloat(word.Value, 64)
	plain := digits != nil && (f != 0 || strings.Trim(digits[1], "0.") == "") // and not so small that it became zero
	if err == nil && plain && !quoted && low <= f && f <= high && (want != wholeNumber || f == math.Trunc(f)) {
		return f
	}
	found := kind(v)
	if !plain {
		found += "; write plain digits, such as 10 or 0.5"
	}
	s.fail(v, "%s: want %s from %s to %s, found %s", key, want, decimal(low), decimal(high), found)
	return 0
}

// numberForm is what YAML and Go read alike: not 010, 0x1p4 or 1_000.
var numberForm = regexp.MustCompile(`^((?:0|[1-9][0-9]*)(?:\.[0-9]+)?)(?:[eE][+-]?[0-9]+)?$`)

const wholeNumber = "a whole number"

func (s *source) integer(t table, key string, low, high int) int {
	return int(s.number(t, key, wholeNumber, float64(low), float64(high)))
}

// duration reads a time greater than zero, as Go writes it.
func (s *source) duration(t table, key string, most time.Duration) time.Duration {
	v := s.resolve(t.value[key])
	if v == nil {
		return 0
	}
	text := v.GetToken().Value
	d, err := time.ParseDuration(text)
	if err == nil && 0 < d && d <= most {
		return d
	}
	seconds := ""
	if f, err := strconv.ParseFloat(text, 64); err == nil && f > 0 && !math.IsInf(f, 0) {
		seconds = "; write " + decimal(f) + "s for seconds"
	}
	s.fail(v, "%s: want a duration such as 60s or 5m, above 0 and at most %v, found %s%s", key, most, kind(v), seconds)
	return 0
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

// hint leads from a name to those that are known.
func hint(name string, known []string) string {
	if near := nearest.DidYouMean(name, known); near != "" {
		return near
	}
	return "; there are " + strings.Join(known, ", ")
}

// short keeps a message readable whatever the file holds.
func short(text string) string {
	if cut := fmt.Sprintf("%.60s", text); cut != text {
		return cut + "…"
	}
	return text
}

func decimal(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
