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
	res := r.Result
	var b strings.Builder
	b.WriteString(strings.ToUpper(string(r.Verdict)))
	if len(r.Checks) == 0 && r.Verdict == gate.Pass {
		b.WriteString(" without gates")
	}
	fmt.Fprintf(&b, ": of %s requests ", count(res.Scheduled))
	success := ofKind(res, load.Success)
	if success.Count() == 0 {
		b.WriteString("none succeeded")
	} else {
		fmt.Fprintf(&b, "%s succeeded", count(success.Count()))
		if t, ok := success.Quantile(0.95); ok {
			fmt.Fprintf(&b, " (p95 %s)", ms(t))
		}
	}
	expected, failed := ofKind(res, load.Expected).Count(), ofKind(res, load.Failure).Count()
	parts := []string{}
	if expected > 0 {
		parts = append(parts, count(expected)+" were refused as expected")
	}
	parts = append(parts, count(failed)+" failed")
	if res.Unsent > 0 {
		parts = append(parts, count(res.Unsent)+" were never sent")
	}
	for i, p := range parts {
		sep := ", "
		if i == len(parts)-1 {
			sep = " and "
		}
		b.WriteString(sep + p)
	}
	if res.Interrupted {
		b.WriteString("; the run was interrupted")
	}
	b.WriteByte('.')
	return b.String()
}
