package foreign

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

// values are a metric's, whichever its type is, by k6's names. Times are in
// milliseconds, whatever unit k6 was told to print.
type values map[string]float64

// get is the first of those that there are.
func (v values) get(names ...string) *float64 {
	for _, name := range names {
		if x, ok := v[name]; ok {
			return &x
		}
	}
	return nil
}

func (v values) times(n int64) report.Times {
	return enough(report.Times{
		Min: v.get("min"), Avg: v.get("avg"), P50: v.get("p(50)", "med"), P90: v.get("p(90)", "p90"), P95: v.get("p(95)", "p95"),
		P99: v.get("p(99)"), P999: v.get("p(99.9)"), Max: v.get("max"),
	}, n)
}

// k6 is what a run of k6 says, in any form.
type k6 struct {
	form    string
	version string
	seconds float64 // 0: to be told from count and rate
	metrics map[string]values
	gates   []gate.Check
}

// most is the greatest count that a float64 can tell from the next.
const most = 1 << 53

// rounding is by how much a share may differ from its counts: k6 writes all of
// its digits, people two.
const rounding = 0.005

// readK6 reads handleSummary's data, or a file of --summary-export. The former
// has a metric's numbers under "values" and thresholds as {"ok": held}. The
// latter has them flat and thresholds as true where they did NOT hold.
func readK6(data []byte) (*report.Summary, error) {
	var file struct {
		Metrics map[string]map[string]jsontext.Value `json:"metrics"`
		State   struct {
			Milliseconds float64 `json:"testRunDurationMs"`
		} `json:"state"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("k6's summary: %w", err)
	}
	k := &k6{form: "--summary-export", seconds: file.State.Milliseconds / 1e3, metrics: map[string]values{}}
	nested := false
	for _, m := range file.Metrics {
		nested = nested || m["values"] != nil
	}
	if nested {
		k.form = "handleSummary"
	}
	for _, name := range slices.Sorted(maps.Keys(file.Metrics)) {
		if err := k.add(name, file.Metrics[name], nested); err != nil {
			return nil, fmt.Errorf("k6's summary: %.60q: %w", name, err)
		}
	}
	return k.summary()
}

// add takes a metric in with its thresholds.
func (k *k6) add(name string, m map[string]jsontext.Value, nested bool) error {
	var thresholds map[string]jsontext.Value
	if text := m["thresholds"]; text != nil {
		if err := json.Unmarshal(text, &thresholds); err != nil {
			return err
		}
	}
	numbers := values{}
	if nested {
		if m["values"] == nil {
			return errors.New("it has no values, and others have: it was cut or mended")
		}
		if err := json.Unmarshal(m["values"], &numbers); err != nil {
			return err
		}
	} else {
		delete(m, "thresholds")
		for key, text := range m {
			var x float64
			if err := json.Unmarshal(text, &x); err != nil {
				return err
			}
			numbers[key] = x
		}
	}
	k.metrics[name] = numbers
	for _, expression := range slices.Sorted(maps.Keys(thresholds)) {
		held, err := k6Held(thresholds[expression], nested)
		if err != nil {
			return fmt.Errorf("threshold %.60q: %w", expression, err)
		}
		check := gate.Check{Name: name, Expression: name + ": " + expression, Unit: gate.Truth, Verdict: gate.Fail}
		if held {
			check.Verdict = gate.Pass
		}
		k.gates = append(k.gates, check)
	}
	return nil
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

// readMachine reads a file of --new-machine-readable-summary. k6's schema names
// p(90) and k6Version; what k6 1.8.1 writes has p90 and k6_version.
func readMachine(data []byte) (*report.Summary, error) {
	var file struct {
		Version string `json:"version"`
		Config  struct {
			Duration float64 `json:"duration"` // seconds
		} `json:"config"`
		Metadata struct {
			Schema  string `json:"k6Version"`
			Written string `json:"k6_version"`
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
	k := &k6{form: "--new-machine-readable-summary", version: cmp.Or(file.Metadata.Written, file.Metadata.Schema), seconds: file.Config.Duration, metrics: map[string]values{}}
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
	requests := k.metrics["http_reqs"]
	if requests["count"] < 1 || requests["count"] > most {
		return nil, errors.New("k6's summary has no http_reqs: no request was sent, or it was cut")
	}
	n := int64(requests["count"])
	if k.seconds <= 0 && requests["rate"] > 0 {
		k.seconds = requests["count"] / requests["rate"]
	}
	s := &report.Summary{
		Schema: report.Schema, ToolVersion: strings.TrimSpace("k6 " + k.version), DurationSeconds: k.seconds, Gates: k.gates, ClosedModel: true,
		Requests: report.Requests{Sent: n, Answered: n}, Outcomes: map[string]report.Outcome{},
		Notes: []string{"imported from k6 (" + k.form + "); its latency is http_req_duration, from sending to the last byte, without connecting; a success is what its script expected, by default a status below 400"},
	}
	if k.seconds > 0 {
		s.Rate.Achieved = float64(n) / k.seconds
	}
	s.Notes = append(s.Notes, "closed model, unless its script says arrival-rate: virtual users wait for answers, so a slow target slows the load down")
	if dropped := k.metrics["dropped_iterations"]["count"]; dropped > 0 && dropped < most { // by arrival-rate, and by others that ran out of time
		s.Requests.Unsent = int64(dropped)
		s.Notes = append(s.Notes, fmt.Sprintf("%.0f iterations were dropped, and no latency counts them", dropped))
	}
	times := k.metrics["http_req_duration"]
	failed, counted, err := k.metrics["http_req_failed"].failures(n)
	if err != nil {
		return nil, err
	}
	if counted == 0 {
		s.Notes = append(s.Notes, "it did not record which requests failed")
		s.Outcomes[all] = report.Outcome{Name: all, Kind: load.Failure, Count: n, Latency: times.times(n)}
		return grade(s)
	}
	succeeded := report.Outcome{Name: string(load.Success), Kind: load.Success, Count: counted - failed}
	bad := report.Outcome{Name: string(load.Failure), Kind: load.Failure, Count: failed}
	untold := report.Outcome{Name: "not recorded", Kind: load.Failure, Count: n - counted}
	if untold.Count > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("it did not record whether %d of its requests failed: they are no evidence of success", untold.Count))
	}
	expected, split := k.metrics["http_req_duration{expected_response:true}"]
	switch {
	case failed == n:
		bad.Latency = times.times(n)
	case split:
		succeeded.Latency = expected.times(succeeded.Count)
	case float64(n-succeeded.Count) <= negligible*float64(n):
		succeeded.Latency = times.times(succeeded.Count)
	default:
		s.Notes = append(s.Notes, "its times are of successes and failures together, and given to neither")
	}
	for _, o := range []report.Outcome{succeeded, bad, untold} {
		if o.Count != 0 {
			s.Outcomes[o.Name] = o
		}
	}
	return grade(s)
}

// failures are how many requests failed by http_req_failed, of how many that it
// counted: none where it is not there. A script may leave some uncounted
// (responseCallback(null)), never count more than were sent.
func (v values) failures(sent int64) (failed, counted int64, err error) {
	// It is a rate of failures: its "passes" are the requests that did fail.
	bad := v.get("passes", "matches")
	if bad == nil {
		return 0, 0, nil
	}
	of := float64(sent)
	if total := v.get("total"); total != nil {
		of = *total
	} else if good := v.get("fails"); good != nil {
		of = *bad + *good
	}
	if *bad < 0 || *bad > of || of > float64(sent) {
		return 0, 0, fmt.Errorf("k6's summary contradicts itself: of %d requests %.0f failed, and http_req_failed counts %.0f", sent, *bad, of)
	}
	if rate := v.get("rate", "value"); rate != nil && math.Abs(*rate*of-*bad) > rounding*of {
		return 0, 0, fmt.Errorf("k6's summary contradicts itself: a share of %v failed, and %.0f of %.0f", *rate, *bad, of)
	}
	return int64(*bad), int64(of), nil
}
