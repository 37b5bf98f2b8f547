package api_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/billing"
)

const fixes = "/api/v1/fixes"

var named atomic.Int64

// someFix is a name that no fix has yet.
func someFix() string { return "engines/analytical#" + strconv.FormatInt(named.Add(1), 10) }

// fixed is the answer of a recorded fix.
type fixed struct {
	Fix struct {
		ID          string
		ExternalID  string    `json:"external_id"`
		PaidBy      string    `json:"paid_by"`
		AmountCents int64     `json:"amount_cents"`
		CreatedAt   time.Time `json:"created_at"`
	}
	CreditBalance int64 `json:"credit_balance"`
}

// fix asks for a fix of that name.
func (c *client) fix(t testing.TB, apiKey, name string, details ...detail) answer {
	t.Helper()
	return c.send(t, "POST", fixes, append(details, key(apiKey), document(`{"external_id": `+quote(t, name)+`}`))...)
}

// grant adds credits, or takes some with a negative amount.
func (s *server) grant(t testing.TB, customerID string, amount int64) {
	t.Helper()
	if _, err := s.database.Adjust(t.Context(), customerID, amount, "of "+someFix()); err != nil {
		t.Fatal(err)
	}
}

// entries are a customer's, the newest first, as its ledger shows them.
func (c *client) entries(t testing.TB, apiKey string) []entry {
	t.Helper()
	return decode[page](t, c.send(t, "GET", "/api/v1/account/ledger", key(apiKey)).want(t, http.StatusOK)).Entries
}

// account is what a customer's account shows.
type shownAccount struct {
	Customer struct {
		Plan           string  `json:"subscription_plan"`
		State          *string `json:"subscription_state"`
		StripeID       *string `json:"stripe_customer_id"`
		TrialFixesUsed int64   `json:"trial_fixes_used"`
		CreditBalance  int64   `json:"credit_balance"`
		CreditDebt     int64   `json:"credit_debt"`
	}
	Usage struct {
		Start time.Time `json:"period_start"`
		End   time.Time `json:"period_end"`
		Fixes int64
	}
}

func (c *client) account(t testing.TB, apiKey string) shownAccount {
	t.Helper()
	return decode[shownAccount](t, c.send(t, "GET", "/api/v1/account", key(apiKey)).want(t, http.StatusOK))
}

func TestFixIsPaidByACredit(t *testing.T) {
	s := newServer(t)
	id, mine := s.signUp(t)
	name := someFix()
	before := time.Now().Truncate(time.Microsecond)
	a := s.send(t, "POST", fixes, key(mine), document(`{"external_id": " `+name+` ", "repository": "engines/analytical", "pull_request": 42}`)).want(t, http.StatusCreated)
	got := decode[fixed](t, a)
	a.limits(t, "api")
	if f := got.Fix; f.ExternalID != name || f.PaidBy != "credit" || f.AmountCents != 0 || f.CreatedAt.Before(before) || f.CreatedAt.After(time.Now()) || got.CreditBalance != 4 {
		t.Errorf("recorded %+v", got)
	}
	if e := s.entries(t, mine); len(e) != 2 || e[0].Amount != -1 || e[0].BalanceAfter != 4 || e[0].Source != "fix" || !strings.Contains(e[0].Reference, got.Fix.ID) {
		t.Errorf("the ledger is %+v", e)
	}
	kept, err := s.database.Fix(t.Context(), got.Fix.ID)
	if err != nil || kept.CustomerID != id || kept.Repository != "engines/analytical" || kept.PullRequest != "42" || kept.State != billing.FixPaid {
		t.Errorf("kept %+v (%v)", kept, err)
	}
	if shown := s.account(t, mine); shown.Usage.Fixes != 1 || shown.Customer.TrialFixesUsed != 1 || shown.Customer.CreditBalance != 4 {
		t.Errorf("the account shows %+v", shown)
	}
}

// One name is one fix, whatever else is said of it and whatever happened since.
func TestFixAgain(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	_, others := s.signUp(t)
	name := someFix()
	first := s.fix(t, mine, name).want(t, http.StatusCreated)
	s.fix(t, mine, someFix()).want(t, http.StatusCreated)
	for _, text := range []string{
		`{"external_id": "` + name + `"}`, `{"external_id": "\t` + name + ` "}`, `{"external_id": "` + name + `", "repository": "another", "pull_request": "x"}`,
	} {
		if a := s.send(t, "POST", fixes, key(mine), document(text)).want(t, http.StatusOK); string(a.body) != string(first.body) {
			t.Errorf("%s is answered with\n%s, want\n%s", text, a.body, first.body)
		}
	}
	s.fix(t, mine, strings.ToUpper(name)).want(t, http.StatusCreated) // case tells names apart
	if n := len(s.entries(t, mine)); n != 4 {
		t.Errorf("there are %d entries, want the sign-up's and three fixes'", n)
	}
	// Names are each customer's own.
	if a := decode[fixed](t, s.fix(t, others, name).want(t, http.StatusCreated)); a.Fix.ID == decode[fixed](t, first).Fix.ID {
		t.Error("another customer's fix is shown")
	}
}

