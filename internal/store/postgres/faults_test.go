package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/cluster"
	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/postgres/pgtest"
)

// probe makes one call of each sort.
type probe struct {
	customer  string
	principal apikey.Principal
	key       apikey.Presented
}

func newProbe(t testing.TB, s *postgres.Store) probe {
	t.Helper()
	o, key := newOpening(t, uuid.NewString()+"@example.dev")
	must(t, s.Open(t.Context(), o, nil))
	return probe{o.ID, apikey.Principal{CustomerID: o.ID, KeyID: o.Key.ID}, key}
}

var perHour = ratelimit.Limit{Count: 10_000, Window: time.Hour}

func (p probe) calls(t testing.TB, s *postgres.Store) map[string]func(context.Context) error {
	t.Helper()
	return map[string]func(context.Context) error{
		"Ping": s.Ping,
		"Take": func(ctx context.Context) error {
			_, err := s.Take(ctx, ratelimit.AuthFailure, perMinute, uuid.NewString())
			return err
		},
		"Enter": func(ctx context.Context) error {
			who, d, err := s.Enter(ctx, p.key, ratelimit.API, perHour)
			if err != nil && (d.Admitted || who != apikey.Principal{}) {
				t.Errorf("Enter fails with %v and lets in %v, %v", err, who, d)
			}
			return err
		},
		"Check": func(ctx context.Context) error {
			who, _, err := s.Enter(ctx, p.key, "", ratelimit.Limit{})
			if err != nil && who != (apikey.Principal{}) {
				t.Errorf("Enter fails with %v and lets in %v", err, who)
			}
			return err
		},
		"Open": func(ctx context.Context) error {
			o, _ := newOpening(t, uuid.NewString()+"@example.dev")
			return s.Open(ctx, o, nil)
		},
		"OpenOnce": func(ctx context.Context) error {
			o, _ := newOpening(t, uuid.NewString()+"@example.dev")
			return s.Open(ctx, o, keep(o.Email))
		},
		"Customer": func(ctx context.Context) error {
			_, err := s.Customer(ctx, p.customer)
			return err
		},
		"Keys": func(ctx context.Context) error {
			_, err := s.Keys(ctx, p.customer)
			return err
		},
		"RevokeKey": func(ctx context.Context) error {
			err := s.RevokeKey(ctx, p.principal, "no-such-key")
			if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.NotFound {
				return nil
			}
			return err
		},
		"TakeIn": func(ctx context.Context) error {
			_, err := s.TakeIn(ctx, receipt(uuid.NewString()))
			return err
		},
		"Event": func(ctx context.Context) error {
			_, err := s.Events(ctx, billing.EventFilter{}, "", 1)
			return err
		},
		"Claim": func(ctx context.Context) error {
			_, err := s.Claim(ctx, "no-such-kind", 1, time.Minute)
			return err
		},
		"Sweep": func(ctx context.Context) error {
			_, _, err := s.Sweep(ctx, map[ratelimit.Name]time.Duration{})
			return err
		},
		"Beat": func(ctx context.Context) error {
			_, err := s.Beat(ctx, cluster.Node{ID: "a", Name: "a"})
			return err
		},
		"Resume": func(ctx context.Context) error {
			_, err := s.Resume(ctx, p.customer)
			return err
		},
		"Done": func(ctx context.Context) error { return s.Done(ctx, jobs.Job{Kind: "no-such-kind"}) },
		"Export": func(ctx context.Context) error {
			_, err := s.Export(ctx, p.customer)
			return err
		},
	}
}

// each makes all calls at once, some of each sort, and hands on what came of
// them. None may take too long, none has a deadline of its caller's.
func (p probe) each(t testing.TB, s *postgres.Store, n int, judge func(name string, err error)) {
	t.Helper()
	var callers sync.WaitGroup
	for name, call := range p.calls(t, s) {
		for range n {
			callers.Go(func() {
				began := time.Now()
				err := call(context.Background())
				if took := time.Since(began); took > slowest {
					t.Errorf("%s took %v: %v", name, took, err)
				}
				judge(name, err)
			})
		}
	}
	callers.Wait()
}

func (p probe) wantAllAway(t testing.TB, s *postgres.Store, n int) {
	t.Helper()
	p.each(t, s, n, func(name string, err error) {
		if !isAway(err) {
			t.Errorf("%s: %v, want fault.Unavailable", name, err)
		}
	})
}

