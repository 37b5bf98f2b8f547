package report

import (
	"fmt"
	"strings"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// Headline is the run in one sentence, verdict first:
// "PASS: of 1,200 requests 1,099 succeeded (p95 2.10 ms), 100 were refused as expected and 1 failed."
func Headline(r *Run) string {
	word := strings.ToUpper(string(r.Verdict))
	if r.Gates == 0 && r.Verdict == gate.Pass {
		word += " without gates"
	}
	const cutOff load.Kind = "cut off" // by who interrupted the run: the target did not fail
	success, n := load.NewDistribution(), map[load.Kind]int64{}
	for _, s := range r.Result.Series {
		switch {
		case s.Key == load.Interrupted:
			n[cutOff] += s.Count()
			continue
		case s.Kind == load.Success:
			success.Merge(s.Latency)
		}
		n[s.Kind] += s.Count()
	}
	parts := []string{"none succeeded"}
	if n[load.Success] > 0 {
		parts[0] = count(n[load.Success]) + " succeeded"
	}
	if p95 := quantile(success, 0.95); p95 != unknown {
		parts[0] += " (p95 " + p95 + ")"
	}
	also := func(n int64, what string) {
		if n > 0 {
			parts = append(parts, count(n)+what)
		}
	}
	also(n[load.Expected], " were refused as expected")
	parts = append(parts, count(n[load.Failure])+" failed")
	also(n[cutOff], " were cut off")
	also(r.Result.Unsent, " were never sent")
	last, end := len(parts)-1, "."
	if r.Result.Interrupted {
		end = "; the run was interrupted."
	}
	return fmt.Sprintf("%s: of %s requests %s and %s%s", word, count(r.Result.Scheduled), strings.Join(parts[:last], ", "), parts[last], end)
}
