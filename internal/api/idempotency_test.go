package api_test

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/vending"
)

const onceKey = "0123456789abcdef" // as short as may be

// under sends an Idempotency-Key.
func under(k string) detail { return header("Idempotency-Key", k) }

// fresh fails the test unless something was made now.
func (a answer) fresh(t testing.TB) answer {
	t.Helper()
	if _, replayed := a.done(t).header["Idempotent-Replayed"]; replayed {
		t.Fatal("a replay, where something was to be made")
	}
	return a
}

// repeats fails the test unless the answer is first's, given again.
func (a answer) repeats(t testing.TB, first answer) {
	t.Helper()
	if a.want(t, first.status); !bytes.Equal(a.body, first.body) {
		t.Fatalf("answered with\n%s, want\n%s", a.body, first.body)
	}
	if a.header.Get("Idempotent-Replayed") != "true" || a.header.Get("Cache-Control") != first.header.Get("Cache-Control") {
		t.Fatalf("a replay with the headers %v", a.header)
	}
}

// effects is how much there is of what a POST makes.
type effects struct{ customers, keys, entries, audits int }

// each is what one request at an endpoint of posts makes.
var each = map[string]effects{
	"sign-up": {1, 1, 1, 0}, "create": {0, 1, 0, 0}, "rotate": {0, 1, 0, 0}, "fix": {0, 0, 1, 0},
	"exchange": {0, 0, 0, 2}, "report": {0, 0, 0, 1},
}

// than are the effects that came after earlier ones.
func (e effects) than(before effects) effects {
	return effects{e.customers - before.customers, e.keys - before.keys, e.entries - before.entries, e.audits - before.audits}
}

func (s *server) effects(t testing.TB) (e effects) {
	t.Helper()
	for _, c := range s.customers(t) {
		keys, err := s.database.Keys(t.Context(), c.ID)
		if err != nil {
			t.Fatal(err)
		}
		e.customers, e.keys = e.customers+1, e.keys+len(keys)
	}
	report, err := billing.Verify(s.database.Ledgers(t.Context(), ""))
	if err != nil || len(report.Findings) > 0 {
		t.Fatalf("the ledger: %+v (%v)", report, err)
	}
	e.entries = report.Entries
	e.audits = len(s.audits(t, vending.AuditFilter{}))
	return e
}

// around is what happens around a write, instead of that alone.
type around func(ctx context.Context, write func(context.Context) error) error

// writes makes the node's next write happen as the channel's next says.
func writes(next chan around) option {
	return func(_ testing.TB, s *setup) {
		s.accounts = func(store account.Store) account.Store { return aroundAccounts{store, next} }
		s.keys = func(store apikey.Store) apikey.Store { return aroundKeys{store, next} }
		s.vending = func(store vending.Store) vending.Store { return aroundVending{store, next} }
		s.fixes = func(store billing.FixStore) billing.FixStore { return aroundFixes{store, next} }
	}
}

// then says how the next write happens.
func then(t testing.TB, next chan around, f around) {
	t.Helper()
	select {
	case next <- f:
	default:
		t.Fatal("the write before has not come")
	}
}

func do(ctx context.Context, next chan around, write func(context.Context) error) error {
	select {
	case f := <-next:
		return f(ctx, write)
	default:
		return write(ctx)
	}
}

type aroundAccounts struct {
	account.Store
	next chan around
}

func (a aroundAccounts) Open(ctx context.Context, o account.Opening, keep *idempotency.Once[account.Customer]) error {
	return do(ctx, a.next, func(ctx context.Context) error { return a.Store.Open(ctx, o, keep) })
}

type aroundKeys struct {
	apikey.Store
	next chan around
}

func (a aroundKeys) AddKey(ctx context.Context, by apikey.Principal, k apikey.Issue, keep *idempotency.Once[apikey.Record]) error {
	return do(ctx, a.next, func(ctx context.Context) error { return a.Store.AddKey(ctx, by, k, keep) })
}

func (a aroundKeys) ReplaceKey(ctx context.Context, by apikey.Principal, id string, grace time.Duration, k apikey.Issue, keep *idempotency.Once[apikey.Record]) (r apikey.Record, err error) {
	err = do(ctx, a.next, func(ctx context.Context) (err error) {
		r, err = a.Store.ReplaceKey(ctx, by, id, grace, k, keep)
		return err
	})
	return r, err
}

type aroundFixes struct {
	billing.FixStore
	next chan around
}

func (a aroundFixes) BeginFix(ctx context.Context, o billing.FixOrder, keep *idempotency.Once[billing.FixResult]) (r billing.FixResult, err error) {
	err = do(ctx, a.next, func(ctx context.Context) (err error) {
		r, err = a.FixStore.BeginFix(ctx, o, keep)
		return err
	})
	return r, err
}

