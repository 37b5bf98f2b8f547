package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// try runs the scenario on a fake in a bubble's time.
func try(t *testing.T, seed uint64, limit int, window time.Duration, shape func(*fake)) (found []Finding, e *Evidence, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(seed, limit, window)
		alone := true
		if shape != nil {
			shape(f)
			alone = f.others == 0
		}
		targets := []string{"one", "two", "three"}[:f.nodes]
		policy := Policies()[0]
		policy.customer = f.keys > 0
		e, err = Try(t.Context(), Subject{Policy: policy, Keys: f.keys, Targets: targets, Alone: alone, Windows: 5, Send: f.send})
		if err == nil {
			found = Judge(e)
			if took := time.Since(f.began); took > 5*window+5*time.Second && !slices.ContainsFunc(found, func(f Finding) bool { return f.Verdict == Violated }) {
				t.Errorf("seed %d: it took %s for a window of %s", seed, took, window)
			}
			if took := time.Since(f.began); took > 10*window+10*time.Second {
				t.Errorf("seed %d: it took %s for a window of %s, whatever it was told", seed, took, window)
			}
			if f.asked < 100 {
				t.Errorf("it asked only %d times: a sign-up for a key is more than a hundredth of that", f.asked)
			}
		}
	})
	return found, e, err
}

// verdicts are the findings' by name.
func verdicts(found []Finding) map[string]Finding {
	by := map[string]Finding{}
	for _, f := range found {
		by[f.Property] = f
	}
	return by
}

func TestATrueLimiterPassesAHundredRuns(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		limit, window := []int{10, 1, 3, 60}[seed%4], []time.Duration{60 * time.Second, 2 * time.Second, 1500 * time.Millisecond, 10 * time.Second}[seed/4%4]
		found, e, err := try(t, seed, limit, window, func(f *fake) {
			f.nodes, f.keys, f.skew = 1+int(seed%3), int(seed%2)*2, time.Duration(seed)*time.Minute-50*time.Minute
		})
		if err != nil {
			t.Fatal(err)
		}
		if e.Window != window || e.Stopped != "" || e.Taken != 0 {
			t.Errorf("seed %d: window %s, stopped %q, %d taken before; want %s and a whole run", seed, e.Window, e.Stopped, e.Taken, window)
		}
		for _, f := range found {
			if f.Verdict != Proved {
				t.Errorf("seed %d, %d in %s: %s is %s: %s", seed, limit, window, f.Property, f.Verdict, f.Why)
			}
		}
	}
}

func TestLiarsAreCaught(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, property string
		shape          func(*fake)
	}{
		{"admits one more", "engages exactly at the limit", func(f *fake) { f.oneMore = true }},
		{"admits the limit on each node", "one limit over all targets", func(f *fake) { f.perNode, f.nodes = true, 3 }},
		{"admits the limit with each key", "one limit over all keys", func(f *fake) { f.perKey, f.keys = true, 2 }},
		{"does so on several nodes", "one limit over all keys", func(f *fake) { f.perKey, f.keys, f.nodes = true, 2, 2 }},
		{"counts by the clock", "never more than the limit in any window", func(f *fake) { f.aligned = true }},
		{"counts from the first request", "never more than the limit in any window", func(f *fake) { f.fromFirst = true }},
		{"estimates between two windows", "never more than the limit in any window", func(f *fake) { f.weighted = true }},
		{"is a bucket", "never more than the limit in any window", func(f *fake) { f.bucket = true }},
		{"lets refusals take places", "refusals extend nothing", func(f *fake) { f.extends = true }},
		{"lets refusals begin the wait anew", "refusals extend nothing", func(f *fake) { f.resets = true }},
		{"says to come back too early", "Retry-After is true", func(f *fake) { f.hasty = true }},
		{"says to come back too late", "Retry-After is true", func(f *fake) { f.sluggish = true }},
		{"frees places late", "places come back after a window", func(f *fake) { f.stingy = true }},
		{"believes header fields", "header fields buy nothing", func(f *fake) { f.spoofable = true }},
		{"counts wrongly", "Remaining is right", func(f *fake) { f.miscounts = true }},
		{"says something else", "code and message of refusals", func(f *fake) { f.mute = true }},
		{"refuses without header fields", "header fields", func(f *fake) { f.plain = true }},
		{"refuses slowly", "refusals are fast", func(f *fake) { f.slow = time.Second }},
		{"forgets at a restart", "never more than the limit in any window", func(f *fake) { f.forgets = f.window / 2 }},
		{"forgets at a later restart", "never more than the limit in any window", func(f *fake) { f.forgets = f.window * 19 / 10 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(10) {
				for _, window := range []time.Duration{time.Minute, 4 * time.Second} {
					found, _, err := try(t, seed, 10, window, tt.shape)
					if err != nil {
						t.Fatal(err)
					}
					f := verdicts(found)[tt.property]
					if f.Verdict != Violated || f.Why == "" || len(f.Witness) == 0 && tt.name != "refuses slowly" {
						t.Fatalf("seed %d, window %s: %q is %s with %d witnesses (%s); want violated. All: %v", seed, window, tt.property, f.Verdict, len(f.Witness), f.Why, brieflyAll(found))
					}
				}
			}
		})
	}
}

