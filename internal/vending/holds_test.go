package vending_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/gateway"
	"gatehouse/internal/vending"
)

// counted is what a shelf holds, has booked and was asked to keep or settle.
type counted struct{ held, booked, kept, groups int }

func count(s *shelf) (n counted) {
	s.do(func() { n = counted{len(s.holds), len(s.booked), s.kept, len(s.groups)} })
	return n
}

func TestHoldOfUnknownOutcomeIsLetGoOf(t *testing.T) {
	fails := func(t *testing.T, m *vending.Meter, s *shelf) {
		t.Helper()
		s.setAway(errAway)
		_, err := m.Reserve(t.Context(), lease, call("gpt"))
		if wantFault(t, err, fault.Unavailable, ""); count(s).held != 1 {
			t.Fatal("it was not written all the same")
		}
	}
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		fails(t, m, s)
		pass(time.Minute)
		s.setAway(nil)
		pass(10 * time.Second)
		soon := count(s)
		pass(65 * time.Second) // between two looks
		if later := count(s); later != soon || later != (counted{groups: soon.groups}) {
			t.Errorf("it came to %+v, and then to %+v", soon, later)
		}
		fails(t, m, s)
		s.setAway(nil)
		if pass(9 * time.Second); count(s).held != 1 {
			t.Error("let go of while it could still come to be")
		}
		if pass(11 * time.Second); count(s).held != 0 {
			t.Error("it is still held")
		}
	})
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, stop func()) {
		fails(t, m, s)
		s.setAway(nil)
		if stop(); count(s).held != 0 {
			t.Error("it is held when the node has stopped")
		}
	})
}

func TestHoldsInDoubtAreBounded(t *testing.T) {
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		s.setAway(errAway)
		for range 3000 {
			_, err := m.Reserve(t.Context(), lease, call("gpt"))
			wantFault(t, err, fault.Unavailable, "")
		}
		s.setAway(nil)
		pass(time.Minute)
		if n := count(s); n != (counted{held: 2000, groups: 5}) {
			t.Errorf("it came to %+v", n)
		}
	})
}

func TestHoldThatIsRefusedIsInNoDoubt(t *testing.T) {
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		s.over = true
		_, err := m.Reserve(t.Context(), lease, call("gpt"))
		wantFault(t, err, fault.PaymentRequired, "")
		pass(time.Minute)
		if n := count(s); n != (counted{booked: 1, groups: 1}) {
			t.Errorf("it came to %+v", n)
		}
	})
}

func TestHoldsAreKeptSomeAtATime(t *testing.T) {
	log := withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		var held []string
		for range 450 {
			r, err := m.Reserve(t.Context(), lease, call("gpt"))
			done(t, err)
			held = append(held, r.ID)
		}
		var kept [][]string
		s.do(func() {
			s.keeps = func(ids []string) error {
				kept = append(kept, ids)
				if len(kept) == 1 {
					return errAway
				}
				return nil
			}
		})
		pass(10 * time.Second)
		slices.Sort(held)
		if len(kept) != 3 || len(kept[0]) != 200 || len(kept[1]) != 200 || !slices.Equal(slices.Concat(kept...), held) {
			t.Errorf("kept at once were %v", kept)
		}
	})
	if n := strings.Count(log, "may lapse"); n != 1 {
		t.Errorf("said %d times: %s", n, log)
	}
}

func TestHoldOfACallThatCannotBeBookedLapses(t *testing.T) {
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		s.poison = "poison"
		for _, model := range []string{"poison", "gpt"} {
			c := call(model)
			r, err := m.Reserve(t.Context(), lease, c)
			done(t, err)
			m.Settle(t.Context(), lease, c, gateway.Usage{Outcome: gateway.Done}, r)
		}
		pass(time.Minute)
		if s.kept != 0 || len(s.holds) != 1 || len(s.booked) != 1 {
			t.Errorf("kept %d times, held %v, booked %v", s.kept, s.holds, s.booked)
		}
	})
}

// Fewer are booked at once after a failure of so many, and not after a database that
// is away for long, of which none is asked for.
func TestLostCallsAreFewerAfterOneThatFails(t *testing.T) {
	withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		done(t, m.BookLost(t.Context()))
		s.away = errAway
		for range 10 {
			if err := m.BookLost(t.Context()); !errors.Is(err, errAway) {
				t.Error(err)
			}
		}
		s.away = nil
		done(t, m.BookLost(t.Context()))
		done(t, m.BookLost(t.Context()))
		if s.asked != 128 {
			t.Errorf("at most %d are booked at once, want 128", s.asked)
		}
	})
}

func TestLostCallsAreBookedIfTheDatabaseWasThereBefore(t *testing.T) {
	log := withMeter(t, func(t *testing.T, m *vending.Meter, s *shelf, _ func()) {
		_, err := m.Reserve(t.Context(), lease, call("gpt"))
		done(t, err)
		look := func(want error, left int) {
			t.Helper()
			if err := m.BookLost(t.Context()); !errors.Is(err, want) || len(s.lost) != left {
				t.Errorf("%v, and %d are left, want %d", err, len(s.lost), left)
			}
		}
		s.lost = make([]vending.Audit, 600)
		look(nil, 600) // the node has just begun
		look(nil, 0)
		s.lost, s.away = make([]vending.Audit, 256), errAway
		look(errAway, 256)
		s.away = nil
		look(nil, 256) // others book and keep theirs first
		look(nil, 0)
		if s.kept != 5 {
			t.Errorf("its own holds were kept %d times", s.kept)
		}
	})
	if n := strings.Count(log, "nobody said what calls came to"); n != 4 {
		t.Errorf("said %d times: %s", n, log)
	}
}
