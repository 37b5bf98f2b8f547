package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"sync"
	"time"
)

// Subject is one policy of one target, and how to ask it.
type Subject struct {
	Policy   Policy
	Targets  []string                        // as reports name them
	Alone    bool                            // nobody else can have used the key
	Keys     int                             // of one customer that take turns; 0: there is no key
	OneKey   string                          // why there is only one, where a limit is over all of a customer's
	Pass     func(context.Context) []Attempt // to each target with a valid key, from the same client; nil: not tried
	Patience time.Duration                   // how long none may answer
	Windows  float64                         // how long it may take; one pass is made in any case
	Longest  time.Duration                   // window that is tried; 0: any
	// Send makes one request. It sets of the Attempt what it was asked, the
	// instants, and the answer or why there is none.
	Send func(context.Context, Ask) Attempt
	// Say tells somebody who waits how far it is; nil: nobody does.
	Say func(string)
}

// phase is a part of the scenario.
type phase string

const (
	opening phase = "opening" // one to each target: what is the limit?
	burst   phase = "burst"   // the limit and some more, all at once
	hammer  phase = "hammer"  // while all places are taken
	retry   phase = "retry"   // alone, after Retry-After
	fill    phase = "fill"    // the rest of a window, late in it
	brink   phase = "brink"   // shortly before the first of that window can leave
	freed   phase = "freed"   // as soon as the first of that window leaves
	beyond  phase = "beyond"  // right after it, and none is left
)

const (
	extra    = 20     // how many more than the limit a burst has
	inFlight = 64     // requests at once
	largest  = 10_000 // limit that is filled: as much as the server's settings allow
)

// An UntriedError is why a policy could not be asked about its limit.
type UntriedError struct {
	Why string
	// TooLong is for a window that is longer than Subject.Longest.
	TooLong bool
}

func (u *UntriedError) Error() string { return u.Why }

// errEnough ends a scenario whose rest could show nothing.
var errEnough = errors.New("enough")

type scenario struct {
	Evidence
	subject Subject
	epoch   time.Time
	turn    int  // the target asked last
	used    bool // when it began somebody had taken places
}

// Try asks a policy about its limit until the scenario is through, or nothing
// more can be learned. An *UntriedError error means that it told of no limit.
func Try(ctx context.Context, subject Subject) (*Evidence, error) {
	s := &scenario{
		subject: subject, epoch: time.Now(),
		Evidence: Evidence{Policy: subject.Policy, Targets: subject.Targets, Alone: subject.Alone, OneKey: subject.OneKey, Dead: make([]string, len(subject.Targets))},
	}
	err := s.run(ctx)
	if untried, ok := errors.AsType[*UntriedError](err); ok {
		return nil, untried
	}
	if ctx.Err() != nil {
		s.Stopped = "it was interrupted"
	}
	// The monotonic clock stands while a machine sleeps, the other one does not.
	measured := time.Since(s.epoch)
	if apart := (time.Now().Round(0).Sub(s.epoch.Round(0)) - measured).Abs(); apart > measured/clockDrift+100*time.Millisecond {
		s.Jumped = apart
	}
	return &s.Evidence, nil
}

func (s *scenario) run(ctx context.Context) error {
	if err := s.open(ctx); err != nil {
		return err
	}
	if s.used { // rest until the window has forgotten it
		s.say("%d of its %d places are taken: resting until they are free", s.Taken, s.Limit)
		s.until(ctx, s.now()+s.longer())
		s.Attempts = nil
		if err := s.open(ctx); err != nil {
			return err
		}
	}
	s.say("%d in %s, over in %s", s.Limit, s.Window, s.part(max(s.subject.Windows, 3))+5*time.Second) // once over takes nearly three
	began := s.Attempts[0].Sent
	if err := s.send(ctx, burst, max(s.Limit-len(s.of(Admitted)), 0)+extra, 0); err != nil {
		return err
	}
	s.readWindow()
	if s.subject.Pass != nil {
		s.Passed = s.subject.Pass(ctx)
	}
	for _, at := range []float64{0.15, 0.3, 0.45, 0.6, 0.75, 0.9} {
		if err := s.sendAt(ctx, began+s.part(at), hammer, 6, 6); err != nil {
			return err
		}
	}
	if err := s.retry(ctx); err != nil {
		return err
	}
	for round := 1; ; round++ {
		s.say("window %d was filled, and places came back after %s", round, brief(s.now()-began))
		if err := s.straddle(ctx); err != nil {
			return err
		}
		if next := s.now() + s.part(1.6); next > s.part(s.subject.Windows) {
			return nil
		}
	}
}

