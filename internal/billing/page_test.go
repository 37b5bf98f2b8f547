package billing_test

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
)

// shelf keeps customers' entries in memory, oldest first. It can fail.
type shelf struct {
	entries map[string][]billing.Entry
	err     error
	asked   []int64 // the before of each call
	limit   int     // of the last call
}

func (s *shelf) add(customer string, n int) {
	if s.entries == nil {
		s.entries = make(map[string][]billing.Entry)
	}
	for range n {
		s.entries[customer] = append(s.entries[customer], billing.Entry{Number: int64(len(s.entries[customer]) + 1)})
	}
}

func (s *shelf) Entries(_ context.Context, customer string, before int64, limit int) ([]billing.Entry, error) {
	s.asked, s.limit = append(s.asked, before), limit
	if s.err != nil {
		return nil, s.err
	}
	var page []billing.Entry
	for _, e := range slices.Backward(s.entries[customer]) {
		if len(page) < limit && (before == 0 || e.Number < before) {
			page = append(page, e)
		}
	}
	return page, nil
}

// from numbers entries, newest first.
func from(entries []billing.Entry) []int64 {
	numbers := []int64{}
	for _, e := range entries {
		numbers = append(numbers, e.Number)
	}
	return numbers
}

// down are the numbers from n to 1.
func down(n int) []int64 {
	numbers := []int64{}
	for ; n > 0; n-- {
		numbers = append(numbers, int64(n))
	}
	return numbers
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// refuses checks that an error refuses one field of the request.
func refuses(t *testing.T, err error, field string) {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Invalid || len(f.Details) != 1 || f.Details[0].Field != field || f.Details[0].Reason != fault.MalformedValue {
		t.Errorf("the error is %v, want one that refuses %s", err, field)
	}
}

func TestPagesFollowEachOther(t *testing.T) {
	store := &shelf{}
	store.add("jane", 5)
	store.add("sam", 9)
	l := billing.NewLedger(store)
	var cursor string
	for _, want := range [][]int64{{5, 4}, {3, 2}, {1}} {
		page, err := l.Page(t.Context(), "jane", cursor, 2)
		if err != nil {
			t.Fatal(err)
		}
		if got := from(page.Entries); !slices.Equal(got, want) {
			t.Errorf("a page has %v, want %v", got, want)
		}
		cursor = page.Next
	}
	if cursor != "" {
		t.Errorf("the last page goes on at %q", cursor)
	}
}

func TestPageThatIsJustFullIsTheLast(t *testing.T) {
	for n, more := range map[int]bool{0: false, 1: false, 3: false, 4: true} {
		store := &shelf{}
		store.add("jane", n)
		page, err := billing.NewLedger(store).Page(t.Context(), "jane", "", 3)
		if err != nil || len(page.Entries) != min(n, 3) || (page.Next != "") != more {
			t.Errorf("of %d entries a page of 3 has %v and goes on at %q, %v", n, from(page.Entries), page.Next, err)
		}
	}
}

func TestPageHasBounds(t *testing.T) {
	for _, limit := range []int{-1 << 62, -1, 0, billing.MaxPage + 1, 1 << 62} {
		store := &shelf{}
		_, err := billing.NewLedger(store).Page(t.Context(), "jane", "", limit)
		refuses(t, err, "limit")
		if len(store.asked) > 0 {
			t.Errorf("a page of %d: the store was asked", limit)
		}
	}
	for _, limit := range []int{1, billing.DefaultPage, billing.MaxPage} {
		store := &shelf{}
		store.add("jane", 300)
		page, err := billing.NewLedger(store).Page(t.Context(), "jane", "", limit)
		if err != nil || len(page.Entries) != limit {
			t.Errorf("a page of %d has %d entries, %v", limit, len(page.Entries), err)
		}
		if store.limit > billing.MaxPage+1 {
			t.Errorf("for a page of %d the store was asked for %d", limit, store.limit)
		}
	}
}

func TestCursorThatNoPageGaveIsRefused(t *testing.T) {
	for name, cursor := range map[string]string{
		"no base64":           "!",
		"padded base64":       base64.URLEncoding.EncodeToString([]byte("before:10")) + "=",
		"standard base64":     "YmVmb3JlOj+/",
		"empty text":          encode(" "),
		"no prefix":           encode("10"),
		"another prefix":      encode("behind:10"),
		"the prefix alone":    encode("before:"),
		"zero":                encode("before:0"),
		"a negative number":   encode("before:-1"),
		"a fraction":          encode("before:1.5"),
		"hexadecimal":         encode("before:0x10"),
		"a space":             encode("before: 1"),
		"beyond int64":        encode("before:9223372036854775808"),
		"a NUL":               encode("before:1\x00"),
		"a number, not coded": "before:10",
		"very long":           encode("before:" + string(make([]byte, 1<<16))),
	} {
		t.Run(name, func(t *testing.T) {
			store := &shelf{}
			store.add("jane", 20)
			_, err := billing.NewLedger(store).Page(t.Context(), "jane", cursor, 10)
			refuses(t, err, "cursor")
			if len(store.asked) > 0 {
				t.Errorf("the store was asked for %v", store.asked)
			}
		})
	}
}

// A cursor is a position alone: another customer's shows him his own entries.
func TestCursorOfAnotherCustomerShowsOnesOwnEntries(t *testing.T) {
	store := &shelf{}
	store.add("jane", 10)
	store.add("sam", 3)
	l := billing.NewLedger(store)
	janes, err := l.Page(t.Context(), "jane", "", 2)
	if err != nil {
		t.Fatal(err)
	}
	sams, err := l.Page(t.Context(), "sam", janes.Next, 2)
	if err != nil || !slices.Equal(from(sams.Entries), []int64{3, 2}) {
		t.Errorf("sam sees %v, %v", from(sams.Entries), err)
	}
}

func TestStoresErrorPassesThroughPage(t *testing.T) {
	away := fault.Away(errors.New("away"))
	page, err := billing.NewLedger(&shelf{err: away}).Page(t.Context(), "jane", "", 10)
	if !errors.Is(err, away) || page.Entries != nil || page.Next != "" {
		t.Errorf("Page = %+v, %v, want the store's error alone", page, err)
	}
}

// However pages are cut and whatever is added between them, the walk gives
// each entry that was there at its start, once, newest first.
func TestPagingLeavesOutAndRepeatsNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		store := &shelf{}
		begin := rapid.IntRange(0, 30).Draw(t, "begin")
		store.add("jane", begin)
		l := billing.NewLedger(store)
		limits := rapid.OneOf(rapid.IntRange(1, 7), rapid.IntRange(1, billing.MaxPage))
		var seen []int64
		for cursor := ""; ; {
			limit := limits.Draw(t, "limit")
			page, err := l.Page(t.Context(), "jane", cursor, limit)
			if err != nil {
				t.Fatal(err)
			}
			if len(page.Entries) > limit || len(page.Entries) < limit && page.Next != "" {
				t.Fatalf("a page of %d has %d entries and goes on at %q", limit, len(page.Entries), page.Next)
			}
			seen = append(seen, from(page.Entries)...)
			if page.Next == "" {
				break
			}
			cursor = page.Next
			store.add("jane", rapid.IntRange(0, 5).Draw(t, "added"))
		}
		if !slices.Equal(seen, down(begin)) {
			t.Fatalf("of %d entries it gave %v", begin, seen)
		}
	})
}

