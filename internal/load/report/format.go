package report

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// unknown stands where a number would, had there been enough to tell it from.
const unknown = "–"

// count is a number with its thousands apart: "190,620".
func count(n int64) string { return gate.Count.Text(float64(n)) }

// known is a number as text, "–" for nil.
func known(u gate.Unit, v *float64) string {
	if v == nil {
		return unknown
	}
	return u.Text(*v)
}

// took is a time in seconds as text, "–" for none.
func took(seconds float64) string {
	if seconds == 0 {
		return unknown
	}
	return duration(seconds).String()
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// byOutcome is the result's series merged over requests.
func byOutcome(r *load.Result) []*load.Series {
	merged := map[string]*load.Series{}
	var all []*load.Series
	for _, s := range r.Series {
		m := merged[s.Key]
		if m == nil {
			m = &load.Series{Key: s.Key, Name: s.Name, Kind: s.Kind, Latency: load.NewDistribution(), Service: load.NewDistribution()}
			merged[s.Key] = m
			all = append(all, m)
		}
		m.Latency.Merge(s.Latency)
		m.Service.Merge(s.Service)
		m.Example = cmp.Or(m.Example, s.Example)
	}
	return all
}

// series is one outcome, of one request or of all.
type series struct {
	Request, Key string
	Outcome
}

// ordered is successes first, then what was expected, then failures, each by
// key.
func ordered(outcomes map[string]Outcome) []series {
	var all []series
	for _, key := range slices.Sorted(maps.Keys(outcomes)) {
		all = append(all, series{"", key, outcomes[key]})
	}
	slices.SortStableFunc(all, func(a, b series) int {
		return cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind))
	})
	return all
}

// kinds are all there are, in the order in which they are told.
var kinds = []load.Kind{load.Success, load.Expected, load.Failure}
