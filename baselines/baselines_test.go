package baselines_test

import (
	"slices"
	"strings"
	"testing"

	"gatehouse/baselines"
	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/report"
)

// TestTheReferenceRuns holds them to what was measured, and to what they may
// not claim: a success, or a percentile nobody wrote down.
func TestTheReferenceRuns(t *testing.T) {
	tests := []struct {
		name    string
		sent    int64
		limited int64
		p95     float64
	}{
		{"reference-production-2025-11-03", 191063, 190973, 6.42},
		{"reference-staging-2025-10-30", 364725, 364635, 20.77},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if !slices.Contains(baselines.Names(), tt.name) {
				t.Errorf("%q lacks it", baselines.Names())
			}
			text, ok := baselines.Named(tt.name)
			if !ok {
				t.Fatal("there is none")
			}
			s, err := report.ReadSummary(text)
			if err != nil {
				t.Fatal(err)
			}
			limited, invalid := s.Outcomes["429"], s.Outcomes["422"]
			if s.Requests.Sent != tt.sent || limited.Count != tt.limited || limited.Count+invalid.Count != tt.sent || *limited.Latency.P95 != tt.p95 {
				t.Errorf("sent %d, limited %d with p95 %v, invalid %d", s.Requests.Sent, limited.Count, *limited.Latency.P95, invalid.Count)
			}
			if limited.Latency.P99 != nil || invalid.Latency != (report.Times{}) || limited.Kind != load.Expected {
				t.Error("it knows more than was written down")
			}
			notes := strings.Join(s.Notes, "\n")
			if s.Verdict != gate.Inconclusive || !strings.Contains(notes, "summary only") || !strings.Contains(notes, "refusals only") {
				t.Errorf("it is %s with the notes\n%s", s.Verdict, notes)
			}
		})
	}
}

func TestNamedKnowsNoOther(t *testing.T) {
	for _, name := range []string{"", "reference", "../plans/onboarding", "reference-production-2025-11-03.json"} {
		if _, ok := baselines.Named(name); ok {
			t.Errorf("there is one named %q", name)
		}
	}
	if n := len(baselines.Names()); n != 2 {
		t.Errorf("there are %d", n)
	}
}
