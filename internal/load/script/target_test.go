package script

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
)

const secret = "whsec_test"

// target is just enough of the contract. Its zero lies make it a true one.
type target struct {
	*httptest.Server
	provider string        // base URL behind its gateway
	secret   string        // "": webhooks are off
	skew     time.Duration // of its clock
	lies
	hook func(path string) // told of each request, before it is answered

	mu      sync.Mutex
	n       int // of what was made, for ids
	buyers  map[string]*buyer
	tokens  map[string]*vended
	seen    map[string]bool // events
	signUps map[string]int  // by address
	refused int             // events
	pages   int             // of ledgers, after a first one
}

type lies struct {
	revokedWorks, replacedWorks, refusesLive, refusesKey bool // tokens and keys
	unlists, listsTwice, listsMore, hidesRevoked         bool // GET /api/v1/credentials
	showsRevoked, forgetsToGrant                         bool
	losesCall, countsTwice                               bool // usage
	appliesTwice, loses, keepsMoney, alwaysNew, mute     bool // events
	takesForged, takesStale, byArrival, refusesHalf      bool
	refusesAll, unlimited, usedByOthers, newPeriod       bool
	closed                                               bool // nobody may sign up
}

type buyer struct {
	id, key string
	asked   int // exchanges
	calls   int
	granted []*vended
	came    []occurrence
}

type vended struct {
	id, token         string
	of                *buyer
	ttl               int
	ends              time.Time
	revoked, replaced bool
}

func newTarget(t *testing.T) *target {
	t.Helper()
	g := &target{secret: secret, buyers: make(map[string]*buyer), tokens: make(map[string]*vended), seen: make(map[string]bool), signUps: make(map[string]int)}
	mux := http.NewServeMux()
	for pattern, serve := range map[string]func(w http.ResponseWriter, r *http.Request, body []byte) int{
		"POST " + onboardPath: g.onboard, "POST " + webhookPath: g.webhook, "POST " + chatPath: g.chat,
		"POST /api/v1/credentials/exchange": g.keyed(g.exchange), "POST /api/v1/credentials/refresh": g.keyed(g.refresh),
		"GET " + listPath: g.keyed(g.list), "DELETE " + listPath + "/{id}": g.keyed(g.revoke),
		"GET " + accountPath: g.keyed(g.account), "GET " + accountPath + "/ledger": g.keyed(g.ledger),
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Errorf("read a request: %v", err)
			}
			if g.hook != nil {
				g.hook(r.URL.Path)
			}
			w.Header().Set("Date", g.now().UTC().Format(http.TimeFormat))
			if status := serve(w, r, body); status > 299 {
				w.WriteHeader(status)
				fmt.Fprintf(w, `{"error": {"code": "TOLD_BY_%d"}}`, status)
			} else if status == http.StatusNoContent {
				w.WriteHeader(status)
			}
		})
	}
	g.Server = httptest.NewServer(mux)
	t.Cleanup(g.Close)
	return g
}

func (t *target) now() time.Time { return time.Now().Add(t.skew) }

func (t *target) id(what string) string {
	t.n++
	return fmt.Sprintf("%s-%d", what, t.n)
}

// signUp opens an account, and returns its key.
func (t *target) signUp() *buyer {
	b := &buyer{id: t.id("customer"), key: t.id("gk_live")}
	t.buyers[b.key] = b
	return b
}

