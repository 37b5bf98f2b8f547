package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/resources"
	"gatehouse/internal/machine"
)

// Fact is one line of the environment; what is not known is "".
type Fact struct{ Name, Generator, Target string }

// Facts puts the generator's environment beside the target's.
func (p *page) Facts() []Fact { return Facts(p.Summary) }

// Facts are what a summary says of both sides: always the same ones in the same
// order.
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

// Used has a row for each stage in which the target's resources were read: each
// cell but the first is an average and the highest value.
func (p *page) Used() (rows [][]string) {
	for _, s := range p.Resources.Stages {
		row := []string{"after"}
		if s.Stage < 0 {
			row[0] = "before"
		} else if s.Stage < len(p.Stages) {
			row[0] = fmt.Sprintf("%d, to %g/s", s.Stage+1, p.Stages[s.Stage].Rate)
		}
		units := []float64{1, 1 << 20, 1, 1, 1, 1} // memory is told in MiB
		for i, spent := range []*resources.Spent{s.CPU, s.Memory, s.Goroutines, s.OpenFiles, s.Pool, s.Jobs} {
			cell := unknown
			if spent != nil {
				cell = short(spent.Avg/units[i], 3) + " / " + short(spent.Max/units[i], 3)
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	return rows
}
