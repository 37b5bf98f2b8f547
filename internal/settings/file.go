package settings

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"gatehouse/internal/nearest"
)

// readFile reads a YAML file of settings: one mapping from names to scalars,
// or to lists of scalars, which are joined by commas.
func readFile(all []Setting, path string) (map[string]found, error) {
	values := make(map[string]found)
	if path == "" {
		return values, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return values, fmt.Errorf("settings file: %w", err)
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		// The library's own text quotes the lines, and there may be a secret.
		return values, fmt.Errorf("settings file %s: %s", path, yaml.FormatError(err, false, false))
	}
	if len(file.Docs) > 1 {
		return values, fmt.Errorf("settings file %s: want one document, found %d", path, len(file.Docs))
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return values, nil
	}
	var pairs []*ast.MappingValueNode
	switch body := file.Docs[0].Body.(type) {
	case *ast.MappingNode:
		pairs = body.Values
	case *ast.MappingValueNode:
		pairs = []*ast.MappingValueNode{body}
	case *ast.CommentGroupNode, *ast.NullNode:
	default:
		return values, fmt.Errorf("settings file %s: want names and values, such as `listen: 127.0.0.1:8080`", path)
	}
	names := make([]string, 0, len(all))
	for _, s := range all {
		names = append(names, s.Name)
	}
	var errs []error
	for _, p := range pairs {
		where := func(n ast.Node) string {
			at := n.GetToken().Position
			return fmt.Sprintf("%s:%d:%d", path, at.Line, at.Column)
		}
		name := p.Key.GetToken().Value
		value, err := scalar(p.Value)
		_, twice := values[name]
		switch {
		case !slices.Contains(names, name):
			errs = append(errs, fmt.Errorf("%s: unknown setting %q%s", where(p.Key), name, nearest.DidYouMean(name, names)))
		case twice:
			errs = append(errs, fmt.Errorf("%s: %s is set twice", where(p.Key), name))
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %s: %w", where(p.Value), name, err))
		default:
			values[name] = found{value, "file " + where(p.Key)}
		}
	}
	return values, errors.Join(errs...)
}

var errNotPlain = errors.New("want a plain value or a list of them")

func scalar(n ast.Node) (string, error) {
	switch v := n.(type) {
	case *ast.NullNode:
		return "", nil
	case *ast.StringNode:
		return v.Value, nil
	case *ast.LiteralNode:
		return v.Value.Value, nil
	case *ast.SequenceNode:
		items := make([]string, 0, len(v.Values))
		for _, item := range v.Values {
			s, err := scalar(item)
			if _, nested := item.(*ast.SequenceNode); nested || err != nil {
				return "", errNotPlain
			}
			items = append(items, s)
		}
		return strings.Join(items, ","), nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode: // as they are written
		return n.GetToken().Value, nil
	}
	return "", errNotPlain
}
