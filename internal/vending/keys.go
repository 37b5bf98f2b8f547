package vending

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
)

// Maker makes a provider's own keys: a driver of one provider.
type Maker interface {
	// Make makes a key of a name, that ends after a life, at a time. ErrNotMade says
	// that there certainly is none; after any other error there may be.
	Make(ctx context.Context, name string, life time.Duration, ends time.Time) (Made, error)
	// Remove deletes a key by its id or, with "", all of the name. Where there is
	// none, it is done.
	Remove(ctx context.Context, name, id string) error
	// Base is where the provider is, as a setting of the operator's says.
	Base() string
}

// Made is a key that was made.
type Made struct {
	ID     string // the provider's
	Secret apikey.Secret
	// ExpiresAt is when the provider says that it ends it; zero: it said nothing.
	ExpiresAt time.Time
}

// ErrNotMade is a provider's refusal to make a key.
var ErrNotMade = errors.New("the provider refused")

const (
	// makeTime bounds the calls to providers in an exchange.
	makeTime = 10 * time.Second
	// lastOfKeys bounds the note of what is left of an exchange.
	lastOfKeys = 5 * time.Second
	// clocksApart is by how much a provider's clock may be ahead of the database's
	// before its word on when a key ends is taken for another's.
	clocksApart = time.Minute
)

// keyName is what a credential's key is called at the provider.
func keyName(credentialID string) string { return "gatehouse-" + credentialID }

// made is a key that was made, as it is to be stored and given.
type made struct {
	Key
	Provider Provider
	Secret   apikey.Secret
}

// makeKeys has providers make the keys of an order that are theirs to make, by
// credential: all, or none that is not let go of. What is bounded by a budget goes
// by the gateway, where each call is counted.
func (s *Service) makeKeys(ctx context.Context, o Order) (map[string]made, error) {
	makes := func(i Issue) bool { return s.makers[i.Provider] != nil }
	if o.Cap > 0 || !s.MakesKeys() || o.Replace == "" && !slices.ContainsFunc(o.Issues, makes) {
		return nil, nil
	}
	intents, err := s.store.BeginKeys(ctx, o, slices.Sorted(maps.Keys(s.makers)))
	if err != nil {
		return nil, err
	}
	// A client that leaves does not make it unknown what there is.
	calling, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeTime)
	defer cancel()
	keys, errs := make([]Made, len(intents)), make([]error, len(intents))
	var calls sync.WaitGroup
	for i, intent := range intents {
		calls.Go(func() {
			keys[i], errs[i] = s.makers[intent.Provider].Make(calling, keyName(intent.ID), intent.Life, intent.ExpiresAt)
		})
	}
	calls.Wait()
	all := make(map[string]made)
	var left []Leftover
	var failed error
	for i, intent := range intents {
		switch {
		case errs[i] == nil:
			all[intent.ID] = made{endOf(keys[i], intent), intent.Provider, keys[i].Secret}
			left = append(left, Leftover{intent.ID, intent.Provider, keys[i].ID})
		case errors.Is(errs[i], ErrNotMade):
			left = append(left, Leftover{ID: intent.ID})
		}
		if errs[i] != nil {
			failed = cmp.Or(failed, error(&fault.Error{
				Kind: fault.Unavailable, Code: "UNAVAILABLE", RetryAfter: time.Second, Err: fmt.Errorf("make a key at %s: %w", intent.Provider, errs[i]),
				Message: string(intent.Provider) + " makes no key just now. Try again shortly.",
			}))
		}
	}
	if failed != nil {
		return nil, errors.Join(failed, s.leave(ctx, left))
	}
	return all, nil
}

// MakesKeys says whether there are keys of providers' own.
func (s *Service) MakesKeys() bool { return len(s.makers) > 0 }

// endOf says when a key ends, and by whom.
func endOf(k Made, i Intent) Key {
	switch begun := i.ExpiresAt.Add(-i.Life); {
	case !k.ExpiresAt.After(begun) || k.ExpiresAt.After(i.ExpiresAt.Add(clocksApart)): // nothing to go by
		return Key{k.ID, ByDelete, i.ExpiresAt}
	case k.ExpiresAt.Before(i.ExpiresAt):
		return Key{k.ID, ByExpiry, k.ExpiresAt}
	default: // it ends there a moment later
		return Key{k.ID, ByExpiry, i.ExpiresAt}
	}
}

// abandon lets go of keys that were not granted.
func (s *Service) abandon(ctx context.Context, keys map[string]made) {
	var left []Leftover
	for _, id := range slices.Sorted(maps.Keys(keys)) {
		left = append(left, Leftover{id, keys[id].Provider, keys[id].ID})
	}
	_ = s.leave(ctx, left) // they are found by their names once KeyPatience is over
}

// leave notes what is left of an exchange that came to nothing.
func (s *Service) leave(ctx context.Context, keys []Leftover) error {
	if len(keys) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastOfKeys)
	defer cancel()
	return s.store.AbandonKeys(ctx, keys)
}

// EndKey deletes a credential's key at its provider, if its time has come.
func (s *Service) EndKey(ctx context.Context, credentialID string) error {
	provider, keyID, doomed, err := s.store.DoomKey(ctx, credentialID)
	if err != nil || !doomed {
		return err
	}
	maker := s.makers[provider]
	if maker == nil {
		return fmt.Errorf("keys of %s can't be deleted: what makes them is not configured any more", provider)
	}
	if err := maker.Remove(ctx, keyName(credentialID), keyID); err != nil {
		return fmt.Errorf("delete a key at %s: %w", provider, err)
	}
	return s.store.ForgetKey(ctx, credentialID, keyID)
}
