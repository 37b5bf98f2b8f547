package foreign

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

// values are a metric's, whichever its type is. Times are in milliseconds,
// whatever unit k6 was told to print.
type values struct {
	Count *float64 `json:"count"`
	Rate  *float64 `json:"rate"`
	Value *float64 `json:"value"` // a gauge's; a rate's in --summary-export

	Passes  *float64 `json:"passes"` // of http_req_failed: how many failed
	Fails   *float64 `json:"fails"`
	Matches *float64 `json:"matches"` // likewise, in the machine-readable form
	Total   *float64 `json:"total"`

	Avg  *float64 `json:"avg"`
	Min  *float64 `json:"min"`
	Med  *float64 `json:"med"`
	P50  *float64 `json:"p(50)"`
	P90  *float64 `json:"p(90)"`
	P95  *float64 `json:"p(95)"`
	P99  *float64 `json:"p(99)"`
	P999 *float64 `json:"p(99.9)"`
	Max  *float64 `json:"max"`
}

func (v values) times(n int64) report.Times {
	median := v.P50
	if median == nil {
		median = v.Med
	}
	return enough(report.Times{Min: v.Min, Avg: v.Avg, P50: median, P90: v.P90, P95: v.P95, P99: v.P99, P999: v.P999, Max: v.Max}, n)
}

// k6 is what a run of k6 says, in any form.
type k6 struct {
	form    string
	version string
	seconds float64 // 0: to be told from count and rate
	metrics map[string]values
	gates   []gate.Check
}

// readK6 reads handleSummary's data, or a file of --summary-export. The former
// has a metric's numbers under "values" and thresholds as {"ok": held}. The
// latter has them flat and thresholds as true where they did NOT hold.
func readK6(data []byte) (*report.Summary, error) {
	var file struct {
		Metrics map[string]struct {
			values
			Nested     *values                   `json:"values"`
			Thresholds map[string]jsontext.Value `json:"thresholds"`
		} `json:"metrics"`
		State struct {
			Milliseconds float64 `json:"testRunDurationMs"`
		} `json:"state"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("k6's summary: %w", err)
	}
	k := &k6{form: "--summary-export", seconds: file.State.Milliseconds / 1e3, metrics: map[string]values{}}
	nested := slices.ContainsFunc(slices.Collect(maps.Keys(file.Metrics)), func(n string) bool { return file.Metrics[n].Nested != nil })
	if nested {
		k.form = "handleSummary"
	}
	for _, name := range slices.Sorted(maps.Keys(file.Metrics)) {
		m := file.Metrics[name]
		k.metrics[name] = m.values
		if nested {
			if m.Nested == nil {
				return nil, fmt.Errorf("k6's summary: %.60q has no values, and others have: it was cut or mended", name)
			}
			k.metrics[name] = *m.Nested
		}
		for _, expression := range slices.Sorted(maps.Keys(m.Thresholds)) {
			held, err := k6Held(m.Thresholds[expression], nested)
			if err != nil {
				return nil, fmt.Errorf("k6's summary: threshold %.60q of %.60q: %w", expression, name, err)
			}
			check := gate.Check{Name: name, Expression: name + ": " + expression, Unit: gate.Truth, Verdict: gate.Fail}
			if held {
				check.Verdict = gate.Pass
			}
			k.gates = append(k.gates, check)
		}
	}
	return k.summary()
}

func k6Held(value jsontext.Value, nested bool) (held bool, err error) {
	if nested {
		var threshold struct {
			OK *bool `json:"ok"`
		}
		if err := json.Unmarshal(value, &threshold); err != nil || threshold.OK == nil {
			return false, errors.New(`it is no {"ok": …}`)
		}
		return *threshold.OK, nil
	}
	var broken bool
	if err := json.Unmarshal(value, &broken); err != nil {
		return false, errors.New("it is neither true nor false")
	}
	return !broken, nil
}

// readMachine reads a file of --new-machine-readable-summary.
func readMachine(data []byte) (*report.Summary, error) {
	var file struct {
		Version string `json:"version"`
		Config  struct {
			Duration float64 `json:"duration"` // seconds
		} `json:"config"`
		Metadata struct {
			Version string `json:"k6Version"`
		} `json:"metadata"`
		Results struct {
			Metrics []struct {
				Name   string `json:"name"`
				Values values `json:"values"`
			} `json:"metrics"`
		} `json:"results"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("k6's machine-readable summary: %w", err)
	}
	if !strings.HasPrefix(file.Version, "1.") {
		return nil, fmt.Errorf("k6's machine-readable summary is of version %.20q, want 1.0.0", file.Version)
	}
	k := &k6{form: "--new-machine-readable-summary", version: file.Metadata.Version, seconds: file.Config.Duration, metrics: map[string]values{}}
	for _, m := range file.Results.Metrics {
		if _, twice := k.metrics[m.Name]; twice {
			return nil, fmt.Errorf("k6's machine-readable summary has %.60q twice", m.Name)
		}
		k.metrics[m.Name] = m.Values
	}
	return k.summary()
}

