package vending_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/vending"
)

var by = apikey.Principal{CustomerID: "customer", KeyID: "key"}

func service(s *shelf) *vending.Service {
	return vending.NewService(s, apikey.Test, []vending.Provider{vending.Anthropic, vending.OpenAI, vending.OpenRouter}, nil, func() string { return "https://gate.example" })
}

func TestAnUnknownProviderIsAnsweredByThoseThatAreConfigured(t *testing.T) {
	_, err := service(newShelf()).Exchange(t.Context(), by, vending.Request{Providers: []string{"acme"}}, nil)
	if f, ok := errors.AsType[*fault.Error](err); !ok || f.Message != "providers must be some of anthropic, openai, openrouter" {
		t.Errorf("refused as %v", err)
	}
}

func TestExchangeChecksWhatIsAsked(t *testing.T) {
	n := func(v int64) *int64 { return &v }
	all := []string{"anthropic", "openai", "openrouter"}
	for _, test := range []struct {
		name string
		ask  vending.Request
		want string // field:reason, each
	}{
		{"all that is offered", vending.Request{Providers: all, TTL: n(1), MaxCents: n(1), Job: strings.Repeat("é", 255), Run: "1"}, ""},
		{"no providers", vending.Request{}, "providers:required"},
		{"too many, of which nothing is said", vending.Request{Providers: slices.Repeat([]string{"x"}, 9)}, "providers:too_long"},
		{"one twice", vending.Request{Providers: []string{"openai", "openai"}}, "providers:not_allowed"},
		{"an unknown one", vending.Request{Providers: []string{"openai", "acme"}}, "providers:not_allowed"},
		{"in another case", vending.Request{Providers: []string{"OpenAI"}}, "providers:not_allowed"},
		{"one that is not configured", vending.Request{Providers: []string{"ollama"}}, "providers:not_allowed"},
		{"no time", vending.Request{Providers: all, TTL: n(0)}, "ttl_minutes:malformed"},
		{"less than no time", vending.Request{Providers: all, TTL: n(-1)}, "ttl_minutes:malformed"},
		{"no money", vending.Request{Providers: all, MaxCents: n(0)}, "max_cents:malformed"},
		{"less than no money", vending.Request{Providers: all, MaxCents: n(math.MinInt64)}, "max_cents:malformed"},
		{"a long job", vending.Request{Providers: all, Job: strings.Repeat("x", 256)}, "X-GitHub-Job:too_long"},
		{"a run in lines", vending.Request{Providers: all, Run: "a\nb"}, "X-GitHub-Run:malformed"},
		{"a job that is no text", vending.Request{Providers: all, Job: "a\xff"}, "X-GitHub-Job:malformed"},
		{"all that is wrong at once", vending.Request{TTL: n(0), MaxCents: n(0)}, "providers:required ttl_minutes:malformed max_cents:malformed"},
	} {
		s := newShelf()
		_, err := service(s).Exchange(t.Context(), by, test.ask, nil)
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		f, ok := errors.AsType[*fault.Error](err)
		if !ok || f.Kind != fault.Invalid || len(s.orders) != 0 {
			t.Errorf("%s: %v, and %d orders", test.name, err, len(s.orders))
			continue
		}
		var got []string
		for _, d := range f.Details {
			got = append(got, d.Field+":"+d.Reason)
		}
		if strings.Join(got, " ") != test.want {
			t.Errorf("%s: %v, want %s", test.name, got, test.want)
		}
	}
}

func TestExchangeGivesTokensAndKeepsTheirHashes(t *testing.T) {
	s, hours, cents := newShelf(), int64(1000), int64(250)
	var kept vending.Answer
	keep := &idempotency.Once[vending.Answer]{Seal: func(a vending.Answer) (o idempotency.Outcome, err error) {
		kept = a
		return o, nil
	}}
	a, err := service(s).Exchange(t.Context(), by, vending.Request{Providers: []string{"openrouter", "anthropic", "openai"}, TTL: &hours, MaxCents: &cents, Job: " build ", Run: "17"}, keep)
	done(t, err)
	o := s.orders[0]
	if o.By != by || o.TTL != 4*time.Hour || o.Cap != 2_500_000 || o.Job != "build" || o.Run != "17" || o.Replace != "" || o.ID == "" || len(o.Issues) != 3 || len(a.Given) != 3 || a.Balance != 5 {
		t.Errorf("ordered %+v, answered %+v", o, a)
	}
	for i, base := range []string{"/gateway/openrouter/api/v1", "/gateway/anthropic", "/gateway/openai/v1"} {
		g := a.Given[i]
		p, ok := apikey.ParseToken(g.Token.Reveal())
		if !ok || p != o.Issues[i].Presented || g.ID != o.Issues[i].ID || g.BaseURL != "https://gate.example"+base || !strings.HasPrefix(g.Token.Reveal(), "gt_test_") {
			t.Errorf("given %+v of %+v", g, o.Issues[i])
		}
		if kept.Given[i].Token.Reveal() != g.Token.Reveal() {
			t.Error("what is kept of the answer is another")
		}
	}
	_, err = service(s).Exchange(t.Context(), by, vending.Request{Providers: []string{"openai"}}, nil)
	done(t, err)
	if o := s.orders[1]; o.TTL != time.Hour || o.Cap != 0 {
		t.Errorf("by default ordered %+v", o)
	}
}

