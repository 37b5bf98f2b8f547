package idempotency_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/seal"
)

// shelf keeps outcomes in memory.
type shelf struct {
	idempotency.Store
	mu   sync.Mutex
	kept map[[32]byte]idempotency.Outcome
	err  error
}

func (s *shelf) Outcome(_ context.Context, id [32]byte) (idempotency.Outcome, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o, found := s.kept[id]
	return o, found, s.err
}

// keep is what a store does in the effect's transaction.
func (s *shelf) keep(o idempotency.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kept == nil {
		s.kept = make(map[[32]byte]idempotency.Outcome)
	}
	s.kept[o.ID] = o
}

func ring(t testing.TB, keys ...string) *seal.Ring {
	t.Helper()
	r, err := seal.Parse(strings.Join(keys, ","))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func request(key, body string) idempotency.Request {
	return idempotency.NewRequest("customer 1", "POST", "/api/v1/keys", key, []byte(body))
}

// answered is a request that was carried out, its outcome kept.
func answered(t testing.TB, s *shelf, d *idempotency.Guard, r idempotency.Request) {
	t.Helper()
	again, end, err := d.Begin(t.Context(), r)
	if err != nil || again != nil {
		t.Fatalf("begun: %+v, %v", again, err)
	}
	o, err := d.Seal(r, 201, []byte("the answer"))
	if err != nil {
		t.Fatal(err)
	}
	s.keep(o)
	end()
}

func wantFault(t testing.TB, err error, kind fault.Kind, code string) {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != kind || f.Code != code || (kind == fault.Unavailable) != (f.RetryAfter > 0) {
		t.Fatalf("error is %#v, want fault %s with the code %s", err, kind, code)
	}
}

// wantRefused fails unless nothing may be carried out, nor be given again.
func wantRefused(t testing.TB, d *idempotency.Guard, r idempotency.Request, kind fault.Kind, code string) {
	t.Helper()
	_ = refusal(t, d, r, kind, code)
}

// refusal is the error of a request that must be refused.
func refusal(t testing.TB, d *idempotency.Guard, r idempotency.Request, kind fault.Kind, code string) error {
	t.Helper()
	again, end, err := d.Begin(t.Context(), r)
	wantFault(t, err, kind, code)
	if again != nil || end != nil {
		t.Fatalf("refused, with %+v", again)
	}
	return err
}

func TestNewRequestIsCarriedOutAndThenRepeated(t *testing.T) {
	s := &shelf{}
	d := idempotency.NewGuard(s, ring(t, seal.NewKey()))
	r := request("0123456789abcdef", "body")
	answered(t, s, d, r)
	if box := s.kept[r.ID].Body.Bytes; bytes.Contains(box, []byte("answer")) {
		t.Errorf("what is kept can be read: %q", box)
	}
	for range 3 {
		again, end, err := d.Begin(t.Context(), r)
		if err != nil || end != nil || again == nil || again.Status != 201 || string(again.Body) != "the answer" {
			t.Errorf("given again: %+v, %v", again, err)
		}
	}
	wantRefused(t, d, request("0123456789abcdef", "other body"), fault.Invalid, "IDEMPOTENCY_MISMATCH")
	answered(t, s, d, request("0123456789abcdeF", "body"))
}

func TestRequestUnderWayIsRefusedUntilItsEnd(t *testing.T) {
	d := idempotency.NewGuard(&shelf{}, ring(t, seal.NewKey()))
	r := request("0123456789abcdef", "body")
	for range 2 { // the first one failed: nothing is kept
		_, end, err := d.Begin(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range []string{"body", "other body"} {
			wantRefused(t, d, request("0123456789abcdef", body), fault.Conflict, "IDEMPOTENCY_CONFLICT")
		}
		if _, other, err := d.Begin(t.Context(), request("another key of 16", "body")); err != nil {
			t.Errorf("another request: %v", err)
		} else {
			other()
		}
		end()
	}
}

func TestOfManyAtOnceOneBegins(t *testing.T) {
	s := &shelf{}
	d := idempotency.NewGuard(s, ring(t, seal.NewKey()))
	r := request("0123456789abcdef", "body")
	var mu sync.Mutex
	var ends []func()
	start, wg := make(chan struct{}), sync.WaitGroup{}
	for range 100 {
		wg.Go(func() {
			<-start
			_, end, err := d.Begin(t.Context(), r)
			if err != nil {
				if f, ok := errors.AsType[*fault.Error](err); !ok || f.Code != "IDEMPOTENCY_CONFLICT" {
					t.Errorf("refused: %v", err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			ends = append(ends, end)
		})
	}
	close(start)
	wg.Wait()
	if len(ends) != 1 {
		t.Fatalf("%d began", len(ends))
	}
	ends[0]()
	answered(t, s, d, r)
}

// However requests and their ends fall, each effect is had once.
func TestOfManyThatComeAndGoOneHasAnEffect(t *testing.T) {
	s := &shelf{}
	d := idempotency.NewGuard(s, ring(t, seal.NewKey()))
	r := request("0123456789abcdef", "body")
	var mu sync.Mutex
	effects := 0
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			again, end, err := d.Begin(t.Context(), r)
			if err != nil || again != nil {
				return
			}
			defer end()
			o, err := d.Seal(r, 201, []byte("the answer"))
			if err != nil {
				t.Error(err)
			}
			s.keep(o)
			mu.Lock()
			defer mu.Unlock()
			effects++
		})
	}
	wg.Wait()
	if effects != 1 {
		t.Errorf("%d effects", effects)
	}
}

func TestWithoutAKeyNothingNewIsBegun(t *testing.T) {
	s := &shelf{}
	key := seal.NewKey()
	answered(t, s, idempotency.NewGuard(s, ring(t, key)), request("0123456789abcdef", "body"))
	for name, r := range map[string]*seal.Ring{"nil": nil, "empty": ring(t)} {
		d := idempotency.NewGuard(s, r)
		for range 2 { // and it is not taken to be under way
			if err := refusal(t, d, request("another key of 16", "body"), fault.Unavailable, "UNAVAILABLE"); !errors.Is(err, seal.ErrNoKey) || errors.Is(err, idempotency.ErrSealed) {
				t.Errorf("%s: %v", name, err)
			}
			wantRefused(t, d, request("0123456789abcdef", "other body"), fault.Invalid, "IDEMPOTENCY_MISMATCH")
			if err := refusal(t, d, request("0123456789abcdef", "body"), fault.Unavailable, "UNAVAILABLE"); !errors.Is(err, idempotency.ErrSealed) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	rolled := idempotency.NewGuard(s, ring(t, seal.NewKey(), key)) // a new key, and the old one kept
	if again, _, err := rolled.Begin(t.Context(), request("0123456789abcdef", "body")); err != nil || string(again.Body) != "the answer" {
		t.Errorf("after the key was rolled: %+v, %v", again, err)
	}
}

func TestAnswerThatCannotBeOpenedIsNotMadeAnew(t *testing.T) {
	r, other := request("0123456789abcdef", "body"), request("another key of 16", "body")
	for name, change := range map[string]func(mine, others idempotency.Outcome) idempotency.Outcome{
		"a key that is not here": func(mine, _ idempotency.Outcome) idempotency.Outcome {
			mine.Body.KeyID = "0011223344556677"
			return mine
		},
		"a changed box": func(mine, _ idempotency.Outcome) idempotency.Outcome {
			mine.Body.Bytes = bytes.Clone(mine.Body.Bytes)
			mine.Body.Bytes[len(mine.Body.Bytes)-1] ^= 1
			return mine
		},
		"an empty box": func(mine, _ idempotency.Outcome) idempotency.Outcome {
			mine.Body.Bytes = nil
			return mine
		},
		"another request's box": func(mine, others idempotency.Outcome) idempotency.Outcome {
			mine.Body = others.Body
			return mine
		},
		"another status": func(mine, _ idempotency.Outcome) idempotency.Outcome {
			mine.Status = 200
			return mine
		},
	} {
		s := &shelf{}
		d := idempotency.NewGuard(s, ring(t, seal.NewKey()))
		answered(t, s, d, r)
		answered(t, s, d, other)
		good := s.kept[r.ID]
		s.keep(change(good, s.kept[other.ID]))
		for range 2 {
			if err := refusal(t, d, r, fault.Unavailable, "UNAVAILABLE"); !errors.Is(err, idempotency.ErrSealed) {
				t.Errorf("%s: %v", name, err)
			}
		}
		s.keep(good)
		if again, _, err := d.Begin(t.Context(), r); err != nil || string(again.Body) != "the answer" {
			t.Errorf("%s, put right: %+v, %v", name, again, err)
		}
	}
	// A body of another request would be given to whoever claims to have sent it.
	s := &shelf{}
	d := idempotency.NewGuard(s, ring(t, seal.NewKey()))
	answered(t, s, d, r)
	forged := s.kept[r.ID]
	forged.Request.Body = request("", "other body").Body
	s.keep(forged)
	wantRefused(t, d, request("0123456789abcdef", "other body"), fault.Unavailable, "UNAVAILABLE")
}

func TestStoreThatIsAwayIsNoNewRequest(t *testing.T) {
	s := &shelf{err: fault.Away(errors.New("connection lost"))}
	d := idempotency.NewGuard(s, ring(t, seal.NewKey()))
	r := request("0123456789abcdef", "body")
	for range 2 {
		wantRefused(t, d, r, fault.Unavailable, "UNAVAILABLE")
	}
	s.err = nil
	answered(t, s, d, r)
}

// No two requests are one because their parts, put together, are alike.
func TestRequestsDifferInEachPart(t *testing.T) {
	part := rapid.StringOfN(rapid.SampledFrom([]rune("a/ \x00\x01")), 0, 3, -1)
	parts := rapid.SliceOfN(part, 4, 4)
	id := func(p []string) [32]byte { return idempotency.NewRequest(p[0], p[1], p[2], p[3], nil).ID }
	rapid.Check(t, func(t *rapid.T) {
		a := parts.Draw(t, "a")
		b := slices.Clone(a) // but for one part
		b[rapid.IntRange(0, 3).Draw(t, "which")] = part.Draw(t, "other")
		if text := strings.Join(a, ""); rapid.Bool().Draw(t, "alike") { // or the same text, cut elsewhere
			at := rapid.SliceOfN(rapid.IntRange(0, len(text)), 3, 3).Draw(t, "at")
			x, z := min(at[0], at[1], at[2]), max(at[0], at[1], at[2])
			y := at[0] + at[1] + at[2] - x - z
			b = []string{text[:x], text[x:y], text[y:z], text[z:]}
		}
		if (id(a) == id(b)) != slices.Equal(a, b) {
			t.Errorf("%q and %q", a, b)
		}
	})
	if a, b := request("k", "a"), request("k", "b"); a.ID != b.ID || a.Body == b.Body || a != request("k", "a") {
		t.Error("the body is no part of which request it is, and is compared")
	}
}

func TestMapKeepsWhatIsMadeOfAResult(t *testing.T) {
	if idempotency.Map(nil, func(int) string { return "" }) != nil {
		t.Error("nothing is to be kept, and something would be")
	}
	r, broken := request("0123456789abcdef", ""), errors.New("broken")
	o := &idempotency.Once[string]{Request: r, Seal: func(s string) (idempotency.Outcome, error) {
		return idempotency.Outcome{Request: r, Body: seal.Box{Bytes: []byte(s)}}, broken
	}}
	m := idempotency.Map(o, func(d time.Duration) string { return d.String() })
	got, err := m.Seal(time.Minute)
	if m.Request != r || string(got.Body.Bytes) != "1m0s" || !errors.Is(err, broken) {
		t.Errorf("kept %+v, %v", got, err)
	}
}
