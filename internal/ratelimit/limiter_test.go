package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeStore keeps windows in memory, by the bubble's clock; it can fail.
type fakeStore struct {
	mu      sync.Mutex
	stamps  map[string][]Instant
	calls   int
	latency time.Duration
	err     error
}

func (s *fakeStore) Take(_ context.Context, _ Name, limit Limit, key string) (Decision, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	clock := Instant(time.Now().UnixMicro())
	<-time.After(s.latency)
	if s.err != nil {
		return Decision{}, s.err
	}
	if s.stamps == nil {
		s.stamps = make(map[string][]Instant)
	}
	kept, d := Admit(limit, s.stamps[key], clock)
	if d.Admitted {
		s.stamps[key] = kept
	}
	return d, nil
}

func newLimiter(s Store, outcomes map[Outcome]int) *Limiter {
	policy := Defaults()[0]
	policy.Limit = Limit{Count: 2, Window: time.Minute}
	return New(policy, s, func(o Outcome) { outcomes[o]++ })
}

func TestRefusalIsAnsweredFromMemoryUntilThePlaceFrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, outcomes := &fakeStore{latency: 5 * time.Millisecond}, map[Outcome]int{}
		l := newLimiter(store, outcomes)
		start := time.Now()
		for range 10 {
			if _, err := l.Take(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		if store.calls != 3 {
			t.Errorf("the store was asked %d times, want 3: two places and the first refusal", store.calls)
		}
		want := map[Outcome]int{Admitted: 2, Denied: 1, Remembered: 7}
		if !maps.Equal(outcomes, want) {
			t.Errorf("outcomes %v, want %v", outcomes, want)
		}
		// The memory must never outlast the place: at the very moment it
		// frees, however slow the store was, the store is asked and admits.
		<-time.After(time.Until(start.Add(time.Minute)))
		if d, err := l.Take(t.Context(), "a"); err != nil || !d.Admitted {
			t.Errorf("when the place frees: %+v, %v", d, err)
		}
	})
}

func TestWhoWaitsAsToldIsAdmittedHoweverSlowTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(&fakeStore{latency: 20 * time.Millisecond}, map[Outcome]int{})
		take := func() Decision {
			d, err := l.Take(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		for range 3 {
			take()
		}
		for range 500 {
			d := take() // from memory, until the place frees
			for !d.Admitted {
				<-time.After(d.Wait.Truncate(time.Second) + 7*time.Millisecond) // somewhat early, at times
				if d = take(); !d.Admitted {
					<-time.After(d.Wait)
					if d = take(); !d.Admitted {
						t.Fatalf("refused again after the wait it was told: %+v", d)
					}
				}
			}
		}
	})
}

func TestRememberedWaitShrinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(&fakeStore{}, map[Outcome]int{})
		for range 3 {
			if _, err := l.Take(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		<-time.After(20 * time.Second)
		d, err := l.Take(t.Context(), "a")
		if err != nil || d.Admitted || d.Wait != 40*time.Second {
			t.Errorf("after 20 s: %+v, %v, want a wait of 40 s", d, err)
		}
	})
}

func TestStoreAwayIsAnErrorButNotForTheRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, outcomes := &fakeStore{}, map[Outcome]int{}
		l := newLimiter(store, outcomes)
		for range 3 {
			if _, err := l.Take(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		}
		store.err = errors.New("away")
		if d, err := l.Take(t.Context(), "a"); err != nil || d.Admitted {
			t.Errorf("remembered: %+v, %v", d, err)
		}
		if d, err := l.Take(t.Context(), "b"); err == nil || d.Admitted {
			t.Errorf("not remembered: %+v, %v, want an error", d, err)
		}
		if outcomes[Failed] != 1 {
			t.Errorf("outcomes %v", outcomes)
		}
	})
}

func TestPolicyThatIsOffAsksNobody(t *testing.T) {
	store := &fakeStore{err: errors.New("away")}
	l := newLimiter(store, map[Outcome]int{})
	l.Policy.Off = true
	for range 10 {
		if d, err := l.Take(t.Context(), "a"); err != nil || !d.Admitted {
			t.Fatalf("%+v, %v", d, err)
		}
	}
	if store.calls != 0 {
		t.Errorf("the store was asked %d times", store.calls)
	}
}

// A request that read its clock and then learned of a refusal that was answered
// meanwhile is told to wait as long as that one was, and no longer.
func TestRefusalAnsweredMeanwhileIsNoLonger(t *testing.T) {
	d, asked := newDenials(), time.Now()
	answered := asked.Add(2 * time.Millisecond)
	d.remember("a", asked, answered, time.Minute)
	for read, want := range map[time.Duration]time.Duration{
		0: time.Minute, time.Millisecond: time.Minute, 2 * time.Millisecond: time.Minute, 3 * time.Millisecond: time.Minute - time.Millisecond,
	} {
		if got := d.left("a", asked.Add(read)); got != want {
			t.Errorf("%s after it was asked: %s left, want %s", read, got, want)
		}
	}
}

func TestMemoryIsBoundedAndKeepsTheLiving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDenials()
		begin := time.Now()
		for i := range 4 * shards * perShard {
			d.remember(fmt.Sprintf("dead-%d", i), begin, begin, time.Second)
		}
		later := begin.Add(2 * time.Second)
		for i := range shards * perShard / 2 {
			d.remember(fmt.Sprintf("live-%d", i), later, later, time.Minute)
		}
		total, living := 0, 0
		for i := range d.shards {
			if n := len(d.shards[i].denied); n > perShard {
				t.Errorf("shard %d holds %d keys, more than %d", i, n, perShard)
			}
			total += len(d.shards[i].denied)
		}
		for i := range shards * perShard / 2 {
			if d.left(fmt.Sprintf("live-%d", i), later) > 0 {
				living++
			}
		}
		// Half of the memory is asked for; the dead make room for all of it.
		if living != shards*perShard/2 {
			t.Errorf("%d of %d living refusals are remembered, beside %d others", living, shards*perShard/2, total-living)
		}
	})
}
