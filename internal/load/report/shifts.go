package report

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"gatehouse/internal/load"
)

const (
	// appeared is the share of a request's outcomes from which one that an earlier
	// run did not have is told.
	appeared = 0.01
	// moved is by how much an outcome's share may differ between two runs, and
	// chance how many standard errors it must: of few requests shares move by themselves.
	moved  = 0.05
	chance = 3
)

// Shifts tells where requests came to something else than in an earlier run.
// Latencies of counterparts don't show that: what answers otherwise has left them.
//
// Nothing is told beside a run without any success, as the reference's, and of
// shares nothing beside another plan's. Where one run tells no statuses, as
// k6's, it is successes against all the rest; where one knows nothing by
// request, it is all requests together.
func Shifts(before, after *Summary) (told []string) {
	if byKind(before.Outcomes)[successes].Count == 0 {
		return nil
	}
	olds, news := before.ByRequest, after.ByRequest
	if len(olds) == 0 || len(news) == 0 {
		first, second := before.Outcomes, after.Outcomes
		_, a := first[successes]
		if _, b := second[successes]; a || b {
			first, second = byKind(first), byKind(second)
		}
		olds, news = map[string]map[string]Outcome{"": first}, map[string]map[string]Outcome{"": second}
	}
	samePlan := before.PlanHash == "" || after.PlanHash == "" || before.PlanHash == after.PlanHash
	for _, request := range union(olds, news) {
		n, m := total(olds[request]), total(news[request])
		for _, key := range union(olds[request], news[request]) {
			was, is := olds[request][key], news[request][key]
			name := cmp.Or(is.Name, was.Name)
			if request != "" {
				name = request + "/" + name
			}
			had, has := float64(was.Count)/max(n, 1), float64(is.Count)/max(m, 1)
			both := float64(was.Count+is.Count) / max(n+m, 1)
			byChance := chance * math.Sqrt(both*(1-both)*(1/max(n, 1)+1/max(m, 1)))
			switch {
			case was.Count == 0 && is.Kind != load.Failure && has >= appeared:
				told = append(told, fmt.Sprintf("%s is new, with %.1f %% of its requests", name, 100*has))
			case samePlan && math.Abs(has-had) > max(moved, byChance):
				told = append(told, fmt.Sprintf("%s has %.1f %% of its requests, and had %.1f %%", name, 100*has, 100*had))
			}
		}
	}
	return told
}

// byKind is successes, and all else.
func byKind(outcomes map[string]Outcome) map[string]Outcome {
	good := Outcome{Name: successes, Kind: load.Success}
	rest := Outcome{Name: "all else", Kind: load.Failure}
	for _, o := range outcomes {
		if o.Kind == load.Success {
			good.Count += o.Count
		} else {
			rest.Count += o.Count
		}
	}
	return map[string]Outcome{good.Name: good, rest.Name: rest}
}

// union is the keys of both, in order.
func union[V any](a, b map[string]V) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

func total(outcomes map[string]Outcome) float64 {
	var n int64
	for _, o := range outcomes {
		n += o.Count
	}
	return float64(n)
}