// summary makes one of ours. k6 tells no statuses: what failed by its own
// reckoning is all there is.
func (k *k6) summary() (*report.Summary, error) {
	requests, ok := k.metrics["http_reqs"]
	if !ok || requests.Count == nil || *requests.Count < 1 || *requests.Count > 1<<53 {
		return nil, errors.New("k6's summary has no http_reqs: no request was sent, or it was cut")
	}
	n := int64(*requests.Count)
	if k.seconds <= 0 && requests.Rate != nil && *requests.Rate > 0 {
		k.seconds = *requests.Count / *requests.Rate
	}
	s := &report.Summary{
		Schema: report.Schema, ToolVersion: strings.TrimSpace("k6 " + k.version), DurationSeconds: k.seconds, Gates: k.gates,
		Requests: report.Requests{Sent: n, Answered: n}, Outcomes: map[string]report.Outcome{},
		Notes: []string{"imported from k6 (" + k.form + "); its latency is http_req_duration, from sending to the last byte, without connecting; a success is what its script expected, by default a status below 400"},
	}
	if k.seconds > 0 {
		s.Rate.Achieved = float64(n) / k.seconds
	}
	if dropped := k.metrics["dropped_iterations"].Count; dropped != nil && *dropped > 0 && *dropped < 1<<53 {
		s.Requests.Unsent = int64(*dropped)
		s.Notes = append(s.Notes, fmt.Sprintf("open model: %.0f iterations were dropped, and no latency counts them", *dropped))
	} else {
		s.Notes = append(s.Notes, "closed model, unless its script says arrival-rate: virtual users wait for answers, so a slow target slows the load down")
	}
	times := k.metrics["http_req_duration"]
	failed, known := k.failed()
	if !known {
		s.Notes = append(s.Notes, "it did not record which requests failed")
		s.Outcomes[all] = report.Outcome{Name: all, Kind: load.Failure, Count: n, Latency: times.times(n)}
		return grade(s)
	}
	succeeded := report.Outcome{Name: string(load.Success), Kind: load.Success, Count: n - failed}
	bad := report.Outcome{Name: string(load.Failure), Kind: load.Failure, Count: failed}
	expected, split := k.metrics["http_req_duration{expected_response:true}"]
	switch {
	case failed == n:
		bad.Latency = times.times(n)
	case split:
		succeeded.Latency = expected.times(n - failed)
	case float64(failed) <= negligible*float64(n):
		succeeded.Latency = times.times(n - failed)
	default:
		s.Notes = append(s.Notes, "its times are of successes and failures together, and given to neither")
	}
	for _, o := range []report.Outcome{succeeded, bad} {
		if o.Count != 0 {
			s.Outcomes[o.Name] = o
		}
	}
	return grade(s)
}

// failed is how many requests failed, by http_req_failed: its "passes" are the
// requests of which that is true.
func (k *k6) failed() (n int64, known bool) {
	v, ok := k.metrics["http_req_failed"]
	for _, count := range []*float64{v.Passes, v.Matches} {
		if ok && count != nil && *count <= 1<<53 {
			return int64(*count), true
		}
	}
	return 0, false
}
