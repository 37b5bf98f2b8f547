package api_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/ratelimit"
)

// refusedBy fails the test unless the answer is a policy's refusal, with its
// message and nothing left.
func (a answer) refusedBy(t testing.TB, policy, message string) {
	t.Helper()
	if p := a.refused(t, http.StatusTooManyRequests, "RATE_LIMITED"); p.Error.Message != message {
		t.Errorf("the message is %q, want %q", p.Error.Message, message)
	}
	l := a.limits(t, policy)
	if l.remaining != 0 {
		t.Errorf("refused with %d places left", l.remaining)
	}
	if after := a.header.Get("Retry-After"); after != strconv.Itoa(l.until) {
		t.Errorf("Retry-After is %s, and a place frees in %d s", after, l.until)
	}
}

const (
	signUpsPerMinute   = "Rate limit exceeded. Maximum 10 onboarding requests per minute per IP address."
	exchangesPerMinute = "Rate limit exceeded. Maximum 60 credential requests per minute per customer."
	callsPerHour       = "Rate limit exceeded. Maximum 500 API requests per hour per API key."
	failuresPerMinute  = "Rate limit exceeded. Maximum 60 failed authentications per minute per IP address."
	eventsPerMinute    = "Rate limit exceeded. Maximum 1000 webhook requests per minute."
	forgedPerMinute    = "Rate limit exceeded. Maximum 60 unauthentic webhook requests per minute per IP address."
)

// The policies as they are by default, place by place.
func TestDefaultLimits(t *testing.T) {
	for _, test := range []struct {
		policy        string
		count, window int
		message       string
		send          func(s *server, apiKey string) answer
		status        int
	}{
		{"onboarding", 10, 60, signUpsPerMinute, func(s *server, _ string) answer {
			return s.send(t, "POST", onboard, from("203.0.113.1"), document(`{"name": "Ada", "email": "`+someone()+`"}`))
		}, http.StatusCreated},
		{"credential_exchange", 60, 60, exchangesPerMinute, func(s *server, apiKey string) answer {
			return s.send(t, "POST", exchange, key(apiKey), document(`{"providers": ["openai"]}`))
		}, http.StatusOK},
		{"api", 500, 3600, callsPerHour, func(s *server, apiKey string) answer {
			return s.send(t, "GET", "/api/v1/keys", key(apiKey))
		}, http.StatusOK},
		{"auth_failure", 60, 60, failuresPerMinute, func(s *server, _ string) answer {
			return s.send(t, "GET", "/api/v1/keys", from("203.0.113.1"))
		}, http.StatusUnauthorized},
		{"stripe_webhook", 1000, 60, eventsPerMinute, func(s *server, _ string) answer {
			return s.event(t, event(someEvent()))
		}, http.StatusOK},
		{"webhook_unauthentic", 60, 60, forgedPerMinute, func(s *server, _ string) answer {
			return s.send(t, "POST", webhooks, from("203.0.113.1"), body("{}"))
		}, http.StatusUnauthorized},
	} {
		t.Run(test.policy, func(t *testing.T) {
			now := newClock() // stands still: no place frees meanwhile
			s := newServer(t, at(now), trust("127.0.0.0/8"))
			_, apiKey := s.signUp(t)
			for i := range test.count + 3 {
				sent := time.Now()
				got := test.send(s, apiKey)
				read := time.Now()
				l := got.limits(t, test.policy)
				if i >= test.count {
					got.refusedBy(t, test.policy, test.message)
				} else if got.want(t, test.status); l.remaining != test.count-1-i {
					t.Fatalf("request %d leaves %d places", i+1, l.remaining)
				}
				if i > test.count {
					continue // from the node's memory, which goes on while the store's clock stands
				}
				window := time.Duration(test.window) * time.Second
				if least, most := ceilUnix(sent.Add(window)), ceilUnix(read.Add(window)); l.reset < least || l.reset > most {
					t.Fatalf("a place frees at %d, want from %d to %d", l.reset, least, most)
				}
				if l.limit != test.count || l.window != test.window || l.until != test.window {
					t.Fatalf("%+v, want %d in %d s and the whole window to wait", l, test.count, test.window)
				}
			}
		})
	}
}

// ceilUnix is a time in Unix seconds, rounded up.
func ceilUnix(t time.Time) int64 { return t.Add(time.Second - time.Nanosecond).Unix() }

