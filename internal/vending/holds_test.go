package vending_test

import (
	"errors"
	"strings"
	"testing"

	"gatehouse/internal/vending"
)

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
