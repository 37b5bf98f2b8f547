package billing_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/billing"
	"gatehouse/internal/jobs"
)

// stream is a provider's list of events, one a second, and who takes them in.
type stream struct {
	billing.Inbox
	billing.Provider
	test   bool
	now    time.Time
	events []time.Time // oldest first
	page   int         // how many there are on one
	takes  time.Duration
	fails  int // the call of Events, or of TakeIn, that fails; 0: none does
	breaks string

	cursor  billing.Cursor
	taken   []string // in order
	asked   []string // since, until and after of each page, as seconds
	missed  int
	log     bytes.Buffer
	listed  int
	takenIn int
}

func (s *stream) Live() bool { return !s.test }

func (s *stream) id(i int) string { return fmt.Sprintf("evt_%03d", i) }

func (s *stream) Events(_ context.Context, since, until time.Time, after string) (page []billing.Receipt, more bool, err error) {
	s.now = s.now.Add(s.takes)
	s.asked = append(s.asked, fmt.Sprintf("%d %d %s", since.Unix()-at(0).Unix(), until.Unix()-at(0).Unix(), after))
	if s.listed++; s.breaks == "list" && s.listed == s.fails {
		return nil, false, errStripe
	}
	known := after == ""
	for i, happened := range slices.Backward(s.events) {
		switch {
		case !known:
			known = s.id(i) == after
		case happened.Before(since) || happened.After(until):
		case len(page) == s.page:
			return page, true, nil
		default:
			page = append(page, billing.Receipt{ID: s.id(i)})
		}
	}
	if !known {
		return nil, false, fmt.Errorf("after %s: %w", after, billing.ErrGone)
	}
	return page, false, nil
}

func (s *stream) TakeIn(_ context.Context, r billing.Receipt) (isNew bool, err error) {
	if s.takenIn++; s.breaks == "take" && s.takenIn == s.fails {
		return false, errStripe
	}
	isNew = !slices.Contains(s.taken, r.ID)
	if isNew {
		s.taken = append(s.taken, r.ID)
	}
	return isNew, nil
}

func (s *stream) Cursor(context.Context) (billing.Cursor, error) {
	if s.breaks == "cursor" {
		return billing.Cursor{}, errStripe
	}
	return s.cursor, nil
}

func (s *stream) SetCursor(_ context.Context, c billing.Cursor) error {
	if s.breaks == "set" {
		return errStripe
	}
	s.cursor = c
	return nil
}

func (s *stream) run(t *testing.T, every time.Duration) error {
	t.Helper()
	s.asked, s.missed = nil, 0
	s.log.Reset()
	log := slog.New(slog.NewTextHandler(&s.log, nil))
	r := billing.NewReconciler(s, billing.NewIntake(s, log, func(string, billing.EventState) {}), s, every, func() time.Time { return s.now }, log, func(n int) { s.missed += n })
	return r.Handle(t.Context(), jobs.Job{})
}

const day = 24 * time.Hour

// newStream has an event each second, up to now.
func newStream(n, page int) *stream {
	s := &stream{now: at(n), page: page}
	for i := range n {
		s.events = append(s.events, at(i))
	}
	return s
}

func (s *stream) wantMissing(t *testing.T, ids ...int) {
	t.Helper()
	var missing []int
	for i := range s.events {
		if !slices.Contains(s.taken, s.id(i)) {
			missing = append(missing, i)
		}
	}
	if !slices.Equal(missing, ids) {
		t.Errorf("not taken in are %v, want %v", missing, ids)
	}
}

