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

// ms is a time as people read it here: "6.42 ms".
func ms(d time.Duration) string { return gate.Milliseconds.Text(milliseconds(d)) }

// count is a number with its thousands apart: "190,620".
func count(n int64) string { return gate.Count.Text(float64(n)) }

// percent is a share of 0 to 1: "99.95 %".
func percent(share float64) string { return gate.Share.Text(share) }

// quantile is a percentile as text, "–" where there are too few times for it.
func quantile(d *load.Distribution, q float64) string {
	t, ok := d.Quantile(q)
	if !ok {
		return unknown
	}
	return ms(t)
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
	slices.SortFunc(all, byKind)
	return all
}

func byKind(a, b *load.Series) int {
	order := []load.Kind{load.Success, load.Expected, load.Failure}
	return cmp.Or(cmp.Compare(slices.Index(order, a.Kind), slices.Index(order, b.Kind)), cmp.Compare(a.Key, b.Key))
}

// ofKind is how many requests came to outcomes of a kind, and their latency.
func ofKind(r *load.Result, kind load.Kind) *load.Distribution {
	d := load.NewDistribution()
	for _, s := range r.Series {
		if s.Kind == kind {
			d.Merge(s.Latency)
		}
	}
	return d
}
