package vending_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/gateway"
	"gatehouse/internal/vending"
)

var errAway = fault.Away(errors.New("the database is away"))

// withDoor runs a test in time of its own, with a door whose first poll was
// answered.
func withDoor(t *testing.T, test func(t *testing.T, d *vending.Door, s *shelf)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		d := vending.NewDoor(s, time.Now, quiet())
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { d.Run(ctx) })
		synctest.Wait()
		test(t, d, s)
		stop()
		running.Wait()
	})
}

// pass lets time go by, and all that is due then be done.
func pass(d time.Duration) {
	<-time.After(d) // in synctest
	synctest.Wait()
}

func enter(t testing.TB, d *vending.Door, token string) *gateway.Lease {
	t.Helper()
	l, err := d.Enter(t.Context(), token, "openai")
	done(t, err)
	return l
}

func wantRefused(t testing.TB, d *vending.Door, token string) {
	t.Helper()
	_, err := d.Enter(t.Context(), token, "openai")
	wantFault(t, err, fault.Unauthenticated, "INVALID_API_KEY")
}

func wantStale(t testing.TB, d *vending.Door, token string) {
	t.Helper()
	_, err := d.Enter(t.Context(), token, "openai")
	if wantFault(t, err, fault.Unavailable, "UNAVAILABLE"); retryAfter(err) <= 0 {
		t.Error("it says no time after which to try again")
	}
}

func ended(l *gateway.Lease) bool {
	return l.Ended.Err() != nil
}

func TestNobodyEntersBeforeTheFirstAnswer(t *testing.T) {
	s := newShelf()
	d := vending.NewDoor(s, time.Now, quiet())
	token, _ := s.issue(vending.OpenAI, time.Hour)
	wantStale(t, d, token)
	if s.looks != 0 {
		t.Error("it was looked up")
	}
}

func TestTokenIsLookedUpOnceAndThenKnown(t *testing.T) {
	withDoor(t, func(t *testing.T, d *vending.Door, s *shelf) {
		token, id := s.issue(vending.OpenAI, time.Hour)
		l := enter(t, d, token)
		if l.CredentialID != "c-"+id || l.CustomerID != "customer" || l.KeyID != "key" || l.GrantID != "grant" || l.Capped || !l.ExpiresAt.Equal(time.Now().Add(time.Hour)) || ended(l) {
			t.Errorf("the lease is %+v", l)
		}
		for range 100 {
			enter(t, d, token)
		}
		if s.looks != 1 {
			t.Errorf("%d look-ups", s.looks)
		}
		for _, wrong := range []string{"", "gt_live_", token + "x", token[:len(token)-1] + "_", "gk" + token[2:]} {
			wantRefused(t, d, wrong)
		}
		for _, key := range []string{"gk_", "gk_live_x", "gk" + token[2:]} { // by its beginning alone
			_, err := d.Enter(t.Context(), key, "openai")
			if f, ok := errors.AsType[*fault.Error](err); !ok || f.Message != "This is an API key: exchange it for a token." {
				t.Errorf("%s is refused as %v", key, err)
			}
		}
		if s.looks != 1 {
			t.Error("what can't be a token was looked up")
		}
		_, err := d.Enter(t.Context(), token, "anthropic")
		wantFault(t, err, fault.Unauthenticated, "INVALID_API_KEY")
		other, unknown := s.issue(vending.OpenAI, time.Hour)
		s.revoke(unknown)
		wantRefused(t, d, other)
	})
}

func TestStaleViewLetsNobodyIn(t *testing.T) {
	withDoor(t, func(t *testing.T, d *vending.Door, s *shelf) {
		token, _ := s.issue(vending.OpenAI, time.Hour)
		l := enter(t, d, token)
		s.setAway(errAway)
		pass(799 * time.Millisecond) // since the last answer
		enter(t, d, token)
		pass(201 * time.Millisecond)
		wantStale(t, d, token)
		pass(time.Minute)
		wantStale(t, d, token)
		if !ended(l) {
			t.Error("its streams go on, though it may have been revoked")
		}
		s.setAway(nil)
		pass(200 * time.Millisecond)
		enter(t, d, token)
	})
}

func TestRevokedTokenIsDeadWithinASecond(t *testing.T) {
	withDoor(t, func(t *testing.T, d *vending.Door, s *shelf) {
		token, id := s.issue(vending.OpenAI, time.Hour)
		stays, _ := s.issue(vending.OpenAI, time.Hour)
		l, other := enter(t, d, token), enter(t, d, stays)
		pass(100 * time.Millisecond) // between two polls
		s.revoke(id)
		pass(200 * time.Millisecond)
		if !ended(l) {
			t.Error("its streams go on")
		}
		wantRefused(t, d, token)
		enter(t, d, stays)
		pass(time.Minute)
		if ended(other) {
			t.Error("another's streams were ended")
		}
	})
}

// What was revoked while a node could not ask is found once it can, however long
// that took.
func TestRevokedWhileTheDatabaseWasAway(t *testing.T) {
	withDoor(t, func(t *testing.T, d *vending.Door, s *shelf) {
		token, id := s.issue(vending.OpenAI, 4*time.Hour)
		l := enter(t, d, token)
		s.setAway(errAway)
		pass(time.Second)
		s.revoke(id)
		pass(time.Hour)
		s.setAway(nil)
		pass(200 * time.Millisecond)
		if !ended(l) {
			t.Error("its streams go on")
		}
		wantRefused(t, d, token)
	})
}

