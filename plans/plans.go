package plans

import (
	"embed"

	"gatehouse/internal/named"
)

//go:embed *.yaml
var files embed.FS

var inside = named.Files{FS: files, Suffix: ".yaml"}

// Named is the text of the plan of that name, if there is one.
func Named(name string) ([]byte, bool) { return inside.Named(name) }

// Names lists the plans, sorted.
func Names() []string { return inside.Names() }
