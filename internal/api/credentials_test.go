package api_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/vending"
)

const (
	credentials = "/api/v1/credentials"
	exchange    = "/api/v1/credentials/exchange"
	refresh     = "/api/v1/credentials/refresh"
	report      = "/api/v1/usage/report"

	publicURL = "https://gatehouse.dev"
)

// credential is one as an exchange, or the list, shows it.
type credential struct {
	ID          string
	Provider    string
	Token       string    `json:"api_key"`
	BaseURL     string    `json:"base_url"`
	CreatedAt   time.Time `json:"created_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	Enforcement string
	KeyID       string  `json:"key_id"`
	Job         *string `json:"github_job"`
	Run         *string `json:"github_run"`
	Revocation  *string
}

// granted is the answer to an exchange.
type granted struct {
	Credentials map[string]credential
	Usage       struct {
		Remaining int64      `json:"remaining_fixes"`
		ResetAt   *time.Time `json:"reset_at"`
	}
}

// exchange asks for credentials by a document.
func (c *client) exchange(t testing.TB, apiKey, text string, details ...detail) answer {
	t.Helper()
	return c.send(t, "POST", exchange, append(details, key(apiKey), document(text))...)
}

// openai is a credential for it.
func (c *client) openai(t testing.TB, apiKey string) credential {
	t.Helper()
	return decode[granted](t, c.exchange(t, apiKey, `{"providers": ["openai"]}`).want(t, http.StatusOK)).Credentials["openai"]
}

func (c *client) refresh(t testing.TB, apiKey, id string) answer {
	t.Helper()
	return c.send(t, "POST", refresh, key(apiKey), document(`{"credential_id": `+quote(t, id)+`}`))
}

// credentials are the customer's, as they are listed.
func (c *client) credentials(t testing.TB, apiKey string) []credential {
	t.Helper()
	return decode[struct{ Credentials []credential }](t, c.send(t, "GET", credentials, key(apiKey)).want(t, http.StatusOK)).Credentials
}

// audits are rows of the trail.
func (s *server) audits(t testing.TB, f vending.AuditFilter) []vending.Audit {
	t.Helper()
	rows, err := s.database.AuditRows(t.Context(), f, "", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// lives says whether the store takes a token, as the gateway asks it.
func (s *server) lives(t testing.TB, token string) bool {
	t.Helper()
	presented, ok := apikey.ParseToken(token)
	if !ok {
		t.Fatal("no token")
	}
	_, err := s.database.Lease(t.Context(), presented)
	return err == nil
}

func TestExchange(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	id, mine := s.signUp(t)
	a := s.exchange(t, mine, `{"providers": ["openrouter", "anthropic", "openai"], "ttl_minutes": 30}`, header("X-Github-Job", " build "), header("X-Github-Run", "42")).want(t, http.StatusOK)
	if l := a.limits(t, "credential_exchange"); l.remaining != 59 {
		t.Errorf("%d places are left", l.remaining)
	}
	if a.header.Get("Cache-Control") != "no-store" {
		t.Error("the answer may be kept")
	}
	got := decode[granted](t, a)
	if len(got.Credentials) != 3 || got.Usage.Remaining != 5 || got.Usage.ResetAt != nil {
		t.Fatalf("answered %s", a.body)
	}
	listed := s.credentials(t, mine)
	_, keys := s.keys(t, mine)
	for name, base := range map[string]string{"anthropic": "", "openai": "/v1", "openrouter": "/api/v1"} {
		c := got.Credentials[name]
		if c.BaseURL != publicURL+"/gateway/"+name+base || c.Enforcement != "gateway" || !c.ExpiresAt.Equal(now.now().Add(30*time.Minute)) {
			t.Errorf("%s: %+v", name, c)
		}
		if !s.lives(t, c.Token) || s.works(t, c.Token) {
			t.Errorf("the token of %s does not live, or is a key", name)
		}
		s.keepsNo(t, c.Token)
		i := slices.IndexFunc(listed, func(l credential) bool { return l.ID == c.ID })
		if i < 0 {
			t.Fatalf("%s is not listed", name)
		}
		job, run := "build", "42"
		want := credential{ID: c.ID, Provider: name, CreatedAt: now.now(), ExpiresAt: c.ExpiresAt, Enforcement: "gateway", KeyID: keys[0], Job: &job, Run: &run}
		if diff := cmp.Diff(want, listed[i]); diff != "" {
			t.Errorf("%s is listed as (- want, + got):\n%s", name, diff)
		}
	}
	if len(listed) != 3 || !slices.IsSortedFunc(listed, func(a, b credential) int { return strings.Compare(a.ID, b.ID) }) {
		t.Errorf("listed %+v", listed)
	}
	if shown := s.account(t, mine); shown.Customer.CreditBalance != 5 || len(s.entries(t, mine)) != 1 {
		t.Errorf("an exchange consumed something: %+v", shown)
	}
	if rows := s.audits(t, vending.AuditFilter{CustomerID: id, Action: vending.Granting}); len(rows) != 3 {
		t.Errorf("the trail has %+v", rows)
	}
}

func TestExchangeDefaults(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	_, mine := s.signUp(t)
	c := s.openai(t, mine)
	if !c.ExpiresAt.Equal(now.now().Add(time.Hour)) {
		t.Errorf("it lives until %v", c.ExpiresAt)
	}
	if l := s.credentials(t, mine); l[0].Job != nil || l[0].Run != nil || l[0].Revocation != nil {
		t.Errorf("listed %+v", l)
	}
}

// Fields of an exchange, each with a value; reason "" is granted.
func TestExchangeFields(t *testing.T) {
	now := newClock()
	s := newServer(t, unlimited, at(now))
	_, mine := s.signUp(t)
	for _, test := range []struct {
		text, field, reason string
		minutes             int
	}{
		{`{}`, "providers", "required", 0},
		{`{"providers": null}`, "providers", "required", 0},
		{`{"providers": []}`, "providers", "required", 0},
		{`{"providers": [null]}`, "providers", "not_allowed", 0},
		{`{"providers": [""]}`, "providers", "not_allowed", 0},
		{`{"providers": ["acme"]}`, "providers", "not_allowed", 0},
		{`{"providers": ["OpenAI"]}`, "providers", "not_allowed", 0},
		{`{"providers": [" openai"]}`, "providers", "not_allowed", 0},
		{`{"providers": ["openai", "openai"]}`, "providers", "not_allowed", 0},
		{`{"providers": ["openai", "anthropic", "openai"]}`, "providers", "not_allowed", 0},
		{`{"providers": ["ollama"]}`, "providers", "not_allowed", 0}, // not configured
		{`{"providers": ["openai", "ollama"]}`, "providers", "not_allowed", 0},
		{`{"providers": [5]}`, "providers/0", "malformed", 0},
		{`{"providers": ["openai", ["x"]]}`, "providers/1", "malformed", 0},
		{`{"providers": ["openai"], "ttl_minutes": null}`, "", "", 60},
		{`{"providers": ["openai"], "ttl_minutes": 1}`, "", "", 1},
		{`{"providers": ["openai"], "ttl_minutes": 240}`, "", "", 240},
		{`{"providers": ["openai"], "ttl_minutes": 241}`, "", "", 240},
		{`{"providers": ["openai"], "ttl_minutes": 2147483648}`, "", "", 240},
		{`{"providers": ["openai"], "ttl_minutes": 9223372036854775807}`, "", "", 240},
		{`{"providers": ["openai"], "ttl_minutes": 9223372036854775808}`, "", "", 240},
		{`{"providers": ["openai"], "ttl_minutes": ` + strings.Repeat("9", 400) + `}`, "", "", 240},
		{`{"providers": ["openai"], "ttl_minutes": 0}`, "ttl_minutes", "malformed", 0},
		{`{"providers": ["openai"], "ttl_minutes": -0}`, "ttl_minutes", "malformed", 0},
		{`{"providers": ["openai"], "ttl_minutes": -1}`, "ttl_minutes", "malformed", 0},
		{`{"providers": ["openai"], "ttl_minutes": -9223372036854775809}`, "ttl_minutes", "malformed", 0},
		{`{"providers": ["openai"], "max_cents": null}`, "", "", 60},
		{`{"providers": ["openai"], "max_cents": 1}`, "", "", 60},
		{`{"providers": ["openai"], "max_cents": 100000000}`, "", "", 60},
		{`{"providers": ["openai"], "max_cents": 100000001}`, "", "", 60},
		{`{"providers": ["openai"], "max_cents": 18446744073709551617}`, "", "", 60}, // 2^64 + 1
		{`{"providers": ["openai"], "max_cents": 0}`, "max_cents", "malformed", 0},
		{`{"providers": ["openai"], "max_cents": -1}`, "max_cents", "malformed", 0},
		{`{"providers": ["openai"], "max_cents": -18446744073709551615}`, "max_cents", "malformed", 0}, // -(2^64 - 1)
	} {
		t.Run(test.text[:min(len(test.text), 80)], func(t *testing.T) {
			got := s.exchange(t, mine, test.text)
			if test.reason != "" {
				got.invalid(t, test.field, test.reason)
				return
			}
			c := decode[granted](t, got.want(t, http.StatusOK)).Credentials["openai"]
			if want := now.now().Add(time.Duration(test.minutes) * time.Minute); !c.ExpiresAt.Equal(want) {
				t.Errorf("it lives until %v, want %v", c.ExpiresAt, want)
			}
		})
	}
	// All that is wrong is told at once.
	p := s.exchange(t, mine, `{"ttl_minutes": 0, "max_cents": 0}`, header("X-Github-Job", strings.Repeat("x", 256))).refused(t, http.StatusUnprocessableEntity, "VALIDATION_FAILED")
	if len(p.Error.Details) != 4 {
		t.Errorf("the details are %+v", p.Error.Details)
	}
}

func TestMoreProvidersThanThereAre(t *testing.T) {
	s := newServer(t, unlimited)
	_, mine := s.signUp(t)
	for _, n := range []int{9, 10_000} {
		s.exchange(t, mine, `{"providers": ["openai"`+strings.Repeat(`,"x"`, n-1)+`]}`).invalid(t, "providers", "too_long")
	}
}

// Headers of CI are text of at most 255 characters, and kept as they are.
func TestExchangeHeaders(t *testing.T) {
	s := newServer(t, unlimited)
	_, mine := s.signUp(t)
	for _, name := range []string{"X-Github-Job", "X-Github-Run"} {
		field := strings.Replace(name, "Github", "GitHub", 1)
		for _, value := range []string{strings.Repeat("x", 255), strings.Repeat("漢", 255), "build (ubuntu, 1.26)", "<script>'\"; DROP TABLE grants"} {
			c := decode[granted](t, s.exchange(t, mine, `{"providers": ["openai"]}`, header(name, value)).want(t, http.StatusOK)).Credentials["openai"]
			listed := s.credentials(t, mine)
			last := listed[len(listed)-1]
			kept := last.Job
			if name == "X-Github-Run" {
				kept = last.Run
			}
			if last.ID != c.ID || kept == nil || *kept != value {
				t.Errorf("%s: %q is kept as %+v", name, value, last)
			}
		}
		s.exchange(t, mine, `{"providers": ["openai"]}`, header(name, strings.Repeat("x", 256))).invalid(t, field, "too_long")
		s.exchange(t, mine, `{"providers": ["openai"]}`, header(name, strings.Repeat("漢", 256))).invalid(t, field, "too_long")
		s.exchange(t, mine, `{"providers": ["openai"]}`, header(name, "\xff")).invalid(t, field, "malformed")
		s.exchange(t, mine, `{"providers": ["openai"]}`, header(name, "a\tb")).invalid(t, field, "malformed")
	}
}

// What is refused grants nothing, however much of it is right.
func TestAllProvidersOrNone(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	s.exchange(t, mine, `{"providers": ["openai", "anthropic", "ollama"]}`).invalid(t, "providers", "not_allowed")
	s.exchange(t, mine, `{"providers": ["openai"], "ttl_minutes": 0}`).invalid(t, "ttl_minutes", "malformed")
	if listed := s.credentials(t, mine); len(listed) != 0 {
		t.Errorf("granted %+v", listed)
	}
}

// Credits or a way to pay: one of them is enough, and without both there is
// nothing, also no refresh.
func TestExchangeTakesCreditsOrAWayToPay(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	_, payer := s.payer(t)
	if got := decode[granted](t, s.exchange(t, payer, `{"providers": ["openai"]}`).want(t, http.StatusOK)); got.Usage.Remaining != 0 {
		t.Errorf("answered %+v", got)
	}
	id, mine := s.signUp(t)
	c := s.openai(t, mine)
	now.advance(56 * time.Minute)
	s.grant(t, id, -5)
	const message = "There are no credits left"
	for _, got := range []answer{s.exchange(t, mine, `{"providers": ["openai"]}`), s.refresh(t, mine, c.ID)} {
		if p := got.refused(t, http.StatusForbidden, "USAGE_LIMIT_EXCEEDED"); !strings.Contains(p.Error.Message, message) {
			t.Errorf("the message is %q", p.Error.Message)
		}
	}
	if !s.lives(t, c.Token) {
		t.Error("what was granted before ended with the credits")
	}
	s.grant(t, id, 1)
	if got := decode[granted](t, s.refresh(t, mine, c.ID).want(t, http.StatusOK)); got.Usage.Remaining != 1 {
		t.Errorf("answered %+v", got)
	}
}

// With Pro, reset_at is the end of its period.
func TestExchangeWithPro(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	id, mine := s.signUp(t)
	end := now.now().Add(20 * 24 * time.Hour)
	if _, err := s.sql(t).ExecContext(t.Context(), "UPDATE customers SET subscription_plan = ?, subscription_state = 'active', period_start = ?, period_end = ? WHERE id = ?",
		string(billing.Pro), now.now().Add(-time.Hour).UnixMicro(), end.UnixMicro(), id); err != nil {
		t.Fatal(err)
	}
	if got := decode[granted](t, s.exchange(t, mine, `{"providers": ["openai"]}`).want(t, http.StatusOK)); got.Usage.ResetAt == nil || !got.Usage.ResetAt.Equal(end) {
		t.Errorf("reset_at is %v, want %v", got.Usage.ResetAt, end)
	}
	now.set(end) // which is not part of it
	if got := decode[granted](t, s.exchange(t, mine, `{"providers": ["openai"]}`).want(t, http.StatusOK)); got.Usage.ResetAt != nil {
		t.Errorf("reset_at is %v after it", got.Usage.ResetAt)
	}
}

// The limit is one customer's, over all its keys and nobody else's, and other
// calls have theirs.
func TestExchangesAreLimitedByCustomer(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now), limit("credential_exchange", "4/60s"), limit("api", "3/60s"))
	id, mine := s.signUp(t)
	_, other := s.signUp(t)
	ci := s.newKey(t, mine, "").Key // the first of mine by api
	for i, k := range []string{mine, ci, ci} {
		if l := s.exchange(t, k, `{"providers": ["openai"]}`).want(t, http.StatusOK).limits(t, "credential_exchange"); l.remaining != 3-i {
			t.Errorf("exchange %d leaves %d places", i+1, l.remaining)
		}
	}
	s.exchange(t, mine, `{`).refused(t, http.StatusBadRequest, "INVALID_JSON") // counts
	const message = "Rate limit exceeded. Maximum 4 credential requests per minute per customer."
	second := newServer(t, beside(s), limit("credential_exchange", "4/60s"), limit("api", "3/60s"))
	for range 3 {
		for _, k := range []string{mine, ci} {
			s.exchange(t, k, `{"providers": ["openai"]}`).refusedBy(t, "credential_exchange", message)
			second.exchange(t, k, `{"providers": ["openai"]}`, bearer(k)).refusedBy(t, "credential_exchange", message)
		}
	}
	if got := s.counted.last(t); got != id {
		t.Errorf("counted by %q, want the customer", got)
	}
	s.openai(t, other)
	if l := s.send(t, "GET", credentials, key(ci)).want(t, http.StatusOK).limits(t, "api"); l.remaining != 2 {
		t.Errorf("api: %d places are left, want 2", l.remaining)
	}
	now.advance(time.Minute)
	newServer(t, beside(s)).exchange(t, mine, `{"providers": ["openai"]}`).want(t, http.StatusOK)
}

// A refusal that a node remembers is one also where the store can't say whose
// key it is; anything else is not known then.
func TestRememberedExchangeOutlivesTheStore(t *testing.T) {
	s := newServer(t, limit("credential_exchange", "1/60s"))
	_, mine := s.signUp(t)
	_, other := s.signUp(t)
	s.openai(t, mine)
	s.exchange(t, mine, `{}`).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
	if err := s.database.close(); err != nil {
		t.Fatal(err)
	}
	s.exchange(t, mine, `{}`).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
	s.exchange(t, other, `{}`).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
}

// Who may not, may not: a stranger, a revoked key, a suspended customer, also
// one who has run out of places.
func TestExchangeNeedsAKey(t *testing.T) {
	s := newServer(t, at(newClock()), limit("credential_exchange", "1/60s"))
	id, mine := s.signUp(t)
	ci := s.newKey(t, mine, "")
	s.send(t, "POST", exchange).refused(t, http.StatusUnauthorized, "AUTH_REQUIRED")
	s.exchange(t, "x", `{}`).refused(t, http.StatusUnauthorized, "INVALID_API_KEY")
	token := s.openai(t, ci.Key).Token
	s.exchange(t, token, `{}`).refused(t, http.StatusUnauthorized, "INVALID_API_KEY") // a token is no key
	s.exchange(t, ci.Key, `{}`).refused(t, http.StatusTooManyRequests, "RATE_LIMITED")
	s.send(t, "DELETE", "/api/v1/keys/"+ci.ID, key(mine)).want(t, http.StatusNoContent)
	s.exchange(t, ci.Key, `{}`).refused(t, http.StatusUnauthorized, "INVALID_API_KEY")
	if _, err := s.database.Suspend(t.Context(), id, time.Now()); err != nil {
		t.Fatal(err)
	}
	free := newServer(t, beside(s), limit("credential_exchange", "off"))
	free.exchange(t, mine, `{"providers": ["openai"]}`).refused(t, http.StatusForbidden, "FORBIDDEN")
}

// An exchange is a use of its key.
func TestExchangeNotesTheUse(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	ci := s.newKey(t, mine, "")
	s.openai(t, ci.Key)
	if byID, _ := s.keys(t, mine); byID[ci.ID].LastUsedAt == nil {
		t.Error("the key was never used")
	}
}

func TestRefresh(t *testing.T) {
	now := newClock()
	s := newServer(t, unlimited, at(now))
	_, mine := s.signUp(t)
	ci := s.newKey(t, mine, "")
	start := now.now()
	old := decode[granted](t, s.exchange(t, mine, `{"providers": ["anthropic", "openai"], "ttl_minutes": 30}`, header("X-Github-Job", "build")).want(t, http.StatusOK)).Credentials
	id := old["anthropic"].ID
	now.set(start.Add(25*time.Minute - time.Microsecond))
	s.refresh(t, mine, id).refused(t, http.StatusConflict, "CONFLICT")
	now.set(start.Add(25 * time.Minute))
	a := s.refresh(t, ci.Key, id).want(t, http.StatusOK) // any key of the customer's
	got := decode[granted](t, a)
	c := got.Credentials["anthropic"]
	if len(got.Credentials) != 1 || c.ID == id || c.Token == old["anthropic"].Token || c.BaseURL != old["anthropic"].BaseURL || !c.ExpiresAt.Equal(now.now().Add(30*time.Minute)) {
		t.Errorf("answered %s", a.body)
	}
	if a.header.Get("Cache-Control") != "no-store" || got.Usage.Remaining != 5 {
		t.Errorf("answered %v %s", a.header, a.body)
	}
	if s.lives(t, old["anthropic"].Token) || !s.lives(t, c.Token) || !s.lives(t, old["openai"].Token) {
		t.Error("the new one has not taken the old one's place, and that alone")
	}
	s.refresh(t, mine, id).refused(t, http.StatusConflict, "CONFLICT")   // it has ended
	s.refresh(t, mine, c.ID).refused(t, http.StatusConflict, "CONFLICT") // and that is too young
	for _, l := range s.credentials(t, mine) {
		switch l.ID {
		case id:
			if l.Revocation == nil || *l.Revocation != "done" {
				t.Errorf("the old one is listed as %+v", l)
			}
		case c.ID:
			if l.Revocation != nil || l.KeyID != ci.ID || l.Job == nil || *l.Job != "build" {
				t.Errorf("the new one is listed as %+v", l)
			}
		}
	}
	now.set(start.Add(30 * time.Minute)) // the end is not part of its life
	s.refresh(t, mine, old["openai"].ID).refused(t, http.StatusConflict, "CONFLICT")
}

func TestRefreshFields(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	for text, reason := range map[string]string{
		`{}`: "required", `{"credential_id": null}`: "required", `{"credential_id": " "}`: "required",
		`{"credential_id": "` + strings.Repeat("x", 256) + `"}`: "too_long", `{"credential_id": "a\nb"}`: "malformed",
	} {
		s.send(t, "POST", refresh, key(mine), document(strings.ReplaceAll(text, "\n", `\n`))).invalid(t, "credential_id", reason)
	}
	for _, id := range []string{"x", someID, strings.ToUpper(someID), strings.Repeat("x", 255), "'; DROP TABLE credentials"} {
		s.refresh(t, mine, id).refused(t, http.StatusNotFound, "NOT_FOUND")
	}
}

// 200 refreshes at once, over two nodes: one replaces it.
func TestRefreshedOnceAtOnce(t *testing.T) {
	now := newClock()
	s := newServer(t, unlimited, at(now))
	nodes := []*server{s, newServer(t, unlimited, beside(s))}
	id, mine := s.signUp(t)
	c := s.openai(t, mine)
	now.advance(57 * time.Minute)
	answers := s.atOnce(t, 200, func(i int) (answer, error) {
		return nodes[i%2].try(t.Context(), "POST", refresh, key(mine), document(`{"credential_id": "`+c.ID+`"}`))
	})
	made := 0
	for _, got := range answers {
		if got.status == http.StatusOK {
			made++
			continue
		}
		got.refused(t, http.StatusConflict, "CONFLICT")
	}
	if listed := s.credentials(t, mine); made != 1 || len(listed) != 2 {
		t.Errorf("%d were made, and %d are listed", made, len(listed))
	}
	if rows := s.audits(t, vending.AuditFilter{CustomerID: id}); len(rows) != 3 { // two grants, one end
		t.Errorf("the trail has %d rows", len(rows))
	}
}

func TestDeleteCredential(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	_, mine := s.signUp(t)
	ended, stays := s.openai(t, mine), s.openai(t, mine)
	for range 3 {
		s.send(t, "DELETE", credentials+"/"+ended.ID, key(mine)).want(t, http.StatusNoContent).limits(t, "api")
	}
	if s.lives(t, ended.Token) || !s.lives(t, stays.Token) {
		t.Error("the wrong one ended")
	}
	listed := s.credentials(t, mine)
	if len(listed) != 2 || listed[0].Revocation == nil || *listed[0].Revocation != "done" || listed[1].Revocation != nil {
		t.Errorf("listed %+v", listed)
	}
	if rows := s.audits(t, vending.AuditFilter{CredentialID: ended.ID, Action: vending.Revoking}); len(rows) != 1 {
		t.Errorf("the trail has %+v", rows)
	}
	now.advance(time.Hour)
	if listed := s.credentials(t, mine); len(listed) != 0 {
		t.Errorf("listed after their time: %+v", listed)
	}
	s.send(t, "DELETE", credentials+"/"+ended.ID, key(mine)).want(t, http.StatusNoContent) // known still
}

// A key's credentials die with it, and are shown so; the others stay.
func TestCredentialsEndWithTheirKey(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	for name, end := range map[string]func(id string){
		"revoked": func(id string) { s.send(t, "DELETE", "/api/v1/keys/"+id, key(mine)).want(t, http.StatusNoContent) },
		"rotated": func(id string) {
			s.send(t, "POST", "/api/v1/keys/"+id+"/rotate", key(mine)).want(t, http.StatusCreated)
		},
	} {
		ci := s.newKey(t, mine, "")
		ends, stays := s.openai(t, ci.Key), s.openai(t, mine)
		end(ci.ID)
		if s.lives(t, ends.Token) || !s.lives(t, stays.Token) {
			t.Errorf("%s: the wrong one ended", name)
		}
		for _, l := range s.credentials(t, mine) {
			if done := l.Revocation != nil && *l.Revocation == "done"; l.ID == ends.ID != done && (l.ID == ends.ID || l.ID == stays.ID) {
				t.Errorf("%s: listed %+v", name, l)
			}
		}
	}
}

// Another customer's credential is as one that there is not (AK-05).
func TestCredentialsOfOthers(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	_, theirs := s.signUp(t)
	_, mine := s.signUp(t)
	c := s.openai(t, theirs)
	now.advance(57 * time.Minute) // so that they could refresh it
	plain := func(a answer) string {
		a.refused(t, http.StatusNotFound, "NOT_FOUND")
		return strings.Replace(string(a.body), a.header.Get("X-Request-Id"), "", 1)
	}
	id := header("X-Request-Id", "its id")
	want := plain(s.send(t, "DELETE", credentials+"/"+someID, key(mine), id))
	for _, got := range []answer{
		s.send(t, "DELETE", credentials+"/"+c.ID, key(mine), id),
		s.send(t, "DELETE", credentials+"/"+strings.Repeat("x", 65), key(mine), id),
		s.send(t, "DELETE", credentials+"/%00", key(mine), id),
		s.refresh(t, mine, c.ID), s.refresh(t, mine, someID),
	} {
		if text := plain(got); text != want {
			t.Errorf("answered %s, want %s", text, want)
		}
	}
	if len(s.credentials(t, mine)) != 0 || !s.lives(t, c.Token) {
		t.Error("another's credential is shown, or ended")
	}
	s.refresh(t, theirs, c.ID).want(t, http.StatusOK)
}

// Sent again under its Idempotency-Key an exchange gives the same tokens, and
// so does a refresh, which could not be done twice.
func TestExchangeAgainGivesTheSameTokens(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	_, mine := s.signUp(t)
	ci := s.newKey(t, mine, "")
	first := s.exchange(t, mine, `{"providers": ["openai"]}`, under(onceKey)).want(t, http.StatusOK)
	again := s.exchange(t, ci.Key, `{"providers": ["openai"]}`, under(onceKey)) // any key of the customer's
	again.repeats(t, first)
	if again.limits(t, "credential_exchange").remaining != 58 {
		t.Error("a replay takes no place")
	}
	s.exchange(t, mine, `{"providers": ["anthropic"]}`, under(onceKey)).refused(t, http.StatusUnprocessableEntity, "IDEMPOTENCY_MISMATCH")
	_, other := s.signUp(t)
	s.exchange(t, other, `{"providers": ["anthropic"]}`, under(onceKey)).want(t, http.StatusOK)
	now.advance(57 * time.Minute)
	text := `{"credential_id": "` + decode[granted](t, first).Credentials["openai"].ID + `"}`
	renew := func(k string) answer { return s.send(t, "POST", refresh, key(mine), document(text), under(k)) }
	second := renew(onceKey).want(t, http.StatusOK)
	renew(onceKey).repeats(t, second)
	renew(onceKey+"0").refused(t, http.StatusConflict, "CONFLICT")
	if n := len(s.credentials(t, mine)); n != 2 {
		t.Errorf("%d credentials were made, want 2", n)
	}
}

func TestReportUsage(t *testing.T) {
	s := newServer(t)
	id, mine := s.signUp(t)
	_, other := s.signUp(t)
	for i, text := range []string{
		`{"provider": "openai", "tokens_used": 12345, "request_count": 6, "job_id": "42/build"}`,
		`{"provider": "openai", "tokens_used": 12345, "request_count": 6, "job_id": "42/build"}`,
		`{"provider": "ollama", "tokens_used": 1, "request_count": 1, "job_id": " 42/build "}`, // the first stands
	} {
		a := s.send(t, "POST", report, key(mine), document(text)).want(t, http.StatusOK)
		if a.limits(t, "api"); string(a.body) != `{"status":"recorded"}`+"\n" {
			t.Errorf("report %d is answered with %s", i+1, a.body)
		}
	}
	s.send(t, "POST", report, key(other), document(`{"provider": "openai", "tokens_used": 5, "request_count": 1, "job_id": "42/build"}`)).want(t, http.StatusOK)
	rows := s.audits(t, vending.AuditFilter{Action: vending.Reporting})
	if len(rows) != 2 || rows[0].CustomerID != id || rows[0].Provider != vending.OpenAI || rows[0].InputTokens != 12345 || rows[0].Requests != 6 || rows[0].Cost != 0 {
		t.Errorf("the trail has %+v", rows)
	}
	// It decides nothing: neither usage nor what is left.
	got := decode[map[string]map[string]any](t, s.send(t, "GET", "/api/v1/account", key(mine)).want(t, http.StatusOK))
	if diff := cmp.Diff(any(map[string]any{}), got["usage"]["providers"]); diff != "" || got["customer"]["credit_balance"] != 5.0 {
		t.Errorf("the account shows %+v", got)
	}
}

// The same job 100 times at once counts once.
func TestReportedOnceAtOnce(t *testing.T) {
	s := newServer(t, unlimited)
	_, mine := s.signUp(t)
	for _, got := range s.atOnce(t, 100, func(int) (answer, error) {
		return s.try(t.Context(), "POST", report, key(mine), document(`{"provider": "openai", "tokens_used": 5, "request_count": 1, "job_id": "x"}`))
	}) {
		got.want(t, http.StatusOK)
	}
	if rows := s.audits(t, vending.AuditFilter{Action: vending.Reporting}); len(rows) != 1 {
		t.Errorf("the trail has %d reports, want one", len(rows))
	}
}

func TestReportFields(t *testing.T) {
	s := newServer(t, unlimited)
	_, mine := s.signUp(t)
	send := func(field, value string) answer {
		fields := map[string]string{"provider": `"openai"`, "tokens_used": "1", "request_count": "1", "job_id": quote(t, someFix())}
		fields[field] = value
		return s.send(t, "POST", report, key(mine), document(`{"provider": `+fields["provider"]+`, "tokens_used": `+fields["tokens_used"]+
			`, "request_count": `+fields["request_count"]+`, "job_id": `+fields["job_id"]+`}`))
	}
	for _, test := range []struct{ field, value, reason string }{
		{"provider", `"ollama"`, ""}, // though it is not offered here
		{"provider", `null`, "not_allowed"},
		{"provider", `""`, "not_allowed"},
		{"provider", `"acme"`, "not_allowed"},
		{"provider", `"OpenAI"`, "not_allowed"},
		{"tokens_used", `0`, ""},
		{"tokens_used", `-0`, ""},
		{"tokens_used", `2147483647`, ""},
		{"tokens_used", `2147483648`, ""}, // 2^31: no wrap
		{"tokens_used", `1000000000000`, ""},
		{"tokens_used", `1000000000001`, "malformed"},
		{"tokens_used", `9223372036854775807`, "malformed"},
		{"tokens_used", `9223372036854775808`, "malformed"},
		{"tokens_used", `18446744073709551617`, "malformed"}, // 2^64 + 1
		{"tokens_used", `-1`, "malformed"},
		{"tokens_used", `-9223372036854775809`, "malformed"},
		{"tokens_used", `null`, "required"},
		{"request_count", `0`, ""},
		{"request_count", `2147483648`, "malformed"},
		{"request_count", `1000000000`, ""},
		{"request_count", `1000000001`, "malformed"},
		{"request_count", `18446744073709551617`, "malformed"},
		{"request_count", `-1`, "malformed"},
		{"request_count", `null`, "required"},
		{"job_id", `null`, "required"},
		{"job_id", `" "`, "required"},
		{"job_id", quote(t, strings.Repeat("漢", 255)), ""},
		{"job_id", quote(t, strings.Repeat("漢", 256)), "too_long"},
		{"job_id", `"a\u0000b"`, "malformed"},
		{"job_id", `"a\nb"`, "malformed"},
	} {
		t.Run(test.field+"="+test.value[:min(len(test.value), 30)], func(t *testing.T) {
			if got := send(test.field, test.value); test.reason != "" {
				got.invalid(t, test.field, test.reason)
			} else {
				got.want(t, http.StatusOK)
			}
		})
	}
	s.send(t, "POST", report, key(mine), document(`{"provider": "openai", "tokens_used": NaN, "request_count": 1, "job_id": "x"}`)).refused(t, http.StatusBadRequest, "INVALID_JSON")
	for _, row := range s.audits(t, vending.AuditFilter{Action: vending.Reporting}) {
		if row.InputTokens < 0 || row.Requests < 0 {
			t.Errorf("the trail has %+v", row)
		}
	}
}

// The account shows the calls that were measured in the period, by provider.
func TestAccountShowsMeasuredUsage(t *testing.T) {
	s := newServer(t)
	id, mine := s.signUp(t)
	other, _ := s.signUp(t)
	c := s.openai(t, mine)
	calls := func(customer string, p vending.Provider, at time.Time, input, output int64) vending.Spending {
		return vending.Spending{Audit: vending.Audit{
			ID: uuid.Must(uuid.NewV7()).String(), At: at, CustomerID: customer, CredentialID: c.ID, Action: vending.Calling, Provider: p,
			Requests: 1, InputTokens: input, OutputTokens: output, Outcome: "done",
		}}
	}
	month := s.account(t, mine).Usage
	if err := s.database.Settle(t.Context(), []vending.Spending{
		calls(id, vending.Anthropic, month.Start, 5_000_000_000, 7), calls(id, vending.Anthropic, month.End.Add(-time.Microsecond), 1, 2),
		calls(id, vending.Anthropic, month.Start.Add(-time.Microsecond), 1000, 1000), calls(id, vending.Anthropic, month.End, 1000, 1000),
		calls(id, vending.Ollama, month.Start, 0, 0), calls(other, vending.OpenAI, month.Start, 1000, 1000),
	}); err != nil {
		t.Fatal(err)
	}
	got := decode[map[string]map[string]any](t, s.send(t, "GET", "/api/v1/account", key(mine)).want(t, http.StatusOK))
	want := any(map[string]any{
		"anthropic": map[string]any{"requests": 2.0, "input_tokens": 5_000_000_001.0, "output_tokens": 9.0},
		"ollama":    map[string]any{"requests": 1.0, "input_tokens": 0.0, "output_tokens": 0.0},
	})
	if diff := cmp.Diff(want, got["usage"]["providers"]); diff != "" {
		t.Errorf("usage (- want, + got):\n%s", diff)
	}
}

// Whatever else a client writes into an exchange has no effect.
func TestNoMassAssignmentOfCredentials(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	id, mine := s.signUp(t)
	other, _ := s.signUp(t)
	c := decode[granted](t, s.exchange(t, mine, `{"providers": ["openai"], "id": "`+someID+`", "customer_id": "`+other+`", "key_id": "`+someID+`", "expires_at": "2999-01-01T00:00:00Z",
		"api_key": "gt_live_x", "base_url": "https://evil.dev", "enforcement": "none", "github_job": "x", "grant_id": "`+someID+`", "cap": 5, "credits": 99,
		"usage": {"remaining_fixes": 99}}`).want(t, http.StatusOK)).Credentials["openai"]
	l := s.credentials(t, mine)
	_, keys := s.keys(t, mine)
	if c.ID == someID || !c.ExpiresAt.Equal(now.now().Add(time.Hour)) || len(l) != 1 || l[0].KeyID != keys[0] || l[0].Job != nil || !strings.HasPrefix(c.BaseURL, publicURL+"/") {
		t.Errorf("taken over: %+v, listed %+v", c, l)
	}
	if rows := s.audits(t, vending.AuditFilter{CustomerID: id}); len(rows) != 1 || rows[0].GrantID == someID {
		t.Errorf("the trail has %+v", rows)
	}
}