func TestSignUpReferenceNamesTheCustomer(t *testing.T) {
	if a, b := billing.SignUpReference("jane"), billing.SignUpReference("sam"); a == b || a != "signup:jane" {
		t.Errorf("the references are %q and %q", a, b)
	}
}

// Any text as a cursor is refused in the contract's way, or is a position.
func FuzzPage(f *testing.F) {
	f.Add(encode("before:10"))
	f.Fuzz(func(t *testing.T, cursor string) {
		store := &shelf{}
		store.add("jane", 30)
		l := billing.NewLedger(store)
		page, err := l.Page(t.Context(), "jane", cursor, 3)
		if err != nil {
			refuses(t, err, "cursor")
			if len(store.asked) > 0 {
				t.Errorf("%q is refused, and the store was asked for %v", cursor, store.asked)
			}
			return
		}
		before := store.asked[0]
		if before < 0 || (before == 0) != (cursor == "") {
			t.Fatalf("%q asks the store for what is before %d", cursor, before)
		}
		if page.Next == "" {
			return
		}
		last := page.Entries[len(page.Entries)-1].Number
		if _, err := l.Page(t.Context(), "jane", page.Next, 3); err != nil || store.asked[1] != last {
			t.Errorf("after %q the next page is before %d, %v, want %d", cursor, store.asked[1], err, last)
		}
	})
}
