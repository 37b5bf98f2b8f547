package archtest

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing/fstest"
)

// A target that `make help` lists: its name, a colon, "## " and what it does.
var target = regexp.MustCompile(`(?m)^([a-z][a-z-]*):.*## `)

// targetsExplained keeps CONTRIBUTING.md's list from falling behind the Makefile.
var targetsExplained = rule{
	name: "CONTRIBUTING.md names each make target",
	check: func(tree fs.FS) ([]string, error) {
		makefile, err := fs.ReadFile(tree, "Makefile")
		if err != nil {
			return nil, err
		}
		text, err := fs.ReadFile(tree, "CONTRIBUTING.md")
		if err != nil {
			return nil, err
		}
		found := target.FindAllSubmatch(makefile, -1)
		if len(found) == 0 {
			return []string{"Makefile: no target has a \"## \" text, so make help lists nothing"}, nil
		}
		var breaches []string
		for _, m := range found {
			if name := fmt.Sprintf("`make %s`", m[1]); !strings.Contains(string(text), name) {
				breaches = append(breaches, "CONTRIBUTING.md does not name "+name+": say when to use it")
			}
		}
		return breaches, nil
	},
	good: fstest.MapFS{
		"Makefile":        file("test: ## run all tests", "\tgo test", "internal-step:", "\ttrue"),
		"CONTRIBUTING.md": file("Run `make test`."),
	},
	bad: fstest.MapFS{
		"Makefile":        file("test: build ## run all tests", "race: ## and again"),
		"CONTRIBUTING.md": file("Run `make race`, and make test."),
	},
	want: []string{"does not name `make test`"},
}
