package vending_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/vending"
)

// forge is a maker of keys, which may fail.
type forge struct {
	mu      sync.Mutex
	base    string
	fails   error
	expires func(wanted time.Time) time.Time // nil: as it is wanted
	named   []string
	removed []string // names and ids
}

func (f *forge) Make(_ context.Context, name string, _ time.Duration, ends time.Time) (vending.Made, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fails != nil {
		return vending.Made{}, f.fails
	}
	f.named = append(f.named, name)
	if f.expires != nil {
		ends = f.expires(ends)
	}
	return vending.Made{ID: "id of " + name, Secret: apikey.NewSecret("secret of " + name), ExpiresAt: ends}, nil
}

func (f *forge) Remove(_ context.Context, name, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed = append(f.removed, name, id)
	return f.fails
}

func (f *forge) Base() string { return f.base }

// cabinet is a shelf with intents.
type cabinet struct {
	*shelf
	bounded bool
	begun   []vending.Intent
	left    []vending.Leftover
	doomed  map[string]string // ids at OpenAI
	gone    []string
}

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func (c *cabinet) BeginKeys(_ context.Context, o vending.Order, makers []vending.Provider) (begun []vending.Intent, err error) {
	for _, i := range o.Issues {
		if o.Replace != "" {
			i.Provider = vending.OpenAI
		}
		if !c.bounded && slices.Contains(makers, i.Provider) {
			begun = append(begun, vending.Intent{ID: i.ID, Provider: i.Provider, Life: time.Hour, ExpiresAt: noon})
		}
	}
	c.begun = append(c.begun, begun...)
	return begun, c.refuses
}

func (c *cabinet) AbandonKeys(ctx context.Context, keys []vending.Leftover) error {
	c.left = append(c.left, keys...)
	return ctx.Err()
}

func (c *cabinet) DoomKey(_ context.Context, id string) (vending.Provider, string, bool, error) {
	keyID, doomed := c.doomed[id]
	if id == "strange" {
		return vending.OpenRouter, "", true, nil
	}
	return vending.OpenAI, keyID, doomed, c.away
}

func (c *cabinet) ForgetKey(_ context.Context, id, _ string) error {
	c.gone = append(c.gone, id)
	return nil
}

func newCabinet() *cabinet { return &cabinet{shelf: newShelf(), doomed: make(map[string]string)} }

func keySmith(c *cabinet, makers map[vending.Provider]vending.Maker) *vending.Service {
	return vending.NewService(c, apikey.Test, []vending.Provider{vending.Anthropic, vending.OpenAI, vending.OpenRouter}, makers, func() string { return "https://gate.example" })
}

func ask(providers ...string) vending.Request { return vending.Request{Providers: providers} }

func TestKeysOfProvidersOwnAreGivenBesideTokens(t *testing.T) {
	c, openai := newCabinet(), &forge{base: "https://openai.example"}
	a, err := keySmith(c, map[vending.Provider]vending.Maker{vending.OpenAI: openai}).Exchange(t.Context(), by, ask("anthropic", "openai"), nil)
	done(t, err)
	token, own := a.Given[0], a.Given[1]
	if token.Enforcement != vending.ByGateway || token.BaseURL != "https://gate.example/gateway/anthropic" {
		t.Errorf("the token is %+v", token)
	}
	if own.Enforcement != vending.ByExpiry || own.BaseURL != "https://openai.example/v1" || own.Token.Reveal() != "secret of gatehouse-"+own.ID || !own.ExpiresAt.Equal(noon) {
		t.Errorf("the key is %+v %q", own, own.Token.Reveal())
	}
	if k := c.orders[0].Issues[1].Key; k == nil || k.ID != "id of gatehouse-"+own.ID || len(c.left) != 0 {
		t.Errorf("stored as %+v, %+v are left", k, c.left)
	}
}

func TestWhoEndsAKeyIsWhatTheProviderSays(t *testing.T) {
	for _, test := range []struct {
		name string
		says func(time.Time) time.Time
		by   vending.Enforcement
		ends time.Time
	}{
		{"as wanted", nil, vending.ByExpiry, noon},
		{"a second earlier", func(t time.Time) time.Time { return t.Add(-time.Second) }, vending.ByExpiry, noon.Add(-time.Second)},
		{"a moment later", func(t time.Time) time.Time { return t.Add(time.Second) }, vending.ByExpiry, noon},
		{"by a clock that is far behind", func(t time.Time) time.Time { return t.Add(-2 * time.Hour) }, vending.ByDelete, noon},
		{"much later", func(t time.Time) time.Time { return t.Add(time.Hour) }, vending.ByDelete, noon},
		{"nothing", func(time.Time) time.Time { return time.Time{} }, vending.ByDelete, noon},
	} {
		c := newCabinet()
		_, err := keySmith(c, map[vending.Provider]vending.Maker{vending.OpenAI: &forge{expires: test.says}}).Exchange(t.Context(), by, ask("openai"), nil)
		done(t, err)
		if k := c.orders[0].Issues[0].Key; k.Enforcement != test.by || !k.ExpiresAt.Equal(test.ends) {
			t.Errorf("%s: %+v", test.name, k)
		}
	}
}

