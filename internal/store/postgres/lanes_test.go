package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store/postgres"
)

// lockWindows holds the rows of some windows until it is let go.
func lockWindows(t *testing.T, url string, keys ...string) (release func()) {
	t.Helper()
	c := connect(t, url)
	tx, err := c.Begin(t.Context())
	must(t, err)
	locked, err := tx.Exec(t.Context(), "SELECT FROM rate_windows WHERE key = ANY($1) FOR UPDATE", keys)
	must(t, err)
	if n := int(locked.RowsAffected()); n != len(keys) {
		t.Fatalf("%d of %d windows are there to be locked", n, len(keys))
	}
	return func() { must(t, tx.Rollback(context.Background())) }
}

// A window that another transaction holds holds up its own requests, on all
// nodes, and nobody else's.
func TestLockedWindowsHoldUpThemselvesAlone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		locked int
		keys   bool // API keys are checked
	}{
		{"OneOfTake", 1, false},
		{"ManyOfTake", 6, false}, // more than have lanes of their own
		{"OneOfEnter", 1, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := newDatabase(t)
			all := []*postgres.Store{node(t, url), node(t, url)}
			const others = 20
			limit := ratelimit.Limit{Count: 5000, Window: time.Hour}
			// take asks for a place in the i-th window; row is its key.
			rows := make([]string, tt.locked+others)
			var presented []apikey.Presented
			for i := range rows {
				rows[i] = fmt.Sprintf("window-%02d", i)
				if tt.keys {
					o, key := newOpening(t, rows[i]+"@example.dev")
					must(t, all[0].Open(t.Context(), o, nil))
					rows[i], presented = o.Key.ID, append(presented, key)
				}
			}
			take := func(s *postgres.Store, i int) (bool, error) {
				if tt.keys {
					who, d, err := s.Enter(context.Background(), presented[i], ratelimit.API, limit)
					if err == nil && who.KeyID != rows[i] {
						t.Errorf("entered as %v", who)
					}
					return d.Admitted, err
				}
				d, err := s.Take(context.Background(), ratelimit.API, limit, rows[i])
				return d.Admitted, err
			}
			admitted, failed := make([]atomic.Int64, len(rows)), make([]atomic.Int64, len(rows))
			one := func(s *postgres.Store, i int) error {
				ok, err := take(s, i)
				switch {
				case ok && err != nil:
					t.Errorf("let in, with %v", err)
				case ok:
					admitted[i].Add(1)
				case err != nil:
					failed[i].Add(1)
				default:
					t.Error("refused below the limit")
				}
				return err
			}
			for i := range rows {
				must(t, one(all[i%2], i))
			}

			release := lockWindows(t, url, rows[:tt.locked]...)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			var callers sync.WaitGroup
			var mu sync.Mutex
			var took []time.Duration
			for _, s := range all {
				for i := range rows {
					for range 2 {
						callers.Go(func() {
							for ; ctx.Err() == nil; pause(ctx, 5*time.Millisecond) {
								began := time.Now()
								err := one(s, i)
								d := time.Since(began)
								switch {
								case i >= tt.locked && err != nil:
									t.Errorf("a window that nobody holds: %v after %v", err, d)
									return
								case i >= tt.locked:
									mu.Lock()
									took = append(took, d)
									mu.Unlock()
								case err == nil && ctx.Err() == nil:
									t.Error("decided in spite of the lock")
									return
								case err != nil:
									wantAway(t, err)
									if d > slowest {
										t.Errorf("the locked window's callers wait %v", d)
									}
								}
							}
						})
					}
				}
			}
			<-ctx.Done()
			release()
			callers.Wait()
			slices.Sort(took)
			p99 := took[len(took)*99/100]
			t.Logf("%d calls of others: median %v, p99 %v, longest %v", len(took), took[len(took)/2], p99, took[len(took)-1])
			if most := time.Duration(min(2, tt.locked)) * time.Second; p99 > most {
				t.Errorf("the others' p99 is %v, more than %v", p99, most)
			}
			for _, s := range all {
				for i := range rows {
					eventually(t, recovery, func() error { return one(s, i) })
				}
			}
			for i, row := range rows {
				got := ask[int64](t, url, "SELECT cardinality(stamps) FROM rate_windows WHERE key = $1", row)
				if a, f := admitted[i].Load(), failed[i].Load(); got < a || got > a+f {
					t.Errorf("%s has %d stamps; %d were admitted and %d failed", row, got, a, f)
				} else if i < tt.locked && got != a {
					t.Errorf("%s has %d stamps, of which %d were admitted: some were taken for calls that failed", row, got, a)
				}
			}
		})
	}
}