// wantAllServed fails unless a store serves again in time. The calls after that
// are in passing: a connection that is dead and not yet known to be may fail one.
func (p probe) wantAllServed(t testing.TB, s *postgres.Store) time.Duration {
	t.Helper()
	return eventually(t, recovery, func() error {
		var failed error
		var mu sync.Mutex
		p.each(t, s, 1, func(name string, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", name, err))
			}
		})
		return failed
	})
}

func TestCrashedDatabaseIsAwayAndComesBack(t *testing.T) {
	t.Parallel()
	server := ownServer(t, pgtest.Options{})
	url := databaseOn(t, server)
	s := node(t, url)
	p := newProbe(t, s)
	fill(t, s, "full")

	u := new(signUps)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var callers sync.WaitGroup
	callers.Go(func() { u.run(ctx, t, s, 4) })
	var back, admitted atomic.Bool
	callers.Go(func() { // whatever happens, the window is full
		for ; ctx.Err() == nil; pause(ctx, 10*time.Millisecond) {
			d, err := s.Take(context.Background(), ratelimit.Onboarding, perMinute, "full")
			if d.Admitted {
				admitted.Store(true)
			}
			if err != nil {
				wantAway(t, err)
			} else if back.Load() {
				return
			}
		}
	})
	pause(ctx, 300*time.Millisecond) // of sign-ups
	must(t, server.Stop("immediate"))
	for range 3 {
		p.wantAllAway(t, s, 4)
	}
	must(t, server.Start())
	back.Store(true)
	t.Logf("serving again after %v", p.wantAllServed(t, s))
	cancel()
	callers.Wait()
	if admitted.Load() || takes(t, s, perMinute, "full") {
		t.Error("the full window let somebody in")
	}
	u.verify(t, s, url)
}

// A node's URL names both servers. The primary dies and the standby, which had
// to have every write before it was acknowledged, takes over.
func TestPromotedStandbyHasAllThatWasAcknowledged(t *testing.T) {
	t.Parallel()
	primary := ownServer(t, pgtest.Options{Settings: map[string]string{"synchronous_standby_names": "standby"}})
	standby, err := primary.Standby(t.Context())
	must(t, err)
	closes(t, standby)
	url := databaseOn(t, primary)
	s := node(t, strings.Replace(url, primary.Addr(), primary.Addr()+","+standby.Addr(), 1))
	url = strings.Replace(url, primary.Addr(), standby.Addr(), 1)
	p := newProbe(t, s)
	fill(t, s, "full")

	u := new(signUps)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var callers sync.WaitGroup
	callers.Go(func() { u.run(ctx, t, s, 4) })
	pause(ctx, 300*time.Millisecond) // of sign-ups
	must(t, primary.Kill())
	p.wantAllAway(t, s, 1) // and not served by what is read-only
	must(t, standby.Promote())
	t.Logf("serving again after %v", p.wantAllServed(t, s))
	cancel()
	callers.Wait()
	if takes(t, s, perMinute, "full") {
		t.Error("the full window let somebody in")
	}
	u.verify(t, s, url)
}

// A synchronous standby that is gone makes every commit wait for good. That is
// no reason to let anybody in, nor to wait as long.
func TestMissingStandbyIsAway(t *testing.T) {
	t.Parallel()
	primary := ownServer(t, pgtest.Options{})
	s := node(t, databaseOn(t, primary))
	p := newProbe(t, s)
	c := connect(t, primary.URL("postgres"))
	execute(t, c, "ALTER SYSTEM SET synchronous_standby_names = 'gone'")
	execute(t, c, "SELECT pg_reload_conf()")
	eventually(t, recovery, func() error {
		if ask[string](t, primary.URL("postgres"), "SHOW synchronous_standby_names") != "gone" {
			return errors.New("not reloaded")
		}
		return nil
	})
	var callers sync.WaitGroup
	for name, call := range p.calls(t, s) {
		switch name {
		case "Take", "Enter", "Open", "OpenOnce":
			callers.Go(func() { wantAway(t, ends(t, slowest, func() error { return call(context.Background()) })) })
		}
	}
	callers.Wait()
	execute(t, c, "ALTER SYSTEM RESET synchronous_standby_names")
	execute(t, c, "SELECT pg_reload_conf()")
	t.Logf("serving again after %v", p.wantAllServed(t, s))
}

