package script

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

// provider is whom the plans ask credentials for: it costs nothing, and is
// always configured.
const provider = "ollama"

const (
	listPath = "/api/v1/credentials"
	// closing is how near its end a credential is left alone: it may end on the way.
	closing = 20 * time.Second
	// maxPool bounds what is kept to be used, revoked or refreshed.
	maxPool = 4096
	// compared bounds whose lists are read after a run.
	compared = 50
)

// held is a credential that was granted.
type held struct {
	id, token string
	of        *customer
	expires   time.Time
	asked     bool      // somebody wanted it ended
	revoked   time.Time // when that was answered
}

// granted is what a customer's requests came to.
type granted struct {
	mu           sync.Mutex
	held         map[string]*held
	calls, maybe int64 // by the gateway: answered 200, and perhaps
	unclear      int   // exchanges that may have granted something
	before       int64 // calls before the run
}

// credentials is the part of a script that exchanges keys.
type credentials struct {
	s     *Script
	began time.Time // by the target's clock

	mu                     sync.Mutex
	turnExchange, turnCall int
	live, brief, dead      []*held // the oldest first
}

func newCredentials(s *Script) *credentials {
	for _, c := range s.customers {
		c.held = make(map[string]*held)
	}
	return &credentials{s: s, began: time.Now().Add(s.ahead)}
}

// next takes customers in turn, so that each asks equally often.
func (c *credentials) next(turn *int) *customer {
	c.mu.Lock()
	defer c.mu.Unlock()
	*turn++
	return c.s.customers[*turn%len(c.s.customers)]
}

// take removes the oldest or the newest of a pool, and those before it that end
// about now by themselves; nil if there is none.
func (c *credentials) take(pool *[]*held, newest bool) *held {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(*pool) > 0 {
		at := 0
		if newest {
			at = len(*pool) - 1
		}
		h := (*pool)[at]
		*pool = slices.Delete(*pool, at, at+1)
		if !c.ends(h) {
			return h
		}
	}
	return nil
}

// ends says whether a credential ends about now, or has ended, by itself.
func (c *credentials) ends(h *held) bool {
	return h.expires.Before(time.Now().Add(c.s.ahead + closing))
}

func (c *credentials) put(pool *[]*held, h *held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(*pool) < maxPool {
		*pool = append(*pool, h)
	}
}

func (c *credentials) exchange(t *turn) bool      { return c.grant(t, &c.live) }
func (c *credentials) exchangeBrief(t *turn) bool { return c.grant(t, &c.brief) }

func (c *credentials) grant(t *turn, pool *[]*held) bool {
	of := c.next(&c.turnExchange)
	t.as(of)
	t.ID = "of " + of.id // until there is one
	t.ended = func(a *load.Arrival, status int, body []byte) {
		if h := c.granted(of, status, body); h != nil {
			a.ID = h.id
			c.put(pool, h)
		}
	}
	return true
}

// granted reads what an exchange or a refresh was answered.
func (c *credentials) granted(of *customer, status int, body []byte) *held {
	of.mu.Lock()
	defer of.mu.Unlock()
	if unclear(status) {
		of.unclear++
	}
	if status != http.StatusOK {
		return nil
	}
	var in struct {
		Credentials map[string]struct {
			ID      string    `json:"id"`
			Token   string    `json:"api_key"`
			Expires time.Time `json:"expires_at"`
		} `json:"credentials"`
	}
	g := in.Credentials[provider]
	if err := json.Unmarshal(body, &in); err == nil {
		g = in.Credentials[provider]
	}
	if g.ID == "" || g.Token == "" || of.held[g.ID] != nil {
		c.s.violate("an exchange was answered 200 without a new credential for %s", provider)
		return nil
	}
	h := &held{id: g.ID, token: g.Token, of: of, expires: g.Expires}
	of.held[h.id] = h
	return h
}