// What is configured is enforced and said.
func TestConfiguredLimits(t *testing.T) {
	for _, test := range []struct{ limit, says, policy string }{
		{"7/30s", "Maximum 7 onboarding requests per 30 seconds per IP address.", `"onboarding";q=7;w=30`},
		{"1/60s", "Maximum 1 onboarding requests per minute per IP address.", `"onboarding";q=1;w=60`},
		{"3/1h", "Maximum 3 onboarding requests per hour per IP address.", `"onboarding";q=3;w=3600`},
		{"2/90s", "Maximum 2 onboarding requests per 90 seconds per IP address.", `"onboarding";q=2;w=90`},
		{"2/2h", "Maximum 2 onboarding requests per 7200 seconds per IP address.", `"onboarding";q=2;w=7200`},
	} {
		t.Run(test.limit, func(t *testing.T) {
			s := newServer(t, at(newClock()), limit("onboarding", test.limit))
			var count int
			if _, err := fmt.Sscanf(test.limit, "%d/", &count); err != nil {
				t.Fatal(err)
			}
			for range count {
				got := s.send(t, "POST", onboard).want(t, http.StatusUnsupportedMediaType)
				if p := got.header.Get("RateLimit-Policy"); p != test.policy {
					t.Fatalf("RateLimit-Policy is %s, want %s", p, test.policy)
				}
			}
			s.send(t, "POST", onboard).refusedBy(t, "onboarding", "Rate limit exceeded. "+test.says)
		})
	}
}

// A policy that is off counts nothing and says nothing; the others go on.
func TestPolicyOff(t *testing.T) {
	policies := []string{"onboarding", "credential_exchange", "api", "auth_failure", "stripe_webhook", "webhook_unauthentic"}
	for _, off := range policies {
		t.Run(off, func(t *testing.T) {
			options := []option{at(newClock())}
			for _, policy := range policies {
				text := "2/60s"
				if policy == off {
					text = "off"
				}
				options = append(options, limit(ratelimit.Name(policy), text))
			}
			s := newServer(t, options...)
			_, apiKey := s.signUp(t)
			for policy, send := range map[string]func() answer{
				"onboarding":          func() answer { return s.send(t, "POST", onboard) },
				"api":                 func() answer { return s.send(t, "GET", "/api/v1/account", key(apiKey)) },
				"auth_failure":        func() answer { return s.send(t, "GET", "/api/v1/account") },
				"credential_exchange": func() answer { return s.send(t, "POST", exchange, key(apiKey)) },

				"stripe_webhook":      func() answer { return s.event(t, event(someEvent())) },
				"webhook_unauthentic": func() answer { return s.send(t, "POST", webhooks) },
			} {
				limited := false
				for range 5 {
					got := send()
					if policy == off {
						got.unlimited(t)
					} else {
						got.limits(t, policy)
					}
					limited = limited || got.status == http.StatusTooManyRequests
				}
				if limited == (policy == off) {
					t.Errorf("%s: limited is %v where %s is off", policy, limited, off)
				}
			}
		})
	}
}

// Each key, and each address, has a window of its own.
func TestWindowsAreApart(t *testing.T) {
	s := newServer(t, at(newClock()), trust("127.0.0.0/8"), limit("onboarding", "2/60s"), limit("api", "1/60s"), limit("auth_failure", "1/60s"))
	_, mine := s.signUp(t, from("203.0.113.1"))
	s.signUp(t, from("203.0.113.1"))
	s.send(t, "POST", onboard, from("203.0.113.1")).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
	_, other := s.signUp(t, from("203.0.113.2"))
	s.send(t, "GET", "/api/v1/account", key(mine)).want(t, http.StatusOK)
	s.send(t, "GET", "/api/v1/account", key(mine), from("203.0.113.9")).refused(t, http.StatusTooManyRequests, "RATE_LIMITED") // wherever it comes from
	s.send(t, "GET", "/api/v1/keys", key(mine)).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")                         // whatever it asks for
	s.send(t, "GET", "/api/v1/account", bearer(mine)).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")                   // however it is presented
	ci := s.newKey(t, other, "")
	s.send(t, "GET", "/api/v1/account", key(other)).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
	s.send(t, "GET", "/api/v1/account", key(ci.Key)).want(t, http.StatusOK) // of the same customer
	s.send(t, "GET", "/api/v1/account", from("203.0.113.1")).want(t, http.StatusUnauthorized)
	s.send(t, "GET", "/api/v1/account", from("203.0.113.2")).want(t, http.StatusUnauthorized)
	s.send(t, "GET", "/api/v1/account", from("203.0.113.1")).want(t, http.StatusTooManyRequests)
}

