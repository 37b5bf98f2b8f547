package vending_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/vending"
)

// shelf is a store in memory, that can be away, slow, and refuse.
type shelf struct {
	vending.Store // nil: what a test does not expect panics

	mu      sync.Mutex
	away    error // what all calls fail with
	tokens  map[string]vending.Lease
	hashes  map[string][32]byte
	revoked map[string]time.Time
	looks   int
	during  func() // called within a look-up that has read, and has yet to answer

	orders  []vending.Order
	refuses error // what Grant says
	holds   map[string]vending.Hold
	kept    int
	over    bool // no money is left
	booked  map[string]vending.Spending
	groups  []int
	poison  string // the model of which no call can be booked
	reports []vending.Report

	lost  []vending.Audit          // calls of nodes that died
	asked int                      // of BookLost, at most, when it was last called
	keeps func(ids []string) error // what is said of ids that are to be kept; nil: yes

}

func newShelf() *shelf {
	return &shelf{
		tokens: make(map[string]vending.Lease), hashes: make(map[string][32]byte), revoked: make(map[string]time.Time),
		holds: make(map[string]vending.Hold), booked: make(map[string]vending.Spending),
	}
}

func (s *shelf) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *shelf) setAway(err error) { s.do(func() { s.away = err }) }

// issue puts a token on the shelf that works for a while.
func (s *shelf) issue(p vending.Provider, life time.Duration) (token, id string) {
	secret, presented := apikey.GenerateToken(apikey.Live)
	s.do(func() {
		s.tokens[presented.PublicID] = vending.Lease{
			CredentialID: "c-" + presented.PublicID, CustomerID: "customer", KeyID: "key", GrantID: "grant", Provider: p, ExpiresAt: time.Now().Add(life),
		}
		s.hashes[presented.PublicID] = presented.Hash
	})
	return secret.Reveal(), presented.PublicID
}

func (s *shelf) revoke(id string) {
	s.do(func() { delete(s.tokens, id); s.revoked[id] = time.Now() })
}

func (s *shelf) Lease(_ context.Context, token apikey.Presented) (vending.Lease, error) {
	s.mu.Lock()
	l, ok := s.tokens[token.PublicID]
	ok = ok && s.hashes[token.PublicID] == token.Hash && time.Now().Before(l.ExpiresAt)
	away, during := s.away, s.during
	s.looks++
	s.mu.Unlock()
	if during != nil {
		during()
	}
	if away != nil {
		return vending.Lease{}, away
	}
	if !ok {
		return vending.Lease{}, fault.Missing("There is no such token.")
	}
	return l, nil
}

func (s *shelf) Revoked(_ context.Context, since time.Duration) (ids []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, at := range s.revoked {
		if time.Since(at) < since {
			ids = append(ids, id)
		}
	}
	return ids, s.away
}

func (s *shelf) Grant(_ context.Context, o vending.Order, keep *idempotency.Once[vending.Granted]) (g vending.Granted, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuses != nil {
		return g, s.refuses
	}
	s.orders = append(s.orders, o)
	g.Balance = 5
	for _, i := range o.Issues {
		p := i.Provider
		if o.Replace != "" {
			p = vending.OpenAI
		}
		c := vending.Credential{ID: i.ID, Provider: p, Enforcement: vending.ByGateway}
		if i.Key != nil {
			c.Enforcement, c.ExpiresAt = i.Key.Enforcement, i.Key.ExpiresAt
		}
		g.Credentials = append(g.Credentials, c)
	}
	if keep != nil {
		_, err = keep.Seal(g)
	}
	return g, err
}

func (s *shelf) Report(_ context.Context, r vending.Report, _ *idempotency.Once[vending.Report]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reports = append(s.reports, r)
	return s.away
}

func (s *shelf) Hold(_ context.Context, h vending.Hold, _ time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return &fault.Error{Kind: fault.PaymentRequired, Code: "BUDGET_EXCEEDED"}
	}
	s.holds[h.ID] = h
	return s.away
}

func (s *shelf) KeepHolds(_ context.Context, ids []string, _ time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept++
	if s.away == nil && s.keeps != nil {
		return s.keeps(ids)
	}
	return s.away
}

func (s *shelf) BookLost(_ context.Context, limit int) (booked []vending.Audit, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = limit
	if s.away == nil {
		n := min(limit, len(s.lost))
		booked, s.lost = s.lost[:n], s.lost[n:]
	}
	return booked, s.away
}

// Settle books all or none.
func (s *shelf) Settle(_ context.Context, calls []vending.Spending) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.groups = append(s.groups, len(calls))
	if s.away != nil {
		return s.away
	}
	for _, c := range calls {
		if s.poison != "" && c.Model == s.poison {
			return errors.New("a row that can't be written")
		}
	}
	for _, c := range calls {
		if delete(s.holds, c.Reservation); c.ID != "" {
			s.booked[c.ID] = c
		}
	}
	return nil
}

// calls are those that were booked, by model.
func (s *shelf) calls() map[string]vending.Spending {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := make(map[string]vending.Spending)
	for _, c := range s.booked {
		found[c.Model] = c
	}
	return found
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func wantFault(t testing.TB, err error, kind fault.Kind, code string) {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != kind || code != "" && f.Code != code {
		t.Fatalf("error is %v, want fault %s %s", err, kind, code)
	}
}

// retryAfter is after what time a client is told to try again.
func retryAfter(err error) time.Duration {
	f, _ := errors.AsType[*fault.Error](err)
	return f.RetryAfter
}

func done(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