// refresh replaces a credential in the last five minutes of its life.
func (c *credentials) refresh(t *turn) bool {
	old := c.take(&c.brief, false)
	if old == nil {
		return false
	}
	old.asked = true
	t.as(old.of)
	t.set(brief, old.id)
	t.ID = "of " + old.of.id
	t.ended = func(a *load.Arrival, status int, body []byte) {
		if h := c.granted(old.of, status, body); h != nil {
			a.ID = h.id
			c.put(&c.live, h)
			c.ended(old)
		} else if status == http.StatusTooManyRequests {
			c.put(&c.brief, old)
		}
	}
	return true
}

func (c *credentials) revoke(t *turn) bool {
	h := c.take(&c.live, false)
	if h == nil {
		return false
	}
	h.asked = true
	t.as(h.of)
	t.set(credential, h.id)
	t.ID = h.id
	t.ended = func(_ *load.Arrival, status int, _ []byte) {
		switch status {
		case http.StatusNoContent:
			c.ended(h)
		case http.StatusTooManyRequests:
			c.put(&c.live, h)
		}
	}
	return true
}

// ended takes note that a credential was revoked, or replaced: it is dead.
func (c *credentials) ended(h *held) {
	h.of.mu.Lock()
	h.revoked = time.Now()
	h.of.mu.Unlock()
	c.put(&c.dead, h)
}

func (c *credentials) use(t *turn) bool {
	h := c.take(&c.live, true) // nobody revokes it meanwhile
	if h == nil {
		return false
	}
	t.set(token, h.token)
	t.ended = func(_ *load.Arrival, status int, _ []byte) {
		h.called(status)
		switch {
		case status != http.StatusUnauthorized:
		case c.own():
			c.s.violate("a token was refused (401) that nobody had revoked (credential %s)", h.id)
		default: // its customer may have
			h.of.refused.Store(true)
		}
		c.put(&c.live, h)
	}
	return true
}

// called takes note of a call by the gateway.
func (h *held) called(status int) {
	h.of.mu.Lock()
	defer h.of.mu.Unlock()
	switch {
	case status == http.StatusOK:
		h.of.calls++
	case unclear(status):
		h.of.maybe++
	}
}

func (c *credentials) useRevoked(t *turn) bool {
	h := c.take(&c.dead, false)
	if h != nil && time.Since(h.revoked) < c.s.waits.dead { // another may be: the next arrival looks
		c.put(&c.dead, h)
		h = nil
	}
	if h == nil {
		return false
	}
	t.set(token, h.token)
	since := time.Since(h.revoked)
	t.ended = func(_ *load.Arrival, status int, _ []byte) {
		if h.called(status); status >= 200 && status < 300 {
			c.s.violate("a token worked %v after its revocation was answered (credential %s)", since.Round(time.Millisecond), h.id)
		}
		c.put(&c.dead, h)
	}
	return true
}

func (c *credentials) account(t *turn) bool {
	t.as(c.next(&c.turnCall))
	return true
}

// checks compares lists and counts with what was answered.
func (c *credentials) checks(ctx context.Context) []gate.Check {
	over := time.Now().Add(c.s.waits.applying)
	ctx, cancel := context.WithTimeout(ctx, c.s.waits.answers)
	defer cancel()
	busiest := slices.Clone(c.s.customers)
	slices.SortStableFunc(busiest, func(a, b *customer) int { return len(b.held) - len(a.held) })
	busiest = busiest[:min(len(busiest), compared)]
	var wrong []string
	blind, seen := "", 0
	tell := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	var calls, counted int64
	for _, of := range busiest {
		n, err := c.compare(ctx, of, tell)
		if err != nil {
			blind = err.Error()
			continue
		}
		seen += n
	}
	all := []gate.Check{c.verdict("credentials", fmt.Sprintf("GET %s lists what was granted and no more, and says what was revoked", listPath), wrong, blind, seen)}
	all = append(all, c.keys()...)
	switch {
	case c.s.unused != "":
		return append(all, check("the gateway", "tokens are used by the gateway", gate.Inconclusive, c.s.unused))
	case !c.s.has(func(r role) bool { return r.gateway }):
		return all
	}
	wrong, blind = nil, ""
	for _, of := range busiest {
		n, err := c.counted(ctx, of, over)
		if err != nil {
			blind = err.Error()
			continue
		}
		calls += of.calls
		counted += n
		if n < of.calls || n > of.calls+of.maybe && c.own() {
			tell("customer %s made %d calls, and %d are counted", of.id, of.calls, n)
		}
	}
	return append(all, c.verdict("usage", "GET "+accountPath+" counts the calls by the gateway that were answered", wrong, blind, int(calls)))
}