// straddle fills a window late, after its first request, and stays until a
// window after that. Whoever counts by the clock, or from the first request,
// begins anew in between.
func (s *scenario) straddle(ctx context.Context) error {
	anchor := s.Attempts[len(s.Attempts)-1]
	gone := time.Duration(0) // when all before the anchor have left
	for _, a := range s.of(Admitted) {
		if a.N != anchor.N {
			gone = max(gone, a.Received+s.longer())
		}
	}
	late := max(gone, anchor.Received+s.part(0.6))
	for _, step := range []struct {
		at             time.Duration
		phase          phase
		plain, spoofed int
	}{
		{late, fill, s.Limit - 1 + extra, 0},
		{anchor.Sent + s.part(0.95), hammer, 2, 2},
		{anchor.Sent + s.shorter() - s.lead(), brink, 1, 0},
		{anchor.Received + s.longer(), freed, 1, 0},
		{0, beyond, 1, 1},
		{late + s.part(0.6), hammer, 2, 2},
		{late + s.part(0.9), hammer, 2, 2},
	} {
		if (step.phase == hammer || step.phase == brink) && s.now() > step.at {
			continue // filling took too long
		}
		if err := s.sendAt(ctx, step.at, step.phase, step.plain, step.spoofed); err != nil {
			return err
		}
	}
	return s.retry(ctx)
}

// lead is how long before the end of a window a request leaves to be answered
// within it: twice what nearly all took that were few at once, and some more for
// the timer. A target that takes much of a window is not waited for.
func (s *scenario) lead() time.Duration {
	few := append(s.of(Denied, hammer), s.of(Admitted, retry)...)
	late := min(max(5*time.Millisecond, s.part(0.002)), s.part(0.01))
	return min(2*quantile(few, 95)+late, s.part(0.03))
}

// open learns the limit from each target's first answer.
func (s *scenario) open(ctx context.Context) error {
	_ = s.send(ctx, opening, max(s.alive(), 1), 0) // what it came to is in the answers
	switch {
	case ctx.Err() != nil:
		return &UntriedError{Why: "it was interrupted"}
	case len(s.Attempts) == 0:
		return &UntriedError{Why: "no target answers: " + s.Dead[0]}
	}
	first := &s.Attempts[0]
	for i := range s.Attempts {
		if a := &s.Attempts[i]; a.Outcome != Unclear && (first.Outcome == Unclear || a.Remaining > first.Remaining) {
			first = a
		}
	}
	s.Limit, s.Seconds = first.Limit, first.Window
	s.Window = time.Duration(s.Seconds) * time.Second
	s.used = first.Remaining >= 0 && first.Remaining != s.Limit-1
	if s.used { // the one with the most left was first, and has one itself if it was let in
		s.Taken = max(s.Taken, s.Limit-first.Remaining-min(len(s.of(Admitted)), 1))
	}
	s.Alone = s.Alone && (first.Remaining < 0 || first.Remaining >= s.Limit-1) // else somebody has the same key, by a proxy's address perhaps
	switch {
	case first.Outcome == Admitted && first.bare():
		return &UntriedError{Why: "it is off: its answers have no header fields of a limit, so nothing is promised"}
	case first.Outcome == Unclear:
		return &UntriedError{Why: "its first answer was not its own: " + first.told()}
	case s.Limit < 1 || s.Seconds < 1:
		return &UntriedError{Why: fmt.Sprintf("its first answer (%s) has no X-RateLimit-Limit, or no RateLimit-Policy with a window", first.told())}
	case s.Limit > largest || s.Window > 24*time.Hour:
		return &UntriedError{Why: fmt.Sprintf("its limit, %d in %s, is more than verify tries: %d in a day", s.Limit, s.Window, largest)}
	case s.subject.Longest > 0 && s.Window > s.subject.Longest:
		return &UntriedError{Why: fmt.Sprintf("its window is %s: name it with --policy %s to wait for so long", s.Window, s.Policy.Name), TooLong: true}
	}
	return nil
}

// retry waits for what the last refusal says, but not longer than a true one
// can say, and asks once. A refused one does as it is told again, twice.
func (s *scenario) retry(ctx context.Context) error {
	for range 3 {
		denied := s.of(Denied)
		if len(denied) == 0 {
			break
		}
		told, frees := denied[len(denied)-1], s.frees()
		wait := told.Received + patience(told)
		if told.RetryAfter < 0 || wait > frees+2*time.Second {
			wait = frees + time.Second
		}
		if err := s.sendAt(ctx, wait, retry, 1, 0); err != nil {
			return err
		}
		if s.Attempts[len(s.Attempts)-1].Outcome == Admitted {
			return nil
		}
	}
	s.Stopped = "nobody was let in again after refusals"
	return errEnough
}

