package verify

import (
	"slices"
	"testing"
	"time"
)

// at is an attempt from one second of a window of ten to another.
func at(n int, sent, received float64, o Outcome) Attempt {
	second := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	return Attempt{Ask: Ask{N: n}, Phase: burst, Sent: second(sent), Received: second(received), Outcome: o, Answer: Answer{Remaining: -1, RetryAfter: -1}}
}

func with(a Attempt, change func(*Attempt)) Attempt {
	change(&a)
	return a
}

func left(n int) func(*Attempt)          { return func(a *Attempt) { a.Remaining = n } }
func waits(seconds int) func(*Attempt)   { return func(a *Attempt) { a.RetryAfter = seconds } }
func gateway(a *Attempt)                 { a.Status = 504 }
func lost(a *Attempt)                    { a.Err = "timeout" }
func atTarget(target int) func(*Attempt) { return func(a *Attempt) { a.Target = target } }

// The limit is 2 in 10 s. Each violation has beside it what excuses it.
func TestJudge(t *testing.T) {
	t.Parallel()
	const over, back, wait, remain, one = "never more than the limit in any window", "places come back after a window", "Retry-After is true", "Remaining is right", "one limit over all targets"
	for _, tt := range []struct {
		name, property string
		violated       bool
		witness        []int
		attempts       []Attempt
	}{
		{"three fit in a window", over, true, []int{1, 2, 3}, []Attempt{at(1, 0, 1, Admitted), at(2, 1, 2, Admitted), at(3, 8, 9.9, Admitted)}},
		{"the third may have come a window later", over, false, nil, []Attempt{at(1, 0, 1, Admitted), at(2, 1, 2, Admitted), at(3, 8, 10, Admitted)}},
		{"or the clocks differ", over, false, nil, []Attempt{at(1, 0, 1, Admitted), at(2, 1, 2, Admitted), at(3, 8, 9.995, Admitted)}},
		{"the third was refused", over, false, nil, []Attempt{at(1, 0, 1, Admitted), at(2, 1, 2, Admitted), at(3, 8, 9, Denied)}},
		{"two of three have left", over, true, []int{2, 3, 4}, []Attempt{at(1, 0, 1, Admitted), at(2, 5, 6, Admitted), at(3, 9, 12, Admitted), at(4, 13, 14, Admitted)}},

		{"refused with one place taken", back, true, []int{1, 2}, []Attempt{at(1, 0, 1, Admitted), at(2, 2, 3, Denied)}},
		{"refused with both taken", back, false, nil, []Attempt{at(1, 0, 1, Admitted), at(2, 0, 1, Admitted), at(3, 2, 3, Denied)}},
		{"refused after one has left", back, true, []int{2, 3}, []Attempt{at(1, 0, 1, Admitted), at(2, 5, 6, Admitted), at(3, 11.1, 12, Denied)}},
		{"refused as one left", back, false, nil, []Attempt{at(1, 0, 1, Admitted), at(2, 5, 6, Admitted), at(3, 11, 12, Denied)}},
		{"refused as another was let in", back, false, nil, []Attempt{at(1, 0, 1, Admitted), at(2, 2, 4, Admitted), at(3, 3, 3.5, Denied)}},
		{"refused while one has no answer", back, false, nil, []Attempt{with(at(1, 0, 1, Unclear), lost), at(2, 5, 6, Admitted), at(3, 30, 31, Denied), at(4, 20, 21, Admitted)}},

		{"refused while one may wait behind a proxy that gave up", back, false, nil, []Attempt{with(at(1, 0, 1, Unclear), gateway), at(2, 5, 6, Admitted), at(3, 12, 13, Denied)}},

		{"refused after the wait", wait, true, []int{3, 4}, []Attempt{at(1, 0, 1, Admitted), at(2, 0, 1, Admitted), with(at(3, 2, 3, Denied), waits(5)), at(4, 8.1, 8.2, Denied)}},
		{"refused before the wait was over", wait, false, nil, []Attempt{at(1, 0, 1, Admitted), at(2, 0, 1, Admitted), with(at(3, 2, 3, Denied), waits(5)), at(4, 8, 8.2, Denied)}},
		{"refused since another took the place", wait, false, nil, []Attempt{at(1, 0, 1, Admitted), at(2, 0, 1, Admitted), with(at(3, 2, 3, Denied), waits(9)), at(4, 11.1, 11.3, Admitted), at(5, 11.2, 11.4, Admitted), at(6, 13, 13.1, Denied)}},
		{"told to wait too long", wait, true, []int{1, 3}, []Attempt{at(1, 0, 1, Admitted), at(2, 0, 1, Admitted), with(at(3, 4, 5, Denied), waits(10))}},
		{"told to wait for ages", wait, true, []int{1, 3}, []Attempt{at(1, 0, 1, Admitted), at(2, 0, 1, Admitted), with(at(3, 4, 5, Denied), waits(1<<31-1)), at(4, 6, 7, Denied)}},
		{"told to wait as long as may be", wait, false, nil, []Attempt{at(1, 0, 1, Admitted), at(2, 0, 1, Admitted), with(at(3, 4, 5, Denied), waits(9))}},

		{"more remain than can", remain, true, []int{1, 2}, []Attempt{at(1, 0, 1, Admitted), with(at(2, 2, 3, Admitted), left(1))}},
		{"the first may not have been counted yet", remain, false, nil, []Attempt{at(1, 0, 3, Admitted), with(at(2, 2, 3, Admitted), left(1))}},
		{"fewer remain than must", remain, true, []int{1}, []Attempt{with(at(1, 2, 3, Admitted), left(0))}},
		{"one without an answer may have taken it", remain, false, nil, []Attempt{with(at(1, 0, 1, Unclear), lost), with(at(2, 2, 3, Admitted), left(0))}},
		{"two are told the same", remain, true, []int{1, 2}, []Attempt{with(at(1, 0, 1, Admitted), left(1)), with(at(2, 0, 1, Admitted), left(1))}},
		{"as a place came back between", remain, false, nil, []Attempt{with(at(1, 0, 1, Admitted), left(1)), with(at(2, 10.5, 12, Admitted), left(1))}},

		{"the targets together admit three", one, true, []int{1, 2, 3}, []Attempt{at(1, 0, 1, Admitted), at(2, 1, 2, Admitted), with(at(3, 3, 4, Admitted), atTarget(1))}},
		{"one of them does so alone", one, false, nil, []Attempt{at(1, 0, 1, Admitted), at(2, 1, 2, Admitted), at(3, 3, 4, Admitted), with(at(4, 4, 5, Admitted), atTarget(1))}},
	} {
		e := &Evidence{Policy: Policies()[0], Limit: 2, Seconds: 10, Window: 10 * time.Second, Alone: true, Targets: []string{"one", "two"}, Dead: make([]string, 2), Attempts: tt.attempts}
		f := verdicts(Judge(e))[tt.property]
		var witness []int
		for _, a := range f.Witness {
			witness = append(witness, a.N)
		}
		if (f.Verdict == Violated) != tt.violated || tt.violated && !slices.Equal(witness, tt.witness) {
			t.Errorf("%s: %s is %s for %v: %s; want violated %t, %v", tt.name, tt.property, f.Verdict, witness, f.Why, tt.violated, tt.witness)
		}
		e.Jumped = time.Second
		if f := verdicts(Judge(e))[tt.property]; f.Verdict == Violated {
			t.Errorf("%s: %s is violated though the clock was set", tt.name, tt.property)
		}
		e.Alone, e.Jumped = false, 0
		if f := verdicts(Judge(e))[tt.property]; f.Verdict == Violated && tt.property != over && tt.property != one && tt.name != "more remain than can" {
			t.Errorf("%s: %s is violated though others may have used the key", tt.name, tt.property)
		}
	}
}