// keys tells of those that were refused. A key of somebody else's may have been
// revoked meanwhile; nobody revokes ours.
func (c *credentials) keys() []gate.Check {
	refused := slices.DeleteFunc(slices.Clone(c.s.customers), func(of *customer) bool { return !of.refused.Load() })
	verdict := gate.Inconclusive
	switch {
	case len(refused) == 0:
		return nil
	case c.own():
		verdict = gate.Fail
	}
	return []gate.Check{check("keys", "each key works until the end", verdict,
		fmt.Sprintf("%d of %d were refused (401) during the run, such as that of customer %s: were they revoked?", len(refused), len(c.s.customers), refused[0].id))}
}

func (c *credentials) verdict(name, expression string, wrong []string, blind string, seen int) gate.Check {
	switch {
	case len(wrong) > 0:
		return check(name, expression, gate.Fail, strings.Join(wrong[:min(len(wrong), maxViolations)], "; "))
	case blind != "":
		return check(name, expression, gate.Inconclusive, blind)
	case seen == 0:
		return check(name, expression, gate.Inconclusive, "there was nothing to compare")
	}
	return check(name, expression, gate.Pass, "")
}

// compare holds a customer's list against what was granted, and says how many
// credentials it could compare.
func (c *credentials) compare(ctx context.Context, of *customer, tell func(string, ...any)) (n int, err error) {
	var in struct {
		Credentials []struct {
			ID         string    `json:"id"`
			Expires    time.Time `json:"expires_at"`
			Revocation *string   `json:"revocation"`
		} `json:"credentials"`
	}
	if _, err := c.s.get(ctx, of.key, listPath, &in); err != nil {
		return 0, err
	}
	of.mu.Lock()
	defer of.mu.Unlock()
	listed := make(map[string]bool)
	more := 0
	for _, l := range in.Credentials {
		h := of.held[l.ID]
		switch {
		case listed[l.ID]:
			tell("credential %s is listed twice", l.ID)
		case h == nil:
			more++
		case !h.revoked.IsZero() && l.Revocation == nil:
			tell("credential %s was revoked or replaced, and is listed as if it were not", l.ID)
		case !h.asked && l.Revocation != nil:
			tell("credential %s is listed as revoked, and nobody revoked it", l.ID)
		}
		listed[l.ID] = true
	}
	if c.own() && more > of.unclear {
		tell("customer %s has %d credentials that no exchange was answered with, and %d exchanges had no clear answer", of.id, more, of.unclear)
	}
	for id, h := range of.held {
		if c.ends(h) { // or has: then it need not be there
			continue
		}
		if n++; !listed[id] {
			tell("credential %s was granted, and is not listed", id)
		}
	}
	return n, nil
}

// own says whether nobody else has the keys.
func (c *credentials) own() bool { return len(c.s.o.Keys) == 0 }

// counted is how many of a customer's calls were counted since the run began. A
// call is booked after its answer, so it may take a moment.
func (c *credentials) counted(ctx context.Context, of *customer, over time.Time) (n int64, err error) {
	c.s.eventually(ctx, max(time.Until(over), c.s.waits.again), func() bool {
		var a account
		if _, err = c.s.get(ctx, of.key, accountPath, &a); err != nil {
			return true
		}
		if a.Usage.Start.After(c.began) {
			err = errors.New("a period of usage began during the run: the count is a new one")
			return true
		}
		n = a.Usage.Providers[provider].Requests - of.before
		return n >= of.calls
	})
	return n, err
}