// What was the primary before a failover may still answer, but for writes, on
// connections of before as well as on new ones.
func TestReadOnlyDatabaseIsAway(t *testing.T) {
	t.Parallel()
	server := ownServer(t, pgtest.Options{})
	url := databaseOn(t, server)
	s := node(t, url)
	p := newProbe(t, s)
	p.each(t, s, 1, func(name string, err error) { must(t, err) }) // there are several connections
	turn := func(to string) {
		c := connect(t, server.URL("postgres"))
		execute(t, c, "SET transaction_read_only = off")
		execute(t, c, "ALTER SYSTEM SET default_transaction_read_only = "+to)
		execute(t, c, "SELECT pg_reload_conf()") // old connections learn of it too
		eventually(t, recovery, func() error {
			if got := ask[string](t, server.URL("postgres"), "SHOW default_transaction_read_only"); got != to {
				return errors.New("not reloaded")
			}
			return nil
		})
	}
	turn("on")
	eventually(t, recovery, func() error { // each sort fails, some after one that found out for all
		var mu sync.Mutex
		var served []string
		p.each(t, s, 2, func(name string, err error) {
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				served = append(served, name)
			} else {
				wantAway(t, err)
			}
		})
		if len(served) > 0 {
			return fmt.Errorf("served are %v", served)
		}
		return nil
	})
	wantAway(t, s.Ping(t.Context()))
	turn("off")
	t.Logf("serving again after %v", p.wantAllServed(t, s))

	// Only the connections of before are those of a server that can't be written.
	for range 2 {
		p.each(t, s, 4, func(_ string, err error) { must(t, err) })
	}
	execute(t, connect(t, url), "ALTER DATABASE "+pgx.Identifier{connect(t, url).Config().Database}.Sanitize()+" SET default_transaction_read_only = off")
	turn("on")
	t.Logf("served by new connections after %v", p.wantAllServed(t, s))
}

func TestSpoiledNetwork(t *testing.T) {
	t.Parallel()
	server := pgtest.Need(t)
	proxy := pgtest.NewProxy(t, server.Addr())
	url := newDatabase(t)
	s := node(t, proxy.Through(url))
	p := newProbe(t, s)
	fill(t, s, "full")

	proxy.Toxic("slow", "latency", map[string]any{"latency": 300})
	eventually(t, 4*recovery, func() error { // on new connections, of six round trips each, calls may come too late
		var mu sync.Mutex
		var failed []string
		p.each(t, s, 1, func(name string, err error) {
			mu.Lock()
			defer mu.Unlock()
			// Those are up to ten round trips by themselves.
			if several := slices.Contains([]string{"Export", "RevokeKey", "Resume"}, name); err != nil {
				wantAway(t, err)
				if !several {
					failed = append(failed, name)
				}
			}
		})
		if len(failed) > 0 {
			return fmt.Errorf("with a slow network these fail: %v", failed)
		}
		return nil
	})
	proxy.Remove("slow")

	u := new(signUps)
	for _, toxic := range []struct {
		kind       string
		attributes map[string]any
	}{
		{"reset_peer", map[string]any{"timeout": 0}},
		{"limit_data", map[string]any{"bytes": 10}}, // and then the connection ends
		{"timeout", map[string]any{"timeout": 0}},   // half-open: what is sent arrives, and no answer does
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() { u.run(ctx, t, s, 4) })
		pause(ctx, 50*time.Millisecond)
		proxy.Toxic("it", toxic.kind, toxic.attributes)
		p.wantAllAway(t, s, 2)
		if d, err := s.Take(t.Context(), ratelimit.Onboarding, perMinute, "full"); err == nil || d.Admitted {
			t.Errorf("%s: %+v, %v", toxic.kind, d, err)
		}
		proxy.Remove("it")
		t.Logf("%s: serving again after %v", toxic.kind, p.wantAllServed(t, s))
		cancel()
		callers.Wait()
	}
	proxy.Enabled(false)
	p.wantAllAway(t, s, 2)
	proxy.Enabled(true)
	t.Logf("closed: serving again after %v", p.wantAllServed(t, s))
	if takes(t, s, perMinute, "full") {
		t.Error("the full window let somebody in")
	}
	u.verify(t, s, url)
}