func brieflyAll(found []Finding) string {
	var b strings.Builder
	for _, f := range found {
		b.WriteString("\n  " + f.Property + ": " + string(f.Verdict) + ": " + f.Why)
	}
	return b.String()
}

// A window that is two in a hundred too short is told from a true one, where the
// network lets it: else it is not proved.
func TestAShortWindow(t *testing.T) {
	t.Parallel()
	const property = "never more than the limit in any window"
	for seed := range uint64(10) {
		for _, window := range []time.Duration{time.Minute, 10 * time.Second} {
			found, _, err := try(t, seed, 10, window, func(f *fake) { f.short = window / 50 })
			if err != nil {
				t.Fatal(err)
			}
			if f := verdicts(found)[property]; f.Verdict != Violated || len(f.Witness) != 11 {
				t.Errorf("seed %d, window %s: %s with %d witnesses (%s); want violated by 11. All: %v", seed, window, f.Verdict, len(f.Witness), f.Why, brieflyAll(found))
			}
		}
		found, _, err := try(t, seed, 10, 10*time.Second, func(f *fake) { f.short, f.crawls = time.Second, 300*time.Millisecond })
		if err != nil {
			t.Fatal(err)
		}
		if f := verdicts(found)[property]; f.Verdict == Proved {
			t.Errorf("seed %d, slow answers, a second too short: %+v; want it not proved", seed, f)
		}
	}
}

// Refusals that are slower than what is admitted, but not most and by far, are
// neither.
func TestSlowRefusals(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limit int
		slow  time.Duration
		want  Verdict
		why   string
	}{
		{10, 0, Proved, " of 33 admitted"},
		{10, 110 * time.Millisecond, Undecidable, "more than twice the median, and 100ms"},
		{60, 5 * time.Millisecond, Proved, " and a p95 of "},
		{60, 110 * time.Millisecond, Undecidable, "more than twice the median, and 100ms"},
		{60, time.Second, Violated, " and a p95 of "},
	} {
		for seed := range uint64(10) {
			found, _, err := try(t, seed, tt.limit, 10*time.Second, func(f *fake) { f.slow = tt.slow })
			if err != nil {
				t.Fatal(err)
			}
			if f := verdicts(found)["refusals are fast"]; f.Verdict != tt.want || !strings.Contains(f.Why, tt.why) {
				t.Errorf("limit %d, %s slower: %s: %s; want %s, %q", tt.limit, tt.slow, f.Verdict, f.Why, tt.want, tt.why)
			}
		}
	}
}

