package archtest

import (
	"bytes"
	"io/fs"
	"strings"
	"testing/fstest"
)

// The patterns are put together from parts, so that this file does not hold
// what it forbids.

// machinePaths are found in what was written on one machine and works only there.
var machinePaths = []string{
	"/" + "root/", "/" + "home/",
	"proxy." + "golang.org", "registry." + "npmjs", "deb." + "debian.org",
}

var noMachinePaths = rule{
	name: "nothing names the machine that it was written on",
	check: func(tree fs.FS) ([]string, error) {
		names, err := sources(tree)
		if err != nil {
			return nil, err
		}
		return search(tree, names, machinePaths, "is a path or a registry of one machine: leave it to the environment")
	},
	good: fstest.MapFS{
		"a.sh":  file(`cache=$HOME/.cache`, "cd internal/"+"homestead"),
		"a.bin": {Data: []byte("\x00/" + "root/.cache")}, // no text: a compiler may have put it there
	},
	bad: fstest.MapFS{
		"a.go":    file("package a", "", "const dir = \"/"+"home/jane\""),
		"b.yaml":  file("cache: /"+"root/.cache", "proxy: https://proxy."+"golang.org"),
		".ci/run": file("npm --registry https://registry." + "npmjs.org"),
	},
	want: []string{".ci/run:1", "a.go:3", "b.yaml:1", "b.yaml:2"},
}

var noSleepsInTests = rule{
	name: "no test sleeps",
	check: func(tree fs.FS) ([]string, error) {
		names, err := goSources(tree)
		if err != nil {
			return nil, err
		}
		var tests []string
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				tests = append(tests, name)
			}
		}
		return search(tree, tests, []string{"time." + "Sleep("},
			"is too short on a slow machine and too long on all others: wait for what should happen, or use testing/synctest")
	},
	good: fstest.MapFS{"a/a.go": file("package a", "func f() { time."+"Sleep(1) }"), "a/a_test.go": file("package a")},
	bad:  fstest.MapFS{"a/a_test.go": file("package a", "func f() {", "\ttime."+"Sleep(1)", "}")},
	want: []string{"a/a_test.go:3: \"time." + "Sleep(\""},
}

// search reports each line of the text files that holds one of the patterns.
func search(tree fs.FS, names, patterns []string, wrong string) ([]string, error) {
	var breaches []string
	for _, name := range names {
		data, err := fs.ReadFile(tree, name)
		if err != nil {
			return nil, err
		}
		if bytes.IndexByte(data, 0) >= 0 {
			continue
		}
		n := 0
		for line := range strings.Lines(string(data)) {
			n++
			for _, p := range patterns {
				if strings.Contains(line, p) {
					breaches = append(breaches, at(name, n, "%q %s", p, wrong))
				}
			}
		}
	}
	return breaches, nil
}
