package sim_test

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"

	stripego "github.com/stripe/stripe-go/v85"

	"gatehouse/internal/stripe/sim"
)

func TestFaultsAreSteeredOverHTTP(t *testing.T) {
	r := newRig(t, nil)
	first := r.must("GET", "/_sim/faults")
	got := r.must("POST", "/_sim/faults", "fault", "limited", "every", "2", "times", "1", "path", "/v1/customers", "decline", "1",
		"duplicate", "2", "reorder", "1", "delay", "1ms", "drop", "0.5", "two_signatures", "true", "stale", "false", "future", "true",
		"forged", "true", "thin", "true", "api_version", "2022-11-15", "wait", "5ms")
	for name, want := range map[string]any{
		"fault": "limited", "every": 2.0, "times": 1.0, "path": "/v1/customers", "wait": "5ms", "decline": 1.0, "duplicate": 2.0, "reorder": 1.0, "delay": "1ms",
		"drop": 0.5, "two_signatures": true, "stale": false, "future": true, "forged": true, "thin": true, "api_version": "2022-11-15",
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if len(got) != len(first) {
		t.Errorf("%d faults, then %d", len(first), len(got))
	}
	kept := r.must("POST", "/_sim/faults", "thin", "false")
	if kept["thin"] != false || kept["forged"] != true || kept["fault"] != "limited" || kept["every"] != 2.0 {
		t.Errorf("the others are not kept: %v", kept)
	}
	r.must("GET", "/v1/charges") // does not count
	r.post("/v1/customers")
	if e := r.refused(429, "POST", "/v1/customers"); e.Code != "rate_limit" {
		t.Errorf("%+v", e)
	}
	r.post("/v1/customers")
	for _, pairs := range [][]string{{"fault", "flood"}, {"drop", "1.5"}, {"drop", "x"}, {"delay", "soon"}, {"thin", "maybe"}, {"api_version", "latest"}, {"duplicates", "2"}, {"every", "-1"}} {
		if e := r.refused(400, "POST", "/_sim/faults", pairs...); e.Msg == "" {
			t.Errorf("%v: %+v", pairs, e)
		}
	}
	ended := r.must("DELETE", "/_sim/faults")
	for name, was := range first {
		if ended[name] != was {
			t.Errorf("%s is %v, want %v", name, ended[name], was)
		}
	}
}

func TestLimitSaysWhenToComeAgain(t *testing.T) {
	r := newRig(t, nil)
	r.Set(sim.Trouble{Fault: sim.Limited})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL()+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	resp, err := new(http.Client).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "1" || resp.Header.Get("Stripe-Should-Retry") != "true" || resp.Header.Get("Request-Id") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

func TestChargeIsReplayed(t *testing.T) {
	r := newRig(t, nil)
	customer, method := r.customer("", "pm_card_visa")
	params := func(key string, amount int64) *stripego.PaymentIntentCreateParams {
		p := &stripego.PaymentIntentCreateParams{
			Amount: &amount, Currency: new("usd"), Customer: &customer, PaymentMethod: &method, OffSession: new(true), Confirm: new(true),
		}
		p.SetIdempotencyKey(key)
		return p
	}
	r.Decline(1)
	_, first := r.api.V1PaymentIntents.Create(t.Context(), params("fix:1:charge:1", 2900))
	_, again := r.api.V1PaymentIntents.Create(t.Context(), params("fix:1:charge:1", 2900)) // a saved decline
	one, two := errorOf(t, first), errorOf(t, again)
	if one.HTTPStatusCode != 402 || two.HTTPStatusCode != 402 || one.PaymentIntent.ID != two.PaymentIntent.ID {
		t.Errorf("%+v, then %+v", one, two)
	}
	_, changed := r.api.V1PaymentIntents.Create(t.Context(), params("fix:1:charge:1", 1500))
	if e := errorOf(t, changed); e.Type != "idempotency_error" || e.HTTPStatusCode != 400 {
		t.Errorf("%+v", e)
	}
	refund := &stripego.RefundCreateParams{Charge: new("ch_none")}
	refund.SetIdempotencyKey("fix:1:charge:1")
	_, elsewhere := r.api.V1Refunds.Create(t.Context(), refund)
	if e := errorOf(t, elsewhere); e.Type != "idempotency_error" {
		t.Errorf("%+v", e)
	}

	for _, path := range []string{"/v1/customers", "/v1/prices"} { // with the same parameters, none
		got, err := send(t.Context(), r.Server, "POST", path, "k", nil)
		if err != nil || (got.kind == "idempotency_error") != (path == "/v1/prices") {
			t.Errorf("%s: %+v, %v", path, got, err)
		}
	}

	r.Set(sim.Trouble{Fault: sim.Lost, Times: 1, Path: "/v1/payment_intents"})
	if _, err := r.api.V1PaymentIntents.Create(t.Context(), params("fix:1:charge:2", 2900)); err == nil {
		t.Fatal("the answer is not lost")
	}
	pi, err := r.api.V1PaymentIntents.Create(t.Context(), params("fix:1:charge:2", 2900))
	if err != nil || pi.Status != "succeeded" || pi.LastResponse.Header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("%+v, %v", pi, err)
	}
	_, missing := r.api.V1PaymentIntents.Create(t.Context(), params("fix:1:charge:3", 1)) // is not valid, so not stored
	if e := errorOf(t, missing); e.Code != "amount_too_small" {
		t.Errorf("%+v", e)
	}
	if _, err := r.api.V1PaymentIntents.Create(t.Context(), params("fix:1:charge:3", 2900)); err != nil {
		t.Error(err)
	}
	if n := len(r.Charges()); n != 3 {
		t.Errorf("%d charges, want 3", n)
	}
}

func TestSlowWorkIsDoneAlsoWhenTheClientHasGone(t *testing.T) {
	r := newRig(t, nil)
	r.Set(sim.Trouble{Fault: sim.Slow, Wait: 50 * time.Millisecond, Times: 1})
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := send(ctx, r.Server, "POST", "/v1/customers", "k", url.Values{"name": {"Jane"}}); err == nil {
		t.Fatal("it is not slow")
	}
	for {
		got, err := send(t.Context(), r.Server, "POST", "/v1/customers", "k", url.Values{"name": {"Jane"}})
		if err != nil {
			t.Fatal(err)
		}
		if got.status == 409 { // the first is still under way
			continue
		}
		if got.status != 200 || !got.replayed && r.Requests() > 1 && len(r.Customers()) != 1 {
			t.Errorf("%+v", got)
		}
		break
	}
	if n := len(r.Customers()); n != 1 {
		t.Errorf("%d customers, want 1", n)
	}
}

func TestOptionsThatMayNotBe(t *testing.T) {
	for _, o := range []sim.Options{{APIVersion: "latest"}, {Listen: "256.0.0.1:1"}} {
		if s, err := sim.New(o); err == nil {
			s.Close()
			t.Errorf("%+v is taken", o)
		}
	}
}
