package postgres_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"gatehouse/internal/apikey"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/vending"
)

func newUUID(t testing.TB) string {
	t.Helper()
	id, err := uuid.NewV7()
	must(t, err)
	return id.String()
}

// exchanger opens an account, whose key may exchange.
func exchanger(t testing.TB, s *postgres.Store, name string) apikey.Principal {
	t.Helper()
	o, _ := newOpening(t, name+"@example.dev")
	must(t, s.Open(t.Context(), o, nil))
	return apikey.Principal{CustomerID: o.ID, KeyID: o.Key.ID}
}

func exchange(t testing.TB, s *postgres.Store, by apikey.Principal) error {
	t.Helper()
	_, presented := apikey.GenerateToken(apikey.Live)
	_, err := s.Grant(t.Context(), vending.Order{
		ID: newUUID(t), By: by, TTL: time.Hour, Issues: []vending.Issue{{ID: newUUID(t), Provider: vending.OpenAI, Presented: presented}},
	}, nil)
	return err
}

// Exchanges are decided in groups, and still a customer who is locked holds up its
// own alone.
func TestLockedCustomersHoldUpThemselvesAlone(t *testing.T) {
	t.Parallel()
	url := newDatabase(t)
	s := node(t, url)
	locked := exchanger(t, s, "locked")
	var others []apikey.Principal
	for i := range 10 {
		others = append(others, exchanger(t, s, fmt.Sprintf("other%d", i)))
	}
	tx, err := connect(t, url).Begin(t.Context())
	must(t, err)
	_, err = tx.Exec(t.Context(), "SELECT 1 FROM customers WHERE id = $1 FOR UPDATE", locked.CustomerID)
	must(t, err)
	held := make(chan error, 3)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for range cap(held) {
		waiting.Go(func() { held <- exchange(t, s, locked) }) // after two seconds it may be told to try again
	}
	eventually(t, recovery, func() error {
		if n := ask[int](t, url, "SELECT count(*) FROM pg_locks WHERE NOT granted"); n == 0 {
			return fmt.Errorf("nobody waits for the customer")
		}
		return nil
	})
	var asking sync.WaitGroup
	for _, by := range others {
		asking.Go(func() {
			for range 5 {
				if err := exchange(t, s, by); err != nil {
					t.Errorf("beside one that is locked: %v", err)
				}
			}
		})
	}
	asking.Wait()
	if len(held) > 0 && <-held == nil {
		t.Error("it did not wait")
	}
	must(t, tx.Rollback(t.Context()))
	must(t, exchange(t, s, locked))
}
