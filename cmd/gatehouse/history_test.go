package main

import (
	"fmt"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"
)

// The checks of this file look at sign-ups from outside: at when each was
// sent, when its answer came, and what that was. They claim only what follows
// from that, whatever the node did in between. Times are one process's, and so
// comparable.

// admitted says whether an answer proves that the request took a place of its
// window. One that failed for want of the store may have taken one, or not.
func (c call) admitted() bool {
	return c.answered() && c.status != http.StatusTooManyRequests && c.status != http.StatusServiceUnavailable
}

// mayHavePlace says whether the request can have taken a place.
func (c call) mayHavePlace() bool {
	return c.status != http.StatusTooManyRequests && !c.neverArrived()
}

// lastWill is for how long a database may go on with what it was asked by a
// node that has been killed: longer than any call may take.
const lastWill = 5 * time.Second

// lastPlace is when the request can have taken its place at the latest, if that
// is known.
func (c call) lastPlace() (at time.Time, known bool) {
	if c.answered() {
		return c.received, true
	}
	return c.failed.Add(lastWill), !c.failed.IsZero()
}

// overAdmitted finds, for each client address, more admitted requests than the
// limit that are proven to lie within less than the window. A request was
// admitted somewhere between its sending and its answer: so what was sent
// first and what was answered last bound them all.
func overAdmitted(calls []call, limit int, window time.Duration) (found []string) {
	for source, own := range bySource(calls) {
		own = slices.DeleteFunc(own, func(c call) bool { return !c.admitted() })
		slices.SortFunc(own, func(a, b call) int { return a.received.Compare(b.received) })
		for _, first := range own {
			within := 0
			for _, c := range own { // in the order of their answers
				if c.sent.Before(first.sent) || c.received.Sub(first.sent) >= window {
					continue
				}
				within++
			}
			if within > limit {
				found = append(found, fmt.Sprintf("%s: %d admitted within less than %s, the limit is %d", source, within, window, limit))
				break
			}
		}
	}
	slices.Sort(found)
	return found
}

// wronglyDenied finds refusals for which there were not enough requests that
// can have held the places.
func wronglyDenied(calls []call, limit int, window time.Duration) (found []string) {
	for source, own := range bySource(calls) {
		may := slices.DeleteFunc(slices.Clone(own), func(c call) bool { return !c.mayHavePlace() })
		for _, denied := range own {
			if denied.status != http.StatusTooManyRequests {
				continue
			}
			holders := 0
			for _, c := range may {
				last, known := c.lastPlace()
				gone := known && denied.sent.Sub(last) >= window // had left before it was even asked
				if c.sent.Before(denied.received) && !gone {
					holders++
				}
			}
			if holders < limit {
				found = append(found, fmt.Sprintf("%s: refused with at most %d of %d places taken", source, holders, limit))
				break
			}
		}
	}
	slices.Sort(found)
	return found
}

func bySource(calls []call) map[string][]call {
	sources := make(map[string][]call)
	for _, c := range calls {
		sources[c.source] = append(sources[c.source], c)
	}
	return sources
}

// at is a call from one address with times in seconds; received 0: no answer.
func at(status int, sent, received float64) call {
	epoch := time.Unix(1_800_000_000, 0)
	c := call{source: "127.0.0.9", status: status, sent: epoch.Add(time.Duration(sent * float64(time.Second)))}
	if status != 0 {
		c.received = epoch.Add(time.Duration(received * float64(time.Second)))
	}
	return c
}

// killed is a call whose node was killed, at a second.
func killed(sent, failed float64) call {
	c := at(0, sent, 0)
	c.failed = c.sent.Add(time.Duration((failed - sent) * float64(time.Second)))
	return c
}

// unreachable is a call where nobody listened.
func unreachable(sent float64) call {
	c := killed(sent, sent)
	c.err = syscall.ECONNREFUSED
	return c
}

func some(n int, c call) []call { return slices.Repeat([]call{c}, n) }

func TestTheLimitOracleItself(t *testing.T) {
	const limit, window = 10, time.Minute
	ten := some(10, at(201, 0, 1))
	elsewhere := at(201, 2, 3)
	elsewhere.source = "127.0.0.10"
	tests := []struct {
		name        string
		calls       []call
		over, wrong bool
	}{
		{"ten are right", ten, false, false},
		{"an eleventh at once is over", append(some(10, at(201, 0, 1)), at(201, 2, 3)), true, false},
		{"an eleventh that was invalid is over, too", append(some(10, at(201, 0, 1)), at(422, 2, 3)), true, false},
		{"an eleventh just within the window is over", append(some(10, at(201, 0, 1)), at(201, 58, 59.999)), true, false},
		{"an eleventh a window later is right", append(some(10, at(201, 0, 1)), at(201, 59, 60)), false, false},
		{"an eleventh that may have been later proves nothing", append(some(10, at(201, 0, 30)), at(201, 20, 60.5)), false, false},
		{"an eleventh elsewhere is right", append(some(10, at(201, 0, 1)), elsewhere), false, false},
		{"an eleventh without an answer proves nothing", append(some(10, at(201, 0, 1)), at(0, 2, 0)), false, false},
		{"an eleventh that the store failed proves nothing", append(some(10, at(201, 0, 1)), at(503, 2, 3)), false, false},
		{"ten and ten over a restart are over", append(some(10, at(201, 0, 1)), some(10, at(201, 30, 31))...), true, false},
		{"five and six over a restart are over", append(some(5, at(201, 0, 1)), some(6, at(201, 30, 31))...), true, false},
		{"only the middle is over", append(some(5, at(201, 0, 1)), append(some(6, at(201, 50, 51)), some(5, at(201, 90, 91))...)...), true, false},
		{"a refusal after ten is right", append(some(10, at(201, 0, 1)), at(429, 2, 3)), false, false},
		{"a refusal after nine is wrong", append(some(9, at(201, 0, 1)), at(429, 2, 3)), false, true},
		{"a refusal after nine and one without an answer may be right", append(some(9, at(201, 0, 1)), at(0, 1, 0), at(429, 2, 3)), false, false},
		{"a refusal long after nine and one whose node was killed is wrong", append(some(9, at(201, 8, 9)), killed(0, 1), at(429, 66, 67)), false, true},
		{"a refusal soon after nine and one whose node was killed may be right", append(some(9, at(201, 8, 9)), killed(0, 1), at(429, 65, 66)), false, false},
		{"a refusal after nine and one that reached no node is wrong", append(some(9, at(201, 0, 1)), unreachable(1), at(429, 2, 3)), false, true},
		{"a refusal after nine and a failed one may be right", append(some(9, at(201, 0, 1)), at(503, 1, 2), at(429, 2, 3)), false, false},
		{"refusals take no places", append(some(9, at(201, 0, 1)), some(5, at(429, 2, 3))...), false, true},
		{"a refusal when all have left is wrong", append(some(10, at(201, 0, 1)), at(429, 61, 62)), false, true},
		{"a refusal on the way when they leave may be right", append(some(10, at(201, 0, 1)), at(429, 60.5, 62)), false, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if found := overAdmitted(test.calls, limit, window); (len(found) > 0) != test.over {
				t.Errorf("over-admitted: %q, want some: %t", found, test.over)
			}
			if found := wronglyDenied(test.calls, limit, window); (len(found) > 0) != test.wrong {
				t.Errorf("wrongly denied: %q, want some: %t", found, test.wrong)
			}
		})
	}
}