// Windows that were locked once and are not asked for any more must not keep
// the lanes from those that are locked now.
func TestLanesAreForWhoIsLockedNow(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := node(t, url)
	keys := []string{"a", "b", "c", "d", "e"}
	for _, key := range keys {
		takes(t, s, perMinute, key)
	}
	release := lockWindows(t, url, keys[:4]...)
	var callers sync.WaitGroup
	for _, key := range keys[:4] {
		callers.Go(func() {
			_, err := s.Take(t.Context(), ratelimit.Onboarding, perMinute, key)
			wantAway(t, err)
		})
	}
	callers.Wait()
	release()

	// Held longer than a statement waits, and not as long as a call does.
	release = lockWindows(t, url, "e")
	var err error
	callers.Go(func() { _, err = s.Take(t.Context(), ratelimit.Onboarding, perMinute, "e") })
	pause(t.Context(), 300*time.Millisecond)
	release()
	callers.Wait()
	if err != nil {
		t.Errorf("a window that was locked for a moment: %v", err)
	}
}

// Calls that meet a lane as it ends are done all the same.
func TestLanesEndWithoutLosingCalls(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := node(t, url)
	limit := ratelimit.Limit{Count: 10_000, Window: time.Hour}
	keys := []string{"a", "b", "c"}
	admitted, locked := make([]atomic.Int64, len(keys)), atomic.Int64{}
	for _, key := range keys {
		takes(t, s, limit, key)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	var callers sync.WaitGroup
	callers.Go(func() {
		for ; ctx.Err() == nil; pause(ctx, 20*time.Millisecond) {
			release := lockWindows(t, url, keys...)
			pause(ctx, 230*time.Millisecond) // longer than a statement waits, so that lanes begin, and end
			release()
		}
	})
	for i, key := range keys {
		for range 20 {
			callers.Go(func() {
				for ctx.Err() == nil {
					d, err := s.Take(context.Background(), ratelimit.Onboarding, limit, key)
					switch {
					case err == nil && d.Admitted:
						admitted[i].Add(1)
					case err != nil && strings.Contains(err.Error(), "55P03"):
						locked.Add(1)
					default:
						t.Errorf("%+v, %v", d, err)
						return
					}
				}
			})
		}
	}
	callers.Wait()
	for i, key := range keys {
		got := ask[int64](t, url, "SELECT cardinality(stamps) FROM rate_windows WHERE key = $1", key)
		if want := 1 + admitted[i].Load(); got != want {
			t.Errorf("%s has %d stamps, want %d", key, got, want)
		}
	}
	t.Logf("%d were admitted to the first, %d waited for too long", admitted[0].Load(), locked.Load())
}

// Not parallel: it counts goroutines.
func TestCloseLeavesNothingRunning(t *testing.T) {
	url := newDatabase(t)
	s := openStore(t, postgres.Options{URL: url, Serve: true})
	var keys []string
	for i := range 8 {
		keys = append(keys, fmt.Sprint(i))
		takes(t, s, perMinute, keys[i])
	}
	release := lockWindows(t, url, keys...)
	var callers sync.WaitGroup
	answered := atomic.Int64{}
	for i := range 160 {
		callers.Go(func() {
			_, err := s.Take(context.Background(), ratelimit.Onboarding, perMinute, keys[i%8])
			wantAway(t, err)
			answered.Add(1)
		})
	}
	pause(t.Context(), 250*time.Millisecond) // some have been moved aside
	must(t, s.Close())
	release()
	callers.Wait()
	if _, err := s.Take(context.Background(), ratelimit.Onboarding, perMinute, keys[0]); !isAway(err) {
		t.Errorf("a closed store says %v", err)
	}
	eventually(t, recovery, func() error {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		var left []string
		for one := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(one, "store/postgres.") || strings.Contains(one, "pgxpool") || strings.Contains(one, "pgconn") {
				left = append(left, one)
			}
		}
		if len(left) > 0 {
			return errors.New(strings.Join(left, "\n\n"))
		}
		return nil
	})
}

