package named

import (
	"embed"
	"strings"
)

// Files are the files of one folder that end alike. Their names are without
// that end.
type Files struct {
	FS     embed.FS
	Suffix string // ".yaml"
}

// Named is the text of the file of that name, if there is one.
func (f Files) Named(name string) ([]byte, bool) {
	text, err := f.FS.ReadFile(name + f.Suffix)
	return text, err == nil
}

// Names lists the files, sorted.
func (f Files) Names() []string {
	entries, err := f.FS.ReadDir(".")
	if err != nil {
		return nil // a folder that is in the binary can be read
	}
	var names []string
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), f.Suffix))
	}
	return names
}