// frees is when a place has certainly come back.
func (s *scenario) frees() time.Duration {
	first := time.Duration(math.MaxInt64)
	for _, a := range s.of(Admitted) {
		if leaves := a.Received + s.longer(); leaves > s.now() {
			first = min(first, leaves)
		}
	}
	if first == math.MaxInt64 {
		return s.now()
	}
	return first
}

func (s *scenario) say(format string, args ...any) {
	if s.subject.Say != nil {
		s.subject.Say(fmt.Sprintf(format, args...))
	}
}

func (s *scenario) now() time.Duration { return time.Since(s.epoch) }

// part is a share of a window.
func (s *scenario) part(share float64) time.Duration { return time.Duration(share * float64(s.Window)) }

func (s *scenario) until(ctx context.Context, t time.Duration) {
	timer := time.NewTimer(t - s.now())
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (s *scenario) sendAt(ctx context.Context, t time.Duration, p phase, plain, spoofed int) error {
	s.until(ctx, t)
	return s.send(ctx, p, plain, spoofed)
}

// alive is how many targets have not been given up.
func (s *scenario) alive() (n int) {
	for _, why := range s.Dead {
		if why == "" {
			n++
		}
	}
	return n
}

// send makes requests at once. Where there is patience, targets that could not
// be reached before may be back, and while none answers it is tried again.
func (s *scenario) send(ctx context.Context, p phase, plain, spoofed int) error {
	for tired := s.now() + s.subject.Patience; ; {
		if s.subject.Patience > 0 {
			clear(s.Dead)
		}
		err := s.sendOnce(ctx, p, plain, spoofed)
		if !errors.Is(err, errEnough) || s.now() >= tired {
			return err
		}
		s.Stopped = ""
		s.until(ctx, s.now()+time.Second)
	}
}

// sendOnce makes requests at once, the living targets taking turns, some of
// them with header fields that claim other clients. Targets that can't be
// reached are given up; what never left is no evidence.
func (s *scenario) sendOnce(ctx context.Context, p phase, plain, spoofed int) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if s.alive() == 0 {
		s.Stopped = "no target answers any more: " + s.Dead[0]
		return errEnough
	}
	made := make([]Attempt, plain+spoofed)
	slots := make(chan struct{}, inFlight)
	var wg sync.WaitGroup
	for i := range made {
		for s.turn = (s.turn + 1) % len(s.Dead); s.Dead[s.turn] != ""; {
			s.turn = (s.turn + 1) % len(s.Dead)
		}
		ask := Ask{N: s.Sent + 1, Target: s.turn, Spoofed: i >= plain, Epoch: s.epoch}
		if s.subject.Keys > 0 { // each with each target
			ask.Key = 1 + s.Sent/len(s.Dead)%s.subject.Keys
		}
		s.Sent++
		slots <- struct{}{}
		wg.Go(func() {
			made[i] = s.subject.Send(ctx, ask)
			made[i].Ask, made[i].Phase = ask, p
			made[i].Outcome = s.Policy.outcome(&made[i])
			<-slots
		})
	}
	wg.Wait()
	unclear, unsent := 0, 0
	for _, a := range made {
		if a.Unsent {
			s.Dead[a.Target] = a.Err
			unsent++
			continue
		}
		s.Attempts = append(s.Attempts, a)
		if a.Outcome == Unclear {
			unclear++
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if unsent > 0 && unsent == len(made) { // it may be for others to answer
		return s.sendOnce(ctx, p, plain, spoofed)
	}
	if unclear > 0 && unclear+unsent == len(made) {
		s.Stopped = fmt.Sprintf("from request %d on no answer was the policy's: %s", made[0].N, made[0].told())
		return errEnough
	}
	return nil
}

var windowForm = regexp.MustCompile(`^Rate limit exceeded\. Maximum \d+ [A-Za-z ]+ per ([0-9.]+) seconds`)

// readWindow takes the window from a refusal's message where that is more
// exact: the header fields have whole seconds, rounded up.
func (s *scenario) readWindow() {
	denied := s.of(Denied)
	if len(denied) == 0 {
		return
	}
	if m := windowForm.FindStringSubmatch(denied[0].Message); m != nil {
		seconds, err := strconv.ParseFloat(m[1], 64)
		if err == nil && math.Ceil(seconds) == float64(s.Seconds) {
			s.Window = time.Duration(math.Round(seconds * float64(time.Second)))
		}
	}
}

// told is an attempt's answer in a few words.
func (a *Attempt) told() string {
	if a.Err != "" {
		return a.Err
	}
	return fmt.Sprintf("%d %s %q", a.Status, a.Code, a.Message)
}
