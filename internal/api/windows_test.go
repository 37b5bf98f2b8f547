package api_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"
)

// A place is free again exactly one window after it was taken. Each probe
// asks a node of its own, since a node goes on remembering a refusal for as
// long as the wait was, by its own clock.
func TestPlaceFreesAfterTheWindow(t *testing.T) {
	const window = time.Minute
	for _, test := range []struct {
		after    time.Duration
		admitted bool
		wait     string
	}{
		{0, false, "60"},
		{window / 2, false, "30"},
		{window - 1500*time.Millisecond, false, "2"},
		{window - time.Second, false, "1"},
		{window - 20*time.Millisecond, false, "1"},
		{window - time.Microsecond, false, "1"},
		{window, true, ""},
		{window + time.Microsecond, true, ""},
		{window + 20*time.Millisecond, true, ""},
	} {
		t.Run(test.after.String(), func(t *testing.T) {
			now := newClock()
			s := newServer(t, at(now))
			for range 10 {
				s.send(t, "POST", onboard).want(t, http.StatusUnsupportedMediaType)
			}
			now.advance(test.after)
			got := newServer(t, beside(s)).send(t, "POST", onboard)
			if test.admitted {
				if l := got.want(t, http.StatusUnsupportedMediaType).limits(t, "onboarding"); l.remaining != 9 {
					t.Errorf("%d places are left, want 9: all ten came free", l.remaining)
				}
				return
			}
			got.refusedBy(t, "onboarding", signUpsPerMinute)
			if after := got.header.Get("Retry-After"); after != test.wait {
				t.Errorf("Retry-After is %s, want %s", after, test.wait)
			}
		})
	}
}

// Over any window there are ten, also where it is no minute of the clock's;
// and what is refused extends nothing.
func TestWindowSlides(t *testing.T) {
	now := newClock()
	start := now.now()
	s := newServer(t, at(now))
	admitted := func(seconds float64) bool {
		now.set(start.Add(time.Duration(seconds * float64(time.Second))))
		got := newServer(t, beside(s)).send(t, "POST", onboard)
		if got.status == http.StatusTooManyRequests {
			return false
		}
		got.want(t, http.StatusUnsupportedMediaType)
		return true
	}
	for _, step := range []struct {
		from, until float64 // seconds
		every       float64
		admitted    int
	}{
		{0, 0.4, 0.1, 5},
		{30, 30.4, 0.1, 5},
		{31, 59.9, 2.9, 0}, // refused, ten times over
		{60, 60.4, 0.1, 5}, // as the first five leave
		{60.5, 89.9, 5, 0},
		{90, 90.9, 0.1, 5}, // as the second five leave
		{120, 120.9, 0.1, 5},
	} {
		n := 0
		for at := step.from; at < step.until+0.01; at += step.every {
			if admitted(at) {
				n++
			}
		}
		if n != step.admitted {
			t.Errorf("from %v to %v s there are %d admitted, want %d", step.from, step.until, n, step.admitted)
		}
	}
}

// Remaining and Reset say when the next place frees, not when all do.
func TestStateWithinTheWindow(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now), limit("onboarding", "3/60s"))
	for _, step := range []struct {
		advance          time.Duration
		remaining, until int
	}{
		{0, 2, 60},
		{8500 * time.Millisecond, 1, 52}, // 51.5 s until the first leaves
		{500 * time.Millisecond, 0, 51},  // 51 s exactly
		{51 * time.Second, 0, 9},         // the first has left; the second does in 8.5 s
		{60 * time.Second, 2, 60},
	} {
		now.advance(step.advance)
		l := s.send(t, "POST", onboard).want(t, http.StatusUnsupportedMediaType).limits(t, "onboarding")
		if l.remaining != step.remaining || l.until != step.until {
			t.Errorf("after %v more: %d places are left and the next frees in %d s, want %d and %d s", step.advance, l.remaining, l.until, step.remaining, step.until)
		}
	}
}

