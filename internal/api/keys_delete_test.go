package api_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/idempotency"
)

func TestDeleteKey(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	ci := s.newKey(t, mine, "")
	if !s.works(t, ci.Key) {
		t.Fatal("a new key does not work")
	}
	for range 3 { // the same thing again changes nothing
		s.send(t, "DELETE", "/api/v1/keys/"+ci.ID, key(mine)).want(t, http.StatusNoContent)
		if s.works(t, ci.Key) {
			t.Fatal("a revoked key works")
		}
	}
	if byID, order := s.keys(t, mine); len(order) != 1 || byID[ci.ID].ID != "" {
		t.Errorf("listed: %v", order)
	}
}

// A key that is used without a pause is refused by the first request that
// starts after the answer to its revocation.
func TestRevokedAtOnce(t *testing.T) {
	s := newServer(t, unlimited)
	_, mine := s.signUp(t)
	for range 20 {
		ci := s.newKey(t, mine, "")
		stop := make(chan struct{})
		done := make(chan error)
		for range 3 {
			go func() {
				for {
					select {
					case <-stop:
						done <- nil
						return
					default:
					}
					if _, err := s.try(t.Context(), "GET", "/api/v1/account", key(ci.Key)); err != nil {
						done <- err
						return
					}
				}
			}()
		}
		s.send(t, "DELETE", "/api/v1/keys/"+ci.ID, key(mine)).want(t, http.StatusNoContent)
		if s.works(t, ci.Key) {
			t.Error("a revoked key works")
		}
		close(stop)
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
}

func TestLastUsableKeyStays(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	_, mine := s.signUp(t)
	_, order := s.keys(t, mine)
	first := order[0]
	refused := func() {
		t.Helper()
		s.send(t, "DELETE", "/api/v1/keys/"+first, key(mine)).refused(t, http.StatusConflict, "CONFLICT")
		if !s.works(t, mine) {
			t.Fatal("a refused revocation ended the key")
		}
	}
	refused()
	s.newKey(t, mine, `{"expires_at": "`+now.now().Add(time.Minute).Format(time.RFC3339)+`"}`)
	now.advance(time.Minute)
	refused() // the other one has expired
	revoked := s.newKey(t, mine, "")
	s.send(t, "DELETE", "/api/v1/keys/"+revoked.ID, key(mine)).want(t, http.StatusNoContent)
	refused() // the other one is revoked
	other := s.newKey(t, mine, "")
	s.send(t, "DELETE", "/api/v1/keys/"+first, key(mine)).want(t, http.StatusNoContent) // by itself
	if s.works(t, mine) || !s.works(t, other.Key) {
		t.Error("a revoked key works, or the other one does not")
	}
	s.send(t, "DELETE", "/api/v1/keys/"+other.ID, key(other.Key)).refused(t, http.StatusConflict, "CONFLICT")
}

// Two keys that revoke each other at the same moment leave one.
func TestLastUsableKeyStaysInARace(t *testing.T) {
	s := newServer(t, unlimited)
	for range 20 {
		_, mine := s.signUp(t)
		_, order := s.keys(t, mine)
		other := s.newKey(t, mine, "")
		targets, keys := [2]string{other.ID, order[0]}, [2]string{mine, other.Key}
		s.atOnce(t, 2, func(i int) (answer, error) {
			return s.try(t.Context(), "DELETE", "/api/v1/keys/"+targets[i], key(keys[i]))
		})
		if first, second := s.works(t, mine), s.works(t, other.Key); first == second {
			t.Fatalf("the keys work: %v and %v; want one of them", first, second)
		}
	}
}

func TestKeysAreBounded(t *testing.T) {
	s := newServer(t, unlimited)
	_, mine := s.signUp(t)
	var last issued
	for range apikey.MaxKeys - 1 {
		last = s.newKey(t, mine, "")
	}
	s.send(t, "POST", "/api/v1/keys", key(mine)).refused(t, http.StatusConflict, "CONFLICT")
	s.send(t, "POST", "/api/v1/keys/"+last.ID+"/rotate", key(mine), document(`{"grace_minutes": 5}`)).refused(t, http.StatusConflict, "CONFLICT")
	last = decode[issued](t, s.send(t, "POST", "/api/v1/keys/"+last.ID+"/rotate", key(mine)).want(t, http.StatusCreated))
	s.send(t, "DELETE", "/api/v1/keys/"+last.ID, key(mine)).want(t, http.StatusNoContent)
	s.newKey(t, mine, "")
}

// between is a key store that lets something happen after a request has been
// let in and before it writes.
type between struct {
	apikey.Store
	happens func(by apikey.Principal)
}

func (b between) AddKey(ctx context.Context, by apikey.Principal, k apikey.Issue, o *idempotency.Once[apikey.Record]) error {
	b.happens(by)
	return b.Store.AddKey(ctx, by, k, o)
}

func (b between) ReplaceKey(ctx context.Context, by apikey.Principal, id string, grace time.Duration, k apikey.Issue, o *idempotency.Once[apikey.Record]) (apikey.Record, error) {
	b.happens(by)
	return b.Store.ReplaceKey(ctx, by, id, grace, k, o)
}

// A key that is revoked while its request is under way makes no new key. That
// refusal is a 401 like any other: it counts as auth_failure and carries its
// headers.
func TestRevokedMeanwhile(t *testing.T) {
	for _, action := range []string{"create", "rotate"} {
		t.Run(action, func(t *testing.T) {
			var s *server
			s = newServer(t, limit("auth_failure", "2/60s"), func(_ testing.TB, o *setup) {
				o.keys = func(store apikey.Store) apikey.Store {
					return between{store, func(by apikey.Principal) {
						if err := s.database.RevokeKey(t.Context(), apikey.Principal{CustomerID: by.CustomerID}, by.KeyID); err != nil {
							t.Error(err)
						}
					}}
				}
			})
			_, mine := s.signUp(t)
			_, order := s.keys(t, mine)
			path := "/api/v1/keys"
			if action == "rotate" {
				path += "/" + order[0] + "/rotate"
			}
			got := s.send(t, "POST", path, key(mine))
			got.refused(t, http.StatusUnauthorized, "INVALID_API_KEY")
			if l := got.limits(t, "auth_failure"); l.remaining != 1 {
				t.Errorf("%d places are left, want 1", l.remaining)
			}
		})
	}
}

// The same where the customer is suspended meanwhile.
func TestSuspendedMeanwhile(t *testing.T) {
	var s *server
	s = newServer(t, func(_ testing.TB, o *setup) {
		o.keys = func(store apikey.Store) apikey.Store {
			return between{store, func(by apikey.Principal) {
				if _, err := s.database.Suspend(t.Context(), by.CustomerID, time.Now()); err != nil {
					t.Error(err)
				}
			}}
		}
	})
	id, mine := s.signUp(t)
	s.send(t, "POST", "/api/v1/keys", key(mine)).refused(t, http.StatusForbidden, "FORBIDDEN")
	if keys, err := s.database.Keys(t.Context(), id); err != nil || len(keys) != 1 {
		t.Errorf("there are %d keys (%v), want one", len(keys), err)
	}
}