// No call waits for good for a connection that has gone silent, whatever the
// caller's patience.
func TestEveryCallHasADeadline(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	p := newProbe(t, node(t, url))
	var callers sync.WaitGroup
	for name := range p.calls(t, nil) {
		w := newWire(t, pgtest.Need(t).Addr())
		s := node(t, w.through(url)+"&pool_max_conns=1")
		callers.Go(func() {
			call := p.calls(t, s)[name]
			if err := call(context.Background()); err != nil { // its connection is not asked whether it lives
				t.Errorf("%s: %v", name, err)
			}
			w.silence(true)
			if err := ends(t, slowest, func() error { return call(context.Background()) }); !isAway(err) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	callers.Wait()
}

// All connections go silent at once and for good, as when a firewall forgets
// them: new ones work, at once or after a while. However busy the node was, it
// serves again in time.
func TestForgottenConnections(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	w := newWire(t, pgtest.Need(t).Addr())
	s := node(t, w.through(url))
	p := newProbe(t, s)
	busy := func() { p.each(t, s, 8, func(string, error) {}) }
	for _, hole := range []bool{false, true} {
		p.each(t, s, 8, func(_ string, err error) { must(t, err) }) // on all connections
		w.silence(hole)
		p.each(t, s, 8, func(name string, err error) {
			if err != nil && !isAway(err) {
				t.Errorf("%s: %v", name, err)
			}
		})
		if hole {
			busy()
			w.silence(false) // but those of before stay as they are
		}
		t.Logf("hole: %t, serving again after %v", hole, p.wantAllServed(t, s))
	}
}

// The answer to a COMMIT is lost: what it did is there or not, the caller hears
// that nobody knows, and asks again.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	wired := func(t *testing.T) (*wire, *postgres.Store) {
		t.Parallel()
		w := newWire(t, pgtest.Need(t).Addr())
		return w, node(t, w.through(url))
	}
	for _, tt := range []struct {
		name    string
		becomes what
		commit  bool // the answer to it is lost, and not the one before
		keep    bool
		there   bool // although it fails
	}{
		{"Reset", reset, false, false, true}, // a single statement, which commits itself
		{"ResetInCommit", reset, true, true, true},
		{"SilenceInCommit", silence, true, true, true},
		{"ResetBeforeCommit", reset, false, true, false},
		{"SilenceBeforeCommit", silence, false, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, s := wired(t)
			o, _ := newOpening(t, strings.ToLower(tt.name)+"@example.dev")
			once := keep(o.Email)
			if !tt.keep {
				once = nil
			}
			sign := o.Email
			if tt.commit {
				sign = "Q\x00\x00\x00\x0bcommit\x00"
			}
			var lost atomic.Int32
			w.onSend(func(l *link, sent []byte) {
				if bytes.Contains(sent, []byte(sign)) && lost.Add(1) == 1 {
					l.lose(tt.becomes)
				}
			})
			wantAway(t, ends(t, slowest, func() error { return s.Open(t.Context(), o, once) }))
			if lost.Load() == 0 {
				t.Fatalf("%q was not seen", sign)
			}
			count := func() string {
				return ask[string](t, url, `SELECT concat_ws(' ', (SELECT count(*) FROM customers WHERE id = $1), (SELECT count(*) FROM api_keys WHERE customer_id = $1),
					(SELECT count(*) FROM ledger_entries WHERE customer_id = $1), (SELECT count(*) FROM jobs WHERE subject = $1),
					(SELECT count(*) FROM outcomes WHERE customer_id = $1))`, o.ID)
			}
			all := "1 1 1 2 0"
			if tt.keep {
				all = "1 1 1 2 1"
			}
			if tt.there {
				eventually(t, recovery, func() error {
					if got := count(); got != all {
						return errors.New(got)
					}
					return nil
				})
			} else if got := count(); got != "0 0 0 0 0" {
				t.Errorf("before its commit there are %s", got)
			}
			eventually(t, recovery, func() error { // the server may hold the address until it knows
				err := s.Open(t.Context(), o, once)
				if tt.keep && tt.there && isRunning(err) {
					return nil
				}
				return err
			})
			if got := count(); got != all {
				t.Errorf("after a second try there are %s, want %s", got, all)
			}
		})
	}
	t.Run("OfTake", func(t *testing.T) {
		w, s := wired(t)
		var lost atomic.Bool
		w.onSend(func(l *link, sent []byte) {
			if bytes.Contains(sent, []byte("lost answer")) && !lost.Swap(true) {
				l.lose(reset)
			}
		})
		d, err := s.Take(t.Context(), ratelimit.Onboarding, perMinute, "lost answer")
		wantAway(t, err)
		if d.Admitted {
			t.Errorf("admitted without an answer: %+v", d)
		}
		taken := 0
		for range perMinute.Count {
			if takes(t, s, perMinute, "lost answer") {
				taken++
			}
		}
		if taken != perMinute.Count-1 {
			t.Errorf("beside the one that was lost %d are admitted", taken)
		}
	})
	// A refusal is rolled back. Where that is never answered the call still ends.
	t.Run("OfRollback", func(t *testing.T) {
		w, s := wired(t)
		p := newProbe(t, s)
		w.onSend(func(l *link, sent []byte) {
			if bytes.Contains(sent, []byte("rollback\x00")) {
				l.lose(silence)
			}
		})
		_ = ends(t, slowest, func() error { return p.calls(t, s)["RevokeKey"](t.Context()) })
	})
}
