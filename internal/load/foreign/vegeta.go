package foreign

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load"
	"gatehouse/internal/load/report"
)

// nanoseconds are how vegeta writes times.
type nanoseconds float64

func (n *nanoseconds) milliseconds() *float64 {
	if n == nil {
		return nil
	}
	ms := float64(*n) / 1e6
	return &ms
}

// readVegeta reads the report of vegeta report -type=json.
func readVegeta(data []byte) (*report.Summary, error) {
	var file struct {
		Latencies struct {
			Mean *nanoseconds `json:"mean"`
			P50  *nanoseconds `json:"50th"`
			P90  *nanoseconds `json:"90th"`
			P95  *nanoseconds `json:"95th"`
			P99  *nanoseconds `json:"99th"`
			Max  *nanoseconds `json:"max"`
			Min  *nanoseconds `json:"min"`
		} `json:"latencies"`
		Earliest time.Time        `json:"earliest"`
		Duration nanoseconds      `json:"duration"`
		Wait     nanoseconds      `json:"wait"`
		Requests int64            `json:"requests"`
		Rate     float64          `json:"rate"`
		Codes    map[string]int64 `json:"status_codes"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("vegeta's report: %w", err)
	}
	if file.Requests < 1 {
		return nil, fmt.Errorf("vegeta's report is of %d requests", file.Requests)
	}
	s := &report.Summary{
		Schema: report.Schema, ToolVersion: "vegeta", StartedAt: file.Earliest, DurationSeconds: float64(file.Duration+file.Wait) / 1e9,
		PlannedSeconds: float64(file.Duration) / 1e9, Rate: report.Rates{Achieved: file.Rate},
		Requests: report.Requests{Sent: file.Requests}, Outcomes: map[string]report.Outcome{},
		Notes: []string{"imported from vegeta: an open model unless its workers were bounded; its latency counts from the sending, not from when a request was due"},
	}
	l := file.Latencies
	times := report.Times{
		Min: l.Min.milliseconds(), Avg: l.Mean.milliseconds(), P50: l.P50.milliseconds(), P90: l.P90.milliseconds(),
		P95: l.P95.milliseconds(), P99: l.P99.milliseconds(), Max: l.Max.milliseconds(),
	}
	given := false
	for _, code := range slices.Sorted(maps.Keys(file.Codes)) {
		status, err := strconv.Atoi(code)
		if err != nil || status < 0 || status > 999 {
			return nil, fmt.Errorf("vegeta's report: %.40q is no status", code)
		}
		o := report.Outcome{Name: code, Kind: load.Failure, Count: file.Codes[code]}
		switch {
		case status == 0:
			o.Name = "error"
			s.Requests.Errors = o.Count
		case status >= 200 && status < 400: // its own reckoning
			o.Kind = load.Success
		}
		if float64(file.Requests-o.Count) <= negligible*float64(file.Requests) {
			o.Latency = enough(times, o.Count)
			given = true
		}
		s.Outcomes[o.Name] = o
	}
	s.Requests.Answered = s.Requests.Sent - s.Requests.Errors
	if !given {
		s.Notes = append(s.Notes, "its times are of all statuses together, and given to none")
	}
	return grade(s)
}