// What answers say is wrong whatever the time was; what was refused slowly is
// told apart from what was slow to connect.
func TestJudgeAnswers(t *testing.T) {
	t.Parallel()
	e := &Evidence{Policy: Policies()[0], Limit: 2, Seconds: 10, Window: 10 * time.Second, Alone: true, Targets: []string{"one"}, Dead: make([]string, 1), Jumped: time.Second}
	e.Attempts = []Attempt{at(1, 0, 0.01, Admitted)}
	for n := range 80 {
		e.Attempts = append(e.Attempts, with(at(n+2, 1, 2, Denied), func(a *Attempt) { a.Phase, a.Wrote = hammer, a.Received-time.Millisecond }))
	}
	by := verdicts(Judge(e))
	if by["header fields"].Verdict != Violated || by["code and message of refusals"].Verdict != Violated || by["refusals are fast"].Verdict != Proved {
		t.Errorf("%+v", by)
	}
	for i := range e.Attempts {
		e.Attempts[i].Wrote = 0
	}
	if f := verdicts(Judge(e))["refusals are fast"]; f.Verdict != Violated {
		t.Errorf("%+v", f)
	}
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	named := func(status int, policy, code string) Attempt {
		return Attempt{Answer: Answer{Status: status, Limit: -1, Policy: policy, Code: code}}
	}
	policy := Policies()[0]
	for _, tt := range []struct {
		a    Attempt
		want Outcome
	}{
		{named(201, "onboarding", ""), Admitted},
		{named(422, "onboarding", "VALIDATION_FAILED"), Admitted},
		{named(201, "", ""), Admitted}, // it is off
		{named(429, "onboarding", ""), Denied},
		{named(429, "", "RATE_LIMITED"), Denied}, // and a violation: it lacks header fields
		{named(429, "", ""), Unclear},            // a proxy's
		{named(429, "api", "RATE_LIMITED"), Unclear},
		{named(503, "", "UNAVAILABLE"), Unclear},
		{Attempt{Err: "timeout"}, Unclear},
	} {
		if got := policy.outcome(&tt.a); got != tt.want {
			t.Errorf("%d of %q, %q: %s, want %s", tt.a.Status, tt.a.Policy, tt.a.Code, got, tt.want)
		}
	}
}

