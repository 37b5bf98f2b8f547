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
	if len(r.Checks) == 0 && r.Verdict == gate.Pass {
		word += " without gates"
	}
	success, n := load.NewDistribution(), map[load.Kind]int64{}
	for _, s := range r.Result.Series {
		n[s.Kind] += s.Count()
		if s.Kind == load.Success {
			success.Merge(s.Latency)
		}
	}
	parts := []string{"none succeeded"}
	if n[load.Success] > 0 {
		parts[0] = count(n[load.Success]) + " succeeded"
	}
	if p95 := quantile(success, 0.95); p95 != unknown {
		parts[0] += " (p95 " + p95 + ")"
	}
	if n[load.Expected] > 0 {
		parts = append(parts, count(n[load.Expected])+" were refused as expected")
	}
	parts = append(parts, count(n[load.Failure])+" failed")
	if r.Result.Unsent > 0 {
		parts = append(parts, count(r.Result.Unsent)+" were never sent")
	}
	last, end := len(parts)-1, "."
	if r.Result.Interrupted {
		end = "; the run was interrupted."
	}
	return fmt.Sprintf("%s: of %s requests %s and %s%s", word, count(r.Result.Scheduled), strings.Join(parts[:last], ", "), parts[last], end)
}
