package api_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
)

// What failed is not kept: the same request again is carried out.
func TestFailureIsNotKept(t *testing.T) {
	next := make(chan around, 1)
	s := newServer(t, unlimited, writes(next))
	for endpoint, post := range posts(t, s) {
		for _, test := range []struct {
			name   string
			err    error
			status int
			code   string
			signUp bool // may fail so
		}{
			{"invalid", fault.Field("email", fault.NotAllowed, "email is not allowed"), 422, "VALIDATION_FAILED", true},
			{"conflict", fault.Refused("The state of things."), 409, "CONFLICT", false},
			{"no key any more", apikey.Unknown(), 401, "INVALID_API_KEY", false},
			{"suspended meanwhile", apikey.Suspended(), 403, "FORBIDDEN", false},
			{"our bug", errStore, 500, "INTERNAL", true},
			{"the store away", fault.Away(errStore), 503, "UNAVAILABLE", true},
		} {
			if endpoint == "sign-up" && !test.signUp || (endpoint == "fix" || endpoint == "exchange" || endpoint == "report") && test.status == http.StatusConflict {
				continue
			}
			t.Run(endpoint+": "+test.name, func(t *testing.T) {
				before, text, k := s.effects(t), post.body(), "a key for "+test.name+strings.Repeat(" x", 10)
				send := func() answer { return s.send(t, "POST", post.path, post.auth, document(text), under(k)) }
				for range 2 { // it is not kept in memory, either
					then(t, next, func(context.Context, func(context.Context) error) error { return test.err })
					send().refused(t, test.status, test.code)
				}
				first := send().fresh(t)
				send().repeats(t, first)
				if made := s.effects(t).than(before); made != each[endpoint] {
					t.Errorf("made: %+v, want %+v", made, each[endpoint])
				}
			})
		}
	}
}

// Nor is what was refused before its handler.
func TestRefusedBodyIsNotKept(t *testing.T) {
	s := newServer(t, unlimited)
	long, isJSON := strings.Repeat(" ", maxBody+1), header("Content-Type", "application/json")
	for endpoint, post := range posts(t, s) {
		text := post.body()
		for name, refusal := range map[string]struct {
			details []detail
			status  int
		}{
			"too long":            {[]detail{document(text + long)}, 413},
			"too long, in chunks": {[]detail{isJSON, func(r *http.Request) { chunked(strings.NewReader(text + long))(r) }}, 413},
			"no type":             {[]detail{body(text)}, 415},
			"another encoding":    {[]detail{document(text), header("Content-Encoding", "gzip")}, 415},
			"no JSON":             {[]detail{document(text + "}")}, 400},
			"a field twice":       {[]detail{document(strings.Replace(text, "{", `{"pad": 1, "pad": 1, `, 1))}, 400},
			"no object":           {[]detail{document("[" + text + "]")}, 422},
			"wrong types":         {[]detail{document(`{"name": 5, "grace_minutes": "x"}`)}, 422},
		} {
			t.Run(endpoint+": "+name, func(t *testing.T) {
				text, before, k := post.body(), s.effects(t), under("a key for "+name+strings.Repeat(" x", 10))
				s.send(t, "POST", post.path, append(refusal.details, post.auth, k)...).want(t, refusal.status)
				first := s.send(t, "POST", post.path, post.auth, document(text), k).fresh(t)
				s.send(t, "POST", post.path, append(refusal.details, post.auth, k)...).want(t, refusal.status) // also now
				s.send(t, "POST", post.path, post.auth, document(text), k).repeats(t, first)
				if made := s.effects(t).than(before); made != each[endpoint] {
					t.Errorf("made: %+v, want %+v", made, each[endpoint])
				}
			})
		}
	}
	t.Run("cut off", func(t *testing.T) {
		text, before := `{"name": "Ada", "email": "`+someone()+`"}`, s.effects(t)
		head := "POST " + onboard + " HTTP/1.1\r\nHost: gatehouse\r\nContent-Type: application/json\r\nIdempotency-Key: " + onceKey + "\r\nContent-Length: "
		s.raw(t, "POST", onboard, head+strconv.Itoa(len(text)+1)+"\r\n\r\n"+text).refused(t, http.StatusBadRequest, "INVALID_JSON")
		first := s.send(t, "POST", onboard, document(text), under(onceKey)).fresh(t)
		s.send(t, "POST", onboard, document(text), under(onceKey)).repeats(t, first)
		if made := s.effects(t).than(before); made != each["sign-up"] {
			t.Errorf("made: %+v, want one sign-up", made)
		}
	})
}

