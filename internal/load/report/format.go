package report

import (
	"cmp"
	"slices"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// unknown stands where a number would, had there been enough to tell it from.
const unknown = "–"

// count is a number with its thousands apart: "190,620".
func count(n int64) string { return gate.Count.Text(float64(n)) }

// quantile is a percentile as text, "–" where there are too few times for it.
// That of 1 is the longest time.
func quantile(d *load.Distribution, q float64) string {
	t, ok := d.Quantile(q)
	if !ok {
		return unknown
	}
	return gate.Milliseconds.Text(milliseconds(t))
}

// known is a number as text, "–" for nil.
func known(u gate.Unit, v *float64) string {
	if v == nil {
		return unknown
	}
	return u.Text(*v)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// byOutcome is the result's series merged over requests: successes first, then
// what was expected, then failures, each by key.
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
	slices.SortFunc(all, func(a, b *load.Series) int {
		return cmp.Or(cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)), cmp.Compare(a.Key, b.Key))
	})
	return all
}

// kinds are all there are, in the order in which they are told.
var kinds = []load.Kind{load.Success, load.Expected, load.Failure}
