package archtest

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

// root is the module's root, seen from this package's folder, where go test
// runs its tests.
const root = "../.."

// A rule is something that must hold of the whole tree.
type rule struct {
	name string
	// check returns a line for each breach: where it is, what is wrong, what to do.
	check func(fs.FS) ([]string, error)
	// good keeps the rule, and bad breaks it in the ways named by want: a
	// part of each line that check must return, in order.
	good, bad fstest.MapFS
	want      []string
}

var rules = []rule{
	packageDocs, packageNames, fileLengths,
	noMachinePaths, noSleepsInTests,
	decisions, targetsExplained,
}

func TestTree(t *testing.T) {
	tree := os.DirFS(root)
	if _, err := fs.Stat(tree, "go.mod"); err != nil {
		t.Fatalf("%s is not the module's root: %v", root, err)
	}
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			breaches, err := r.check(tree)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range breaches {
				t.Error(b)
			}
		})
	}
}

func TestRulesKeepAndBreak(t *testing.T) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			breaches, err := r.check(r.good)
			if err != nil || len(breaches) > 0 {
				t.Errorf("on a tree that keeps the rule: %q, %v; want nothing", breaches, err)
			}
			breaches, err = r.check(r.bad)
			if err != nil {
				t.Fatal(err)
			}
			if len(breaches) != len(r.want) {
				t.Fatalf("on a tree that breaks the rule there are %d breaches, want %d:\n%s",
					len(breaches), len(r.want), strings.Join(breaches, "\n"))
			}
			for i, want := range r.want {
				if !strings.Contains(breaches[i], want) {
					t.Errorf("breach %d is %q, want one with %q", i, breaches[i], want)
				}
			}
		})
	}
}

// file is one file of a made-up tree.
func file(lines ...string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(strings.Join(lines, "\n") + "\n")}
}

func at(name string, line int, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", name, line, fmt.Sprintf(format, args...))
}