// answers are those of a policy's, one a target.
func answers(policy string, statuses ...int) (all []Attempt) {
	for i, status := range statuses {
		all = append(all, Attempt{Ask: Ask{Target: i}, Answer: Answer{Status: status, Policy: policy}})
	}
	return all
}

// A valid key is let in while failures are refused; what that came to is known
// only where they were.
func TestAValidKeyPasses(t *testing.T) {
	refused := []Attempt{{Phase: burst, Outcome: Denied}}
	for name, tt := range map[string]struct {
		attempts []Attempt
		passed   []Attempt
		want     Verdict
	}{
		"it was let in":            {refused, answers("", 200), Proved},
		"refused for its body":     {refused, answers("", 422, 422), Proved},
		"refused as failures":      {refused, answers("auth_failure", 429), Violated},
		"so by one of two":         {refused, answers("auth_failure", 422, 429), Violated},
		"its own limit is used up": {refused, answers("api", 429), Undecidable},
		"a proxy's limit is":       {refused, answers("", 422, 429), Undecidable},
		"it is none":               {refused, answers("", 401), Undecidable},
		"one did not answer":       {refused, answers("", 422, 0), Undecidable},
		"it was not tried":         {refused, nil, Undecidable},
		"the store was away":       {refused, answers("", 503), Undecidable},
		"nothing was refused":      {nil, answers("", 200), Undecidable},
	} {
		e := &Evidence{Policy: Policies()[5], Targets: []string{"one", "two"}, Attempts: tt.attempts, Passed: tt.passed}
		if f := e.passes(); f.Verdict != tt.want || f.Why == "" {
			t.Errorf("%s: %+v, want %s", name, f, tt.want)
		}
	}
}

// A refusal shows how long a place was kept, whichever moments decisions lay at.
func TestKept(t *testing.T) {
	t.Parallel()
	one, two := at(1, 0, 1, Admitted), at(2, 2, 3, Admitted)
	for name, tt := range map[string]struct {
		attempts []Attempt
		want     time.Duration
	}{
		"both were taken":               {[]Attempt{one, two, at(3, 8, 9, Denied)}, 7 * time.Second},
		"the later refusal shows more":  {[]Attempt{one, two, at(3, 4, 5, Denied), at(4, 8, 9, Denied)}, 7 * time.Second},
		"a lost one may have the place": {[]Attempt{one, two, with(at(3, 4, 5, Unclear), lost), at(4, 8, 9, Denied)}, 5 * time.Second},
		"two lost ones may have both":   {[]Attempt{one, two, with(at(3, 4, 5, Unclear), lost), with(at(4, 5, 6, Unclear), lost), at(5, 8, 9, Denied)}, 3 * time.Second},
		"one that came later has none":  {[]Attempt{one, two, at(3, 8, 9, Denied), at(4, 9.5, 11, Admitted)}, 7 * time.Second},
		"somebody else has the other":   {[]Attempt{one, at(3, 8, 9, Denied)}, 0},
		"nothing was refused":           {[]Attempt{one, two}, 0},
	} {
		e := &Evidence{Limit: 2, Window: 10 * time.Second, Attempts: tt.attempts}
		if got := e.kept(); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}
