package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// However many are forged, what Stripe signed is taken in, also from the
// forger's address; and the other way round.
func TestForgedAndAuthenticAreCountedApart(t *testing.T) {
	s := newServer(t, at(newClock()), trust("127.0.0.0/8"), limit("stripe_webhook", "20/60s"), limit("webhook_unauthentic", "10/60s"))
	nodes := []*server{s, newServer(t, beside(s), trust("127.0.0.0/8"), limit("stripe_webhook", "20/60s"), limit("webhook_unauthentic", "10/60s"))}
	forge := func(i int, address string) (answer, error) {
		text := event(someEvent())
		details := [][]detail{{body(text)}, {body(text), header("Stripe-Signature", signature("whsec_other", time.Now(), text))}, nil}[i%3]
		return nodes[i%2].try(t.Context(), "POST", webhooks, append(details, from(address))...)
	}
	storm := func(address string, admitted int) {
		t.Helper()
		n := 0
		for _, a := range s.atOnce(t, 200, func(i int) (answer, error) { return forge(i, address) }) {
			if a.status == http.StatusUnauthorized {
				a.refused(t, http.StatusUnauthorized, "INVALID_SIGNATURE")
				n++
			} else {
				a.refusedBy(t, "webhook_unauthentic", "Rate limit exceeded. Maximum 10 unauthentic webhook requests per minute per IP address.")
			}
		}
		if n != admitted {
			t.Errorf("%d forged requests were answered with 401, want %d", n, admitted)
		}
	}
	storm("203.0.113.1", 10)
	for i := range 5 {
		if l := s.event(t, event(someEvent()), from("203.0.113.1")).received(t, true).limits(t, "stripe_webhook"); l.remaining != 19-i {
			t.Errorf("event %d leaves %d places", i+1, l.remaining)
		}
	}
	// Those who sign are one, wherever they come from.
	taken := 0
	for _, a := range s.atOnce(t, 200, func(i int) (answer, error) {
		text := event(someEvent())
		return nodes[i%2].try(t.Context(), "POST", webhooks, signed(text), from("198.51.100."+[]string{"1", "2", "3"}[i%3]))
	}) {
		if a.status == http.StatusOK {
			a.received(t, true)
			taken++
		} else {
			a.refusedBy(t, "stripe_webhook", "Rate limit exceeded. Maximum 20 webhook requests per minute.")
		}
	}
	if taken != 15 || len(s.events(t)) != 20 {
		t.Errorf("%d events were taken in and %d are kept, want 15 more and 20", taken, len(s.events(t)))
	}
	storm("198.51.100.1", 10)
	storm("203.0.113.1", 0)
	// Neither has taken a place of another policy.
	if l := s.send(t, "GET", "/api/v1/account", from("203.0.113.1")).limits(t, "auth_failure"); l.remaining != 59 {
		t.Errorf("auth_failure has %d places left", l.remaining)
	}
	s.signUp(t, from("203.0.113.1"))
}

// An event that is there already takes a place like any other.
func TestDuplicatesCount(t *testing.T) {
	s := newServer(t, at(newClock()), limit("stripe_webhook", "3/60s"))
	text := event(someEvent())
	s.event(t, text).received(t, true)
	s.event(t, text).received(t, false)
	s.event(t, "{").received(t, true)
	s.event(t, text).refusedBy(t, "stripe_webhook", "Rate limit exceeded. Maximum 3 webhook requests per minute.")
}

