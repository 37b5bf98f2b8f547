package script

import (
	"context"
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
	// deadAfter is when a revoked token is dead on every node.
	deadAfter = time.Second
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
	s *Script

	mu                     sync.Mutex
	turnExchange, turnCall int
	live, brief, dead      []*held // the oldest first
}

func newCredentials(s *Script) *credentials {
	for _, c := range s.customers {
		c.held = make(map[string]*held)
	}
	return &credentials{s: s}
}

// next takes customers in turn, so that each asks equally often.
func (c *credentials) next(turn *int) *customer {
	c.mu.Lock()
	defer c.mu.Unlock()
	*turn++
	return c.s.customers[*turn%len(c.s.customers)]
}

// take removes the oldest or the newest of a pool.
func (c *credentials) take(pool *[]*held, newest bool) *held {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := *pool
	if len(all) == 0 {
		return nil
	}
	at := 0
	if newest {
		at = len(all) - 1
	}
	h := all[at]
	*pool = slices.Delete(all, at, at+1)
	return h
}

func (c *credentials) put(pool *[]*held, h *held) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(*pool) < maxPool {
		*pool = append(*pool, h)
	}
}

func (c *credentials) exchange(t *turn)      { c.grant(t, &c.live) }
func (c *credentials) exchangeBrief(t *turn) { c.grant(t, &c.brief) }

func (c *credentials) grant(t *turn, pool *[]*held) {
	of := c.next(&c.turnExchange)
	t.set(key, of.key)
	t.ID = "of " + of.id // until there is one
	t.ended = func(a *load.Arrival, status int, body []byte) {
		if h := c.granted(of, status, body); h != nil {
			a.ID = h.id
			c.put(pool, h)
		}
	}
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
func (c *credentials) refresh(t *turn) {
	old := c.take(&c.brief, false)
	if old == nil {
		t.become = "exchange_brief"
		return
	}
	t.set(key, old.of.key)
	t.set(brief, old.id)
	t.ID = "of " + old.of.id
	t.ended = func(a *load.Arrival, status int, body []byte) {
		if h := c.granted(old.of, status, body); h != nil {
			a.ID = h.id
			c.put(&c.live, h)
		} else if status == http.StatusTooManyRequests {
			c.put(&c.brief, old)
		}
	}
}

func (c *credentials) revoke(t *turn) {
	h := c.take(&c.live, false)
	if h == nil {
		t.become = "exchange"
		return
	}
	t.set(key, h.of.key)
	t.set(credential, h.id)
	t.ID = h.id
	t.ended = func(_ *load.Arrival, status int, _ []byte) {
		switch status {
		case http.StatusNoContent:
			h.of.mu.Lock()
			h.revoked = time.Now()
			h.of.mu.Unlock()
			c.put(&c.dead, h)
		case http.StatusTooManyRequests:
			c.put(&c.live, h)
		}
	}
}

func (c *credentials) use(t *turn) {
	h := c.take(&c.live, true) // nobody revokes it meanwhile
	if h == nil {
		t.become = "exchange"
		return
	}
	t.set(token, h.token)
	t.ended = func(_ *load.Arrival, status int, _ []byte) {
		h.of.mu.Lock()
		switch {
		case status == http.StatusOK:
			h.of.calls++
		case unclear(status):
			h.of.maybe++
		}
		h.of.mu.Unlock()
		c.put(&c.live, h)
	}
}

func (c *credentials) useRevoked(t *turn) {
	h := c.take(&c.dead, false)
	if h != nil && time.Since(h.revoked) < deadAfter { // another may be: the next arrival looks
		c.put(&c.dead, h)
		h = nil
	}
	if h == nil {
		t.become = "exchange"
		return
	}
	t.set(token, h.token)
	since := time.Since(h.revoked)
	t.ended = func(_ *load.Arrival, status int, _ []byte) {
		if status >= 200 && status < 300 {
			c.s.violate("a token worked %v after its revocation was answered (credential %s)", since.Round(time.Millisecond), h.id)
		}
		c.put(&c.dead, h)
	}
}

func (c *credentials) account(t *turn) { t.set(key, c.next(&c.turnCall).key) }

// checks compares lists and counts with what was answered.
func (c *credentials) checks(ctx context.Context) []gate.Check {
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
	if !c.s.has(func(r role) bool { return r.gateway }) {
		return append(all, check("the gateway", "tokens are used by the gateway", gate.Inconclusive, "none was: "+strings.Join(c.s.notes, " ")))
	}
	wrong, blind = nil, ""
	for _, of := range busiest {
		n, err := c.counted(ctx, of)
		if err != nil {
			blind = err.Error()
			continue
		}
		calls += of.calls
		counted += n
		if n < of.calls || n > of.calls+of.maybe {
			tell("customer %s made %d calls, and %d are counted", of.id, of.calls, n)
		}
	}
	return append(all, c.verdict("usage", "GET "+accountPath+" counts the calls by the gateway that were answered", wrong, blind, int(calls)))
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
	asked := time.Now().Add(c.s.ahead)
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
			tell("credential %s was revoked, and is listed as if it were not", l.ID)
		}
		listed[l.ID] = true
	}
	if own := len(c.s.o.Keys) == 0; own && more > of.unclear {
		tell("customer %s has %d credentials that no exchange was answered with, and %d exchanges had no clear answer", of.id, more, of.unclear)
	}
	for id, h := range of.held {
		if h.expires.Before(asked.Add(10 * time.Second)) { // it may have ended since
			continue
		}
		if n++; !listed[id] {
			tell("credential %s was granted, and is not listed", id)
		}
	}
	return n, nil
}

// counted is how many of a customer's calls were counted since the run began. A
// call is booked after its answer, so it may take a moment.
func (c *credentials) counted(ctx context.Context, of *customer) (n int64, err error) {
	eventually(ctx, 10*time.Second, func() bool {
		var a account
		if _, err = c.s.get(ctx, of.key, accountPath, &a); err != nil {
			return true
		}
		n = a.Usage.Providers[provider].Requests - of.before
		return n >= of.calls
	})
	return n, err
}