// A client that waits as long as it is told is admitted, and never told to
// wait longer than the window.
func TestRetryAfterIsEnough(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now), limit("onboarding", "2/7s"))
	node := s
	for i := range 60 {
		now.advance(time.Duration(i*137%1000) * time.Millisecond)
		got := node.send(t, "POST", onboard)
		if got.status != http.StatusTooManyRequests {
			continue
		}
		wait, err := strconv.Atoi(got.header.Get("Retry-After"))
		if err != nil || wait < 1 || wait > 7 {
			t.Fatalf("Retry-After is %q, want 1 to 7", got.header.Get("Retry-After"))
		}
		now.advance(time.Duration(wait) * time.Second)
		node = newServer(t, beside(s), limit("onboarding", "2/7s"))
		node.send(t, "POST", onboard).want(t, http.StatusUnsupportedMediaType)
	}
}

// Without the store nothing is admitted, and what a node remembers as refused
// stays refused.
func TestStoreAway(t *testing.T) {
	s := newServer(t, at(newClock()), trust("127.0.0.0/8"), limit("onboarding", "2/60s"), limit("api", "1/60s"), limit("auth_failure", "1/60s"),
		limit("stripe_webhook", "10/60s"), limit("webhook_unauthentic", "1/60s"))
	_, full := s.signUp(t, from("203.0.113.1"))
	_, free := s.signUp(t, from("203.0.113.1"))
	signUp := func(address string) answer {
		return s.send(t, "POST", onboard, from(address), document(`{"name": "Ada", "email": "`+someone()+`"}`))
	}
	call := func(apiKey string) answer { return s.send(t, "GET", "/api/v1/account", key(apiKey)) }
	fail := func(address string) answer { return s.send(t, "GET", "/api/v1/account", from(address)) }
	signUp("203.0.113.1").want(t, http.StatusTooManyRequests)
	call(full).want(t, http.StatusOK)
	call(full).want(t, http.StatusTooManyRequests)
	fail("203.0.113.1").want(t, http.StatusUnauthorized)
	fail("203.0.113.1").want(t, http.StatusTooManyRequests)
	forge := func(address string) answer { return s.send(t, "POST", webhooks, from(address)) }
	forge("203.0.113.1").want(t, http.StatusUnauthorized)
	forge("203.0.113.1").want(t, http.StatusTooManyRequests)

	if err := s.database.close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		signUp("203.0.113.1").refusedBy(t, "onboarding", "Rate limit exceeded. Maximum 2 onboarding requests per minute per IP address.")
		call(full).refusedBy(t, "api", "Rate limit exceeded. Maximum 1 API requests per minute per API key.")
		fail("203.0.113.1").refusedBy(t, "auth_failure", "Rate limit exceeded. Maximum 1 failed authentications per minute per IP address.")
		forge("203.0.113.1").refusedBy(t, "webhook_unauthentic", "Rate limit exceeded. Maximum 1 unauthentic webhook requests per minute per IP address.")
		for what, got := range map[string]answer{
			"a sign-up": signUp("203.0.113.2"), "a call": call(free), "no key": fail("203.0.113.2"), "another path's sign-up": s.send(t, "POST", onboard, body("x")),
			"an event": s.event(t, event(someEvent())), "a forged event": forge("203.0.113.2"), "a fix": s.fix(t, free, someFix()),
			"a new key": s.send(t, "POST", "/api/v1/keys", key(free)), "a wrong key": s.send(t, "GET", "/api/v1/account", key("x")),
		} {
			got.refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
			got.unlimited(t)
			if after, err := strconv.Atoi(got.header.Get("Retry-After")); err != nil || after < 1 || after > 4 {
				t.Errorf("%s: Retry-After is %q", what, got.header.Get("Retry-After"))
			}
		}
	}
	s.send(t, "GET", "/nothing").want(t, http.StatusNotFound)
	s.send(t, "PUT", onboard).want(t, http.StatusMethodNotAllowed)
}
