package baselines

import (
	"embed"

	"gatehouse/internal/named"
)

//go:embed *.json
var files embed.FS

var inside = named.Files{FS: files, Suffix: ".json"}

// Named is the summary of the run of that name, if there is one.
func Named(name string) ([]byte, bool) { return inside.Named(name) }

// Names lists the runs, sorted.
func Names() []string { return inside.Names() }
