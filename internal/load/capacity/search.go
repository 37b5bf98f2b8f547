package capacity

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"

	"gatehouse/internal/load/gate"
)

const (
	// longest is how many times as long a probe may become for want of samples,
	// and longer how many times as long those are that confirm.
	longest, longer = 8, 2
	confirmations   = 3
	tries           = 3 // where the generator was at fault: it may have been a neighbour
	rounds          = 4 // of confirming: one that fails lowers the upper end
)

// Verdict is what a probe came to, or the search.
type Verdict string

// The verdicts.
const (
	Held         Verdict = "held"         // the search: found and confirmed
	Missed       Verdict = "missed"       // the search: not even the first rate holds
	Inconclusive Verdict = "inconclusive" // it can't be told
)

// Options are what a search is held to.
type Options struct {
	From      float64 `json:"from_rps"` // the first rate to try, requests a second
	Max       float64 `json:"max_rps"`
	Precision float64 `json:"precision"`     // 0.05: so wide is the answer's range at most
	Seconds   float64 `json:"probe_seconds"` // of a probe, at least
	// Told, if set, is told of each probe, and how many more are likely.
	Told func(p Probe, more int) `json:"-"`
}

// Outcome is what a target did with one rate.
type Outcome struct {
	Verdict  Verdict `json:"verdict"`
	Why      string  `json:"why,omitzero"`                 // it did not hold
	Blocked  bool    `json:"generator_saturated,omitzero"` // inconclusive, and longer would not help
	P95      float64 `json:"success_p95_ms,omitzero"`      // 0: too few
	Answered float64 `json:"answered_rps"`
	Growth   float64 `json:"in_flight_slope"` // of what is due and not answered, requests a second
}

// Probe is one rate, tried.
type Probe struct {
	Rate    float64 `json:"rate"`
	Seconds float64 `json:"seconds"`
	Phase   string  `json:"phase"` // climb, bisect or confirm
	Outcome
}

// Answer is what is known of the capacity: it lies from Holds up to Below.
type Answer struct {
	Verdict   Verdict `json:"verdict"`
	Holds     float64 `json:"holds_rps"`          // the highest rate that held, or 0
	Confirmed bool    `json:"confirmed"`          // it held in longer probes too
	Below     float64 `json:"below_rps,omitzero"` // the lowest that did not; 0: the highest tried held
	Why       string  `json:"why,omitzero"`       // that did not, or there is no answer
}

// Text is the answer in one sentence.
func (a Answer) Text() string {
	switch holds, below := perSecond(a.Holds), perSecond(a.Below); {
	case a.Verdict == Missed:
		return fmt.Sprintf("does not hold %s, the lowest rate tried: %s", below, a.Why)
	case a.Verdict == Held && a.Below == 0:
		return fmt.Sprintf("holds %s, the most that was tried", holds)
	case a.Verdict == Held:
		return fmt.Sprintf("holds %s (the most lies between %[1]s and %s); misses %[2]s: %s", holds, below, a.Why)
	case a.Holds > 0 && a.Confirmed:
		return fmt.Sprintf("at least %s; %s could not be told: %s", holds, below, a.Why)
	case a.Holds > 0:
		return fmt.Sprintf("inconclusive, though %s held once: %s", holds, a.Why)
	}
	return "inconclusive: " + a.Why
}

const confirm = "confirm"

// Try sends load at a rate for some seconds.
type Try func(ctx context.Context, rate, seconds float64) (Outcome, error)

// search is one under way.
type search struct {
	Options
	try    Try
	probes []Probe
	wall   Probe   // the lowest that did not
	left   int     // confirmations
	scarce float64 // so many requests were too few
}

// Search looks for the highest rate that holds. An error, that of ctx or of a
// try, ends it; then the answer is what was known until there.
func Search(ctx context.Context, o Options, try Try) (Answer, []Probe, error) {
	s := &search{Options: o, try: try, left: confirmations}
	confirmed, err := s.run(ctx)
	a := Answer{Verdict: s.wall.Verdict, Holds: s.low(), Confirmed: confirmed, Below: s.wall.Rate, Why: s.wall.Why}
	unclear := slices.IndexFunc(s.probes, func(p Probe) bool { return p.Verdict == Inconclusive && p.Rate < s.wall.Rate })
	switch {
	case err != nil:
		a.Verdict, a.Why = Inconclusive, err.Error()
	case a.Holds == 0 && unclear >= 0: // and what was tried first, below the wall
		a.Verdict, a.Why = Inconclusive, fmt.Sprintf("at %s %s", perSecond(s.probes[unclear].Rate), s.probes[unclear].Why)
	case a.Holds > 0 && !confirmed && s.last().Verdict == Inconclusive:
		a.Verdict, a.Why = Inconclusive, s.last().Why
	case a.Holds > 0 && !confirmed:
		a.Verdict = Inconclusive
		a.Why = fmt.Sprintf("%d rates held that did not for longer, the last of them %s: %s", rounds, perSecond(s.wall.Rate), s.wall.Why)
	case confirmed && a.Verdict != Inconclusive:
		a.Verdict = Held
	}
	return a, s.probes, err
}

