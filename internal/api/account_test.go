package api_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"gatehouse/internal/billing"
)

func TestAccount(t *testing.T) {
	s := newServer(t)
	signedUp := decode[map[string]any](t, s.send(t, "POST", onboard, document(`{"name": "Ada", "company": "Engines", "email": "`+someone()+`"}`)).want(t, http.StatusCreated))
	first := monthOf(time.Now())
	got := decode[map[string]any](t, s.send(t, "GET", "/api/v1/account", key(signedUp["api_key"].(string))).want(t, http.StatusOK))
	last := monthOf(time.Now()) // another one, if the month ended just now

	want := signedUp["customer"].(map[string]any)
	want["stripe_customer_id"], want["credit_debt"] = nil, 0.0
	if diff := cmp.Diff(want, got["customer"]); diff != "" {
		t.Errorf("the customer is not as at sign-up (- want, + got):\n%s", diff)
	}
	if a, b := cmp.Diff(any(first), got["usage"]), cmp.Diff(any(last), got["usage"]); a != "" && b != "" {
		t.Errorf("usage (- want, + got):\n%s", a)
	}
}

// monthOf is the usage of a month in UTC without calls.
func monthOf(now time.Time) map[string]any {
	y, m, _ := now.UTC().Date()
	return map[string]any{
		"period_start": time.Date(y, m, 1, 0, 0, 0, 0, time.UTC).Format(time.RFC3339),
		"period_end":   time.Date(y, m+1, 1, 0, 0, 0, 0, time.UTC).Format(time.RFC3339),
		"fixes":        0.0, "providers": map[string]any{},
	}
}

type entry struct {
	ID, Source, Reference string
	Amount                int64
	BalanceAfter          int64     `json:"balance_after"`
	CreatedAt             time.Time `json:"created_at"`
}

type page struct {
	Entries []entry
	Next    *string `json:"next_cursor"`
}

func TestLedgerOfASignUp(t *testing.T) {
	s := newServer(t)
	id, mine := s.signUp(t)
	s.signUp(t) // another's entry is not in the ledger
	got := decode[page](t, s.send(t, "GET", "/api/v1/account/ledger", key(mine)).want(t, http.StatusOK))
	if len(got.Entries) != 1 || got.Next != nil {
		t.Fatalf("got %+v, want one entry and no next", got)
	}
	e := got.Entries[0]
	customer, err := s.database.Customer(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if e.Amount != 5 || e.BalanceAfter != 5 || e.Source != "trial_signup" || !e.CreatedAt.Equal(customer.CreatedAt) {
		t.Errorf("the entry is %+v, want +5 trial_signup at %v", e, customer.CreatedAt)
	}
}

// book is a ledger store in memory, which may grow while it is read.
type book struct {
	mu      sync.Mutex
	entries map[string][]billing.Entry // by customer, oldest first
}

func (b *book) add(customerID string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := int64(len(b.entries[customerID]) + 1)
	b.entries[customerID] = append(b.entries[customerID], billing.Entry{
		ID: uuid.Must(uuid.NewV7()).String(), Number: n, Amount: 1, BalanceAfter: n, Source: "adjustment",
		Reference: fmt.Sprintf("adjustment:%s:%d", customerID, n), CreatedAt: time.Now().UTC(),
	})
}

func (b *book) Entries(_ context.Context, customerID string, before int64, limit int) (found []billing.Entry, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range slices.Backward(b.entries[customerID]) {
		if (before == 0 || e.Number < before) && len(found) < limit {
			found = append(found, e)
		}
	}
	return found, nil
}

// Pages follow each other without a gap and without a repetition, whatever is
// added meanwhile and however long they are.
func TestLedgerPages(t *testing.T) {
	for _, test := range []struct {
		query   string
		size    int // of a page
		entries int
	}{
		{"limit=1", 1, 7}, {"limit=3", 3, 7}, {"limit=7", 7, 7}, {"limit=8", 8, 7}, {"limit=200", 200, 450}, {"", 50, 120}, {"limit=", 50, 51},
	} {
		t.Run(test.query+" of "+strconv.Itoa(test.entries), func(t *testing.T) {
			ledger := &book{entries: make(map[string][]billing.Entry)}
			s := newServer(t, unlimited, func(_ testing.TB, o *setup) { o.ledger = ledger })
			id, mine := s.signUp(t)
			for range test.entries {
				ledger.add(id)
				ledger.add("somebody else")
			}
			var seen []int64
			for cursor := ""; ; {
				got := decode[page](t, s.send(t, "GET", "/api/v1/account/ledger?"+test.query+"&cursor="+url.QueryEscape(cursor), key(mine)).want(t, http.StatusOK))
				for _, e := range got.Entries {
					seen = append(seen, e.BalanceAfter)
				}
				if got.Next == nil {
					break
				}
				if len(got.Entries) != test.size {
					t.Fatalf("a page that is not the last has %d entries, want %d", len(got.Entries), test.size)
				}
				cursor = *got.Next
				ledger.add(id)
			}
			var want []int64
			for n := int64(test.entries); n > 0; n-- {
				want = append(want, n)
			}
			if diff := cmp.Diff(want, seen); diff != "" {
				t.Errorf("the balances of all pages (- want, + got):\n%s", diff)
			}
		})
	}
}

func TestLedgerRefusesBadPages(t *testing.T) {
	s := newServer(t, unlimited)
	_, mine := s.signUp(t)
	for _, value := range []string{"0", "-1", "201", "1.5", "1e2", "x", "0x10", "+", "99999999999999999999", "%F0%9F%98%80", "1%002"} {
		t.Run("limit="+value, func(t *testing.T) {
			s.send(t, "GET", "/api/v1/account/ledger?limit="+value, key(mine)).invalid(t, "limit", "malformed")
		})
	}
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	for _, value := range []string{
		"x", "1", "-", someID, "%00", "null", encode("before:"), encode("before:0"), encode("before:-1"), encode("before:1x"), encode("after:1"),
		encode("before:99999999999999999999"), encode("before:1") + "=", encode("before:1") + "A", encode("before:1 OR 1=1"), encode("before:\x00"),
	} {
		t.Run("cursor="+value, func(t *testing.T) {
			s.send(t, "GET", "/api/v1/account/ledger?cursor="+value, key(mine)).invalid(t, "cursor", "malformed")
		})
	}
	// A cursor says a position only: another customer's shows nothing of his.
	got := decode[page](t, s.send(t, "GET", "/api/v1/account/ledger?cursor="+encode("before:1"), key(mine)).want(t, http.StatusOK))
	if len(got.Entries) != 0 || got.Next != nil {
		t.Errorf("before the first entry there is %+v", got)
	}
}