type aroundVending struct {
	vending.Store
	next chan around
}

func (a aroundVending) Grant(ctx context.Context, o vending.Order, keep *idempotency.Once[vending.Granted]) (g vending.Granted, err error) {
	err = do(ctx, a.next, func(ctx context.Context) (err error) {
		g, err = a.Store.Grant(ctx, o, keep)
		return err
	})
	return g, err
}

func (a aroundVending) Report(ctx context.Context, r vending.Report, keep *idempotency.Once[vending.Report]) error {
	return do(ctx, a.next, func(ctx context.Context) error { return a.Store.Report(ctx, r, keep) })
}

// The same request again is answered with the same bytes, and is a request of
// its own all the same.
func TestReplay(t *testing.T) {
	s := newServer(t)
	for endpoint, post := range posts(t, s) {
		t.Run(endpoint, func(t *testing.T) {
			policy, before, text := "api", s.effects(t), post.body()
			switch endpoint {
			case "sign-up":
				policy = "onboarding"
			case "exchange":
				policy = "credential_exchange"
			}
			send := func(id string) answer {
				return s.send(t, "POST", post.path, post.auth, document(text), under(onceKey), header("X-Request-Id", id))
			}
			first := send("its first id").fresh(t)
			left, ids := first.limits(t, policy).remaining, map[string]bool{first.header.Get("X-Request-Id"): true}
			for i, id := range []string{"its second id", "", ""} {
				again := send(id)
				again.repeats(t, first)
				if l := again.limits(t, policy); l.remaining != left-1-i {
					t.Errorf("replay %d leaves %d places, want %d", i+1, l.remaining, left-1-i)
				}
				ids[again.header.Get("X-Request-Id")] = true
				for _, name := range append([]string{"X-Request-Id", "Date", "Idempotent-Replayed"}, limitNames...) {
					again.header.Del(name)
				}
				for name := range again.header {
					if !slices.Equal(again.header[name], first.header[name]) {
						t.Errorf("%s is %q, and was %q", name, again.header[name], first.header[name])
					}
				}
			}
			if len(ids) != 4 || !ids["its first id"] || !ids["its second id"] {
				t.Errorf("four requests have the ids %v", slices.Collect(maps.Keys(ids)))
			}
			if made := s.effects(t).than(before); made != each[endpoint] {
				t.Errorf("made: %+v, want %+v", made, each[endpoint])
			}
		})
	}
}

// Another body is another request, however little differs.
func TestOtherBodyUnderOneKey(t *testing.T) {
	s := newServer(t, unlimited)
	for endpoint, post := range posts(t, s) {
		t.Run(endpoint, func(t *testing.T) {
			inner := strings.Trim(post.body(), "{}")
			text := `{"pad": 1, ` + inner + `}`
			send := func(text string) answer {
				return s.send(t, "POST", post.path, post.auth, document(text), under(onceKey))
			}
			first := send(text).fresh(t)
			before := s.effects(t)
			for name, other := range map[string]string{
				"other order": `{` + inner + `, "pad": 1}`, "a space behind": text + " ", "a space in front": " " + text,
				"a space within": strings.Replace(text, `"pad": `, `"pad":  `, 1), "a space less": strings.Replace(text, `"pad": `, `"pad":`, 1),
				"another field": strings.Replace(text, "pad", "pat", 1), "escaped": strings.Replace(text, "pad", `p\u0061d`, 1), "a field less": `{` + inner + `}`,
				"nothing in it": "{}", "something invalid": `{"name": 5, "grace_minutes": "x"}`, "another sign-up": `{"name": "Ada", "email": "` + someone() + `"}`,
			} {
				if p := send(other).refused(t, http.StatusUnprocessableEntity, "IDEMPOTENCY_MISMATCH"); len(p.Error.Details) != 0 {
					t.Errorf("%s: details %v", name, p.Error.Details)
				}
			}
			if endpoint == "create" || endpoint == "rotate" { // which need no body
				s.send(t, "POST", post.path, post.auth, under(onceKey)).refused(t, http.StatusUnprocessableEntity, "IDEMPOTENCY_MISMATCH")
			}
			if made := s.effects(t).than(before); made != (effects{}) {
				t.Errorf("made: %+v, want nothing", made)
			}
			send(text).repeats(t, first)
		})
	}
}

// No body and an empty object mean the same, and are not the same.
func TestNoBodyUnderOneKey(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	first := s.send(t, "POST", "/api/v1/keys", key(mine), under(onceKey)).fresh(t)
	s.send(t, "POST", "/api/v1/keys", key(mine), under(onceKey), document("{}")).refused(t, http.StatusUnprocessableEntity, "IDEMPOTENCY_MISMATCH")
	s.send(t, "POST", "/api/v1/keys", key(mine), under(onceKey), document("")).repeats(t, first)
}

