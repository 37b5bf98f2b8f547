package verify

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"gatehouse/internal/load"
)

// misstated finds an answer of the policy's whose header fields are wrong.
func (e *Evidence) misstated() *violation {
	for i := range e.Attempts {
		a := &e.Attempts[i]
		why := ""
		switch {
		case a.Outcome == Unclear:
		case a.Limit != e.Limit:
			why = fmt.Sprintf("X-RateLimit-Limit is %d, and was %d", a.Limit, e.Limit)
		case a.Policy != e.Policy.Name || a.Quota != e.Limit || a.Window != e.Seconds:
			why = fmt.Sprintf("RateLimit-Policy is %q;q=%d;w=%d, and the limit is %d in %s", a.Policy, a.Quota, a.Window, e.Limit, e.Window)
		case a.Remaining < 0 || a.Remaining >= e.Limit || a.Outcome == Denied && a.Remaining > 0:
			why = fmt.Sprintf("X-RateLimit-Remaining is %d", a.Remaining)
		case a.RName != e.Policy.Name || a.R != a.Remaining || a.T < 0:
			why = fmt.Sprintf("RateLimit is %q;r=%d;t=%d, and X-RateLimit-Remaining %d", a.RName, a.R, a.T, a.Remaining)
		case a.Reset < 0:
			why = "X-RateLimit-Reset is missing"
		case a.Outcome == Denied && (a.RetryAfter < 1 || a.RetryAfter > max(a.T, 1) || a.T > a.RetryAfter+1): // Reset is rounded up, too
			why = fmt.Sprintf("Retry-After is %d, and t of RateLimit %d", a.RetryAfter, a.T)
		}
		if why != "" {
			return &violation{why: fmt.Sprintf("of request %d, %s: %s (-1: none)", a.N, a.Outcome, why), witness: []*Attempt{a}, always: true}
		}
	}
	return e.misset()
}

// misset finds two answers whose X-RateLimit-Reset can't both be right by one
// clock that goes on: less the t of RateLimit it is the time on the target's
// clock when it decided, give or take a second each for rounding up. Which time
// that is, and whether somebody set it, nobody outside knows.
func (e *Evidence) misset() *violation {
	var ahead, behind *Attempt
	latest, earliest := 0.0, 0.0
	for i := range e.Attempts {
		a := &e.Attempts[i]
		if a.Outcome == Unclear {
			continue
		}
		clock := float64(a.Reset - a.T)
		if at := clock - a.Received.Seconds(); ahead == nil || at > latest {
			ahead, latest = a, at
		}
		if at := clock - a.Sent.Seconds(); behind == nil || at < earliest {
			behind, earliest = a, at
		}
	}
	if ahead == nil {
		return nil
	}
	if drift := (ahead.Received - behind.Sent).Abs().Seconds() / clockDrift; latest-earliest > 2.01+drift {
		return &violation{
			why:     fmt.Sprintf("X-RateLimit-Reset of requests %d and %d can't both be right by one clock: they are %.1f s apart beyond what time passed and rounding allow", ahead.N, behind.N, latest-earliest-2),
			witness: []*Attempt{ahead, behind}, clock: true,
		}
	}
	return nil
}

// passes judges that an address whose failed authentications are refused is let
// in with a valid key.
func (e *Evidence) passes() Finding {
	f := Finding{Property: "a valid key still passes", Verdict: Undecidable}
	switch {
	case len(e.of(Denied, burst)) == 0:
		f.Why = e.unless(false, "no failure was refused before it was tried")
		return f
	case len(e.Passed) == 0:
		f.Why = "there was no key that is let in otherwise"
		return f
	}
	f.Verdict, f.Why = Proved, "it was let in while failures were refused"
	for _, a := range e.Passed {
		switch {
		case a.letIn():
		case a.Status == http.StatusTooManyRequests && a.Policy == e.Policy.Name:
			f.Verdict, f.Why = Violated, e.Targets[a.Target]+" refused it as it did failures"
			return f
		default: // such as by a limit of the key's own, which others use up
			f.Verdict, f.Why = Undecidable, fmt.Sprintf("%s answered it otherwise: %s", e.Targets[a.Target], a.told())
		}
	}
	return f
}

// letIn says that the answer's key was taken for a valid one, whatever became of
// its request.
func (a *Answer) letIn() bool {
	return a.Status >= 200 && a.Status < 500 && a.Status != http.StatusUnauthorized && a.Status != http.StatusTooManyRequests
}

// mistold finds a refusal whose body is wrong.
func (e *Evidence) mistold() *violation {
	want := e.Policy.message(e.Limit, e.Window)
	for _, a := range e.of(Denied) {
		if a.Code != "RATE_LIMITED" || a.Message != want {
			return &violation{why: fmt.Sprintf("request %d was refused with %s, %q; want RATE_LIMITED, %q", a.N, a.Code, a.Message, want), witness: []*Attempt{a}, always: true}
		}
	}
	return nil
}