// What is counted by what: an event by nothing of its sender's, a forgery by
// its address, what is neither by nothing.
func TestWebhooksAreCountedByTheirKeys(t *testing.T) {
	s := newServer(t, trust("127.0.0.0/8"))
	asked := func(send func()) []string {
		s.counted.mu.Lock()
		s.counted.keys = nil
		s.counted.mu.Unlock()
		send()
		s.counted.mu.Lock()
		defer s.counted.mu.Unlock()
		return slices.Clone(s.counted.keys)
	}
	for name, test := range map[string]struct {
		send func()
		keys []string
	}{
		"signed":       {func() { s.event(t, event(someEvent()), from("203.0.113.1")) }, []string{"all"}},
		"forged":       {func() { s.send(t, "POST", webhooks, from("203.0.113.1")) }, []string{"203.0.113.1"}},
		"forged, IPv6": {func() { s.send(t, "POST", webhooks, from("2001:db8:1:2:3::4")) }, []string{"2001:db8:1:2::/64"}},
		"too long":     {func() { s.event(t, strings.Repeat(" ", maxEvent+1)) }, nil},
	} {
		if got := asked(test.send); !slices.Equal(got, test.keys) {
			t.Errorf("%s is counted by %q, want %q", name, got, test.keys)
		}
	}
}

// Where limits are off all else is as it was.
func TestWebhooksUnlimited(t *testing.T) {
	s := newServer(t, unlimited)
	for range 100 {
		s.send(t, "POST", webhooks).refused(t, http.StatusUnauthorized, "INVALID_SIGNATURE")
	}
	s.event(t, event(someEvent())).received(t, true).unlimited(t)
}

// Why something is not authentic is told once a minute, since a secret that is
// not Stripe's must be seen, and otherwise to who looks for it: a flood is no
// flood of the log, neither of forgeries nor of what can't be verified.
func TestForgedWebhooksInTheLog(t *testing.T) {
	s := newServer(t, limit("webhook_unauthentic", "1/60s"))
	for range 3 {
		s.send(t, "POST", webhooks, body("jane@company.dev"), header("X-Request-Id", "forged"))
		s.send(t, "POST", webhooks, body(strings.Repeat(" ", maxEvent+1)), header("X-Request-Id", "too long"))
	}
	s.event(t, event(someEvent()), header("X-Request-Id", "signed"))
	if record := s.logs.record(t, "forged"); record["level"] != "WARN" || record["err"] == "" {
		t.Errorf("logged: %v", record)
	}
	warned := 0
	for _, line := range s.logs.lines() {
		if strings.Contains(line, `"level":"WARN"`) && strings.Contains(line, "webhooks are refused") && warned == 0 {
			warned++
		} else if !strings.Contains(line, `"level":"DEBUG"`) && !strings.Contains(line, `"request_id":"signed"`) {
			t.Errorf("logged: %s", line)
		}
	}
	if record := s.logs.record(t, "signed"); record["level"] != "INFO" || record["route"] != webhooks {
		t.Errorf("logged: %v", record)
	}
}

// What comes first decides: whether there is such a path, how long it is, who
// signed it, whether there is a place, what it is.
func TestOrderOfAWebhooksChecks(t *testing.T) {
	s := newServer(t, at(newClock()), limit("stripe_webhook", "1/60s"), limit("webhook_unauthentic", "1/60s"))
	over := strings.Repeat("{", maxEvent+1)
	s.send(t, "PUT", webhooks, body(over)).refused(t, http.StatusMethodNotAllowed, "METHOD_NOT_ALLOWED")
	s.event(t, "{").received(t, true)                                                                        // the only place
	s.send(t, "POST", webhooks, body("{"), header("Stripe-Signature", "x")).want(t, http.StatusUnauthorized) // and the other
	s.send(t, "POST", webhooks, body(over)).unlimited(t)
	s.event(t, over).refused(t, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
	s.send(t, "POST", webhooks, body("{")).limits(t, "webhook_unauthentic")
	s.event(t, "{").limits(t, "stripe_webhook")
	if err := s.database.close(); err != nil {
		t.Fatal(err)
	}
	s.event(t, over).refused(t, http.StatusRequestEntityTooLarge, "PAYLOAD_TOO_LARGE")
	s.send(t, "POST", webhooks, body("{")).refused(t, http.StatusTooManyRequests, "RATE_LIMITED") // as it is remembered
	s.event(t, "{").refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
}
