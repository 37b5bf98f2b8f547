package archtest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
)

// sources lists the files of a tree that git would track, in order. It walks
// and reads .gitignore rather than ask git, so that it also works in an
// unpacked archive, and so that go test sees what its cached result rests on.
func sources(tree fs.FS) ([]string, error) {
	patterns, err := ignorePatterns(tree)
	if err != nil {
		return nil, err
	}
	var names []string
	err = fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case d.Name() == ".git" || ignored(patterns, name): // .git is a file in a worktree
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.Type().IsRegular():
			names = append(names, name)
		}
		return nil
	})
	return names, err
}

// goSources is what sources lists of Go files that the go command builds.
func goSources(tree fs.FS) ([]string, error) {
	names, err := sources(tree)
	return slices.DeleteFunc(names, func(name string) bool {
		if path.Ext(name) != ".go" {
			return true
		}
		return slices.ContainsFunc(strings.Split(name, "/"), func(part string) bool {
			return part == "testdata" || part[0] == '.' || part[0] == '_'
		})
	}), err
}

// ignorePatterns reads the simple part of .gitignore's language, and refuses
// the rest rather than misread it.
func ignorePatterns(tree fs.FS) ([]string, error) {
	data, err := fs.ReadFile(tree, ".gitignore")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var patterns []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '!' || strings.Contains(line, "**") {
			return nil, fmt.Errorf(".gitignore: archtest does not understand %q: write it plainly, or teach ignored", line)
		}
		patterns = append(patterns, strings.TrimSuffix(line, "/"))
	}
	return patterns, nil
}

func ignored(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		target := path.Base(name)
		if strings.Contains(p, "/") { // with a slash it starts at the root
			p, target = strings.TrimPrefix(p, "/"), name
		}
		ok, err := path.Match(p, target)
		return ok && err == nil
	})
}

func TestSources(t *testing.T) {
	tree := fstest.MapFS{
		".gitignore":        file("# built", "/bin/", "*.out", "/gatehouse.db*"),
		".git/config":       file(),
		"bin/gatehouse":     file(),
		"gatehouse.db-wal":  file(),
		"a/gatehouse.db":    file(),
		"a/cover.out":       file(),
		"a/bin/x.go":        file(),
		"a/testdata/y.go":   file(),
		"a/_old/z.go":       file(),
		".ci/run":           file(),
		"internal/a/doc.go": file(),
	}
	all, err := sources(tree)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{".ci/run", ".gitignore", "a/_old/z.go", "a/bin/x.go", "a/gatehouse.db", "a/testdata/y.go", "internal/a/doc.go"}; !slices.Equal(all, want) {
		t.Errorf("sources = %q, want %q", all, want)
	}
	built, err := goSources(tree)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"a/bin/x.go", "internal/a/doc.go"}; !slices.Equal(built, want) {
		t.Errorf("goSources = %q, want %q", built, want)
	}
	tree[".gitignore"] = file("!keep")
	if _, err := sources(tree); err == nil {
		t.Error("a .gitignore that can't be understood is no error")
	}
}
