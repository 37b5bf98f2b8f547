package archtest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing/fstest"
)

const adrs = "docs/adr"

var (
	adrName     = regexp.MustCompile(`^(\d{4})-[a-z0-9]+(?:-[a-z0-9]+)*\.md$`)
	adrHeadings = []string{"Context", "Choice", "Price", "What would change our mind"}
)

// decisions holds the records of decisions to one form. A tree without any
// keeps the rule.
var decisions = rule{
	name: "decisions are recorded in one form",
	check: func(tree fs.FS) ([]string, error) {
		entries, err := fs.ReadDir(tree, adrs) // in order of name
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		var breaches []string
		last := 0
		for _, e := range entries {
			name := path.Join(adrs, e.Name())
			m := adrName.FindStringSubmatch(e.Name())
			if m == nil {
				breaches = append(breaches, name+" is not named NNNN-some-title.md, in lower case: rename it, or move it out")
				continue
			}
			n, err := strconv.Atoi(m[1])
			if err != nil {
				return nil, err
			}
			switch {
			case n == last:
				breaches = append(breaches, fmt.Sprintf("%s: number %04d is taken: take the next free one", name, n))
			case n != last+1:
				breaches = append(breaches, fmt.Sprintf("%s: %04d is missing before it: numbers start at 0001 and have no gaps; an ADR that no longer holds stays, and says so", name, last+1))
			}
			last = n
			data, err := fs.ReadFile(tree, name)
			if err != nil {
				return nil, err
			}
			for _, h := range adrHeadings {
				if !section(string(data), h) {
					breaches = append(breaches, fmt.Sprintf("%s: nothing is said under a heading \"## %s\"", name, h))
				}
			}
		}
		return breaches, nil
	},
	good: fstest.MapFS{
		"docs/adr/0001-no-redis.md":      adr(adrHeadings...),
		"docs/adr/0002-one-writer-v2.md": adr(adrHeadings...),
	},
	bad: fstest.MapFS{
		"docs/adr/0001-first.md":  adr("Context", "Choice", "Price"),
		"docs/adr/0003-gap.md":    adr(adrHeadings...),
		"docs/adr/0003-twice.md":  adr(adrHeadings...),
		"docs/adr/0004-silent.md": file("# Silent", "## Context", "## Choice", "text", "## Price", "text", "## What would change our mind", "text"),
		"docs/adr/Notes.md":       file("# Notes"),
	},
	want: []string{
		`0001-first.md: nothing is said under a heading "## What would change our mind"`,
		"0003-gap.md: 0002 is missing",
		"0003-twice.md: number 0003 is taken",
		`0004-silent.md: nothing is said under a heading "## Context"`,
		"Notes.md is not named NNNN",
	},
}

// section tells whether a Markdown text says anything under a heading.
func section(text, heading string) bool {
	inside := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "#"):
			inside = line == "## "+heading
		case inside && line != "":
			return true
		}
	}
	return false
}

func adr(headings ...string) *fstest.MapFile {
	lines := []string{"# A decision"}
	for _, h := range headings {
		lines = append(lines, "", "## "+h, "", "Text.")
	}
	return file(lines...)
}
