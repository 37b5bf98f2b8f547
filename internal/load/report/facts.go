package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gatehouse/internal/load/gate"
	"gatehouse/internal/machine"
)

// Fact is one line of the environment; what is not known is "".
type Fact struct{ Name, Generator, Target string }

// Facts puts the generator's environment beside the target's.
func (p *page) Facts() []Fact { return Facts(Summarize(p.Run)) }

// Facts are always the same ones in the same order.
func Facts(s *Summary) []Fact {
	g, t := s.Environment.Generator, s.Environment.Target
	theirs, shared, sent := machine.Facts{}, "", perSecond(s.Rate.Achieved)
	if t.Facts != nil {
		theirs = *t.Facts
	}
	if t.SameMachine {
		shared = "yes"
	} else if g.Cores > 0 { // it was recorded
		shared = "no"
	}
	if s.Interrupted {
		sent = fmt.Sprintf("%s in %gs, interrupted", count(s.Requests.Sent), s.DurationSeconds)
	}
	return []Fact{
		{"processor", g.CPU, theirs.CPU},
		{"cores", whole(g.Cores), whole(theirs.Cores)},
		{"memory", memory(g.MemoryBytes), memory(theirs.MemoryBytes)},
		{"system", system(g.Facts), system(theirs)},
		{"Go", g.Go, t.Go},
		{"GOMAXPROCS", whole(g.GOMAXPROCS), whole(t.GOMAXPROCS)},
		{"version", s.ToolVersion, t.Version},
		{"requests sent", sent, ""},
		{"on the generator's machine", "", shared},
		{"node", "", t.Node},
		{"nodes", "", whole(t.Nodes)},
		{"mode", "", t.Mode},
		{"database", "", strings.TrimSpace(t.Database.Driver + " " + t.Database.Version)},
		{"database settings", "", joined(t.Database.Settings)},
		{"limits in force", "", joined(t.Limits)},
		{"limits told in answers", "", strings.Join(t.Policies, ", ")},
	}
}

// perSecond is a rate, "" for what is not known.
func perSecond(v float64) string {
	if v <= 0 {
		return ""
	}
	return gate.PerSecond.Text(v)
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
