package verify

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Verdict is what was found out about a property, a policy, or all.
type Verdict string

// The verdicts. Undecidable is never proved by being left out: it says why.
const (
	Proved      Verdict = "proved"
	Violated    Verdict = "violated"
	Undecidable Verdict = "undecidable"
)

// Evidence is what was asked of one policy and what it claims.
type Evidence struct {
	Policy   Policy
	Limit    int
	Seconds  int           // the window as the header fields have it, whole
	Window   time.Duration // the same, exact where a refusal's message told it
	Alone    bool          // nobody else can have used the key
	Taken    int           // places that others had when it began, as Remaining told
	OneKey   string        // why there is only one of a customer's, or ""
	Targets  []string
	Dead     []string      // for each target why it was given up, or ""
	Attempts []Attempt     // those that left, in the order of their numbers
	Sent     int           // all requests, also those that prove nothing
	Passed   []Attempt     // a valid key's request to each target amid refusals
	Stopped  string        // why the scenario ended early, or ""
	Jumped   time.Duration // how far this machine's clocks moved apart, if it matters
}

// Finding is one property of a policy, and what shows it.
type Finding struct {
	Property string     `json:"property"`
	Verdict  Verdict    `json:"verdict"`
	Why      string     `json:"why"`               // what was seen
	Witness  []*Attempt `json:"witness,omitempty"` // of a violation, in the order of their sending
}

// violation is something that a true limiter would not have done.
type violation struct {
	why     string
	witness []*Attempt
	alone   bool // unless somebody else uses the key
	always  bool // whatever the time was
	clock   bool // unless the target's clock was set
}

// clockDrift is the share by which the rates of two machines' clocks may
// differ: twice what NTP corrects at most (500 ppm). A window is taken to be so
// much shorter, or longer, wherever a violation would follow.
const clockDrift = 1000

func (e *Evidence) shorter() time.Duration { return e.Window - e.Window/clockDrift }
func (e *Evidence) longer() time.Duration  { return e.Window + e.Window/clockDrift }

// Judge finds out what the attempts prove.
func Judge(e *Evidence) []Finding {
	plain := e.crowd(slices.DeleteFunc(e.of(Admitted), func(a *Attempt) bool { return a.Spoofed }))
	all := plain
	if all == nil {
		all = e.crowd(e.of(Admitted))
	}
	// Had all that were sent late in a window been admitted, would it have shown?
	full := e.unless(e.crowd(slices.Concat(e.of(Admitted, fill, freed), e.of(Denied, fill, beyond))) != nil,
		"no window was filled late and tried past its end, within so short a time that more than the limit would have shown")
	wronged := e.wronged()
	findings := []Finding{
		e.engages(),
		e.over(all, full),
		e.weigh("places come back after a window", wronged, e.unless(e.refilled(), "no window was filled again after everything before had left it")),
		e.weigh("refusals extend nothing", e.hammered(wronged), e.unless(len(e.of(Admitted, freed, retry)) > 0, "no request after refusals was let in")),
		e.retryAfter(),
		e.weigh("Remaining is right", e.miscounted(), e.unless(len(e.of(Admitted)) > 0, "nothing was let in")),
		e.weigh("header fields", e.misstated(), e.unless(len(e.of(Denied)) > 0, "nothing was refused")),
		e.weigh("code and message of refusals", e.mistold(), e.unless(len(e.of(Denied)) > 0, "nothing was refused")),
		e.spoofed(all, plain),
		e.fast(),
	}
	if e.Policy.passes {
		findings = append(findings, e.passes())
	}
	if e.Policy.customer {
		findings = append(findings, e.keys(all, full))
	}
	if len(e.Targets) > 1 {
		findings = append(findings, e.nodes(all, full))
	}
	return findings
}