// What can't be told is not called violated, and says why.
func TestTroubleIsUndecidable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, property, why string
		shape               func(*fake)
	}{
		{"answers slower than the window", "engages exactly at the limit", "and the window is 10s", func(f *fake) { f.crawls = 6 * time.Second }},
		{"too slow to see too many", "never more than the limit in any window", "within so short a time", func(f *fake) { f.crawls = 6 * time.Second }},
		{"too slow to see them over targets", "one limit over all targets", "within so short a time", func(f *fake) { f.crawls, f.nodes = 6*time.Second, 2 }},
		{"the target's clock is set", "header fields", "clock may have been set", func(f *fake) { f.setAt = 8 * time.Second }},
		{"it tells another Reset, or another time", "header fields", "clock may have been set", func(f *fake) { f.misresets = true }},
		{"others use the key", "places come back after a window", "others may have used the same key", func(f *fake) { f.others = 3 * time.Second }},
		{"the key is revoked during the run", "places come back after a window", "401 INVALID_API_KEY", func(f *fake) { f.revoked = 8 * time.Second }},
		{"one of three targets is dead", "one limit over all targets", "two was given up: connection refused", func(f *fake) { f.nodes, f.dead = 3, 2 }},
		{"one dies during the run", "one limit over all targets", "two was given up: connection refused", func(f *fake) { f.nodes, f.dead, f.diesAt = 3, 2, 6*time.Second }},
		{"all die during the run", "places come back after a window", "no target answers any more", func(f *fake) { f.dead, f.diesAt = 1, 6*time.Second }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(10) {
				var found []Finding
				synctest.Test(t, func(t *testing.T) {
					f := newFake(seed, 10, 10*time.Second)
					tt.shape(f)
					e, err := Try(t.Context(), Subject{Policy: Policies()[0], Targets: []string{"one", "two", "three"}[:f.nodes], Alone: f.others == 0, Windows: 5, Send: f.send})
					if err != nil {
						t.Fatal(err)
					}
					found = Judge(e)
				})
				for _, f := range found {
					if f.Verdict == Violated {
						t.Errorf("seed %d: %s is violated: %s", seed, f.Property, f.Why)
					}
				}
				if f := verdicts(found)[tt.property]; f.Verdict != Undecidable || !strings.Contains(f.Why, tt.why) {
					t.Fatalf("seed %d: %s is %s: %q; want undecidable, %q%s", seed, tt.property, f.Verdict, f.Why, tt.why, brieflyAll(found))
				}
			}
		})
	}
}

// A target that is killed and comes back is waited for, in whichever step, and
// what it was to be asked then it is asked.
func TestPatience(t *testing.T) {
	t.Parallel()
	for step, away := range map[string]struct{ from, to time.Duration }{
		"opening":      {0, 3 * time.Second},
		"first return": {9500 * time.Millisecond, 12 * time.Second},
		"fill":         {15 * time.Second, 18 * time.Second},
		"brink":        {19700 * time.Millisecond, 21 * time.Second},
		"freed":        {20 * time.Second, 21 * time.Second},
	} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(1, 10, 10*time.Second)
				f.dead, f.diesAt, f.backAt = 1, away.from, away.to
				e, err := Try(t.Context(), Subject{Policy: Policies()[0], Targets: []string{"one"}, Alone: true, Windows: 1, Patience: 30 * time.Second, Send: f.send})
				if err != nil {
					t.Fatal(err)
				}
				for _, f := range Judge(e) {
					if f.Verdict != Proved || e.Stopped != "" {
						t.Errorf("stopped %q: %s is %s: %s", e.Stopped, f.Property, f.Verdict, f.Why)
					}
				}
			})
		})
	}
}

// A single request that could not be sent is for another target to answer.
func TestADeadTargetSkipsNoStep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(1, 10, 10*time.Second)
		s := &scenario{epoch: f.began, subject: Subject{Send: f.send}, Evidence: Evidence{Policy: Policies()[0], Dead: make([]string, 2)}}
		f.nodes, f.dead = 2, 2
		if err := s.sendOnce(t.Context(), retry, 1, 0); err != nil || len(s.Attempts) != 1 || s.Dead[1] == "" {
			t.Errorf("%v, %d answers; want the living target's", err, len(s.Attempts))
		}
		f.dead = 1
		if err := s.sendOnce(t.Context(), retry, 1, 0); !errors.Is(err, errEnough) || !strings.HasPrefix(s.Stopped, "no target answers any more: ") {
			t.Errorf("%v, stopped %q; want it to end", err, s.Stopped)
		}
	})
}