// One key means as many requests as there are customers and paths.
func TestKeyOfAnotherScope(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	_, other := s.signUp(t)
	mineToo := s.newKey(t, mine, "")
	send := func(path, apiKey string) answer {
		return s.send(t, "POST", path, key(apiKey), under(onceKey), document(`{"grace_minutes": 5}`))
	}
	_, order := s.keys(t, mine)
	scopes := []struct{ path, apiKey string }{
		{"/api/v1/keys", mine}, {"/api/v1/keys", other}, {"/api/v1/keys/" + order[0] + "/rotate", mine}, {"/api/v1/keys/" + order[1] + "/rotate", mine},
	}
	var firsts []answer
	secrets := make(map[string]bool)
	for _, scope := range scopes {
		first := send(scope.path, scope.apiKey).fresh(t)
		firsts = append(firsts, first)
		secrets[decode[issued](t, first).Key] = true
	}
	if len(secrets) != len(scopes) {
		t.Fatalf("%d requests were answered with %d keys", len(scopes), len(secrets))
	}
	for i, scope := range scopes {
		send(scope.path, scope.apiKey).repeats(t, firsts[i])
	}
	send("/api/v1/keys", mineToo.Key).repeats(t, firsts[0]) // by another key of the customer's
	send("/api/v1/keys?x=1", mine).repeats(t, firsts[0])    // the query is no part of the path
	// A stranger learns neither the key nor that there is one.
	send(scopes[2].path, other).refused(t, http.StatusNotFound, "NOT_FOUND")
	s.send(t, "POST", "/api/v1/keys", key(other), under(onceKey), document(`{"grace_minutes": 6}`)).refused(t, http.StatusUnprocessableEntity, "IDEMPOTENCY_MISMATCH")
}

// Without a customer it is the address that a key belongs to, as limits count
// addresses.
func TestKeyOfAnotherAddress(t *testing.T) {
	s := newServer(t, unlimited, trust("127.0.0.0/8"))
	for _, test := range []struct {
		first  string
		same   []string
		others []string
	}{
		{"203.0.113.1", []string{"203.0.113.1", "::ffff:203.0.113.1", "198.51.100.1, 203.0.113.1"}, []string{"203.0.113.2", "203.0.113.1, 198.51.100.1", "2001:db8::203.0.113.1"}},
		{"2001:db8:0:1::1", []string{"2001:db8:0:1::2", "2001:db8:0:1:ffff::"}, []string{"2001:db8:0:2::1", "2001:db8::1:0:0:1"}},
	} {
		text := `{"name": "Ada", "email": "` + someone() + `"}`
		send := func(address string) answer {
			return s.send(t, "POST", onboard, from(address), under(onceKey), document(text))
		}
		first := send(test.first).fresh(t)
		for _, address := range test.same {
			send(address).repeats(t, first)
		}
		for _, address := range test.others {
			send(address).invalid(t, "email", "already_registered")
		}
		send(test.first).repeats(t, first)
	}
}

// What was kept is forgotten after a day, by the store's clock.
func TestReplayEndsAfterADay(t *testing.T) {
	now := newClock()
	s := newServer(t, at(now))
	all := posts(t, s)
	start := now.now()
	firsts, texts := make(map[string]answer), make(map[string]string)
	send := func(endpoint string) answer {
		return s.send(t, "POST", all[endpoint].path, all[endpoint].auth, document(texts[endpoint]), under(onceKey))
	}
	for endpoint, post := range all {
		texts[endpoint] = post.body()
		firsts[endpoint] = send(endpoint).fresh(t)
	}
	now.set(start.Add(24*time.Hour - time.Minute))
	for endpoint, first := range firsts {
		send(endpoint).repeats(t, first)
	}
	now.set(start.Add(24*time.Hour + time.Minute)) // the replays have put nothing off
	send("sign-up").invalid(t, "email", "already_registered")
	send("rotate").refused(t, http.StatusConflict, "CONFLICT") // the grace is over
	if a := send("fix").want(t, http.StatusOK); a.header.Get("Idempotent-Replayed") != "" || !bytes.Equal(a.body, firsts["fix"].body) {
		t.Errorf("the fix again is %s (%v), want its first answer by its external_id", a.body, a.header)
	}
	second := send("create").fresh(t)
	now.advance(24*time.Hour - time.Minute)
	send("create").repeats(t, second)
}

