package plans

import (
	"embed"
	"strings"
)

//go:embed *.yaml
var files embed.FS

const suffix = ".yaml"

// Named is the text of the plan of that name, if there is one.
func Named(name string) ([]byte, bool) {
	text, err := files.ReadFile(name + suffix)
	return text, err == nil
}

// Names lists the plans, sorted.
func Names() []string {
	var names []string
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil // a folder that is in the binary can be read
	}
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), suffix))
	}
	return names
}
