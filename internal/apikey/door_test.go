package apikey_test

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/ratelimit"
)

var jane = apikey.Principal{CustomerID: "jane", KeyID: "jane's key"}

// refused checks that nobody passed, as one whose key is not usable.
func refused(t *testing.T, who apikey.Principal, d ratelimit.Decision, err error) {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Unauthenticated || f.Code != "INVALID_API_KEY" {
		t.Errorf("the error is %v, want INVALID_API_KEY", err)
	}
	if who != (apikey.Principal{}) || d != (ratelimit.Decision{}) {
		t.Errorf("beside the refusal: %+v, %+v", who, d)
	}
}

// enter fails the test where the door has an error.
func enter(t *testing.T, d *apikey.Door, key string) (apikey.Principal, ratelimit.Decision) {
	t.Helper()
	who, decision, err := d.Enter(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return who, decision
}

// exhaust uses up a key's places, so that its last refusal is remembered.
func exhaust(t *testing.T, d *apikey.Door, key string) {
	t.Helper()
	for i := range limit.Count + 1 {
		if _, decision := enter(t, d, key); decision.Admitted != (i < limit.Count) {
			t.Fatalf("request %d: %+v", i+1, decision)
		}
	}
}

func TestUsableKeyEntersUntilItsPlacesAreTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		d, outcomes := newDoor(t, h)
		key := h.issue(jane)
		want := []ratelimit.Decision{
			{Admitted: true, Remaining: 1, Wait: time.Minute},
			{Admitted: true, Remaining: 0, Wait: time.Minute},
			{Wait: time.Minute},
		}
		for i, w := range want {
			who, decision := enter(t, d, key)
			if who != jane || decision != w {
				t.Errorf("request %d: %+v, %+v, want %+v, %+v", i+1, who, decision, jane, w)
			}
		}
		if h.policy != ratelimit.API || !slices.Equal(h.asked, []ratelimit.Limit{limit, limit, limit}) {
			t.Errorf("the store was asked for %s by %v", h.policy, h.asked)
		}
		outcomes.are(t, map[ratelimit.Outcome]int{ratelimit.Admitted: 2, ratelimit.Denied: 1})
	})
}

func TestDoorTellsItsPolicy(t *testing.T) {
	p := ratelimit.Defaults()[2]
	d := apikey.NewDoor(newHall(), ratelimit.New(p, noLimiterStore{t}, func(ratelimit.Outcome) {}))
	if got := d.Policy(); got != p {
		t.Errorf("Policy() = %+v, want %+v", got, p)
	}
}

func TestMalformedKeyNeverReachesTheStore(t *testing.T) {
	h := newHall()
	valid := h.issue(jane)
	for name, open := range map[string]func(*testing.T, *hall) (*apikey.Door, *tally){"limited": newDoor, "off": openDoor} {
		d, outcomes := open(t, h)
		for _, key := range []string{
			"", "x", valid[:len(valid)-1], valid + "0", " " + valid, strings.Replace(valid, "live", "test", 1),
			valid[:len(valid)-1] + string(valid[len(valid)-1]^1), strings.Repeat("a", 1<<20), "gk_live_\x00",
		} {
			who, decision, err := d.Enter(t.Context(), key)
			refused(t, who, decision, err)
		}
		if len(h.asked) > 0 {
			t.Errorf("%s: the store was asked %d times", name, len(h.asked))
		}
		outcomes.are(t, nil)
	}
}

func TestUnknownKeyIsRefusedAndTakesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		d, outcomes := newDoor(t, h)
		secret, _ := apikey.Generate(apikey.Live)
		for range 10 {
			who, decision, err := d.Enter(t.Context(), secret.Reveal())
			refused(t, who, decision, err)
		}
		if len(h.asked) != 10 || h.places() != 0 {
			t.Errorf("the store was asked %d times and gave %d places, want 10 and 0", len(h.asked), h.places())
		}
		outcomes.are(t, nil)
	})
}