func TestFormsOfTheKey(t *testing.T) {
	s := newServer(t, unlimited)
	all := posts(t, s)
	doc, err := description()
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile(doc.Components.Parameters["IdempotencyKey"].Value.Schema.Value.Pattern)
	printable := make([]byte, 0, 95)
	for c := byte(' '); c <= '~'; c++ {
		printable = append(printable, c)
	}
	long := strings.Repeat("0123456789abcdef", 300)
	for _, test := range []struct {
		name  string
		lines []string
		ok    bool
	}{
		{"16 characters", []string{onceKey}, true},
		{"17 characters", []string{long[:17]}, true},
		{"255 characters", []string{long[:255]}, true},
		{"all printable characters", []string{"x" + string(printable) + "x"}, true},
		{"a UUID", []string{"6f1c2d7e-0b64-4b0e-9a55-2f0c8f3f7d11"}, true},
		{"empty", []string{""}, false},
		{"1 character", []string{"x"}, false},
		{"15 characters", []string{long[:15]}, false},
		{"256 characters", []string{long[:256]}, false},
		{"4000 characters", []string{long[:4000]}, false},
		{"16 bytes, beyond ASCII", []string{"0123456789abcdé"}, false},
		{"16 characters, beyond ASCII", []string{"0123456789abcdeé"}, false},
		{"no UTF-8", []string{"0123456789abcde\xff"}, false},
		{"a tab", []string{"01234567\t89abcdef"}, false},
		{"NUL", []string{"01234567\x0089abcdef"}, false},
		{"a line feed", []string{"01234567\n89abcdef"}, false},
		{"DEL", []string{"01234567\x7f89abcdef"}, false},
		{"two lines", []string{onceKey, long[16:40]}, false},
		{"two equal lines", []string{onceKey, onceKey}, false},
		{"a good and an empty line", []string{onceKey, ""}, false},
		{"an empty and a good line", []string{"", onceKey}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if form := documented.MatchString(test.lines[0]); len(test.lines) == 1 && form != test.ok {
				t.Errorf("openapi.yaml takes it: %v, want %v", form, test.ok)
			}
			for endpoint, post := range all {
				before := s.effects(t)
				// Past net/http, which refuses some of them by itself.
				req := httptest.NewRequestWithContext(t.Context(), "POST", post.path, http.NoBody)
				for _, d := range []detail{post.auth, document(post.body())} {
					d(req)
				}
				req.Header["Idempotency-Key"] = test.lines
				w := httptest.NewRecorder()
				s.handler.ServeHTTP(w, req)
				got, want := answer{status: w.Code, header: w.Header(), body: w.Body.Bytes()}, effects{}
				if test.ok {
					got.fresh(t)
					want = each[endpoint]
				} else {
					got.invalid(t, "Idempotency-Key", "malformed")
				}
				if err := checkAnswer(req, got, s.off); err != nil {
					t.Error(err)
				}
				if made := s.effects(t).than(before); made != want {
					t.Errorf("%s made: %+v, want %+v", endpoint, made, want)
				}
			}
		})
	}
	// As it comes over the wire; spaces around a header's value are none of it.
	s.send(t, "POST", onboard, under(""), document(all["sign-up"].body())).invalid(t, "Idempotency-Key", "malformed")
	s.send(t, "POST", onboard, under(" "+onceKey[1:]+" "), document(all["sign-up"].body())).invalid(t, "Idempotency-Key", "malformed")
}

// Every POST that a customer can send takes a key, and says so.
func TestPostsDocumentTheKey(t *testing.T) {
	doc, err := description()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for path, item := range doc.Paths.Map() {
		if item.Post == nil || !strings.HasPrefix(path, "/api/v1/") {
			continue
		}
		found++
		if item.Post.Parameters.GetByInAndName("header", "Idempotency-Key") == nil {
			t.Errorf("POST %s is documented without Idempotency-Key", path)
		}
	}
	if found != 7 {
		t.Errorf("%d POSTs are documented, want 7", found)
	}
}

// What is the same done twice needs no key: any will do.
func TestKeyOnOtherMethods(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	for _, k := range []string{"short", onceKey} {
		ci := s.newKey(t, mine, "")
		for range 2 {
			for _, path := range []string{"/api/v1/account", "/api/v1/account/ledger", "/api/v1/keys", "/health"} {
				s.send(t, "GET", path, key(mine), under(k)).want(t, http.StatusOK)
				s.send(t, "HEAD", path, key(mine), under(k)).want(t, http.StatusOK)
			}
			s.send(t, "DELETE", "/api/v1/keys/"+ci.ID, key(mine), under(k)).want(t, http.StatusNoContent)
		}
		s.send(t, "PUT", "/api/v1/keys", key(mine), under(k)).want(t, http.StatusMethodNotAllowed)
	}
	_, order := s.keys(t, mine)
	s.send(t, "POST", "/api/v1/keys", key(mine), under(onceKey)).fresh(t)
	if _, now := s.keys(t, mine); len(now) != len(order)+1 {
		t.Errorf("there are %d keys, want %d", len(now), len(order)+1)
	}
}