// weigh is a property whose only evidence is a violation, or that there was
// occasion for one: lack says why there was none.
func (e *Evidence) weigh(property string, v *violation, lack string) Finding {
	f := Finding{Property: property, Verdict: Proved}
	switch {
	case v != nil:
		f.Verdict, f.Why, f.Witness = Violated, v.why, v.witness
		slices.SortStableFunc(f.Witness, func(a, b *Attempt) int { return cmp.Compare(a.Sent, b.Sent) })
		switch {
		case v.clock:
			f.Verdict = Undecidable
			f.Why += "; the target's clock may have been set meanwhile, or its nodes' clocks be apart, so this proves nothing"
		case v.alone && !e.Alone:
			f.Verdict = Undecidable
			f.Why += "; others may have used the same key, so this proves nothing"
		case e.Jumped > 0 && !v.always:
			f.Verdict = Undecidable
			f.Why += fmt.Sprintf("; this machine slept, or its clock was set, by %s, so this proves nothing", brief(e.Jumped))
		}
	case lack != "":
		f.Verdict, f.Why = Undecidable, lack
	}
	return f
}

// unless is "" where something happened, and otherwise why it did not.
func (e *Evidence) unless(happened bool, lack string) string {
	switch {
	case happened:
		return ""
	case e.Stopped != "":
		return e.Stopped
	}
	return lack
}

// of lists the attempts with an outcome, of all phases or of some.
func (e *Evidence) of(o Outcome, phases ...phase) (found []*Attempt) {
	for i := range e.Attempts {
		if a := &e.Attempts[i]; a.Outcome == o && (len(phases) == 0 || slices.Contains(phases, a.Phase)) {
			found = append(found, a)
		}
	}
	return found
}

// end is the last moment at which a request can have been decided on: without
// the policy's answer it may still wait inside, behind a proxy that gave up.
func end(a *Attempt) time.Duration {
	if a.Outcome == Unclear {
		return math.MaxInt64 / 4
	}
	return a.Received
}

// mayHold lists those of taken that can have held a place when x was decided
// on: more there can't have been.
func (e *Evidence) mayHold(taken []*Attempt, x *Attempt) (held []*Attempt) {
	for _, a := range taken {
		if a != x && a.Sent <= x.Received && end(a) > x.Sent-e.longer() {
			held = append(held, a)
		}
	}
	return held
}

// mustHold lists the admitted that certainly held a place then.
func (e *Evidence) mustHold(admitted []*Attempt, x *Attempt) (held []*Attempt) {
	for _, a := range admitted {
		if a != x && a.Received <= x.Sent && a.Sent > x.Received-e.shorter() {
			held = append(held, a)
		}
	}
	return held
}

// maybeTaken are the attempts that may have taken a place.
func (e *Evidence) maybeTaken() []*Attempt { return append(e.of(Admitted), e.of(Unclear)...) }

// crowd finds more of these requests than the limit that certainly fit into
// less than a window, if all were admitted.
func (e *Evidence) crowd(admitted []*Attempt) *violation {
	slices.SortFunc(admitted, func(a, b *Attempt) int { return cmp.Compare(a.Sent, b.Sent) })
	for i, first := range admitted {
		var crowd []*Attempt
		closes := first.Sent + e.shorter()
		if last := i + e.Limit; last >= len(admitted) || admitted[last].Sent >= closes {
			continue // too few: most are
		}
		for _, a := range admitted[i:] {
			if a.Sent >= closes {
				break
			}
			if a.Received >= closes {
				continue
			}
			if crowd = append(crowd, a); len(crowd) > e.Limit {
				return &violation{why: fmt.Sprintf("%d were admitted within %s, and the limit is %d in %s", len(crowd), brief(latest(crowd)-first.Sent), e.Limit, e.Window), witness: crowd}
			}
		}
	}
	return nil
}

// over judges that there are never more than the limit. A window that is too
// short shows only where a refusal came late in it: proved wants one that did,
// to a twentieth of the window, or the second that a target's absence may cost.
func (e *Evidence) over(all *violation, lack string) Finding {
	kept, short := e.kept(), max(e.Window/20, time.Second)
	seen := fmt.Sprintf("a place was kept for %s at least", brief(kept))
	if lack == "" && kept < e.Window-short {
		lack = e.unless(false, fmt.Sprintf("%s, and the window is %s: a shorter one would not have shown", seen, e.Window))
	}
	f := e.weigh("never more than the limit in any window", all, lack)
	if f.Verdict == Proved {
		f.Why = seen
	}
	return f
}