// A window that somebody has begun is left to end first, and that is told.
func TestAUsedWindowIsRested(t *testing.T) {
	t.Parallel()
	for _, used := range []int{1, 5, 10} {
		found, e, err := try(t, 1, 10, 10*time.Second, func(f *fake) { f.usedBefore, f.nodes = used, 2 })
		if err != nil {
			t.Fatal(err)
		}
		trial := newTrial("onboarding", true, e, nil)
		if text, err := pagesOf(trial); err != nil || trial.Taken != used || strings.Count(text, fmt.Sprintf("%d of 10 places were taken by others", used)) != 2 {
			t.Errorf("%d used: it tells %d, and %q: %v\n%s", used, trial.Taken, trial.Note, err, text)
		}
		if e.Alone {
			t.Errorf("%d used: nobody else can have used it, it says", used)
		}
		if e.Attempts[0].Sent < 10*time.Second {
			t.Errorf("%d used: the evidence begins at %s, want a window later", used, e.Attempts[0].Sent)
		}
		for _, f := range found {
			if f.Verdict != Proved {
				t.Errorf("%d used: %s is %s: %s", used, f.Property, f.Verdict, f.Why)
			}
		}
	}
}

// pagesOf are the two that people read.
func pagesOf(t *Trial) (string, error) {
	var b strings.Builder
	p := &page{Summary: &Summary{Policies: []*Trial{t}}}
	err := errors.Join(markdownTemplate.Execute(&b, p), pageTemplate.Execute(&b, p))
	return b.String(), err
}

func TestUntried(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, why string
		tooLong   bool
		shape     func(*fake)
	}{
		{"off", "it is off", false, func(f *fake) { f.off = true }},
		{"dead", "no target answers: connection refused", false, func(f *fake) { f.dead = 1 }},
		{"a limit that nobody could fill", "its limit, 1000000 in 1m0s, is more than verify tries", false, func(f *fake) { f.limit = 1_000_000 }},
		{"the key is unknown", "401 INVALID_API_KEY", false, func(f *fake) { f.revoked = 1 }},
		{"a window that nobody waits for unasked", "its window is 1h0m0s: name it with --policy onboarding", true, func(f *fake) { f.window = time.Hour }},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(1, 10, time.Minute)
			tt.shape(f)
			_, err := Try(t.Context(), Subject{Policy: Policies()[0], Targets: []string{"one"}, Longest: longest, Send: f.send})
			untried, ok := errors.AsType[*UntriedError](err)
			if !ok || !strings.Contains(untried.Why, tt.why) || untried.TooLong != tt.tooLong {
				t.Errorf("%s: %+v; want %q", tt.name, err, tt.why)
			}
		})
	}
}

// An interrupted scenario ends at once, and what it has seen stands.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{30 * time.Second, 80 * time.Second} { // among refusals, and before the second window is filled
		synctest.Test(t, func(t *testing.T) { interrupt(t, after) })
	}
}

func interrupt(t *testing.T, after time.Duration) {
	f := newFake(1, 10, time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), after)
	defer cancel()
	e, err := Try(ctx, Subject{Policy: Policies()[0], Targets: []string{"one"}, Alone: true, Windows: 5, Send: f.send})
	if err != nil {
		t.Fatal(err)
	}
	by := verdicts(Judge(e))
	if f := by["engages exactly at the limit"]; f.Verdict != Proved {
		t.Errorf("%+v; want it proved before", f)
	}
	if f := by["places come back after a window"]; f.Verdict != Undecidable || f.Why != "it was interrupted" {
		t.Errorf("%+v; want it undecidable", f)
	}
	if trial := newTrial("onboarding", true, e, nil); trial.Verdict != Undecidable || trial.Ended != "it was interrupted" {
		t.Errorf("%+v; want it not proved by half", trial)
	}
	if took := time.Since(f.began); took != after {
		t.Errorf("it took %s, want it to end at once", took)
	}
}