func TestLookUpThatARevocationOvertakes(t *testing.T) {
	withDoor(t, func(t *testing.T, d *vending.Door, s *shelf) {
		token, id := s.issue(vending.OpenAI, time.Hour)
		s.during = func() { // it has read that the token works
			s.do(func() { s.during = nil })
			s.revoke(id)
			pass(300 * time.Millisecond)
		}
		wantRefused(t, d, token)
		if s.looks != 2 {
			t.Errorf("%d look-ups, want another one", s.looks)
		}
		fine, _ := s.issue(vending.OpenAI, time.Hour)
		s.during = func() { // somebody's is, each time
			_, other := s.issue(vending.OpenAI, time.Hour)
			s.revoke(other)
			pass(300 * time.Millisecond)
		}
		wantStale(t, d, fine)
		s.during = nil
		enter(t, d, fine)
	})
}

func TestLookUpThatTookLongWhileTheViewGrewOld(t *testing.T) {
	withDoor(t, func(t *testing.T, d *vending.Door, s *shelf) {
		token, id := s.issue(vending.OpenAI, time.Hour)
		s.during = func() {
			s.do(func() { s.during = nil })
			s.setAway(errAway)
			s.revoke(id)
			pass(2 * time.Second)
		}
		wantStale(t, d, token)
	})
}

func TestExpiredTokenIsRefused(t *testing.T) {
	withDoor(t, func(t *testing.T, d *vending.Door, s *shelf) {
		token, _ := s.issue(vending.OpenAI, time.Hour)
		enter(t, d, token)
		pass(time.Hour - time.Nanosecond)
		enter(t, d, token)
		pass(time.Nanosecond)
		wantRefused(t, d, token)
		gone, _ := s.issue(vending.OpenAI, 5*time.Second) // in memory alone
		enter(t, d, gone)
		pass(5 * time.Second)
		looks := s.looks
		wantRefused(t, d, gone)
		if s.looks != looks {
			t.Error("it was looked up again")
		}
	})
}

func TestNewBudgetIsSeen(t *testing.T) {
	withDoor(t, func(t *testing.T, d *vending.Door, s *shelf) {
		token, id := s.issue(vending.OpenAI, time.Hour)
		first := enter(t, d, token)
		s.do(func() {
			l := s.tokens[id]
			l.Capped = true
			s.tokens[id] = l
		})
		pass(10 * time.Second)
		if enter(t, d, token).Capped {
			t.Error("it is asked for too often")
		}
		pass(time.Millisecond)
		second := enter(t, d, token)
		if !second.Capped || s.looks != 2 || first.Capped {
			t.Errorf("the lease is %+v after %d look-ups", second, s.looks)
		}
		s.revoke(id) // streams of before the look-up end too
		pass(200 * time.Millisecond)
		if !ended(first) || !ended(second) {
			t.Error("its streams go on")
		}
	})
}

// A look-up that fails changes nothing of what is known, if that is fresh.
func TestKnownTokenOutlivesAFailedLookUp(t *testing.T) {
	withDoor(t, func(t *testing.T, d *vending.Door, s *shelf) {
		token, _ := s.issue(vending.OpenAI, time.Hour)
		enter(t, d, token)
		pass(10*time.Second + 100*time.Millisecond)
		s.setAway(errAway)
		enter(t, d, token)
		s.setAway(nil)
		if enter(t, d, token); s.looks != 2 {
			t.Errorf("%d look-ups", s.looks)
		}
		unknown, _ := s.issue(vending.OpenAI, time.Hour)
		s.setAway(errAway)
		_, err := d.Enter(t.Context(), unknown, "openai")
		wantFault(t, err, fault.Unavailable, "")
	})
}

func TestMemoryIsBounded(t *testing.T) {
	withDoor(t, func(t *testing.T, d *vending.Door, s *shelf) {
		d.Remember(100)
		old, _ := s.issue(vending.OpenAI, time.Hour)
		l := enter(t, d, old)
		brief, _ := s.issue(vending.OpenAI, time.Minute)
		enter(t, d, brief)
		pass(time.Minute)
		for range 1000 {
			pass(time.Millisecond)
			token, _ := s.issue(vending.OpenAI, time.Hour)
			enter(t, d, token)
			enter(t, d, old) // in use
			if n := d.Remembered(); n > 100 {
				t.Fatalf("%d are in memory", n)
			}
		}
		if ended(l) {
			t.Error("one in use was forgotten")
		}
	})
}

func TestManyEnterAtOnceAmidRevocations(t *testing.T) {
	withDoor(t, func(t *testing.T, d *vending.Door, s *shelf) {
		var all sync.WaitGroup
		for range 50 {
			token, id := s.issue(vending.OpenAI, time.Hour)
			for range 4 {
				all.Go(func() {
					for range 20 {
						_, err := d.Enter(t.Context(), token, "openai")
						if f, ok := errors.AsType[*fault.Error](err); err != nil && (!ok || f.Kind != fault.Unauthenticated) {
							t.Errorf("refused with %v", err)
						}
						<-time.After(100 * time.Millisecond)
					}
				})
			}
			all.Go(func() {
				<-time.After(time.Second)
				s.revoke(id)
			})
		}
		all.Wait()
		if n := d.Remembered(); n != 0 {
			t.Errorf("%d are in memory", n)
		}
	})
}