func TestFixWithoutCreditAndWithoutAWayToPay(t *testing.T) {
	s := newServer(t)
	id, mine := s.signUp(t)
	first := someFix()
	want := s.fix(t, mine, first).want(t, http.StatusCreated)
	for range 4 {
		s.fix(t, mine, someFix()).want(t, http.StatusCreated)
	}
	name := someFix()
	for range 2 {
		a := s.fix(t, mine, name, under(onceKey)) // which is not kept
		p := a.refused(t, http.StatusForbidden, "USAGE_LIMIT_EXCEEDED")
		if a.limits(t, "api"); p.Error.Message != "There are no credits left: add a payment method, or subscribe to Pro." {
			t.Errorf("the message is %q", p.Error.Message)
		}
	}
	if a := s.fix(t, mine, first).want(t, http.StatusOK); string(a.body) != string(want.body) {
		t.Errorf("an earlier fix is %s", a.body)
	}
	s.grant(t, id, 1)
	s.fix(t, mine, name, under(onceKey)).fresh(t)
	if shown := s.account(t, mine); shown.Usage.Fixes != 6 || shown.Customer.CreditBalance != 0 || shown.Customer.TrialFixesUsed != 6 {
		t.Errorf("the account shows %+v", shown)
	}
}

func TestFixTexts(t *testing.T) {
	s := newServer(t, unlimited)
	id, mine := s.signUp(t)
	s.grant(t, id, 100)
	send := func(field, value string) answer {
		text := `{"external_id": ` + quote(t, someFix()) + `, "` + field + `": ` + value + `}`
		if field == "external_id" {
			text = `{"external_id": ` + value + `, "repository": null}`
		}
		return s.send(t, "POST", fixes, key(mine), document(text))
	}
	longest, isNumber := strings.Repeat("漢", 255), strings.Repeat("1", 255)
	for _, test := range []struct{ field, value, reason string }{
		{"external_id", `null`, "required"},
		{"external_id", `""`, "required"},
		{"external_id", `" \u3000\t "`, "required"},
		{"external_id", `"x"`, ""},
		{"external_id", quote(t, "  "+longest+"\u00a0"), ""},
		{"external_id", quote(t, longest+"x"), "too_long"},
		{"external_id", `5`, "malformed"},
		{"external_id", `["x"]`, "malformed"},
		{"external_id", `{}`, "malformed"},
		{"external_id", `true`, "malformed"},
		{"repository", `null`, ""},
		{"repository", `""`, ""},
		{"repository", quote(t, longest), ""},
		{"repository", quote(t, longest+"x"), "too_long"},
		{"repository", `5`, "malformed"},
		{"repository", `{"name": "x"}`, "malformed"},
		{"pull_request", `null`, ""},
		{"pull_request", `""`, ""},
		{"pull_request", `"#42"`, ""},
		{"pull_request", `42`, ""},
		{"pull_request", `-0.5e300`, ""},
		{"pull_request", isNumber, ""},
		{"pull_request", isNumber + "1", "too_long"},
		{"pull_request", quote(t, longest+"x"), "too_long"},
		{"pull_request", `true`, "malformed"},
		{"pull_request", `[42]`, "malformed"},
		{"pull_request", `{"number": 42}`, "malformed"},
	} {
		t.Run(test.field+"="+test.value[:min(len(test.value), 30)], func(t *testing.T) {
			if got := send(test.field, test.value); test.reason != "" {
				got.invalid(t, test.field, test.reason)
			} else {
				got.want(t, http.StatusCreated)
			}
		})
	}
	for _, field := range []string{"external_id", "repository", "pull_request"} {
		for _, char := range []string{`\u0000`, `\u001b`, `\u007f`, `\u0085`, `\r\n`, `\t`, `\u2028`} {
			send(field, `"a`+char+`b"`).invalid(t, field, "malformed")
		}
	}
	// All that is wrong is told at once.
	p := s.send(t, "POST", fixes, key(mine), document(`{"repository": "\u0000", "pull_request": "`+longest+`x"}`)).refused(t, http.StatusUnprocessableEntity, "VALIDATION_FAILED")
	if d := p.Error.Details; len(d) != 3 || d[0].Field != "external_id" || d[1].Field != "repository" || d[2].Field != "pull_request" {
		t.Errorf("the details are %+v", d)
	}
}

// A number is kept as it is written, so that none is changed by rounding.
func TestPullRequestIsKeptAsItIsWritten(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	for given, want := range map[string]string{`9007199254740993`: "9007199254740993", `1e2`: "1e2", `"\u0034\ud83d\ude00"`: "4😀", `" 42 "`: "42", `null`: ""} {
		a := s.send(t, "POST", fixes, key(mine), document(`{"external_id": "`+someFix()+`", "pull_request": `+given+`}`)).want(t, http.StatusCreated)
		if kept, err := s.database.Fix(t.Context(), decode[fixed](t, a).Fix.ID); err != nil || kept.PullRequest != want {
			t.Errorf("%s is kept as %q (%v), want %q", given, kept.PullRequest, err, want)
		}
	}
}