// spoofed judges that header fields buy nothing: they were sent while all
// places were taken.
func (e *Evidence) spoofed(all, plain *violation) Finding {
	const property = "header fields buy nothing"
	if all != nil && plain == nil {
		v := *all
		v.why += ", some of them with header fields that claim other clients (where the target trusts this machine as a proxy, add --clients-via forwarded)"
		return e.weigh(property, &v, "")
	}
	refused := 0
	for _, a := range e.of(Denied) {
		if a.Spoofed {
			refused++
		}
	}
	f := e.weigh(property, nil, e.unless(refused > 0, "no request with such fields was refused"))
	if refused > 0 {
		f.Why = fmt.Sprintf("%d requests that claimed other addresses were refused alike", refused)
	}
	return f
}

// nodes judges that several targets hold one limit together.
func (e *Evidence) nodes(all *violation, lack string) Finding {
	missing := slices.Clone(e.Dead)
	for i, why := range missing {
		if why != "" {
			missing[i] = e.Targets[i] + " was given up: " + why
		}
	}
	return e.shared("targets", e.Targets, missing, all, lack, func(a *Attempt) int { return a.Target })
}

// keys judges that a customer's keys do.
func (e *Evidence) keys(all *violation, lack string) Finding {
	return e.shared("keys", []string{"one key", "the other key"}, []string{"", e.OneKey}, all, lack, func(a *Attempt) int { return a.Key - 1 })
}

// shared judges that what several of a kind admit counts as one. missing says
// of each why it was not asked, or "".
func (e *Evidence) shared(kind string, names, missing []string, all *violation, lack string, of func(*Attempt) int) Finding {
	property := "one limit over all " + kind
	single := false // one that breaks the limit by itself
	lacks := []string{lack}
	for i, name := range names {
		other := func(a *Attempt) bool { return of(a) != i }
		admitted := slices.DeleteFunc(e.of(Admitted), other)
		single = single || e.crowd(admitted) != nil
		answered := len(admitted) + len(slices.DeleteFunc(e.of(Denied), other))
		switch {
		case missing[i] != "":
			lacks = append(lacks, missing[i])
		case answered == 0:
			lacks = append(lacks, name+" never answered for the policy")
		}
	}
	if all != nil && !single {
		v := *all
		v.why += fmt.Sprintf(", over %s of which none admitted so many", kind)
		return e.weigh(property, &v, "")
	}
	return e.weigh(property, nil, strings.Join(slices.DeleteFunc(lacks, func(s string) bool { return s == "" }), "; "))
}

// forgiven is what refusals may take longer: other work on a busy machine does.
const forgiven = 100 * time.Millisecond

// fast judges that refusals take no longer than what is let in: proved is that
// their p95 is within twice the admitted's median and what is forgiven. The median, since fewer may be admitted than a p95 needs,
// and since most are so in bursts, which wait; refusals in bursts are left out, as
// they come last. A violation is that most refusals take longer than nearly all
// that were admitted, by as much.
func (e *Evidence) fast() Finding {
	denied, admitted := e.of(Denied, hammer, retry, brink, freed, beyond), e.of(Admitted)
	slow, beside, enough := quantile(denied, 95), quantile(admitted, 50), int(load.Needed(0.95))
	f := Finding{Property: "refusals are fast", Verdict: Proved}
	f.Why = fmt.Sprintf("p95 %s of %d refused outside bursts, beside a median of %s", brief(slow), len(denied), brief(beside))
	if len(admitted) >= enough {
		f.Why += fmt.Sprintf(" and a p95 of %s", brief(quantile(admitted, 95)))
	}
	f.Why += fmt.Sprintf(" of %d admitted", len(admitted))
	switch {
	case quantile(e.of(Denied), 50) > 2*quantile(admitted, 95)+forgiven && len(e.of(Denied)) >= enough:
		f.Verdict = Violated
	case len(denied) < enough:
		f.Verdict, f.Why = Undecidable, e.unless(false, fmt.Sprintf("only %d refusals outside bursts: a p95 needs %d", len(denied), enough))
	case slow > 2*beside+forgiven:
		f.Verdict = Undecidable
		f.Why += ": more than twice the median, and 100ms"
	}
	return f
}

// quantile is a percentile of what the clients waited, by nearest rank. What it
// took to connect is the network's: after a pause everybody has to.
func quantile(all []*Attempt, percent int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	times := make([]time.Duration, len(all))
	for i, a := range all {
		times[i] = a.Received - max(a.Sent, a.Wrote)
	}
	slices.Sort(times)
	return times[(len(times)*percent+99)/100-1]
}
