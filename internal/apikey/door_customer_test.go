package apikey_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/ratelimit"
)

// desk is where customers' places are, beside a hall whose latency and failures
// it shares.
type desk struct{ *hall }

func (d desk) Take(_ context.Context, _ ratelimit.Name, limit ratelimit.Limit, key string) (ratelimit.Decision, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	clock := ratelimit.Instant(time.Now().UnixMicro())
	if d.latency > 0 {
		<-time.After(d.latency)
	}
	if d.err != nil {
		return ratelimit.Decision{}, d.err
	}
	kept, decision := ratelimit.Admit(limit, d.stamps[key], clock)
	if decision.Admitted {
		d.stamps[key] = kept
	}
	return decision, nil
}

// newDesk is a door, and a limiter of customers of two in a minute.
func newDesk(t *testing.T, h *hall) (*tally, func(key string) (apikey.Principal, ratelimit.Decision, error)) {
	t.Helper()
	d, _ := newDoor(t, h)
	c := &tally{}
	l := ratelimit.New(ratelimit.Policy{Name: ratelimit.CredentialExchange, Limit: limit}, desk{h}, c.count)
	return c, func(key string) (apikey.Principal, ratelimit.Decision, error) { return d.EnterFor(t.Context(), key, l) }
}

func TestCustomersPlacesAreOverAllItsKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		outcomes, enter := newDesk(t, h)
		second := apikey.Principal{CustomerID: "jane", KeyID: "jane's second key"}
		keys := []string{h.issue(jane), h.issue(second)}
		for i, want := range []ratelimit.Decision{{Admitted: true, Remaining: 1, Wait: time.Minute}, {Admitted: true, Wait: time.Minute}, {Wait: time.Minute}, {Wait: time.Minute}} {
			who, decision, err := enter(keys[i%2])
			if err != nil || who != []apikey.Principal{jane, second}[i%2] || decision != want {
				t.Errorf("request %d: %+v, %+v, %v, want %+v", i+1, who, decision, err, want)
			}
		}
		john := apikey.Principal{CustomerID: "john", KeyID: "john's key"}
		if who, decision, err := enter(h.issue(john)); err != nil || who != john || !decision.Admitted {
			t.Errorf("another customer: %+v, %+v, %v", who, decision, err)
		}
		outcomes.are(t, map[ratelimit.Outcome]int{ratelimit.Admitted: 3, ratelimit.Denied: 1, ratelimit.Remembered: 1})
		for _, l := range h.asked {
			if l != (ratelimit.Limit{}) {
				t.Errorf("a place of the key's own was taken, by %v", l)
			}
		}
	})
}

func TestKeyThatIsNotUsableTakesNoCustomersPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		outcomes, enter := newDesk(t, h)
		unknown, _ := apikey.Generate(apikey.Live)
		token, _ := apikey.GenerateToken(apikey.Live)
		revoked := h.issue(jane)
		for range 3 { // so that its denial is remembered
			if _, _, err := enter(revoked); err != nil {
				t.Fatal(err)
			}
		}
		h.revoke(t, revoked)
		for _, key := range []string{"", "x", unknown.Reveal(), token.Reveal(), revoked} {
			who, decision, err := enter(key)
			refused(t, who, decision, err)
		}
		if h.places() != 2 {
			t.Errorf("%d places were taken, want 2", h.places())
		}
		outcomes.are(t, map[ratelimit.Outcome]int{ratelimit.Admitted: 2, ratelimit.Denied: 1, ratelimit.Remembered: 1})
	})
}

// However slow the store is, a denial that a node remembers, by whichever key,
// ends before the place frees, and outlives the store until then.
func TestCustomersDenialInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		h.latency = 3 * time.Second
		_, enter := newDesk(t, h)
		first, second := h.issue(jane), h.issue(apikey.Principal{CustomerID: "jane", KeyID: "jane's second key"})
		var places time.Time
		for i, key := range []string{first, first, first, second, second} {
			before := time.Now()
			_, decision, err := enter(key)
			if err != nil || decision.Admitted != (i < 2) {
				t.Fatalf("request %d: %+v, %v", i+1, decision, err)
			}
			if i == 0 {
				places = before.Add(h.latency + time.Minute) // its key is looked up first
			}
		}
		h.fail(errAway)
		for _, key := range []string{first, second} {
			if _, decision, err := enter(key); err != nil || decision.Admitted || decision.Wait <= 0 {
				t.Errorf("while the store is away: %+v, %v, want the denial", decision, err)
			}
		}
		h.latency = 0
		<-time.After(time.Until(places))
		if _, decision, err := enter(second); !errors.Is(err, errAway) || decision.Admitted {
			t.Errorf("when the denial has ended: %+v, %v, want the store's error", decision, err)
		}
		h.fail(nil)
		if _, decision, err := enter(second); err != nil || !decision.Admitted {
			t.Errorf("when the place is free: %+v, %v", decision, err)
		}
	})
}