// More than is granted is asked for all the same, and what is granted is the most.
func TestExchangeGrantsNoMoreThanTheMost(t *testing.T) {
	for _, test := range []struct {
		minutes, cents, micro int64
		ttl                   time.Duration
	}{
		{240, vending.MaxCents, vending.MaxCents * vending.MicroPerCent, vending.MaxTTL},
		{241, vending.MaxCents + 1, vending.MaxCents * vending.MicroPerCent, vending.MaxTTL},
		{math.MaxInt64, math.MaxInt64, vending.MaxCents * vending.MicroPerCent, vending.MaxTTL},
		{239, vending.MaxCents - 1, (vending.MaxCents - 1) * vending.MicroPerCent, vending.MaxTTL - time.Minute},
	} {
		s := newShelf()
		_, err := service(s).Exchange(t.Context(), by, vending.Request{Providers: []string{"openai"}, TTL: &test.minutes, MaxCents: &test.cents}, nil)
		done(t, err)
		if o := s.orders[0]; o.TTL != test.ttl || o.Cap != test.micro {
			t.Errorf("for %d minutes and %d cents ordered %v and %d, want %v and %d", test.minutes, test.cents, o.TTL, o.Cap, test.ttl, test.micro)
		}
	}
}

func TestRefreshReplaces(t *testing.T) {
	s := newShelf()
	_, err := service(s).Refresh(t.Context(), by, "", nil)
	wantFault(t, err, fault.Invalid, "")
	a, err := service(s).Refresh(t.Context(), by, "old", nil)
	done(t, err)
	o := s.orders[0]
	if o.Replace != "old" || len(o.Issues) != 1 || len(a.Given) != 1 || a.Given[0].BaseURL != "https://gate.example/gateway/openai/v1" || a.Given[0].Token.Reveal() == "" {
		t.Errorf("ordered %+v, answered %+v", o, a)
	}
}

func TestRefusedExchangeIsInTheTrail(t *testing.T) {
	s := newShelf()
	s.refuses = &fault.Error{Kind: fault.Forbidden, Code: "USAGE_LIMIT_EXCEEDED"}
	_, err := service(s).Exchange(t.Context(), by, vending.Request{Providers: []string{"openai", "anthropic"}}, nil)
	wantFault(t, err, fault.Forbidden, "USAGE_LIMIT_EXCEEDED")
	if !vending.IsRefusal(err) || len(s.booked) != 2 {
		t.Errorf("%v is in the trail as %+v", err, s.booked)
	}
	for id, row := range s.booked {
		want := vending.Audit{ID: id, CustomerID: "customer", KeyID: "key", Action: vending.Refusing, Provider: row.Provider, Outcome: "USAGE_LIMIT_EXCEEDED"}
		if row.Audit != want || row.Reservation != "" || id == "" {
			t.Errorf("the trail has %+v", row)
		}
	}
	s.setAway(errAway) // no refusal without its row
	_, err = service(s).Exchange(t.Context(), by, vending.Request{Providers: []string{"openai"}}, nil)
	wantFault(t, err, fault.Unavailable, "")
	s.refuses = fault.Refused("It is too early.")
	_, err = service(s).Refresh(t.Context(), by, "old", nil)
	wantFault(t, err, fault.Conflict, "")
	if vending.IsRefusal(err) || len(s.booked) != 2 {
		t.Error("a conflict is no refusal")
	}
}

func TestReportIsChecked(t *testing.T) {
	fine := vending.Report{CustomerID: "customer", Provider: vending.Ollama, Tokens: 1_000_000_000_000, Requests: 1_000_000_000, JobID: strings.Repeat("é", 255)}
	for _, test := range []struct {
		name   string
		change func(*vending.Report)
		want   string
	}{
		{"the most", func(*vending.Report) {}, ""},
		{"nothing used", func(r *vending.Report) { r.Tokens, r.Requests, r.JobID = 0, 0, " j " }, ""},
		{"an unknown provider", func(r *vending.Report) { r.Provider = "acme" }, "provider:not_allowed"},
		{"negative", func(r *vending.Report) { r.Tokens, r.Requests = -1, -1 }, "tokens_used:malformed request_count:malformed"},
		{"absurd", func(r *vending.Report) { r.Tokens, r.Requests = r.Tokens+1, r.Requests+1 }, "tokens_used:malformed request_count:malformed"},
		{"no job", func(r *vending.Report) { r.JobID = " " }, "job_id:required"},
		{"a long job", func(r *vending.Report) { r.JobID += "x" }, "job_id:too_long"},
		{"a job in lines", func(r *vending.Report) { r.JobID = "a\r\nb" }, "job_id:malformed"},
	} {
		s, r := newShelf(), fine
		test.change(&r)
		err := service(s).Report(t.Context(), r, nil)
		var got []string
		if f, ok := errors.AsType[*fault.Error](err); ok {
			for _, d := range f.Details {
				got = append(got, d.Field+":"+d.Reason)
			}
		}
		if strings.Join(got, " ") != test.want || (err == nil) != (len(s.reports) == 1) {
			t.Errorf("%s: %v, kept %+v, want %q", test.name, err, s.reports, test.want)
		}
		if len(s.reports) == 1 && strings.TrimSpace(s.reports[0].JobID) != s.reports[0].JobID {
			t.Errorf("%s: kept %+v", test.name, s.reports[0])
		}
	}
}