// kept is the longest time for which a place was taken: from the last moment at
// which the first of those that led to a refusal can have been given, to the
// sending of the refused. A request without an answer counts as let in while it
// was waited for. That it may be let in later is left aside: to hide a window that
// is too short, one would have to be so just before the end of each that is filled.
func (e *Evidence) kept() (longest time.Duration) {
	taken := e.maybeTaken()
	slices.SortFunc(taken, func(a, b *Attempt) int { return cmp.Compare(b.Received, a.Received) })
	for _, x := range e.of(Denied) {
		n := 0 // of those that may have been before it, the last first
		for _, a := range taken {
			if a.Sent > x.Received {
				continue
			}
			if n++; n == e.Limit {
				longest = max(longest, x.Sent-a.Received)
				break
			}
		}
	}
	return longest
}

func latest(all []*Attempt) (t time.Duration) {
	for _, a := range all {
		t = max(t, a.Received)
	}
	return t
}

// wronged finds a request that was refused though there must have been a place.
func (e *Evidence) wronged() *violation {
	taken := e.maybeTaken()
	for _, x := range e.of(Denied) {
		if held := e.mayHold(taken, x); len(held) < e.Limit {
			return &violation{
				why:     fmt.Sprintf("request %d was refused though at most %d of %d places can have been taken", x.N, len(held), e.Limit),
				witness: append(held, x), alone: true,
			}
		}
	}
	return nil
}

// hammered is a wrongful refusal that may be the fault of refusals before it.
func (e *Evidence) hammered(wronged *violation) *violation {
	if wronged == nil {
		return nil
	}
	x := wronged.witness[len(wronged.witness)-1]
	before := 0
	for _, d := range e.of(Denied) {
		if d.Received <= x.Sent && d.Received > x.Sent-e.Window {
			before++
		}
	}
	if before == 0 {
		return nil
	}
	return &violation{why: fmt.Sprintf("%s; %d refusals came in the window before it", wronged.why, before), witness: slices.Clone(wronged.witness), alone: true}
}

// engages judges the first window: as many as the limit are let in, no more.
func (e *Evidence) engages() Finding {
	const property = "engages exactly at the limit"
	admitted, denied, unclear := e.of(Admitted, opening, burst), e.of(Denied, opening, burst), e.of(Unclear, opening, burst)
	all := slices.Concat(admitted, denied, unclear)
	if len(all) == 0 {
		return e.weigh(property, nil, e.unless(false, "no answer was the policy's"))
	}
	span := latest(all) - slices.MinFunc(all, func(a, b *Attempt) int { return cmp.Compare(a.Sent, b.Sent) }).Sent
	seen := fmt.Sprintf("%d of %d were admitted within %s", len(admitted), len(all), brief(span))
	switch {
	case len(admitted) > e.Limit && span < e.shorter():
		return e.weigh(property, &violation{why: seen, witness: admitted}, "")
	case span >= e.shorter():
		return e.weigh(property, nil, fmt.Sprintf("so many requests took %s, and the window is %s", brief(span), e.Window))
	case len(unclear) > 0:
		return e.weigh(property, nil, fmt.Sprintf("%s, and %d had no answer of the policy's (%s)", seen, len(unclear), unclear[0].told()))
	case len(denied) == 0:
		return e.weigh(property, nil, e.unless(false, seen+" and none was refused"))
	case len(admitted) < e.Limit:
		return e.weigh(property, &violation{why: seen, witness: all, alone: true}, "")
	}
	return Finding{Property: property, Verdict: Proved, Why: seen}
}

// refilled reports whether windows were filled whole after everything before
// had left them: one request waited for its place, and the others came late.
func (e *Evidence) refilled() bool {
	admitted, rest := len(e.of(Admitted, fill)), len(e.of(Denied, fill))+len(e.of(Unclear, fill))
	rounds := (admitted + rest) / (e.Limit - 1 + extra)
	return rounds > 0 && admitted >= rounds*(e.Limit-1) && len(e.of(Admitted, retry)) > 0
}