// A key in a wrong form is told last of what is known before the handler, and
// each such request takes its place.
func TestKeyIsLookedAtAfterTheBody(t *testing.T) {
	s := newServer(t, limit("onboarding", "5/60s"), limit("api", "5/60s"))
	id, suspended := s.signUp(t)
	if _, err := s.database.Suspend(t.Context(), id, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, mine := s.signUp(t)
	bad := under("short")
	s.send(t, "POST", "/api/v1/keys", bad, body("x")).refused(t, http.StatusUnauthorized, "AUTH_REQUIRED")
	s.send(t, "POST", "/api/v1/keys", bad, body("x"), key(suspended)).refused(t, http.StatusForbidden, "FORBIDDEN")
	for i, test := range []struct {
		details []detail
		status  int
	}{
		{[]detail{document(strings.Repeat(" ", maxBody+1))}, 413},
		{[]detail{body("x")}, 415},
		{[]detail{document("x")}, 400},
		{[]detail{document(`{"name": 5}`)}, 422},
		{[]detail{document("{}")}, 422},
	} {
		got := s.send(t, "POST", "/api/v1/keys", append(test.details, bad, key(mine))...).want(t, test.status)
		if l := got.limits(t, "api"); l.remaining != 4-i {
			t.Errorf("%d places are left, want %d", l.remaining, 4-i)
		}
		if test.status == 422 {
			got.invalid(t, "Idempotency-Key", "malformed")
		}
		if i < 3 {
			s.send(t, "POST", onboard, append(test.details, bad)...).want(t, test.status)
		}
	}
	s.send(t, "POST", "/api/v1/keys", bad, body("x"), key(mine)).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
	s.send(t, "POST", onboard, bad, body("x")).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
}

// A 429 is not kept; and a replay is refused like any other request where no
// place is left.
func TestLimitComesBeforeTheReplay(t *testing.T) {
	now, ring := newClock(), sealedBy(newRing(t))
	s := newServer(t, at(now), ring, limit("onboarding", "2/60s"), limit("api", "1/60s"))
	_, mine := s.signUp(t)
	text := `{"name": "Ada", "email": "` + someone() + `"}`
	before := s.effects(t)
	for _, test := range []struct {
		path, text string
		who        detail
		taken      int // places that are taken already
		most       int
	}{
		{onboard, text, func(*http.Request) {}, 1, 2}, {"/api/v1/keys", `{"name": "ci"}`, key(mine), 0, 1},
	} {
		for range test.most - test.taken {
			s.send(t, "POST", test.path, test.who, document("x")).refused(t, http.StatusBadRequest, "INVALID_JSON")
		}
		send := func(s *server) answer {
			return s.send(t, "POST", test.path, test.who, document(test.text), under(onceKey))
		}
		send(s).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
		now.advance(time.Minute)
		again := newServer(t, beside(s), ring, limit("onboarding", "2/60s"), limit("api", "1/60s")) // which remembers no refusal
		first := send(again).fresh(t)
		for range test.most - 1 {
			send(again).repeats(t, first)
		}
		send(again).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
		now.advance(time.Minute)
		send(newServer(t, beside(s), ring)).repeats(t, first)
	}
	if made := s.effects(t).than(before); made != (effects{1, 2, 1, 0}) {
		t.Errorf("made: %+v, want a sign-up and a key", made)
	}
}

// A replay is nothing that may be had without a usable key.
func TestReplayIsAuthenticated(t *testing.T) {
	s := newServer(t)
	id, mine := s.signUp(t)
	ci := s.newKey(t, mine, "")
	send := func(apiKey string) answer {
		return s.send(t, "POST", "/api/v1/keys", key(apiKey), under(onceKey))
	}
	first := send(ci.Key).fresh(t)
	s.send(t, "POST", "/api/v1/keys", under(onceKey)).refused(t, http.StatusUnauthorized, "AUTH_REQUIRED")
	if _, err := s.database.Suspend(t.Context(), id, time.Now()); err != nil {
		t.Fatal(err)
	}
	send(ci.Key).refused(t, http.StatusForbidden, "FORBIDDEN")
	if _, err := s.database.Resume(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	send(ci.Key).repeats(t, first)
	s.send(t, "DELETE", "/api/v1/keys/"+ci.ID, key(mine)).want(t, http.StatusNoContent)
	send(ci.Key).refused(t, http.StatusUnauthorized, "INVALID_API_KEY")
	send(mine).repeats(t, first)
}

// A store that says it failed may have done its work all the same. Whichever
// it was, the same request again is right.
func TestRetryAfterAFailingStore(t *testing.T) {
	failed := fault.Away(errStore)
	for name, test := range map[string]struct {
		around   around
		status   int
		persists bool
	}{
		"503, and does not persist": {func(context.Context, func(context.Context) error) error { return failed }, 503, false},
		"503, and persists": {func(ctx context.Context, write func(context.Context) error) error {
			return errors.Join(write(ctx), failed)
		}, 503, true},
		"500, and persists": {func(ctx context.Context, write func(context.Context) error) error {
			return errors.Join(write(ctx), errStore)
		}, 500, true},
		"panics before": {func(context.Context, func(context.Context) error) error { panic("gk_live_ jane@company.dev") }, 500, false},
		"panics afterwards": {func(ctx context.Context, write func(context.Context) error) error {
			if err := write(ctx); err != nil {
				return err
			}
			panic("gk_live_ jane@company.dev")
		}, 500, true},
	} {
		t.Run(name, func(t *testing.T) {
			next := make(chan around, 1)
			s := newServer(t, unlimited, writes(next))
			for endpoint, post := range posts(t, s) {
				before, text := s.effects(t), post.body()
				send := func() answer { return s.send(t, "POST", post.path, post.auth, document(text), under(onceKey)) }
				then(t, next, test.around)
				send().want(t, test.status)
				second := send().done(t)
				if replayed := second.header.Get("Idempotent-Replayed") == "true"; replayed != test.persists {
					t.Errorf("%s: the second answer is a replay: %v, want %v", endpoint, replayed, test.persists)
				}
				send().repeats(t, second)
				if made := s.effects(t).than(before); made != each[endpoint] {
					t.Errorf("%s made: %+v, want %+v", endpoint, made, each[endpoint])
				}
			}
		})
	}
}

// settled sends until the answer is not that an earlier request is under way.
func settled(t testing.TB, send func() answer) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // far beyond what it takes
	defer cancel()
	for {
		got := send()
		if got.status != http.StatusConflict {
			return got
		}
		got.refused(t, http.StatusConflict, "IDEMPOTENCY_CONFLICT")
		if ctx.Err() != nil {
			t.Fatal("the earlier request is under way for ever")
		}
	}
}

// The same for a client that does not wait for its answer.
func TestRetryAfterLeaving(t *testing.T) {
	for name, test := range map[string]struct {
		around   func(reached func()) around
		replayed string // "": either is right
	}{
		"before it is done": {func(reached func()) around {
			return func(ctx context.Context, _ func(context.Context) error) error {
				reached()
				<-ctx.Done()
				return fault.Away(ctx.Err())
			}
		}, "no"},
		"after it is done": {func(reached func()) around {
			return func(ctx context.Context, write func(context.Context) error) error {
				err := write(ctx)
				reached()
				<-ctx.Done()
				return errors.Join(err, fault.Away(ctx.Err()))
			}
		}, "yes"},
		"before it is begun": {func(reached func()) around {
			return func(ctx context.Context, write func(context.Context) error) error {
				reached()
				<-ctx.Done()
				return write(ctx)
			}
		}, ""},
		"in the middle": {func(reached func()) around {
			return func(ctx context.Context, write func(context.Context) error) error {
				reached()
				return write(ctx)
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			next := make(chan around, 1)
			s := newServer(t, unlimited, writes(next))
			for endpoint, post := range posts(t, s) {
				for i := range 10 {
					before, text, k := s.effects(t), post.body(), under("the tries of number "+strconv.Itoa(i))
					ctx, leave := context.WithCancel(t.Context())
					then(t, next, test.around(leave))
					// Where it comes through in spite of it, that is right, too.
					got, err := s.try(ctx, "POST", post.path, post.auth, document(text), k)
					if err == nil {
						got.fresh(t)
					}
					leave()
					send := func() answer { return s.send(t, "POST", post.path, post.auth, document(text), k) }
					second := settled(t, send).done(t)
					if replayed := second.header.Get("Idempotent-Replayed"); test.replayed == "yes" && replayed != "true" || test.replayed == "no" && replayed != "" {
						t.Errorf("%s: Idempotent-Replayed is %q; a replay: want %s", endpoint, replayed, test.replayed)
					}
					send().repeats(t, second)
					if err == nil {
						second.repeats(t, got)
					}
					if made := s.effects(t).than(before); made != each[endpoint] {
						t.Errorf("%s made: %+v, want %+v", endpoint, made, each[endpoint])
					}
				}
			}
		})
	}
}
