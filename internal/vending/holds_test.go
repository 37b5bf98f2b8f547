package vending_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/gateway"
	"gatehouse/internal/vending"
)

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
