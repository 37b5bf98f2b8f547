package api_test

import (
	"bytes"
	"hash/crc32"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var keyForm = regexp.MustCompile(`^gk_(live|test)_([0-9A-Za-z]{12})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})$`)

// checkKey reads a key by the contract's words alone: the last six characters
// are the CRC-32 (IEEE) of all before them, in base62.
func checkKey(t testing.TB, apiKey, kind string) (prefix, secret string) {
	t.Helper()
	parts := keyForm.FindStringSubmatch(apiKey)
	if parts == nil || parts[1] != kind {
		t.Fatalf("%q is no %s key", apiKey, kind)
	}
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	sum, text := crc32.ChecksumIEEE([]byte(apiKey[:len(apiKey)-6])), ""
	for range 6 {
		text = string(digits[sum%62]) + text
		sum /= 62
	}
	if parts[4] != text {
		t.Errorf("%q has the checksum %s, want %s", apiKey, parts[4], text)
	}
	return "gk_" + kind + "_" + parts[2], parts[3]
}

func TestSignUp(t *testing.T) {
	for mode, kind := range map[string]string{"live": "live", "test": "test", "dev": "test"} {
		t.Run(mode, func(t *testing.T) {
			s := newServer(t, func(_ testing.TB, s *setup) { s.mode = mode })
			before := time.Now().UTC().Truncate(time.Microsecond)
			got := s.send(t, "POST", onboard, document(`{"name": "Ada Lovelace", "email": "Ada.Lovelace+1@Company.DEV"}`)).want(t, http.StatusCreated)
			after := time.Now()

			answer := decode[map[string]any](t, got)
			customer, apiKey := answer["customer"].(map[string]any), answer["api_key"].(string)
			_, secret := checkKey(t, apiKey, kind)
			created, err := time.Parse(time.RFC3339Nano, customer["created_at"].(string))
			if err != nil || created.Before(before) || created.After(after) {
				t.Errorf("created_at is %v (%v), want a time from %v to %v", created, err, before, after)
			}
			answer["api_key"], customer["id"], customer["created_at"] = "KEY", "ID", "TIME"
			want := map[string]any{
				"customer": map[string]any{
					"id": "ID", "name": "Ada Lovelace", "email": "Ada.Lovelace+1@Company.DEV", "company": nil, "subscription_plan": "trial",
					"subscription_state": nil, "trial_fixes_limit": 5.0, "trial_fixes_used": 0.0, "credit_balance": 5.0, "created_at": "TIME",
				},
				"api_key": "KEY",
			}
			if diff := cmp.Diff(want, answer); diff != "" {
				t.Errorf("the answer (- want, + got):\n%s", diff)
			}
			if got.header.Get("Cache-Control") != "no-store" {
				t.Errorf("Cache-Control is %q", got.header.Get("Cache-Control"))
			}
			s.send(t, "GET", "/api/v1/account", key(apiKey)).want(t, http.StatusOK)
			s.keepsNo(t, secret)
		})
	}
}

// keepsNo fails the test if a text is in the database's files.
func (s *server) keepsNo(t testing.TB, secret string) {
	t.Helper()
	for _, name := range []string{s.database.path, s.database.path + "-wal"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(data, []byte(secret)) {
			t.Errorf("%s holds a key's secret", name)
		}
	}
}

func TestSignUpOptions(t *testing.T) {
	s := newServer(t, unlimited)
	type shown struct{ Customer struct{ Name, Company any } }
	for _, source := range []string{"direct", "github_marketplace", "early_access", "api"} {
		s.send(t, "POST", onboard, document(`{"name": "Ada", "email": "`+someone()+`", "source": "`+source+`"}`)).want(t, http.StatusCreated)
	}
	var sources []string
	for _, c := range s.customers(t) {
		sources = append(sources, c.Source)
	}
	if got := strings.Join(sources, " "); got != "direct github_marketplace early_access api" {
		t.Errorf("kept sources: %s", got)
	}
	got := decode[shown](t, s.send(t, "POST", onboard, document(`{"name": " Ada \t", "company": " Analytical Engines ", "email": "`+someone()+`"}`)).want(t, http.StatusCreated))
	if got.Customer.Name != "Ada" || got.Customer.Company != "Analytical Engines" {
		t.Errorf("kept %+v, want both trimmed", got)
	}
	if all := s.customers(t); all[len(all)-1].Source != "direct" {
		t.Errorf("without a source it is %q", all[len(all)-1].Source)
	}
}

// Sign-up is open: whatever key is sent along is not looked at.
func TestSignUpNeedsNoKey(t *testing.T) {
	s := newServer(t)
	s.signUp(t, key("wrong"))
	s.signUp(t, key("gk_live_1"), key("gk_live_2"), header("Authorization", "Bearer x"))
}

func TestSignUpRefusals(t *testing.T) {
	s := newServer(t, unlimited, func(_ testing.TB, s *setup) { s.emailDeny = []string{"unwanted.dev"} })
	label := strings.Repeat("a", 63)
	const name, address = `"name": "Ada"`, `"email": "ada@company.dev"`
	for _, test := range []struct{ text, field, reason string }{
		{address, "name", "required"},
		{`"name": null, ` + address, "name", "required"},
		{`"name": "", ` + address, "name", "required"},
		{`"name": " \u3000", ` + address, "name", "required"},
		{`"name": "` + strings.Repeat("n", 256) + `", ` + address, "name", "too_long"},
		{`"name": "a\u0000b", ` + address, "name", "malformed"},
		{name + `, "company": "` + strings.Repeat("c", 256) + `", ` + address, "company", "too_long"},
		{name + `, "company": "a\nb", ` + address, "company", "malformed"},
		{name + `, "source": "twitter", ` + address, "source", "not_allowed"},
		{name + `, "source": "API", ` + address, "source", "not_allowed"},

		{name, "email", "required"},
		{name + `, "email": null`, "email", "required"},
		{name + `, "email": ""`, "email", "required"},
		{name + `, "email": "  "`, "email", "required"},
		{name + `, "email": "` + strings.Repeat("l", 65) + `@company.dev"`, "email", "too_long"},
		{name + `, "email": "a@` + strings.Repeat(label+".", 4) + `dev"`, "email", "too_long"},
		{name + `, "email": "` + strings.Repeat("l", 10_000) + `"`, "email", "too_long"},
		{name + `, "email": "ada"`, "email", "malformed"},
		{name + `, "email": "ada@company"`, "email", "malformed"},
		{name + `, "email": "@company.dev"`, "email", "malformed"},
		{name + `, "email": "ada@"`, "email", "malformed"},
		{name + `, "email": "ada@@company.dev"`, "email", "malformed"},
		{name + `, "email": "ada@company.dev@company.dev"`, "email", "malformed"},
		{name + `, "email": "ada lovelace@company.dev"`, "email", "malformed"},
		{name + `, "email": ".ada@company.dev"`, "email", "malformed"},
		{name + `, "email": "ada.@company.dev"`, "email", "malformed"},
		{name + `, "email": "a..da@company.dev"`, "email", "malformed"},
		{name + `, "email": "ada@company..dev"`, "email", "malformed"},
		{name + `, "email": "ada@-company.dev"`, "email", "malformed"},
		{name + `, "email": "ada@comp_any.dev"`, "email", "malformed"},
		{name + `, "email": "\"ada\"@company.dev"`, "email", "malformed"},
		{name + `, "email": "Ada <ada@company.dev>"`, "email", "malformed"},
		{name + `, "email": "<ada@company.dev>"`, "email", "malformed"},
		{name + `, "email": "ada@company.dev, b@company.dev"`, "email", "malformed"},
		{name + `, "email": "mailto:ada@company.dev"`, "email", "malformed"},
		{name + `, "email": "ada@[192.0.2.1]"`, "email", "malformed"},
		{name + `, "email": "ada@[IPv6:2001:db8::1]"`, "email", "malformed"},
		{name + `, "email": "ada(comment)@company.dev"`, "email", "malformed"},
		{name + `, "email": "ada@xn--a.dev"`, "email", "malformed"},
		{name + `, "email": "ada@😀.dev"`, "email", "malformed"},
		{name + `, "email": "ada@comp\u200dany.dev"`, "email", "malformed"},
		{name + `, "email": "a\u202eda@company.dev"`, "email", "malformed"},
		{name + `, "email": "a\r\nBcc:x@company.dev"`, "email", "malformed"},

		{name + `, "email": "ada@mailinator.com"`, "email", "disposable_provider"},
		{name + `, "email": "ada@MAILINATOR.Com"`, "email", "disposable_provider"},
		{name + `, "email": "ada@a.b.mailinator.com"`, "email", "disposable_provider"},
		{name + `, "email": "ada@10minutemail.com"`, "email", "disposable_provider"},
		{name + `, "email": "ada@example.com"`, "email", "disposable_provider"},
		{name + `, "email": "ada@EXAMPLE.com"`, "email", "disposable_provider"},
		{name + `, "email": "ada@sub.example.com"`, "email", "disposable_provider"},
		{name + `, "email": "ada@example.net"`, "email", "disposable_provider"},
		{name + `, "email": "ada@example.org"`, "email", "disposable_provider"},
		{name + `, "email": "ada@company.example"`, "email", "disposable_provider"},
		{name + `, "email": "ada@company.test"`, "email", "disposable_provider"},
		{name + `, "email": "ada@company.invalid"`, "email", "disposable_provider"},
		{name + `, "email": "ada@mail.localhost"`, "email", "disposable_provider"},

		{name + `, "email": "ada@unwanted.dev"`, "email", "not_allowed"},
		{name + `, "email": "ada@mail.unwanted.dev"`, "email", "not_allowed"},
	} {
		t.Run(test.text[max(0, len(test.text)-60):], func(t *testing.T) {
			message := s.send(t, "POST", onboard, document("{"+test.text+"}")).invalid(t, test.field, test.reason)
			if test.reason == "disposable_provider" && !strings.Contains(message, "disposable") {
				t.Errorf("the message does not say disposable: %s", message)
			}
		})
	}
	// A dot at the domain's end is no way around: it may be either reason.
	for _, address := range []string{"ada@mailinator.com.", "ada@example.com."} {
		s.send(t, "POST", onboard, document(`{"name": "Ada", "email": "`+address+`"}`)).refused(t, http.StatusUnprocessableEntity, "VALIDATION_FAILED")
	}
	if n := len(s.customers(t)); n != 0 {
		t.Errorf("%d of the refused were kept", n)
	}
}

// All that is wrong is said at once, and the message is the first of it.
func TestSignUpSaysAllThatIsWrong(t *testing.T) {
	s := newServer(t)
	p := s.send(t, "POST", onboard, document(`{"company": "a\nb", "email": "ada@mailinator.com", "source": "twitter"}`)).
		refused(t, http.StatusUnprocessableEntity, "VALIDATION_FAILED")
	got := make(map[string]string)
	for _, d := range p.Error.Details {
		got[d.Field] = d.Reason
	}
	want := map[string]string{"name": "required", "email": "disposable_provider", "company": "malformed", "source": "not_allowed"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("details (- want, + got):\n%s", diff)
	}
	if p.Error.Message != p.Error.Details[0].Message {
		t.Errorf("the message is %q, the first detail's %q", p.Error.Message, p.Error.Details[0].Message)
	}
}