// run reports whether the highest rate that held was confirmed.
func (s *search) run(ctx context.Context) (confirmed bool, err error) {
	for rate := s.From; err == nil && s.wall.Rate == 0 && s.low() < s.Max; rate = min(2*rate, s.Max) {
		_, err = s.probe(ctx, "climb", rate)
	}
	for round := 0; err == nil && round < rounds; round++ {
		for mid, ok := s.middle(); ok && err == nil; mid, ok = s.middle() {
			_, err = s.probe(ctx, "bisect", mid)
		}
		low := s.low()
		if low == 0 {
			break
		}
		held := true
		for s.left = confirmations; err == nil && held && s.left > 0; {
			s.left--
			held, err = s.probe(ctx, confirm, low)
		}
		if err != nil || held || s.last().Verdict == Inconclusive {
			return held, err
		}
	}
	return false, err
}

func (s *search) last() Probe { return s.probes[len(s.probes)-1] }

// low is the highest rate that held below the lowest that did not, or 0.
func (s *search) low() (low float64) {
	for _, p := range s.probes {
		if p.Verdict == Held && (s.wall.Rate == 0 || p.Rate < s.wall.Rate) {
			low = max(low, p.Rate)
		}
	}
	return low
}

// middle is the rate to try next between the two, if they are not yet near. It
// has three digits: no capacity is known any better.
func (s *search) middle() (rate float64, ok bool) {
	low, high := s.low(), s.wall.Rate
	if low == 0 || high <= low*(1+s.Precision) {
		return 0, false
	}
	rate, err := strconv.ParseFloat(strconv.FormatFloat(math.Sqrt(low*high), 'g', 3, 64), 64)
	return rate, err == nil && low < rate && rate < high
}

// probe tries a rate: again where the generator was at fault, and longer where
// there were too few samples.
func (s *search) probe(ctx context.Context, phase string, rate float64) (held bool, err error) {
	seconds, most := s.Seconds, longest*s.Seconds
	for seconds < most && rate*seconds <= s.scarce {
		seconds *= 2
	}
	if phase == confirm {
		seconds, most = longer*seconds, longer*most
	}
	for blocked := 0; ; {
		o, err := s.try(ctx, rate, seconds)
		if err != nil {
			return false, err
		}
		p := Probe{rate, seconds, phase, o}
		s.probes = append(s.probes, p)
		if o.Blocked {
			blocked++
		}
		scarce := o.Verdict == Inconclusive && !o.Blocked
		again := o.Blocked && blocked < tries || scarce && seconds < most
		higher := scarce && s.wall.Rate == 0 && rate < s.Max         // more load brings more samples
		unconfirmed := o.Verdict == Inconclusive && phase == confirm // it held, and nothing contradicts that
		if !again && o.Verdict != Held && !higher && !unconfirmed {
			s.wall, s.left = p, confirmations
		}
		if s.Told != nil {
			s.Told(p, s.more())
		}
		if scarce {
			s.scarce = max(s.scarce, rate*seconds)
			seconds *= 2
		}
		if !again {
			return o.Verdict == Held, nil
		}
	}
}

// more is how many probes are likely to follow: while it climbs, the next may
// already be too much.
func (s *search) more() int {
	low, high, n := s.low(), s.wall.Rate, s.left
	if high == 0 && low < s.Max {
		low, high, n = 1, 2, n+1
	} else if low == 0 {
		return 0
	}
	if steps := math.Log2(math.Log(high/low) / math.Log1p(s.Precision)); steps > 0 { // it is no number at the maximum
		n += int(math.Ceil(steps))
	}
	return n
}

func perSecond(rate float64) string { return gate.Count.Text(rate) + "/s" }
