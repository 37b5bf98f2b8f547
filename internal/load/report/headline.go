package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// Headline is the run in one sentence, verdict first:
// "PASS: of 1,200 requests 1,099 succeeded (p95 2.10 ms), 100 were refused as expected and 1 failed."
func Headline(s *Summary) string {
	word := strings.ToUpper(string(s.Verdict))
	if s.WithoutGates && s.Verdict == gate.Pass {
		word += " without gates"
	}
	const cutOff load.Kind = "cut off" // by who interrupted the run: the target did not fail
	n := map[load.Kind]int64{}
	for key, o := range s.Outcomes {
		if key == load.Interrupted {
			o.Kind = cutOff
		}
		n[o.Kind] += o.Count
	}
	parts := []string{"none succeeded"}
	if n[load.Success] > 0 {
		parts[0] = count(n[load.Success]) + " succeeded"
	}
	if s.SuccessP95 != nil {
		parts[0] += " (p95 " + known(gate.Milliseconds, s.SuccessP95) + ")"
	}
	also := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, count(n)+what)
		}
	}
	also(n[load.Expected], " were refused as expected")
	parts = append(parts, count(n[load.Failure])+" failed")
	also(n[cutOff], " were cut off")
	also(s.Requests.Unsent, " were never sent")
	last, end := len(parts)-1, "."
	if s.Interrupted {
		end = "; the run was interrupted."
	}
	return fmt.Sprintf("%s: of %s requests %s and %s%s", word, count(s.Requests.Scheduled), strings.Join(parts[:last], ", "), parts[last], end)
}

// MostFailures says how most of the requests ended that failed, with an example;
// "" where none did.
func MostFailures(s *Summary) string {
	var failed, most int64
	var worst Outcome
	for _, key := range slices.Sorted(maps.Keys(s.Outcomes)) {
		if o := s.Outcomes[key]; o.Kind == load.Failure && key != load.Interrupted {
			if failed += o.Count; o.Count > most {
				worst, most = o, o.Count
			}
		}
	}
	if failed == 0 {
		return ""
	}
	text := fmt.Sprintf("of %s failures %s were %s", count(failed), count(most), worst.Name)
	if worst.Example != "" {
		text += ", such as " + load.Clean(strings.Join(strings.Fields(worst.Example), " "), 120)
	}
	return text
}