// Of two connections both wait for a lock. Who asks meanwhile is answered soon,
// and the store is whole afterwards.
func TestExhaustedPoolFailsFast(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := node(t, url+"&pool_max_conns=2")
	p := newProbe(t, s)
	c := connect(t, url)
	tx, err := c.Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM customers WHERE id = $1 FOR UPDATE", p.customer)
	must(t, err)

	var holders, callers sync.WaitGroup
	for range 2 {
		holders.Go(func() {
			wantAway(t, ends(t, slowest, func() error { return p.calls(t, s)["RevokeKey"](context.Background()) }))
		})
	}
	eventually(t, recovery, func() error {
		if n := ask[int](t, url, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"); n != 2 {
			return fmt.Errorf("%d wait for the lock", n)
		}
		return nil
	})
	var mu sync.Mutex
	var longest time.Duration
	away := 0
	calls := p.calls(t, s)
	delete(calls, "RevokeKey")
	for _, call := range calls {
		for range 20 {
			callers.Go(func() {
				began := time.Now()
				err := call(context.Background())
				mu.Lock()
				defer mu.Unlock()
				longest = max(longest, time.Since(began))
				if err != nil {
					wantAway(t, err)
					away++
				}
			})
		}
	}
	callers.Wait()
	t.Logf("%d of %d were refused, the slowest after %v", away, 20*len(calls), longest)
	if longest > 2500*time.Millisecond {
		t.Errorf("a call took %v", longest)
	}
	if away == 0 {
		t.Error("the pool was not exhausted: nothing was tested")
	}
	holders.Wait()
	must(t, tx.Rollback(context.Background()))
	for range 3 {
		p.each(t, s, 20, func(name string, err error) {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	if n := ask[int](t, url, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'gatehouse'"); n > 2 {
		t.Errorf("there are %d connections", n)
	}
}

// A request that had to wait for its window was admitted when it got it, and not
// when it asked: its place is taken for the whole window from there.
func TestStampsAreReadUnderTheLock(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := node(t, url)
	takes(t, s, perMinute, "a")
	release := lockWindows(t, url, "a")
	var callers sync.WaitGroup
	callers.Go(func() {
		if !takes(t, s, perMinute, "a") {
			t.Error("the second is refused")
		}
	})
	eventually(t, recovery, func() error {
		if n := ask[int](t, url, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"); n == 0 {
			return errors.New("nobody waits for the lock")
		}
		return nil
	})
	pause(t.Context(), 20*time.Millisecond)
	before := ask[int64](t, url, "SELECT now_us()")
	release()
	callers.Wait()
	if at := ask[int64](t, url, "SELECT stamps[2] FROM rate_windows WHERE key = 'a'"); at < before {
		t.Errorf("it was admitted %d µs before it could be", before-at)
	}
}

// A place that was taken is answered, whatever holds up the requests that are
// decided later: it must not be asked for again.
func TestPlaceIsTakenOnce(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := node(t, url)
	at := time.Now()
	set := replaceClock(t, url)
	set(at)
	c := connect(t, url)
	// A statement that writes one of these keys lasts until its gate is open; that
	// it does so can be seen by a lock.
	execute(t, c, "CREATE TABLE tests_gates (key text PRIMARY KEY, number int, open bool)")
	execute(t, c, "INSERT INTO tests_gates VALUES ('slow1', 1), ('slow2', 2), ('a', 3)")
	execute(t, c, `CREATE FUNCTION tests_wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		PERFORM pg_advisory_xact_lock_shared(number) FROM tests_gates WHERE key = NEW.key;
		WHILE EXISTS (SELECT FROM tests_gates WHERE key = NEW.key AND open IS NULL) LOOP PERFORM pg_sleep(0.01); END LOOP; RETURN NULL; END $$`)
	execute(t, c, "CREATE TRIGGER tests_wait AFTER INSERT OR UPDATE ON rate_windows FOR EACH ROW EXECUTE FUNCTION tests_wait()")
	execute(t, c, "INSERT INTO rate_windows VALUES ('onboarding', 'b', ARRAY[$1::bigint], 1)", at.Add(-time.Second/2).UnixMicro())
	limit := ratelimit.Limit{Count: 1, Window: time.Second}
	decisions, errs := make([]ratelimit.Decision, 4), make([]error, 4)
	var wg sync.WaitGroup
	begin := func(i int, key string) {
		wg.Go(func() { decisions[i], errs[i] = s.Take(t.Context(), ratelimit.Onboarding, limit, key) })
	}
	underWay := func(gate int) {
		eventually(t, slowest, func() error {
			if ask[int64](t, url, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = $1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())", gate) == 0 {
				return fmt.Errorf("nobody waits at gate %d", gate)
			}
			return nil
		})
	}
	begin(2, "slow1")
	underWay(1)
	begin(3, "slow2")
	underWay(2) // as many as are under way at once
	begin(0, "a")
	begin(1, "b")
	pause(t.Context(), 50*time.Millisecond) // both queue
	execute(t, c, "UPDATE tests_gates SET open = true WHERE key = 'slow1'")
	underWay(3)                  // a, with b, which is full
	set(at.Add(time.Second / 2)) // b's place frees, and a's does not
	tx, err := connect(t, url).Begin(t.Context())
	must(t, err)
	locked := make(chan error)
	go func() {
		_, err := tx.Exec(t.Context(), "SELECT FROM rate_windows WHERE key = 'b' FOR UPDATE")
		locked <- err
	}()
	eventually(t, slowest, func() error { // it is next, after the statement that decides a
		if ask[int64](t, url, "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") == 0 {
			return errors.New("nobody waits for b")
		}
		return nil
	})
	execute(t, c, "UPDATE tests_gates SET open = true")
	must(t, <-locked)
	pause(t.Context(), time.Second/2) // b is asked for again, and waits for the lock
	must(t, tx.Rollback(t.Context()))
	wg.Wait()
	for i, key := range []string{"a", "b"} {
		if errs[i] != nil || !decisions[i].Admitted {
			t.Errorf("%s: %+v, %v", key, decisions[i], errs[i])
		}
	}
	if n := ask[int64](t, url, "SELECT sum(cardinality(stamps)) FROM rate_windows WHERE key IN ('a', 'b')"); n != 2 {
		t.Errorf("%d places were taken for two requests", n)
	}
}

// A row that another transaction has inserted and not committed holds up its
// key, which nobody else sees, and no other.
func TestUnseenRowHoldsUpItsKeyAlone(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := node(t, url)
	tx, err := connect(t, url).Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), "INSERT INTO rate_windows VALUES ('onboarding', 'unseen', ARRAY[now_us()], 1)")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	limit := ratelimit.Limit{Count: 10000, Window: time.Hour}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Take(t.Context(), ratelimit.Onboarding, limit, "unseen"); err == nil {
					t.Error("decided, though another's row is not committed")
				} else {
					wantAway(t, err)
				}
			}
		})
	}
	var decided atomic.Int64
	for i := range 20 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.Take(t.Context(), ratelimit.Onboarding, limit, fmt.Sprint("other", i)); err != nil {
					t.Error(err)
				}
				decided.Add(1)
				pause(ctx, 5*time.Millisecond)
			}
		})
	}
	wg.Wait()
	must(t, tx.Rollback(t.Context()))
	if d, err := s.Take(t.Context(), ratelimit.Onboarding, limit, "unseen"); err != nil || !d.Admitted || d.Remaining != limit.Count-1 {
		t.Errorf("once it is gone: %+v, %v", d, err)
	}
	t.Logf("%d others were decided", decided.Load())
}
