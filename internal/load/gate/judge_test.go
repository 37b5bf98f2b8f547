package gate_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// usual is what a plan of sign-ups asks.
var usual = []string{"created.latency.p95 < 100ms", "failure.share_excl_expected < 0.10"}

// late makes n of the requests leave so much after they were due.
func late(n int, by time.Duration) func(*load.Result) {
	return func(r *load.Result) {
		r.Lag = times(int(r.Sent)-n, 50*time.Microsecond)
		r.Lag.Merge(times(n, by))
	}
}

// cutOff is what an interruption ended.
func cutOff(n int) *load.Series {
	return series("onboard", load.Interrupted, load.Interrupted, load.Failure, n, time.Second)
}

func TestJudge(t *testing.T) {
	up := gate.Check{Name: "the target stayed up", Unit: gate.Truth, Verdict: gate.Pass}
	down := gate.Check{Name: "the target stayed up", Unit: gate.Truth, Observed: new(float64), Verdict: gate.Fail}
	unknown := gate.Check{Name: "limited latency p95 against x", Verdict: gate.Inconclusive, Why: "needs 72, had 3"}
	tests := []struct {
		name    string
		gates   []string
		result  *load.Result
		extra   []gate.Check
		verdict gate.Verdict
		reasons []string // how each begins
	}{
		{"all is well", usual, result(created(1000)), nil, gate.Pass, nil},
		{"only refusals", usual, result(limited(1000)), nil, gate.Inconclusive, []string{
			"too few successes: none of 1,000 requests succeeded",
			"created latency p95 can't be told: needs 72, had 0",
			"failure share without expected can't be told: all answers were expected ones",
		}},
		{"a dead target", usual, result(refused(1000)), nil, gate.Fail, []string{
			"failure share without expected is 100 %: failure.share_excl_expected < 0.10 does not hold",
			"too few successes: none", "created latency p95 can't",
		}},
		{"a dead target and unsent", usual, with(result(refused(900)), unsent(100)), nil, gate.Fail, []string{
			"failure share without expected is 90 %", "too few successes: none", "the offered rate was not reached: 900 of 1,000 requests (90 %) were sent", "created",
		}},
		{"a target that hangs halfway fills the places in flight", usual, with(result(created(500), refused(400)), unsent(100)), nil, gate.Fail, []string{
			"failure share", "the offered rate was not reached",
		}},
		{"unsent while the target answered", usual, with(result(created(998)), unsent(2)), nil, gate.Inconclusive, []string{
			"the generator was the bottleneck: 2 of 1,000 requests (0.20 %) were never sent while the target answered",
		}},
		{"one in a thousand may be unsent", usual, with(result(created(999)), unsent(1)), nil, gate.Pass, nil},
		{"one in ten unanswered still answers", usual, with(result(created(900), refused(100)), unsent(2)), nil, gate.Inconclusive, []string{
			"the generator was the bottleneck: 2 of 1,002", // the share of failures is below a tenth
		}},
		{"stalled for a second", usual, with(result(created(1000)), late(100, time.Second)), nil, gate.Inconclusive, []string{
			"the generator was the bottleneck: its lag had a p99 of 1,000 ms, more than a tenth of the gate created.latency.p95 < 100ms",
		}},
		{"stalled, and gates failed by it", []string{"created.latency.p95 < 1ms"}, with(result(created(1000)), late(100, time.Second)), nil, gate.Inconclusive, []string{
			"the generator was the bottleneck", "created latency p95 is 5.00 ms: created.latency.p95 < 1ms does not hold",
		}},
		{"lag of exactly a tenth", usual, with(result(created(1000)), late(20, 10*time.Millisecond)), nil, gate.Pass, nil},
		{"lag of more than a tenth", usual, with(result(created(1000)), late(20, 10100*time.Microsecond)), nil, gate.Inconclusive, []string{"the generator was the bottleneck: its lag had a p99 of 10.10 ms"}},
		{"lag of exactly 2 ms", []string{"created.latency.p95 < 6ms"}, with(result(created(1000)), late(20, 2*time.Millisecond)), nil, gate.Pass, nil},
		{"the tightest gate decides", append(usual, "created.latency.p90 < 30ms"), with(result(created(1000)), late(20, 4*time.Millisecond)), nil, gate.Inconclusive, []string{
			"the generator was the bottleneck: its lag had a p99 of 4.00 ms, more than a tenth of the gate created.latency.p90",
		}},
		{"a lower bound is no tight gate", append(usual, "created.latency.p90 > 1ms"), with(result(created(1000)), late(20, 4*time.Millisecond)), nil, gate.Pass, nil},
		{"lag where no time is gated", []string{"created.count > 1"}, with(result(created(1000)), late(20, 3*time.Millisecond)), nil, gate.Inconclusive, []string{
			"the generator was the bottleneck: its lag had a p99 of 3.00 ms",
		}},
		{"lag beyond p99 where p99 is gated", []string{"created.latency.p99 < 20ms"}, with(result(created(4000)), late(8, time.Second)), nil, gate.Pass, nil},
		{"lag beyond p99 where p99.9 is gated", []string{"created.latency.p99.9 < 20ms"}, with(result(created(4000)), late(8, time.Second)), nil, gate.Inconclusive, []string{
			"the generator was the bottleneck: its lag had a p99.9 of 1,000 ms, more than a tenth of the gate created.latency.p99.9 < 20ms",
		}},
		{"lag of one where the longest is gated", []string{"created.latency.max < 20ms"}, with(result(created(4000)), late(1, time.Second)), nil, gate.Inconclusive, []string{
			"the generator was the bottleneck: its lag had a max of 1,000 ms",
		}},
		{"own errors", usual, with(result(created(998), refused(2)), func(r *load.Result) { r.Generator.OwnErrors = 2 }), nil, gate.Inconclusive, []string{
			"the generator was the bottleneck: 2 of 1,000 requests (0.20 %) failed for want of ports",
		}},
		{"one own error in a thousand", usual, with(result(created(999), refused(1)), func(r *load.Result) { r.Generator.OwnErrors = 1 }), nil, gate.Pass, nil},
		{"72 successes are enough", usual, result(created(72)), nil, gate.Pass, nil},
		{"71 are not", usual, result(created(71)), nil, gate.Inconclusive, []string{"too few successes: created latency p95 needs 72, had 71"}},
		{"nor for the kind", []string{"success.service.p95 < 1s"}, result(created(71)), nil, gate.Inconclusive, []string{"too few successes: success service p95 needs 72, had 71"}},
		{"too few refusals are no lack of successes", []string{"limited.latency.p95 < 1s"}, result(created(99), limited(71)), nil, gate.Inconclusive, []string{
			"limited latency p95 can't be told: needs 72, had 71",
		}},
		{"99 in a hundred sent, none unsent", usual, with(result(created(990)), func(r *load.Result) { r.Scheduled = 1000 }), nil, gate.Pass, nil},
		{"fewer", usual, with(result(created(989)), func(r *load.Result) { r.Scheduled = 1000 }), nil, gate.Inconclusive, []string{
			"the offered rate was not reached: 989 of 1,000 requests (98.90 %) were sent",
		}},
		{"interrupted", usual, with(result(created(500)), interrupted), nil, gate.Inconclusive, []string{"the run was interrupted after 10s of 10s"}},
		{"interrupted with some yet to be sent", usual, with(with(result(created(500)), interrupted), func(r *load.Result) { r.Scheduled, r.Unsent = 520, 20 }), nil, gate.Inconclusive, []string{"the run was interrupted after 10s of 10s"}},
		{"interrupted after a failure", usual, with(result(created(500), refused(500)), interrupted), nil, gate.Fail, []string{"failure share", "the run was interrupted"}},
		{"the caller's check fails", usual, result(created(500)), []gate.Check{down}, gate.Fail, []string{"the target stayed up: no"}},
		{"the caller's check can't tell", usual, result(created(500)), []gate.Check{unknown}, gate.Inconclusive, []string{"limited latency p95 against x can't be told: needs 72, had 3"}},
		{"no gates, all well", nil, result(created(5), limited(5)), nil, gate.Pass, nil},
		{"no gates, a failure", nil, result(created(5), refused(5)), nil, gate.Inconclusive, []string{"5 of 10 requests (50 %) failed, and no gate says how many may"}},
		{"no gates, a failure, and another check", nil, result(created(5), refused(5)), []gate.Check{up}, gate.Inconclusive, []string{"5 of 10 requests (50 %) failed, and no gate says how many may"}},
		{"a dead target that was asked late", usual, with(result(refused(1000)), late(100, time.Second)), nil, gate.Fail, []string{"failure share", "too few successes: none", "created latency p95"}},
		{"interrupted, which cut many off", usual, with(result(created(500), cutOff(400)), interrupted), nil, gate.Inconclusive, []string{"the run was interrupted"}},
		{"nothing at all", nil, result(), nil, gate.Inconclusive, []string{"too few successes: none of 0"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := gates(t, tt.gates...)
			verdict, reasons := gate.Judge(tt.result, g, slices.Concat(gate.Evaluate(g, tt.result), tt.extra))
			same := slices.EqualFunc(reasons, tt.reasons, strings.HasPrefix)
			if verdict != tt.verdict || !same {
				t.Errorf("%s\n%s\nwant %s\n%s", verdict, strings.Join(reasons, "\n"), tt.verdict, strings.Join(tt.reasons, "\n"))
			}
		})
	}
}
