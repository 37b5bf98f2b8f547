package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/cluster"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store/postgres"
)

// stepClock gives a database a clock that runs, and can be stepped.
func stepClock(t *testing.T, url string) (set func(time.Duration)) {
	t.Helper()
	c := connect(t, url)
	execute(t, c, "CREATE TABLE tests_step (us bigint)")
	execute(t, c, "INSERT INTO tests_step VALUES (0)")
	execute(t, c, `CREATE OR REPLACE FUNCTION now_us() RETURNS bigint LANGUAGE sql VOLATILE
		AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + us FROM tests_step'`)
	return func(by time.Duration) {
		t.Helper()
		execute(t, c, "UPDATE tests_step SET us = $1", by.Microseconds())
	}
}

func TestDatabasesClockStepsBack(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	set := stepClock(t, url)
	s := node(t, url)
	const step = 2 * time.Minute
	take := func(key string) ratelimit.Decision {
		t.Helper()
		d, err := s.Take(t.Context(), ratelimit.Onboarding, perMinute, key)
		must(t, err)
		return d
	}
	fill(t, s, "full")
	for range 4 {
		take("some")
	}
	set(-step)
	if d := take("full"); d.Admitted || d.Wait <= step || d.Wait > step+time.Minute {
		t.Errorf("a full window: %+v", d)
	}
	for i := range 12 { // time stands still for it, and places are counted on
		d := take("some")
		if d.Admitted != (i < 6) || d.Wait <= step || d.Wait > step+time.Minute {
			t.Errorf("the %dth in a window of 4: %+v", i, d)
		}
	}
	for i := range 11 { // of after the step
		d := take("new")
		if d.Admitted != (i < 10) || d.Wait <= 0 || d.Wait > time.Minute {
			t.Errorf("the %dth in a new window: %+v", i, d)
		}
	}
	windows := map[ratelimit.Name]time.Duration{ratelimit.Onboarding: time.Minute}
	if seen, removed, err := s.Sweep(t.Context(), windows); err != nil || seen != 3 || removed != 0 {
		t.Errorf("swept %d of %d, %v", removed, seen, err)
	}
	set(0) // and forth
	for _, key := range []string{"full", "some"} {
		if d := take(key); d.Admitted || d.Wait > time.Minute {
			t.Errorf("the clock is right again, %s: %+v", key, d)
		}
	}
	if d := take("new"); !d.Admitted { // its stamps are two minutes old now
		t.Errorf("the clock is right again, a window that has passed: %+v", d)
	}
}

func TestHeartbeatsWhileTheClockSteps(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	set := stepClock(t, url)
	s, other := node(t, url), node(t, url)
	beat := func(s *postgres.Store, id string) (alive []string, now time.Time) {
		t.Helper()
		v, err := s.Beat(t.Context(), cluster.Node{ID: id, Name: id, Version: "v1"})
		must(t, err)
		for _, n := range v.Nodes {
			alive = append(alive, n.ID)
		}
		return alive, v.Now
	}
	both := []string{"a", "b"}
	beat(other, "b")
	if got, _ := beat(s, "a"); !slices.Equal(got, both) {
		t.Errorf("alive are %v", got)
	}
	for _, step := range []time.Duration{-2 * time.Minute, 0, 5 * time.Minute, 0} {
		set(step)
		got, now := beat(s, "a")
		if !slices.Equal(got, []string{"a"}) { // the other's last beat was at another time
			t.Errorf("after a step to %v, alive are %v", step, got)
		}
		if off := time.Until(now) - step; off.Abs() > 5*time.Second {
			t.Errorf("after a step to %v the time is off by %v", step, off)
		}
		if got, _ := beat(other, "b"); !slices.Equal(got, both) {
			t.Errorf("after a step to %v and a beat of both, alive are %v", step, got)
		}
	}
}

// Very many keys, each asked for once, are no more than rows that are swept.
func TestManyKeysAreBounded(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	set := stepClock(t, url)
	s, other := node(t, url), node(t, url)
	const keys, callers = 50_000, 250
	before := heap()
	var wg sync.WaitGroup
	began := time.Now()
	for c := range callers {
		wg.Go(func() {
			for i := c; i < keys; i += callers {
				if !takes(t, s, perMinute, fmt.Sprintf("2001:db8::%x", i)) {
					t.Error("refused the first time")
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d keys in %v", keys, time.Since(began))
	if grown := int64(heap()) - int64(before); grown > 64<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	size := ask[int64](t, url, "SELECT pg_total_relation_size('rate_windows')")
	t.Logf("%d bytes a key in the table", size/keys)
	if size > keys*400 {
		t.Errorf("the table has %d bytes for %d keys", size, keys)
	}

	set(time.Minute) // all of these are dead now
	canaries := make([]string, 50)
	for i := range canaries {
		canaries[i] = fmt.Sprintf("2001:db8::%x", i*keys/len(canaries)) // of those there are, at every page
		fill(t, s, canaries[i])
	}
	windows := map[ratelimit.Name]time.Duration{ratelimit.Onboarding: time.Minute}
	var mu sync.Mutex
	total := 0
	for _, one := range []*postgres.Store{s, other, s} { // at once
		wg.Go(func() {
			_, removed, err := one.Sweep(context.Background(), windows)
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			total += removed
		})
	}
	wg.Wait()
	if want := keys - len(canaries); total != want {
		t.Errorf("%d were swept, want %d", total, want)
	}
	for _, key := range canaries {
		if takes(t, s, perMinute, key) {
			t.Errorf("%s was swept with live stamps", key)
		}
	}
	if n := ask[int](t, url, "SELECT count(*) FROM rate_windows"); n != len(canaries) {
		t.Errorf("%d windows are left", n)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A window that was dead when the sweep saw it, and is used before it is removed,
// is not removed.
func TestSweepLooksAgain(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	set := stepClock(t, url)
	s := node(t, url)
	c := connect(t, url)
	execute(t, c, "CREATE FUNCTION tests_wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN SET LOCAL lock_timeout = 0; PERFORM pg_advisory_xact_lock(7); RETURN NULL; END'")
	execute(t, c, "CREATE TRIGGER tests_wait BEFORE DELETE ON rate_windows EXECUTE FUNCTION tests_wait()")
	execute(t, c, "SELECT pg_advisory_lock(7)")
	fill(t, s, "used")
	fill(t, s, "dead")
	set(time.Minute)
	var wg sync.WaitGroup
	wg.Go(func() {
		seen, removed, err := s.Sweep(context.Background(), map[ratelimit.Name]time.Duration{ratelimit.Onboarding: time.Minute})
		if err != nil || seen != 2 || removed != 1 {
			t.Errorf("swept %d of %d, %v", removed, seen, err)
		}
	})
	eventually(t, recovery, func() error {
		if n := ask[int](t, url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"); n == 0 {
			return errors.New("nobody is about to remove windows")
		}
		return nil
	})
	fill(t, s, "used")
	execute(t, c, "SELECT pg_advisory_unlock(7)")
	wg.Wait()
	if takes(t, s, perMinute, "used") {
		t.Error("a window that is used was removed")
	}
}
