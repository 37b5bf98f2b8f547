package foreign

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

const (
	// all is the outcome of requests whose answers a tool does not tell apart.
	all = "all"
	// negligible is the share of others that times of all requests may hold and
	// still be given to one outcome: too few to move a p99.
	negligible = 0.001
)

// others are tools whose results are known for what they are, and not read, by
// a key that no other has.
var others = map[string]string{
	"DurationHistogram": "fortio", "latencyPercentiles": "oha", "intermediate": "Artillery", "percentiles": "autocannon or hey",
}

// Read reads a summary: ours, one of k6's three, or vegeta's report.
func Read(data []byte) (*report.Summary, error) {
	var top map[string]jsontext.Value
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, fmt.Errorf("it is no summary, or was cut: %w", err)
	}
	has := func(keys ...string) bool {
		return !slices.ContainsFunc(keys, func(k string) bool { return top[k] == nil })
	}
	switch {
	case has("schema"):
		return report.ReadSummary(data)
	case has("results", "version"):
		return readMachine(data)
	case has("metrics"):
		return readK6(data)
	case has("latencies", "status_codes"):
		return readVegeta(data)
	case has("type", "metric"), has("type", "data"):
		return nil, errors.New("it is k6's stream of points (--out json): give it the summary of --summary-export or handleSummary")
	}
	for _, key := range slices.Sorted(maps.Keys(others)) {
		if has(key) {
			return nil, fmt.Errorf("it looks like a result of %s, which is not read: want a summary.json, or one of k6's or vegeta's", others[key])
		}
	}
	return nil, errors.New("it is no summary that is known: want a summary.json, or one of k6's or vegeta's")
}

// grade writes down what a summary is worth as evidence, and holds it to
// reason: its figures must not contradict each other.
func grade(s *report.Summary) (*report.Summary, error) {
	var success, refused, total int64
	for key, o := range s.Outcomes {
		if err := check(key, o); err != nil {
			return nil, err
		}
		total += o.Count
		if o.Kind == load.Success {
			success += o.Count
		} else {
			refused += o.Count
		}
	}
	if total != s.Requests.Sent {
		return nil, fmt.Errorf("it contradicts itself: %d requests, and %d by outcome", s.Requests.Sent, total)
	}
	if lasted := s.DurationSeconds; lasted < 0 || lasted > report.MaxTime/1e3 || s.Rate.Achieved < 0 || s.Rate.Achieved > 1e9 {
		return nil, fmt.Errorf("it lasted %v s at %v requests a second, which nothing does", lasted, s.Rate.Achieved)
	}
	noted := func(format string, args ...any) { s.Notes = append(s.Notes, fmt.Sprintf(format, args...)) }
	noted("summary only: no distribution, so no confidence interval")
	p99 := false
	for _, o := range s.Outcomes {
		p99 = p99 || o.Latency.P99 != nil
	}
	if !p99 {
		noted("no p99: it was not written down, or of too few requests")
	}
	if refused > success {
		noted("refusals dominate: %.4g %% of its requests failed or were refused", 100*float64(refused)/float64(total))
	}
	noted("environment not recorded")
	for _, g := range s.Gates {
		if g.Verdict == gate.Fail {
			s.Verdict = gate.Fail
			s.Reasons = append(s.Reasons, "its threshold did not hold: "+g.Expression)
		}
	}
	if success < load.Needed(0.95) {
		s.Reasons = append(s.Reasons, fmt.Sprintf("too few successes: no evidence of success (%d of %d requests)", success, total))
		if s.Verdict != gate.Fail {
			s.Verdict = gate.Inconclusive
		}
	}
	return s, nil
}

// check looks for what no measurement gives.
func check(key string, o report.Outcome) error {
	if o.Count < 0 {
		return fmt.Errorf("it counts %d of %.40q", o.Count, key)
	}
	before := 0.0
	t := o.Latency
	for _, ms := range []*float64{t.Min, t.P50, t.P90, t.P95, t.P99, t.P999, t.Max} {
		if ms == nil {
			continue
		}
		if *ms < before || *ms > report.MaxTime {
			return fmt.Errorf("its times of %.40q contradict each other: %v ms after %v ms", key, *ms, before)
		}
		before = *ms
	}
	if t.Avg != nil && (*t.Avg < 0 || *t.Avg > report.MaxTime || t.Max != nil && *t.Avg > *t.Max) {
		return fmt.Errorf("its average of %.40q is %v ms", key, *t.Avg)
	}
	return nil
}

// enough leaves out the percentiles that so many requests can't give.
func enough(t report.Times, n int64) report.Times {
	for _, p := range []struct {
		ms **float64
		q  float64
	}{{&t.P50, 0.50}, {&t.P90, 0.90}, {&t.P95, 0.95}, {&t.P99, 0.99}, {&t.P999, 0.999}} {
		if n < load.Needed(p.q) {
			*p.ms = nil
		}
	}
	return t
}