// retryAfter judges that who waits so long is admitted, and needn't wait longer.
func (e *Evidence) retryAfter() Finding {
	const property = "Retry-After is true"
	denied, admitted, taken := e.of(Denied), e.of(Admitted), e.maybeTaken()
	for _, y := range denied {
		changed := time.Duration(0) // the last moment at which a place can have been taken
		for _, a := range taken {
			if a.Sent < y.Received {
				changed = max(changed, end(a))
			}
		}
		for _, x := range denied {
			if x.RetryAfter > 0 && x.Sent >= changed && y.Sent >= x.Received+patience(x) {
				return e.weigh(property, &violation{
					why:     fmt.Sprintf("request %d was told to wait %d s, and request %d came %s later and was refused, with none let in between", x.N, x.RetryAfter, y.N, brief(y.Sent-x.Received)),
					witness: []*Attempt{x, y}, alone: true,
				}, "")
			}
		}
		for _, a := range e.mustHold(admitted, y) {
			if frees := a.Received + e.longer() - y.Sent; time.Duration(y.RetryAfter-2)*time.Second >= frees {
				return e.weigh(property, &violation{
					why:     fmt.Sprintf("request %d was told to wait %d s, and a place frees after %s", y.N, y.RetryAfter, brief(frees)),
					witness: []*Attempt{a, y}, alone: true,
				}, "")
			}
		}
	}
	waited, came := 0, 0
	for _, y := range slices.Concat(e.of(Admitted, retry), e.of(Denied, retry), e.of(Unclear, retry)) {
		if slices.ContainsFunc(denied, func(x *Attempt) bool { return x.RetryAfter > 0 && y.Sent >= x.Received+patience(x) }) {
			waited++
			if y.Outcome == Admitted {
				came++
			}
		}
	}
	seen := fmt.Sprintf("who waited for it was admitted, %d of %d times", came, waited)
	if waited > 0 && came == waited {
		return Finding{Property: property, Verdict: Proved, Why: seen}
	}
	if waited == 0 {
		seen = "nobody waited for it"
	}
	return e.weigh(property, nil, e.unless(false, seen))
}

// patience is how long an attempt's answer says to wait, on a clock that may
// run faster than the target's.
func patience(a *Attempt) time.Duration {
	wait := time.Duration(a.RetryAfter) * time.Second
	return wait + wait/clockDrift
}

// miscounted finds an answer whose Remaining can't be.
func (e *Evidence) miscounted() *violation {
	admitted, taken := e.of(Admitted), e.maybeTaken()
	last := map[int]*Attempt{}
	for _, x := range admitted {
		if x.Remaining < 0 {
			continue // another property's
		}
		used := e.Limit - x.Remaining - 1 // before it
		if held := e.mustHold(admitted, x); used < len(held) {
			return &violation{why: fmt.Sprintf("request %d was told %d remain, and %d places of %d were taken before it", x.N, x.Remaining, len(held), e.Limit), witness: append(held, x)}
		}
		if held := e.mayHold(taken, x); used > len(held) {
			return &violation{why: fmt.Sprintf("request %d was told %d remain, and at most %d places of %d were taken before it", x.N, x.Remaining, len(held), e.Limit), witness: append(held, x), alone: true}
		}
		if y := last[x.Remaining]; y != nil && !e.mayFree(taken, min(x.Sent, y.Sent), max(x.Received, y.Received)) {
			return &violation{why: fmt.Sprintf("requests %d and %d were both told %d remain, and no place freed between them", y.N, x.N, x.Remaining), witness: []*Attempt{y, x}, alone: true}
		}
		last[x.Remaining] = x
	}
	return nil
}

// mayFree reports whether a place can have come back in that time.
func (e *Evidence) mayFree(taken []*Attempt, from, to time.Duration) bool {
	return slices.ContainsFunc(taken, func(a *Attempt) bool { return a.Sent+e.shorter() <= to && end(a)+e.longer() >= from })
}

// brief is a time as people read it.
func brief(d time.Duration) string {
	if d.Abs() < 100*time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Millisecond).String()
}