func TestWhatIsBoundedGoesByTheGateway(t *testing.T) {
	c, openai, cents := newCabinet(), &forge{}, int64(100)
	s := keySmith(c, map[vending.Provider]vending.Maker{vending.OpenAI: openai})
	for _, r := range []vending.Request{{Providers: []string{"openai"}, MaxCents: &cents}, ask("anthropic")} {
		_, err := s.Exchange(t.Context(), by, r, nil)
		done(t, err)
	}
	c.bounded = true // by a day's budget, as the store finds
	a, err := s.Exchange(t.Context(), by, ask("openai"), nil)
	done(t, err)
	if len(c.begun) != 0 || len(openai.named) != 0 || a.Given[0].Enforcement != vending.ByGateway {
		t.Errorf("begun %+v, made %v, given %+v", c.begun, openai.named, a.Given)
	}
}

func TestRefreshOfAKeyIsAKey(t *testing.T) {
	c := newCabinet()
	a, err := keySmith(c, map[vending.Provider]vending.Maker{vending.OpenAI: &forge{base: "https://openai.example"}}).Refresh(t.Context(), by, "old", nil)
	done(t, err)
	if o := c.orders[0]; o.Replace != "old" || o.Issues[0].Key == nil || a.Given[0].BaseURL != "https://openai.example/v1" {
		t.Errorf("ordered %+v, given %+v", o, a.Given)
	}
}

// All providers are granted or none; what was made meanwhile is let go of, and
// what may have been made is left to be looked for.
func TestNoneIsGivenWhereOneProviderFails(t *testing.T) {
	for _, test := range []struct {
		name  string
		fails error
		known int // of OpenRouter's key: what is noted of it
	}{
		{"it refuses", errors.Join(vending.ErrNotMade, errors.New("status 403")), 1},
		{"nobody knows", errors.New("timeout"), 0},
	} {
		c := newCabinet()
		makers := map[vending.Provider]vending.Maker{vending.OpenAI: &forge{}, vending.OpenRouter: &forge{fails: test.fails}}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the client has left, and all is noted nevertheless
		_, err := keySmith(c, makers).Exchange(ctx, by, ask("openai", "openrouter"), nil)
		if wantFault(t, err, fault.Unavailable, "UNAVAILABLE"); retryAfter(err) <= 0 {
			t.Errorf("%s: no time after which to try again", test.name)
		}
		want := []vending.Leftover{{ID: c.begun[0].ID, Provider: vending.OpenAI, KeyID: "id of gatehouse-" + c.begun[0].ID}}
		if test.known == 1 {
			want = append(want, vending.Leftover{ID: c.begun[1].ID})
		}
		if len(c.orders) != 0 || !slices.Equal(c.left, want) {
			t.Errorf("%s: %d grants, left %+v, want %+v", test.name, len(c.orders), c.left, want)
		}
	}
}

// refuser refuses what was begun.
type refuser struct{ *cabinet }

func (r refuser) BeginKeys(ctx context.Context, o vending.Order, makers []vending.Provider) ([]vending.Intent, error) {
	begun, _ := r.cabinet.BeginKeys(ctx, o, makers)
	return begun, nil
}

func TestKeysOfARefusedGrantAreLetGoOf(t *testing.T) {
	c := newCabinet()
	c.refuses = &fault.Error{Kind: fault.Forbidden, Code: "USAGE_LIMIT_EXCEEDED"}
	makers := map[vending.Provider]vending.Maker{vending.OpenAI: &forge{}}
	s := vending.NewService(refuser{c}, apikey.Test, []vending.Provider{vending.OpenAI}, makers, func() string { return "" })
	_, err := s.Exchange(t.Context(), by, ask("openai"), nil)
	wantFault(t, err, fault.Forbidden, "USAGE_LIMIT_EXCEEDED")
	if len(c.left) != 1 || c.left[0].KeyID == "" || len(c.booked) != 1 {
		t.Errorf("left %+v, the trail is %+v", c.left, c.booked)
	}
	c = newCabinet()
	c.refuses = &fault.Error{Kind: fault.Forbidden, Code: "USAGE_LIMIT_EXCEEDED"}
	_, err = keySmith(c, makers).Exchange(t.Context(), by, ask("openai"), nil)
	wantFault(t, err, fault.Forbidden, "USAGE_LIMIT_EXCEEDED")
	if len(c.left) != 0 || len(c.booked) != 1 {
		t.Errorf("refused before a key was made: left %+v, the trail is %+v", c.left, c.booked)
	}
}

func TestEndKeyDeletesWhatIsDoomedAlone(t *testing.T) {
	c, openai := newCabinet(), &forge{}
	s := keySmith(c, map[vending.Provider]vending.Maker{vending.OpenAI: openai})
	c.doomed["known"], c.doomed["orphan"] = "key_1", ""
	for _, id := range []string{"alive", "known", "orphan"} {
		done(t, s.EndKey(t.Context(), id))
	}
	if !slices.Equal(openai.removed, []string{"gatehouse-known", "key_1", "gatehouse-orphan", ""}) || !slices.Equal(c.gone, []string{"known", "orphan"}) {
		t.Errorf("removed %q, gone %q", openai.removed, c.gone)
	}
	openai.fails = errors.New("status 500")
	if err := s.EndKey(t.Context(), "known"); err == nil || len(c.gone) != 2 {
		t.Errorf("not deleted: %v, gone %q", err, c.gone)
	}
	if err := s.EndKey(t.Context(), "strange"); err == nil || len(c.gone) != 2 {
		t.Errorf("without a maker: %v", err)
	}
	c.away = errAway
	wantFault(t, s.EndKey(t.Context(), "known"), fault.Unavailable, "")
}
