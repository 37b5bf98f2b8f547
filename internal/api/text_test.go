package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

func quote(t testing.TB, s string) string {
	t.Helper()
	b, err := jsontext.AppendQuote(nil, s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// nameOf is the field that an endpoint takes a line of text in, and where its
// answer shows it.
func texts(t testing.TB, s *server) map[string]struct {
	field string
	send  func(text string) answer
	shown func(answer) *string
} {
	t.Helper()
	_, apiKey := s.signUp(t)
	type shownCustomer struct {
		Customer struct{ Name, Company *string }
	}
	return map[string]struct {
		field string
		send  func(text string) answer
		shown func(answer) *string
	}{
		"customer": {
			"name",
			func(text string) answer {
				return s.send(t, "POST", onboard, document(`{"name": `+quote(t, text)+`, "email": "`+someone()+`"}`))
			},
			func(a answer) *string { return decode[shownCustomer](t, a).Customer.Name },
		},
		"company": {
			"company",
			func(text string) answer {
				return s.send(t, "POST", onboard, document(`{"name": "Ada", "company": `+quote(t, text)+`, "email": "`+someone()+`"}`))
			},
			func(a answer) *string { return decode[shownCustomer](t, a).Customer.Company },
		},
		"key": {
			"name",
			func(text string) answer {
				return s.send(t, "POST", "/api/v1/keys", key(apiKey), document(`{"name": `+quote(t, text)+`}`))
			},
			func(a answer) *string { return decode[struct{ Name *string }](t, a).Name },
		},
	}
}

// Lengths are in characters of Unicode, after trimming.
func TestLengths(t *testing.T) {
	s := newServer(t, unlimited)
	for what, text := range texts(t, s) {
		for script, char := range map[string]string{
			"Latin": "a", "accented": "é", "Cyrillic": "Ж", "Chinese": "漢", "Linear B": "𐀀", "emoji": "😀", "escaped by JSON": `"`,
			"right to left": "ש", "zero width": "\u200d",
		} {
			t.Run(what+"/"+script, func(t *testing.T) {
				longest := strings.Repeat(char, 255)
				for _, given := range []string{longest, "  " + longest + "\t", "\u3000" + longest + "\u00a0"} {
					got := text.send(given).want(t, http.StatusCreated)
					if name := text.shown(got); name == nil || *name != longest {
						t.Errorf("%d characters come back as %s", 255, got.body)
					}
				}
				text.send(longest+char).invalid(t, text.field, "too_long")
				text.send(strings.Repeat(char, 5_000)).invalid(t, text.field, "too_long")
			})
		}
		t.Run(what+"/a letter of two characters", func(t *testing.T) {
			text.send(strings.Repeat("e\u0301", 127)+"e").want(t, http.StatusCreated)
			text.send(strings.Repeat("e\u0301", 128)).invalid(t, text.field, "too_long")
		})
		t.Run(what+"/spaces only", func(t *testing.T) {
			for _, given := range []string{"", " ", "\t \u2003\u3000", strings.Repeat(" ", 1000)} {
				got := text.send(given)
				if what == "customer" {
					got.invalid(t, "name", "required")
				} else if name := text.shown(got.want(t, http.StatusCreated)); name != nil {
					t.Errorf("%q comes back as %q, want null", given, *name)
				}
			}
		})
	}
}

// What ends up in mail headers and terminals is one line.
func TestControlCharacters(t *testing.T) {
	s := newServer(t, unlimited)
	for what, text := range texts(t, s) {
		for _, char := range []string{"\x00", "\x01", "\x1b", "\x7f", "\u0085", "\r", "\n", "\r\n", "\t", "\v", "\u2028", "\u2029"} {
			t.Run(what+"/"+quote(t, char), func(t *testing.T) {
				text.send("Ada"+char+"Bcc: x").invalid(t, text.field, "malformed")
			})
		}
	}
	for _, address := range []string{"a\x00@company.dev", "a@company.dev\x00", "a@com\x00pany.dev", "a\r\nBcc: b@company.dev", "a@company.dev\r\nBcc: x", "a@company.dev\n"} {
		t.Run("email/"+quote(t, address), func(t *testing.T) {
			s.send(t, "POST", onboard, document(`{"name": "Ada", "email": `+quote(t, address)+`}`)).invalid(t, "email", "malformed")
		})
	}
	s.send(t, "POST", onboard, document(`{"name": "Ada", "email": "`+someone()+`", "source": "api\u0000"}`)).invalid(t, "source", "not_allowed")
}

// NUL in paths and queries is no 500 either.
func TestNULElsewhere(t *testing.T) {
	s := newServer(t)
	_, apiKey := s.signUp(t)
	s.send(t, "DELETE", "/api/v1/keys/%00", key(apiKey)).refused(t, http.StatusNotFound, "NOT_FOUND")
	s.send(t, "DELETE", "/api/v1/keys/"+someID+"%00", key(apiKey)).refused(t, http.StatusNotFound, "NOT_FOUND")
	s.send(t, "POST", "/api/v1/keys/%00/rotate", key(apiKey)).refused(t, http.StatusNotFound, "NOT_FOUND")
	s.send(t, "DELETE", credentials+"/%00", key(apiKey)).refused(t, http.StatusNotFound, "NOT_FOUND")
	s.send(t, "POST", exchange, key(apiKey), document(`{"providers": ["openai\u0000"]}`)).invalid(t, "providers", "not_allowed")
	s.send(t, "POST", refresh, key(apiKey), document(`{"credential_id": "`+someID+`\u0000"}`)).invalid(t, "credential_id", "malformed")
	s.send(t, "POST", report, key(apiKey), document(`{"provider": "openai\u0000", "tokens_used": 1, "request_count": 1, "job_id": "x"}`)).invalid(t, "provider", "not_allowed")
	s.send(t, "POST", report, key(apiKey), document(`{"provider": "openai", "tokens_used": 1, "request_count": 1, "job_id": "x\u0000"}`)).invalid(t, "job_id", "malformed")
	s.send(t, "GET", "/api/v1/account/ledger?cursor=%00", key(apiKey)).invalid(t, "cursor", "malformed")
	s.send(t, "GET", "/api/v1/account/ledger?limit=%00", key(apiKey)).invalid(t, "limit", "malformed")
	s.send(t, "POST", "/api/v1/keys", key(apiKey), document(`{"expires_at": "2040-01-01T00:00:00Z\u0000"}`)).invalid(t, "expires_at", "malformed")
}

// Whatever else a client writes into a sign-up has no effect: neither in the
// answer nor in what is kept.
func TestNoMassAssignment(t *testing.T) {
	s := newServer(t)
	const extra = `"id": "` + someID + `", "customer_id": "` + someID + `", "credits": 999, "credit_balance": 999, "credit_debt": -9, "plan": "pro",
		"subscription_plan": "pro", "subscription_state": "active", "trial_fixes_limit": 999, "trial_fixes_used": -9, "created_at": "1999-01-01T00:00:00Z",
		"stripe_customer_id": "cus_1", "email_canonical": "x@company.dev", "suspended_at": "1999-01-01T00:00:00Z", "api_key": "gk_live_x", "expires_at": "1999-01-01T00:00:00Z",
		"customer": {"id": "` + someID + `", "credit_balance": 999, "subscription_plan": "pro", "name": "Eve"}, "usage": {"fixes": 9}`
	address := someone()
	got := s.send(t, "POST", onboard, document(`{"name": "Ada", `+extra+`, "email": "`+address+`"}`)).want(t, http.StatusCreated)
	signedUp := decode[map[string]any](t, got)
	customer, apiKey := signedUp["customer"].(map[string]any), signedUp["api_key"].(string)
	id, created := customer["id"], customer["created_at"]
	if id == someID || created == "1999-01-01T00:00:00Z" {
		t.Errorf("taken over: %s", got.body)
	}
	want := map[string]any{
		"id": id, "name": "Ada", "email": address, "company": nil, "subscription_plan": "trial", "subscription_state": nil,
		"trial_fixes_limit": 5.0, "trial_fixes_used": 0.0, "credit_balance": 5.0, "created_at": created,
	}
	if diff := cmp.Diff(want, customer); diff != "" {
		t.Errorf("answer (- want, + got):\n%s", diff)
	}
	want["stripe_customer_id"], want["credit_debt"] = nil, 0.0
	kept := decode[map[string]map[string]any](t, s.send(t, "GET", "/api/v1/account", key(apiKey)).want(t, http.StatusOK))
	if diff := cmp.Diff(want, kept["customer"]); diff != "" {
		t.Errorf("account (- want, + got):\n%s", diff)
	}

}

// The same of a key.
func TestNoMassAssignmentOfKeys(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	other, _ := s.signUp(t)
	const old = "1999-01-01T00:00:00Z"
	made := decode[map[string]any](t, s.send(t, "POST", "/api/v1/keys", key(mine), document(`{"name": "ci", "id": "`+someID+`", "customer_id": "`+other+`",
		"created_at": "`+old+`", "last_used_at": "`+old+`", "revoked_at": "`+old+`", "prefix": "gk_live_x", "api_key": "gk_live_x", "hash": "x"}`)).want(t, http.StatusCreated))
	if made["id"] == someID || made["created_at"] == old || made["last_used_at"] != nil || made["prefix"] == "gk_live_x" || made["api_key"] == "gk_live_x" {
		t.Errorf("taken over: %v", made)
	}
	if _, order := s.keys(t, mine); len(order) != 2 || order[1] != made["id"] {
		t.Errorf("the customer's keys are %v, want two, and %v the second", order, made["id"])
	}
}
