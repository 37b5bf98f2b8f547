package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store"
)

var onboarding = ratelimit.Limit{Count: 10, Window: time.Minute}

// take asks for a place; the tests' policy is onboarding.
func take(t testing.TB, s store.Store, limit ratelimit.Limit, key string) ratelimit.Decision {
	t.Helper()
	d, err := s.Take(t.Context(), ratelimit.Onboarding, limit, key)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var limitTests = map[string]func(*testing.T, Backend){
	"PlacesAreCountedDownAndRefused": func(t *testing.T, b Backend) {
		for i := range 10 {
			if d := take(t, b, onboarding, "a"); !d.Admitted || d.Remaining != 9-i || d.Wait != time.Minute {
				t.Fatalf("request %d: %+v", i, d)
			}
		}
		for range 3 {
			if d := take(t, b, onboarding, "a"); d.Admitted || d.Remaining != 0 || d.Wait != time.Minute {
				t.Fatalf("request beyond the limit: %+v", d)
			}
		}
		if d := take(t, b, onboarding, "b"); !d.Admitted {
			t.Errorf("another key: %+v", d)
		}
		if d, err := b.Take(t.Context(), ratelimit.AuthFailure, onboarding, "a"); err != nil || !d.Admitted {
			t.Errorf("another policy: %+v, %v", d, err)
		}
	},
	"PlaceFreesAtExactlyTheWindow": func(t *testing.T, b Backend) {
		for range 10 {
			take(t, b, onboarding, "a")
		}
		b.Clock.Move(time.Minute - time.Microsecond)
		if d := take(t, b, onboarding, "a"); d.Admitted || d.Wait != time.Microsecond {
			t.Errorf("a microsecond before: %+v", d)
		}
		b.Clock.Move(time.Microsecond)
		if d := take(t, b, onboarding, "a"); !d.Admitted || d.Remaining != 9 {
			t.Errorf("at the window: %+v", d)
		}
	},
	"RefusalsExtendNothing": func(t *testing.T, b Backend) {
		for range 5 {
			take(t, b, onboarding, "a")
		}
		b.Clock.Move(30 * time.Second)
		for range 5 {
			take(t, b, onboarding, "a")
		}
		for range 29 {
			b.Clock.Move(time.Second)
			if d := take(t, b, onboarding, "a"); d.Admitted {
				t.Fatalf("admitted at %v", b.Clock.Now())
			}
		}
		b.Clock.Move(time.Second)
		for i := range 6 {
			if d := take(t, b, onboarding, "a"); d.Admitted != (i < 5) {
				t.Errorf("request %d after a minute: %+v", i, d)
			}
		}
	},
	"WindowsSurviveReopening": func(t *testing.T, b Backend) {
		for range 10 {
			take(t, b, onboarding, "a")
		}
		if d := take(t, b.Reopen(t), onboarding, "a"); d.Admitted {
			t.Error("the window was forgotten")
		}
	},
	"ClockSteppingBackAdmitsNothingEarly": func(t *testing.T, b Backend) {
		for range 10 {
			take(t, b, onboarding, "a")
		}
		b.Clock.Move(-2 * time.Minute)
		if d := take(t, b, onboarding, "a"); d.Admitted || d.Wait != 3*time.Minute {
			t.Errorf("after the step: %+v, want a wait longer by it", d)
		}
		b.Clock.Move(3*time.Minute - time.Microsecond)
		if d := take(t, b, onboarding, "a"); d.Admitted {
			t.Errorf("admitted early: %+v", d)
		}
		b.Clock.Move(time.Microsecond)
		if d := take(t, b, onboarding, "a"); !d.Admitted {
			t.Errorf("not admitted again: %+v", d)
		}
	},
	"ChangedLimitCountsWhatWasAdmitted": func(t *testing.T, b Backend) {
		for range 10 {
			take(t, b, onboarding, "a")
			b.Clock.Move(time.Second)
		}
		lower := ratelimit.Limit{Count: 4, Window: time.Minute}
		if d := take(t, b, lower, "a"); d.Admitted || d.Wait != 56*time.Second { // the 7th must leave
			t.Errorf("with a lower limit: %+v", d)
		}
		higher := ratelimit.Limit{Count: 12, Window: time.Minute}
		if d := take(t, b, higher, "a"); !d.Admitted || d.Remaining != 1 {
			t.Errorf("with a higher limit: %+v", d)
		}
	},
	"FiveHundredAtOnceAreExact": func(t *testing.T, b Backend) {
		var mu sync.Mutex
		var left []int
		var wg sync.WaitGroup
		for range 500 {
			wg.Go(func() {
				d, err := b.Take(t.Context(), ratelimit.Onboarding, onboarding, "a")
				if err != nil {
					t.Error(err)
				}
				if d.Admitted {
					mu.Lock()
					left = append(left, d.Remaining)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		slices.Sort(left)
		if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(left, want) {
			t.Errorf("remaining places of those admitted: %v, want %v", left, want)
		}
	},
	"RandomBurstsNeverExceedTheLimit": func(t *testing.T, b Backend) {
		// Every decision is held against a plain list of all admissions.
		limit := ratelimit.Limit{Count: 3, Window: time.Second}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		admitted := make(map[string][]time.Time)
		for range 3000 {
			b.Clock.Move(time.Duration(random.IntN(150)) * time.Millisecond)
			key := fmt.Sprint(random.IntN(3))
			now := b.Clock.Now()
			live := 0
			for _, at := range admitted[key] {
				if now.Sub(at) < limit.Window {
					live++
				}
			}
			if d := take(t, b, limit, key); d.Admitted != (live < limit.Count) {
				t.Fatalf("with %d of %d in the window: %+v", live, limit.Count, d)
			} else if d.Admitted {
				admitted[key] = append(admitted[key], now)
			}
		}
	},
	"SweepRemovesTheDeadAlone": func(t *testing.T, b Backend) {
		for i := range 1200 { // several pages
			take(t, b, onboarding, fmt.Sprintf("dead-%04d", i))
		}
		b.Clock.Move(30 * time.Second)
		for range 10 {
			take(t, b, onboarding, "canary")
		}
		if _, err := b.Take(t.Context(), "of-another-version", onboarding, "kept"); err != nil {
			t.Fatal(err)
		}
		windows := map[ratelimit.Name]time.Duration{ratelimit.Onboarding: time.Minute}
		b.Clock.Move(30 * time.Second)
		seen, removed, err := b.Sweep(t.Context(), windows)
		if err != nil || seen != 1202 || removed != 1200 {
			t.Fatalf("swept %d of %d, %v, want 1200 of 1202", removed, seen, err)
		}
		if d := take(t, b, onboarding, "canary"); d.Admitted {
			t.Error("a live window was swept")
		}
		b.Clock.Move(ratelimit.MaxWindow)
		if seen, removed, err = b.Sweep(t.Context(), windows); err != nil || seen != 2 || removed != 2 {
			t.Fatalf("swept %d of %d, %v, want both", removed, seen, err)
		}
	},
	"SweepBesideAdmissionsFreesNothing": func(t *testing.T, b Backend) {
		windows := map[ratelimit.Name]time.Duration{ratelimit.Onboarding: time.Minute}
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 50 {
				if _, _, err := b.Sweep(t.Context(), windows); err != nil {
					t.Error(err)
				}
			}
		}()
		for i := range 200 {
			key := fmt.Sprintf("k%d", i%7)
			if d := take(t, b, ratelimit.Limit{Count: 1000, Window: time.Minute}, key); d.Remaining != 999-i/7 {
				t.Fatalf("%s has %d places left, want %d", key, d.Remaining, 999-i/7)
			}
		}
		<-done
	},
}

var enterTests = map[string]func(*testing.T, Backend){
	"UsableKeyTakesItsPlace": func(t *testing.T, b Backend) {
		_, key, by := signUp(t, b, "ada@example.dev")
		limit := ratelimit.Limit{Count: 2, Window: time.Hour}
		for i := range 3 {
			who, d, err := b.Enter(t.Context(), key, ratelimit.API, limit)
			if err != nil || who != by || d.Admitted != (i < 2) {
				t.Errorf("request %d: %v, %+v, %v", i, who, d, err)
			}
		}
	},
	"WithoutAPolicyItOnlyLooks": func(t *testing.T, b Backend) {
		o, key, by := signUp(t, b, "ada@example.dev")
		who, d, err := b.Enter(t.Context(), key, "", ratelimit.Limit{})
		if err != nil || who != by || d.Admitted {
			t.Errorf("looked: %v, %+v, %v", who, d, err)
		}
		if keys, err := b.Keys(t.Context(), o.ID); err != nil || !keys[0].LastUsedAt.IsZero() {
			t.Errorf("looking used the key: %+v, %v", keys, err)
		}
	},
	"WithoutALimitItIsUsedAndTakesNoPlace": func(t *testing.T, b Backend) {
		o, key, by := signUp(t, b, "ada@example.dev")
		for range 3 {
			who, d, err := b.Enter(t.Context(), key, ratelimit.API, ratelimit.Limit{})
			if err != nil || who != by || d.Admitted {
				t.Errorf("entered as %v, %+v, %v", who, d, err)
			}
		}
		if keys, err := b.Keys(t.Context(), o.ID); err != nil || !keys[0].LastUsedAt.Equal(b.Clock.Now()) {
			t.Errorf("the use was not noted: %+v, %v", keys, err)
		}
		who, d, err := b.Enter(t.Context(), key, ratelimit.API, apiLimit)
		if err != nil || who != by || d.Remaining != apiLimit.Count-1 {
			t.Errorf("entered as %v, %+v, %v", who, d, err)
		}
	},
	"WrongSecretIsNobody": func(t *testing.T, b Backend) {
		_, key, _ := signUp(t, b, "ada@example.dev")
		key.Hash[31] ^= 1
		for policy, limit := range map[ratelimit.Name]ratelimit.Limit{ratelimit.API: apiLimit, "other": {}, "": {}} {
			who, d, err := b.Enter(t.Context(), key, policy, limit)
			if err != nil || who != (apikey.Principal{}) || d.Admitted {
				t.Errorf("entered as %v, %+v, %v", who, d, err)
			}
		}
	},
	"SuspendedIsKnownAndSaidSo": func(t *testing.T, b Backend) {
		o, key, _ := signUp(t, b, "ada@example.dev")
		if _, err := b.Suspend(t.Context(), o.ID, b.Clock.Now()); err != nil {
			t.Fatal(err)
		}
		who, d, err := b.Enter(t.Context(), key, ratelimit.API, apiLimit)
		if err != nil || !who.Suspended || !d.Admitted {
			t.Errorf("entered as %v, %+v, %v", who, d, err)
		}
	},
	"LastUseIsKeptToTheMinute": func(t *testing.T, b Backend) {
		o, key, _ := signUp(t, b, "ada@example.dev")
		first := b.Clock.Now()
		for range 2 {
			if !enters(t, b, key) {
				t.Fatal("not let in")
			}
			b.Clock.Move(59 * time.Second)
		}
		keys, err := b.Keys(t.Context(), o.ID)
		if err != nil || !keys[0].LastUsedAt.Equal(first) {
			t.Errorf("last used at %v, %v, want %v", keys[0].LastUsedAt, err, first)
		}
		b.Clock.Move(2 * time.Second)
		enters(t, b, key)
		if keys, err = b.Keys(t.Context(), o.ID); err != nil || !keys[0].LastUsedAt.Equal(b.Clock.Now()) {
			t.Errorf("last used at %v, %v, want now", keys[0].LastUsedAt, err)
		}
	},
	"RevokedBetweenTwoRequestsIsOut": func(t *testing.T, b Backend) {
		o, key, _ := signUp(t, b, "ada@example.dev")
		if !enters(t, b, key) {
			t.Fatal("not let in")
		}
		if err := b.RevokeKey(t.Context(), apikey.Principal{CustomerID: o.ID}, o.Key.ID); err != nil {
			t.Fatal(err)
		}
		for policy, limit := range map[ratelimit.Name]ratelimit.Limit{ratelimit.API: apiLimit, "other": {}, "": {}} {
			if who, _, err := b.Enter(t.Context(), key, policy, limit); err != nil || who.KeyID != "" {
				t.Errorf("entered as %v, %v", who, err)
			}
		}
	},
}