// Whatever else a client writes into a fix has no effect.
func TestNoMassAssignmentOfFixes(t *testing.T) {
	s := newServer(t)
	id, mine := s.signUp(t)
	other, _ := s.signUp(t)
	name := someFix()
	a := s.send(t, "POST", fixes, key(mine), document(`{"external_id": "`+name+`", "id": "`+someID+`", "customer_id": "`+other+`", "paid_by": "charge", "amount_cents": -5,
		"cents": -5, "currency": "xxx", "created_at": "1999-01-01T00:00:00Z", "state": "pending", "credit_balance": 999, "balance_after": 999, "credits": 999, "plan": "pro",
		"attempt": 9, "method": "pm_1", "stripe_customer": "cus_1", "intent": "pi_1", "why": "x", "fix": {"id": "`+someID+`"}}`)).want(t, http.StatusCreated)
	got := decode[fixed](t, a)
	kept, err := s.database.Fix(t.Context(), got.Fix.ID)
	if err != nil {
		t.Fatal(err)
	}
	want := billing.Fix{
		ID: got.Fix.ID, CustomerID: id, ExternalID: name, State: billing.FixPaid, PaidBy: "credit", Currency: "usd", BalanceAfter: 4, CreatedAt: kept.CreatedAt,
	}
	if diff := cmp.Diff(want, kept); diff != "" || got.Fix.ID == someID || got.CreditBalance != 4 || got.Fix.CreatedAt.Year() == 1999 {
		t.Errorf("answered %s, and kept (- want, + got):\n%s", a.body, diff)
	}
}

// Who may not, may not: a stranger, a revoked key, a suspended customer.
func TestFixNeedsAKey(t *testing.T) {
	s := newServer(t)
	id, mine := s.signUp(t)
	ci := s.newKey(t, mine, "")
	name := someFix()
	s.fix(t, ci.Key, name).want(t, http.StatusCreated)
	s.send(t, "DELETE", "/api/v1/keys/"+ci.ID, key(mine)).want(t, http.StatusNoContent)
	s.fix(t, ci.Key, name).refused(t, http.StatusUnauthorized, "INVALID_API_KEY")
	s.send(t, "POST", fixes, document(`{"external_id": "x"}`)).refused(t, http.StatusUnauthorized, "AUTH_REQUIRED")
	if _, err := s.database.Suspend(t.Context(), id, time.Now()); err != nil {
		t.Fatal(err)
	}
	s.fix(t, mine, name).refused(t, http.StatusForbidden, "FORBIDDEN")
	if report, err := billing.Verify(s.database.Ledgers(t.Context(), "")); err != nil || report.Entries != 2 || len(report.Findings) > 0 {
		t.Errorf("the ledger: %+v (%v), want two entries", report, err)
	}
}

// One credit and 200 who want it, over two nodes: one gets it.
func TestLastCreditAtOnce(t *testing.T) {
	s := newServer(t, unlimited)
	nodes := []*server{s, newServer(t, unlimited, beside(s))}
	id, mine := s.signUp(t)
	s.grant(t, id, -4)
	answers := s.atOnce(t, 200, func(i int) (answer, error) {
		return nodes[i%2].try(t.Context(), "POST", fixes, key(mine), document(`{"external_id": "`+someFix()+`"}`))
	})
	made := 0
	for _, got := range answers {
		if got.status == http.StatusCreated {
			made++
			continue
		}
		got.refused(t, http.StatusForbidden, "USAGE_LIMIT_EXCEEDED")
	}
	if shown := s.account(t, mine); made != 1 || shown.Customer.CreditBalance != 0 || shown.Usage.Fixes != 1 {
		t.Errorf("%d were recorded, and the account shows %+v", made, shown)
	}
}

// The same name 200 times at once is one fix, and all are told the same.
func TestOneFixAtOnce(t *testing.T) {
	s := newServer(t, unlimited)
	nodes := []*server{s, newServer(t, unlimited, beside(s))}
	_, mine := s.signUp(t)
	name := someFix()
	answers := s.atOnce(t, 200, func(i int) (answer, error) {
		return nodes[i%2].try(t.Context(), "POST", fixes, key(mine), document(`{"external_id": "`+name+`"}`))
	})
	made := slices.IndexFunc(answers, func(a answer) bool { return a.status == http.StatusCreated })
	if made < 0 {
		t.Fatal("it was not recorded")
	}
	for i, got := range answers {
		if i != made {
			got.want(t, http.StatusOK)
		}
		if string(got.body) != string(answers[made].body) {
			t.Errorf("answered %s, and %s", got.body, answers[made].body)
		}
	}
	if n := len(s.entries(t, mine)); n != 2 {
		t.Errorf("there are %d entries, want two", n)
	}
}
