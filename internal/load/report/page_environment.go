package report

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gatehouse/internal/machine"
)

// fact is one line of the environment; what is not known is "–".
type fact struct{ Name, Generator, Target string }

// Facts puts the generator's environment beside the target's.
func (p *page) Facts() []fact {
	g, t := p.Environment.Generator, p.Environment.Target
	theirs := machine.Facts{}
	if t.Facts != nil {
		theirs = *t.Facts
	}
	facts := []fact{
		{"CPU", g.CPU, theirs.CPU},
		{"Cores", whole(g.Cores), whole(theirs.Cores)},
		{"Memory", memory(g.MemoryBytes), memory(theirs.MemoryBytes)},
		{"System", system(g.Facts), system(theirs)},
		{"Go", g.Go, t.Go},
		{"GOMAXPROCS", whole(g.GOMAXPROCS), whole(t.GOMAXPROCS)},
		{"Version", p.ToolVersion, t.Version},
		{"Node", "", t.Node},
		{"Nodes", "", whole(t.Nodes)},
		{"Mode", "", t.Mode},
		{"Database", "", strings.TrimSpace(t.Database.Driver + " " + t.Database.Version)},
		{"Database settings", "", joined(t.Database.Settings)},
		{"Limits in force", "", joined(t.Limits)},
		{"Limits told in answers", "", strings.Join(t.Policies, ", ")},
	}
	for i := range facts {
		facts[i].Generator = cmp.Or(facts[i].Generator, unknown)
		facts[i].Target = cmp.Or(facts[i].Target, unknown)
	}
	return facts
}

func system(m machine.Facts) string {
	return strings.Join(strings.Fields(m.OS+" "+m.Kernel+" "+m.Arch), " ")
}

// whole is a whole number, "" for what is not known.
func whole(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

// memory is an amount of memory, "" for what is not known.
func memory(n int64) string {
	switch {
	case n <= 0:
		return ""
	case n < 1<<30:
		return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + " MiB"
	}
	return strconv.FormatFloat(float64(n)/(1<<30), 'f', 1, 64) + " GiB"
}

func joined(m map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		all = append(all, k+": "+m[k])
	}
	return strings.Join(all, "; ")
}
