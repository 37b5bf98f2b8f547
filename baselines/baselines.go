package baselines

import (
	"embed"
	"strings"
)

//go:embed *.json
var files embed.FS

const suffix = ".json"

// Named is the summary of the run of that name, if there is one.
func Named(name string) ([]byte, bool) {
	text, err := files.ReadFile(name + suffix)
	return text, err == nil
}

// Names lists the runs, sorted.
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