func TestReconcilerTakesInWhatNeverCame(t *testing.T) {
	s := newStream(100, 30)
	s.taken = []string{s.id(3), s.id(99)}
	if err := s.run(t, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	s.wantMissing(t, 91, 92, 93, 94, 95, 96, 97, 98) // they may come by themselves
	if want := (billing.Cursor{Since: at(90), BegunAt: at(100)}); s.cursor != want {
		t.Errorf("the place is %+v, want %+v", s.cursor, want)
	}
	month := int64(30*day/time.Second) + 600
	if want := []string{fmt.Sprint(100-month, " 90 "), fmt.Sprint(100-month, " 90 evt_061"), fmt.Sprint(100-month, " 90 evt_031"), fmt.Sprint(100-month, " 90 evt_001")}; !slices.Equal(s.asked, want) {
		t.Errorf("asked for %q, want %q", s.asked, want)
	}
	if s.missed != 90 || !strings.Contains(s.log.String(), "events=90") {
		t.Errorf("%d were missed, logged is %q", s.missed, s.log.String())
	}
	s.now = at(1000)
	if err := s.run(t, time.Hour); err != nil {
		t.Fatal(err)
	}
	s.wantMissing(t)
	if want := []string{"-510 940 ", "-510 940 evt_070", "-510 940 evt_040", "-510 940 evt_010"}; !slices.Equal(s.asked, want) || s.missed != 8 {
		t.Errorf("then it asks for %q, want %q, and misses %d", s.asked, want, s.missed)
	}
	if err := s.run(t, time.Hour); err != nil || s.missed != 0 || s.log.Len() > 0 {
		t.Errorf("with nothing missing: %d, logged is %q, %v", s.missed, s.log.String(), err)
	}
}

func TestReconcilerLooksBackThirtyDays(t *testing.T) {
	s := newStream(3, 10)
	s.events = []time.Time{s.now.Add(-30*day - 11*time.Minute), s.now.Add(-30*day + time.Minute), s.now.Add(-day)}
	s.cursor = billing.Cursor{Since: s.now.Add(-90 * day), Until: s.now.Add(-89 * day), After: "evt_forgotten", BegunAt: s.now.Add(-89 * day)}
	if err := s.run(t, time.Hour); err != nil {
		t.Fatal(err)
	}
	s.wantMissing(t, 0)
	if want := (billing.Cursor{Since: s.now.Add(-time.Minute), BegunAt: s.now}); s.cursor != want {
		t.Errorf("the place is %+v, want %+v", s.cursor, want)
	}
}

// A run that has no time left goes on where it was, with the end that it had.
func TestReconcilerGoesOn(t *testing.T) {
	s := newStream(100, 10)
	s.takes = 9 * time.Second
	var untils []time.Time
	for range 10 {
		if err := s.run(t, time.Second); err != nil {
			t.Fatal(err)
		}
		if len(s.asked) > 3 {
			t.Errorf("it went on for %d pages", len(s.asked))
		}
		untils = append(untils, s.cursor.Until)
		if s.cursor.Until.IsZero() {
			break
		}
		s.now = s.now.Add(time.Hour)
		s.events = append(s.events, s.now) // newer ones
	}
	if len(untils) != 4 || !untils[0].Equal(at(99)) || !untils[1].Equal(at(99)) || !untils[2].Equal(at(99)) {
		t.Errorf("the ends are %v", untils)
	}
	s.wantMissing(t, 100, 101, 102)
	if !s.cursor.Since.Equal(at(99)) {
		t.Errorf("the place is %+v", s.cursor)
	}
}

func TestReconcilersErrorsKeepThePlace(t *testing.T) {
	for _, tt := range []struct {
		breaks string
		fails  int
		at     billing.Cursor
	}{
		{"cursor", 0, billing.Cursor{}}, {"set", 0, billing.Cursor{}}, {"list", 1, billing.Cursor{}}, {"take", 1, billing.Cursor{}}, {"take", 10, billing.Cursor{}},
		{"list", 3, billing.Cursor{Since: at(40).Add(-30 * day), Until: at(39), After: "evt_020", BegunAt: at(40)}},
		{"take", 25, billing.Cursor{Since: at(40).Add(-30 * day), Until: at(39), After: "evt_020", BegunAt: at(40)}},
	} {
		s := newStream(40, 10)
		s.breaks, s.fails = tt.breaks, tt.fails
		if err := s.run(t, time.Second); !errors.Is(err, errStripe) {
			t.Errorf("%+v: %v", tt, err)
		}
		if s.cursor != tt.at {
			t.Errorf("%+v: the place is %+v", tt, s.cursor)
		}
		if taken := len(s.taken); s.missed != taken {
			t.Errorf("%+v: %d were taken in, said are %d", tt, taken, s.missed)
		}
		s.breaks = ""
		if err := s.run(t, time.Second); err != nil {
			t.Error(err)
		}
		s.wantMissing(t)
	}
}

// The event after which it was to go on may have left the list meanwhile.
func TestReconcilerBeginsAgainWhereItsPlaceIsGone(t *testing.T) {
	s := newStream(40, 10)
	s.cursor = billing.Cursor{Since: at(0), Until: at(39), After: "evt_gone", BegunAt: at(1)}
	if err := s.run(t, time.Second); err != nil {
		t.Fatal(err)
	}
	s.wantMissing(t)
	if len(s.asked) != 5 || !strings.HasSuffix(s.asked[1], " 39 ") {
		t.Errorf("asked for %q", s.asked)
	}
}

// A test clock is ahead, and what it makes happen is of a time to come.
func TestReconcilerTakesInWhatATestClockMade(t *testing.T) {
	for _, test := range []bool{false, true} {
		s := newStream(40, 10)
		s.test = test
		for i := range 15 {
			s.events = append(s.events, s.now.Add(time.Duration(1+i)*30*day))
		}
		for range 2 {
			if err := s.run(t, time.Second); err != nil {
				t.Fatal(err)
			}
			if want := (billing.Cursor{Since: s.now.Add(-time.Second), BegunAt: s.now}); s.cursor != want {
				t.Errorf("the place is %+v, want %+v", s.cursor, want)
			}
		}
		if test {
			s.wantMissing(t)
		} else {
			s.wantMissing(t, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54)
		}
		s.takes, s.taken = 9*time.Second, nil
		if err := s.run(t, time.Second); err != nil || len(s.asked) > 4 {
			t.Errorf("it went on for %d pages, %v", len(s.asked), err)
		}
	}
}