// 401s are limited per address, of whatever kind they are; a valid key from
// there still passes, and takes no place among them.
func TestFailuresDoNotShutOutAKey(t *testing.T) {
	s := newServer(t, at(newClock()))
	_, mine := s.signUp(t)
	wrong := []detail{key("x"), key(""), bearer("y"), header("Authorization", "Basic z"), key(flip(mine[0]) + mine[1:])}
	for i := range 60 {
		got := s.send(t, "GET", "/api/v1/account", wrong[i%len(wrong)]).want(t, http.StatusUnauthorized)
		if l := got.limits(t, "auth_failure"); l.remaining != 59-i {
			t.Fatalf("failure %d leaves %d places", i+1, l.remaining)
		}
		if i%10 == 0 {
			s.send(t, "GET", "/api/v1/account", key(mine)).want(t, http.StatusOK).limits(t, "api")
		}
	}
	for _, w := range wrong {
		s.send(t, "GET", "/api/v1/account", w).refusedBy(t, "auth_failure", failuresPerMinute)
		s.send(t, "POST", "/api/v1/keys", w, body("x")).refusedBy(t, "auth_failure", failuresPerMinute)
	}
	if l := s.send(t, "GET", "/api/v1/account", key(mine)).want(t, http.StatusOK).limits(t, "api"); l.remaining != 500-7 {
		t.Errorf("a valid key has %d places left, want 493", l.remaining)
	}
	s.signUp(t) // sign-up does not authenticate
	s.send(t, "GET", "/health").want(t, http.StatusOK)
}

// 500 sign-ups at once from one address: ten get in, whatever becomes of them.
func TestLimitUnderPressure(t *testing.T) {
	s := newServer(t, at(newClock()))
	answers := s.atOnce(t, 500, func(i int) (answer, error) {
		if i%2 == 0 {
			return s.try(t.Context(), "POST", onboard, document(`{"name": "Ada"}`))
		}
		return s.try(t.Context(), "POST", onboard, document(`{"name": "Ada", "email": "`+someone()+`"}`))
	})
	left := make(map[int]int)
	for _, got := range answers {
		if got.status == http.StatusTooManyRequests {
			got.refusedBy(t, "onboarding", signUpsPerMinute)
			continue
		}
		left[got.limits(t, "onboarding").remaining]++
	}
	if len(left) != 10 {
		t.Fatalf("admitted, by what they left: %v; want each from 0 to 9 once", left)
	}
	for remaining, n := range left {
		if n != 1 || remaining > 9 {
			t.Errorf("%d answers say that %d places are left", n, remaining)
		}
	}
}

// Several nodes over one store count together.
func TestNodesCountTogether(t *testing.T) {
	first := newServer(t, at(newClock()))
	nodes := []*server{first, newServer(t, beside(first)), newServer(t, beside(first))}
	for i := range 10 {
		if l := nodes[i%3].send(t, "POST", onboard).limits(t, "onboarding"); l.remaining != 9-i {
			t.Fatalf("request %d leaves %d places", i+1, l.remaining)
		}
	}
	for _, node := range nodes {
		node.send(t, "POST", onboard).refusedBy(t, "onboarding", signUpsPerMinute)
	}
}

// A key that ran out of places and is revoked then is refused as revoked, also
// where a node remembers it as limited.
func TestRevokedWhileLimited(t *testing.T) {
	s := newServer(t, at(newClock()), limit("api", "1/60s"))
	_, mine := s.signUp(t)
	ci := s.newKey(t, mine, "")
	s.send(t, "GET", "/api/v1/account", key(ci.Key)).want(t, http.StatusOK)
	s.send(t, "GET", "/api/v1/account", key(ci.Key)).want(t, http.StatusTooManyRequests)
	newServer(t, beside(s)).send(t, "DELETE", "/api/v1/keys/"+ci.ID, key(mine)).want(t, http.StatusNoContent)
	s.send(t, "GET", "/api/v1/account", key(ci.Key)).refused(t, http.StatusUnauthorized, "INVALID_API_KEY")
}

// The names of headers are spelled as the contract spells them, though none
// of them need be.
func TestHeaderSpelling(t *testing.T) {
	s := newServer(t)
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "POST "+onboard+" HTTP/1.1\r\nHost: gatehouse\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(limitNames, "X-Request-Id") {
		if n := strings.Count(string(text), "\r\n"+name+": "); n != 1 {
			t.Errorf("%s is there %d times:\n%s", name, n, text)
		}
	}
}