func (t *target) onboard(w http.ResponseWriter, r *http.Request, _ []byte) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	who := r.Header.Get("X-Forwarded-For")
	if t.signUps[who]++; t.signUps[who] > 10 || t.closed {
		return http.StatusTooManyRequests
	}
	b := t.signUp()
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"customer": {"id": %q}, "api_key": %q}`, b.id, b.key)
	return 0
}

// keyed is a handler of requests with a key.
func (t *target) keyed(serve func(w http.ResponseWriter, r *http.Request, body []byte, b *buyer) int) func(http.ResponseWriter, *http.Request, []byte) int {
	return func(w http.ResponseWriter, r *http.Request, body []byte) int {
		t.mu.Lock()
		defer t.mu.Unlock()
		b := t.buyers[r.Header.Get("X-Api-Key")]
		if b == nil || t.refusesKey && len(b.granted) > 5 {
			return http.StatusUnauthorized
		}
		if !t.unlimited {
			w.Header().Set("RateLimit-Policy", `"api";q=500;w=3600`)
		}
		return serve(w, r, body, b)
	}
}

func (t *target) exchange(w http.ResponseWriter, _ *http.Request, body []byte, b *buyer) int {
	b.asked++
	if t.usedByOthers {
		b.asked += 3
	}
	if !t.unlimited {
		w.Header().Set("RateLimit-Policy", `"credential_exchange";q=60;w=60`)
		w.Header().Set("X-RateLimit-Remaining", strconv.Itoa(max(60-b.asked, 0)))
		if b.asked > 60 {
			return http.StatusTooManyRequests
		}
	}
	var in struct {
		Providers []string `json:"providers"`
		TTL       int      `json:"ttl_minutes"`
	}
	if json.Unmarshal(body, &in) != nil || !slices.Equal(in.Providers, []string{"ollama"}) || in.TTL < 1 || in.TTL > 240 {
		return http.StatusUnprocessableEntity
	}
	return t.grant(w, b, in.TTL)
}

func (t *target) grant(w http.ResponseWriter, b *buyer, ttl int) int {
	c := &vended{id: t.id("credential"), token: t.id("gt_live"), of: b, ttl: ttl, ends: t.now().Add(time.Duration(ttl) * time.Minute)}
	t.tokens[c.token] = c
	b.granted = append(b.granted, c)
	if t.forgetsToGrant && len(b.granted) == 4 {
		fmt.Fprint(w, `{"credentials": {}}`)
		return 0
	}
	fmt.Fprintf(w, `{"credentials": {"ollama": {"id": %q, "api_key": %q, "base_url": "", "expires_at": %q, "enforcement": "gateway"}}}`, c.id, c.token, c.ends.UTC().Format(time.RFC3339Nano))
	return 0
}

// find looks a customer's credential up.
func (b *buyer) find(id string) *vended {
	if i := slices.IndexFunc(b.granted, func(c *vended) bool { return c.id == id }); i >= 0 {
		return b.granted[i]
	}
	return nil
}

func (t *target) refresh(w http.ResponseWriter, _ *http.Request, body []byte, b *buyer) int {
	var in struct {
		ID string `json:"credential_id"`
	}
	if json.Unmarshal(body, &in) != nil {
		return http.StatusBadRequest
	}
	old := b.find(in.ID)
	switch {
	case old == nil:
		return http.StatusNotFound
	case old.revoked || old.replaced || old.ends.Sub(t.now()) > 5*time.Minute:
		return http.StatusConflict
	}
	old.replaced = true
	return t.grant(w, b, old.ttl)
}

func (t *target) revoke(_ http.ResponseWriter, r *http.Request, _ []byte, b *buyer) int {
	c := b.find(r.PathValue("id"))
	if c == nil {
		return http.StatusNotFound
	}
	c.revoked = true
	return http.StatusNoContent
}

func (t *target) list(w http.ResponseWriter, _ *http.Request, _ []byte, b *buyer) int {
	var rows []string
	row := func(id string, ended bool) {
		revocation := "null"
		if ended {
			revocation = `"done"`
		}
		rows = append(rows, fmt.Sprintf(`{"id": %q, "expires_at": "2100-01-01T00:00:00Z", "revocation": %s}`, id, revocation))
	}
	for i, c := range b.granted {
		ended := c.revoked || c.replaced
		switch {
		case t.unlists && i == 3:
		case t.showsRevoked && !ended:
			row(c.id, true)
		default:
			row(c.id, ended && !t.hidesRevoked)
		}
	}
	if t.listsTwice {
		rows = append(rows, rows[:min(len(rows), 1)]...)
	}
	if t.listsMore {
		row("another", false)
	}
	fmt.Fprintf(w, `{"credentials": [%s]}`, strings.Join(rows, ", "))
	return 0
}

func (t *target) chat(w http.ResponseWriter, r *http.Request, body []byte) int {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	t.mu.Lock()
	c := t.tokens[token]
	if c == nil || c.revoked && !t.revokedWorks || c.replaced && !t.replacedWorks || t.refusesLive && c.of.calls > 0 {
		t.mu.Unlock()
		return http.StatusUnauthorized
	}
	t.mu.Unlock()
	status, answer := ask(r, t.provider+"/api/chat", string(body))
	if status == http.StatusOK {
		t.mu.Lock()
		if c.of.calls++; t.countsTwice {
			c.of.calls++
		}
		t.mu.Unlock()
		_, _ = w.Write(answer)
		return 0
	}
	return status
}

// ask passes a call on.
func ask(r *http.Request, url, body string) (int, []byte) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return http.StatusBadGateway, nil
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return http.StatusBadGateway, nil
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return http.StatusBadGateway, nil
	}
	return resp.StatusCode, answer
}

func (t *target) account(w http.ResponseWriter, _ *http.Request, _ []byte, b *buyer) int {
	s, _ := t.stands(b)
	state := "null"
	if s.state != "" {
		state = strconv.Quote(s.state)
	}
	calls, start := b.calls, "2026-01-01T00:00:00Z"
	if t.losesCall && calls > 0 {
		calls--
	}
	if t.newPeriod && calls > 0 {
		calls, start = 0, "2099-01-01T00:00:00Z"
	}
	fmt.Fprintf(w, `{"customer": {"id": %q, "subscription_plan": %q, "subscription_state": %s, "credit_balance": %d},
		"usage": {"period_start": %q, "providers": {"ollama": {"requests": %d}}}}`, b.id, s.plan, state, s.credits, start, calls)
	return 0
}

// ledger gives three entries a page.
func (t *target) ledger(w http.ResponseWriter, r *http.Request, _ []byte, b *buyer) int {
	_, entries := t.stands(b)
	from, _ := strconv.Atoi(r.URL.Query().Get("cursor"))
	var rows []string
	for _, source := range entries[from:min(from+3, len(entries))] {
		rows = append(rows, fmt.Sprintf(`{"amount": 1, "source": %q}`, source))
	}
	next := "null"
	if from+3 < len(entries) {
		t.pages++
		next = strconv.Quote(strconv.Itoa(from + 3))
	}
	fmt.Fprintf(w, `{"entries": [%s], "next_cursor": %s}`, strings.Join(rows, ", "), next)
	return 0
}

func (t *target) webhook(w http.ResponseWriter, r *http.Request, body []byte) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.secret == "" {
		return http.StatusServiceUnavailable
	}
	var at int64
	var signature string
	if n, err := fmt.Sscanf(r.Header.Get("Stripe-Signature"), "t=%d,v1=%s", &at, &signature); n != 2 || err != nil {
		return http.StatusUnauthorized
	}
	mac := hmac.New(sha256.New, []byte(t.secret))
	fmt.Fprintf(mac, "%d.%s", at, body)
	age := t.now().Sub(time.Unix(at, 0))
	genuine := hex.EncodeToString(mac.Sum(nil)) == signature
	if !genuine && !t.takesForged || (age > 5*time.Minute || age < -time.Minute) && !t.takesStale {
		return http.StatusUnauthorized
	}
	w.Header().Set("RateLimit-Policy", `"stripe_webhook";q=1000;w=60`)
	var e stripeEvent
	if json.Unmarshal(body, &e) != nil {
		return http.StatusBadRequest
	}
	again := t.seen[e.ID]
	if e.Type != "gatehouse.load" && !again && (t.refusesAll || t.refusesHalf && t.refused%2 == 0) {
		t.refused++
		w.Header().Set("Retry-After", "1")
		return http.StatusTooManyRequests
	}
	t.refused++
	t.seen[e.ID] = true
	t.keep(e, again)
	if t.mute {
		fmt.Fprint(w, `{"received": true}`)
		return 0
	}
	fmt.Fprintf(w, `{"received": true, "duplicate": %t}`, again && !t.alwaysNew)
	return 0
}

// keep stores an event with its customer.
func (t *target) keep(e stripeEvent, again bool) {
	for _, b := range t.buyers {
		late := e.Type == "invoice.paid" && strings.HasSuffix(e.Data.Object.ID, "_2")
		if b.id != e.Data.Object.Metadata["gatehouse_customer_id"] || t.loses && late || t.keepsMoney && strings.HasPrefix(e.Type, "charge.") {
			continue
		}
		switch o := (occurrence{told: e}); {
		case !again:
			b.came = append(b.came, o)
		case t.appliesTwice:
			o.again = len(b.came)
			b.came = append(b.came, o)
		}
	}
}