// Clients must not learn which it was.
func TestMalformedUnknownAndRevokedKeysAreAnsweredAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		d, _ := newDoor(t, h)
		unknown, _ := apikey.Generate(apikey.Live)
		revoked := h.issue(jane)
		enter(t, d, revoked)
		h.revoke(t, revoked)
		var answers []error
		for _, key := range []string{"gk_live_", unknown.Reveal(), revoked} {
			_, _, err := d.Enter(t.Context(), key)
			answers = append(answers, err)
		}
		for _, a := range answers {
			if diff := cmp.Diff(apikey.Unknown(), a); diff != "" {
				t.Errorf("an answer differs (-want +got):\n%s", diff)
			}
		}
	})
}

// By its beginning alone, so that it tells nothing of the token.
func TestTokenIsToldToBeNoKey(t *testing.T) {
	d, _ := newDoor(t, newHall())
	token, _ := apikey.GenerateToken(apikey.Live)
	for _, given := range []string{"gt_", "gt_x", token.Reveal(), token.Reveal() + "x"} {
		who, decision, err := d.Enter(t.Context(), given)
		refused(t, who, decision, err)
		_, _, also := d.EnterFor(t.Context(), given, nil)
		for _, err := range []error{err, also} {
			if f, ok := errors.AsType[*fault.Error](err); !ok || f.Message != "This is a gateway token, not an API key." {
				t.Errorf("%s is refused as %v", given, err)
			}
		}
	}
}

func TestWhenTheStoreFailsNobodyPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		d, outcomes := newDoor(t, h)
		key := h.issue(jane)
		h.fail(errAway)
		for range 3 {
			who, decision, err := d.Enter(t.Context(), key)
			if !errors.Is(err, errAway) || decision.Admitted || who.KeyID != "" {
				t.Errorf("%+v, %+v, %v, want the store's error alone", who, decision, err)
			}
		}
		outcomes.are(t, map[ratelimit.Outcome]int{ratelimit.Failed: 3})
		h.fail(nil) // a failure is no refusal: nothing of it is remembered
		if _, decision := enter(t, d, key); !decision.Admitted {
			t.Errorf("once the store is back: %+v", decision)
		}
	})
}

func TestDenialIsRememberedWhileTheKeyStands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		d, outcomes := newDoor(t, h)
		key := h.issue(jane)
		exhaust(t, d, key)
		h.asked = nil
		<-time.After(20 * time.Second)
		who, decision := enter(t, d, key)
		if want := (ratelimit.Decision{Wait: 40 * time.Second}); who != jane || decision != want {
			t.Errorf("%+v, %+v, want %+v, %+v", who, decision, jane, want)
		}
		if !slices.Equal(h.asked, []ratelimit.Limit{{}}) {
			t.Errorf("the store was asked by %v, want once and for no place", h.asked)
		}
		outcomes.are(t, map[ratelimit.Outcome]int{ratelimit.Admitted: 2, ratelimit.Denied: 1, ratelimit.Remembered: 1})
		<-time.After(40 * time.Second)
		if _, decision := enter(t, d, key); !decision.Admitted {
			t.Errorf("when the place frees: %+v", decision)
		}
	})
}

// The memory counts from before the store was asked, so that a slow answer
// refuses nobody whose place has come free.
func TestMemoryDoesNotOutlastThePlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		h.latency = 3 * time.Second
		d, _ := newDoor(t, h)
		key := h.issue(jane)
		start := time.Now()
		exhaust(t, d, key)
		<-time.After(time.Until(start.Add(time.Minute)))
		if _, decision := enter(t, d, key); !decision.Admitted {
			t.Errorf("a minute after its first request: %+v", decision)
		}
	})
}

func TestOneKeysDenialIsNotAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		d, _ := newDoor(t, h)
		exhaust(t, d, h.issue(jane))
		second := h.issue(apikey.Principal{CustomerID: "jane", KeyID: "jane's second key"})
		if _, decision := enter(t, d, second); !decision.Admitted {
			t.Errorf("%+v", decision)
		}
	})
}

func TestRevokedKeyIsUnknownThoughItsDenialIsRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		d, _ := newDoor(t, h)
		key := h.issue(jane)
		exhaust(t, d, key)
		h.revoke(t, key)
		who, decision, err := d.Enter(t.Context(), key)
		refused(t, who, decision, err)
	})
}

func TestRememberedDenialOutlivesTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		d, outcomes := newDoor(t, h)
		key := h.issue(jane)
		exhaust(t, d, key)
		h.fail(errAway)
		_, decision, err := d.Enter(t.Context(), key)
		if want := (ratelimit.Decision{Wait: time.Minute}); err != nil || decision != want {
			t.Errorf("%+v, %v, want %+v", decision, err, want)
		}
		outcomes.are(t, map[ratelimit.Outcome]int{ratelimit.Admitted: 2, ratelimit.Denied: 1, ratelimit.Remembered: 1})
		<-time.After(time.Minute)
		if _, decision, err := d.Enter(t.Context(), key); !errors.Is(err, errAway) || decision.Admitted {
			t.Errorf("when the denial has ended: %+v, %v, want the store's error", decision, err)
		}
	})
}

func TestPolicyThatIsOffChecksTheKeyAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		d, outcomes := openDoor(t, h)
		key := h.issue(jane)
		for range 10 {
			who, decision := enter(t, d, key)
			if want := (ratelimit.Decision{Admitted: true}); who != jane || decision != want {
				t.Fatalf("%+v, %+v, want %+v, %+v", who, decision, jane, want)
			}
		}
		for _, l := range h.asked {
			if l != (ratelimit.Limit{}) {
				t.Errorf("the store was asked for a place by %v", l)
			}
		}
		h.revoke(t, key)
		who, decision, err := d.Enter(t.Context(), key)
		refused(t, who, decision, err)
		outcomes.are(t, nil)
	})
}

func TestPolicyThatIsOffLetsNobodyPassWhenTheStoreFails(t *testing.T) {
	h := newHall()
	d, _ := openDoor(t, h)
	key := h.issue(jane)
	h.fail(errAway)
	who, decision, err := d.Enter(t.Context(), key)
	if !errors.Is(err, errAway) || decision.Admitted || who.KeyID != "" {
		t.Errorf("%+v, %+v, %v, want the store's error alone: only a decision that admits lets in", who, decision, err)
	}
}

func TestSuspendedCustomerTakesPlacesAndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		d, _ := newDoor(t, h)
		sam := apikey.Principal{CustomerID: "sam", KeyID: "sam's key", Suspended: true}
		key := h.issue(sam)
		for i := range 5 { // admitted, refused, and refused from memory
			who, decision := enter(t, d, key)
			if who != sam || decision.Admitted != (i < limit.Count) {
				t.Errorf("request %d: %+v, %+v", i+1, who, decision)
			}
		}
		if h.places() != limit.Count {
			t.Errorf("%d places are taken, want %d", h.places(), limit.Count)
		}
		off, _ := openDoor(t, h)
		if who, decision := enter(t, off, key); who != sam || !decision.Admitted {
			t.Errorf("with the policy off: %+v, %+v", who, decision)
		}
	})
}

func TestConcurrentRequestsTakeNoMoreThanTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHall()
		d, _ := newDoor(t, h)
		key := h.issue(jane)
		var (
			wg       sync.WaitGroup
			mu       sync.Mutex
			admitted int
		)
		for range 50 {
			wg.Go(func() {
				_, decision, err := d.Enter(t.Context(), key)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if decision.Admitted {
					admitted++
				}
			})
		}
		wg.Wait()
		if admitted != limit.Count || h.places() != limit.Count {
			t.Errorf("%d are admitted and %d places taken, want %d", admitted, h.places(), limit.Count)
		}
	})
}

func TestRefusalsSayWhatTheyAre(t *testing.T) {
	for _, tt := range []struct {
		got        *fault.Error
		kind       fault.Kind
		code, says string
	}{
		{apikey.Unknown(), fault.Unauthenticated, "INVALID_API_KEY", "not valid"},
		{apikey.Suspended(), fault.Forbidden, "FORBIDDEN", "suspended"},
	} {
		if tt.got.Kind != tt.kind || tt.got.Code != tt.code || !strings.Contains(tt.got.Message, tt.says) {
			t.Errorf("%+v, want %s, %s and a message with %q", tt.got, tt.kind, tt.code, tt.says)
		}
	}
}
