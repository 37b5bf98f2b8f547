package report

import (
	"time"

	"gatehouse/internal/load"
)

// Seconds is what charts show of a run, second by second. It is little, however
// many requests there were.
type Seconds struct {
	all   []*load.Sample                // with windows over all requests, told by the bins
	times map[string]*load.Distribution // latencies of each outcome, by key
}

// Add takes in the next second, with its spreads.
func (s *Seconds) Add(x *load.Sample) {
	if s.times == nil {
		s.times = map[string]*load.Distribution{}
	}
	own := map[string][][]load.Bin{}
	for _, spread := range x.Spreads {
		own[spread.Key] = append(own[spread.Key], spread.Bins)
	}
	kept := *x
	kept.Spreads, kept.Windows = nil, nil
	for key, bins := range own {
		d := load.Binned(bins...)
		q := func(share float64) time.Duration { t, _ := d.Quantile(share); return t }
		kept.Windows = append(kept.Windows, load.Window{Key: key, Count: d.Count(), P50: q(0.5), P95: q(0.95), Max: d.Max()})
		if all := s.times[key]; all != nil {
			all.Merge(d)
		} else {
			s.times[key] = d
		}
	}
	s.all = append(s.all, &kept)
}
