package stripe_test

import (
	"strings"
	"testing"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/stripe"
	"gatehouse/internal/stripe/stripetest"
)

func TestRequestsAreValidToStripe(t *testing.T) {
	client := stripe.New(mustKey(t), stripetest.Mock(t))
	john := account.Customer{ID: "0192f0c1-2b3d-7a4e-8f50-aaaaaaaaaaaa", Name: "J", Email: "john@example.test"}
	ids := map[string]bool{}
	for _, who := range []account.Customer{jane, john} {
		for _, again := range []bool{false, true} { // true: also the list, whose customer is nobody's
			id, err := client.EnsureCustomer(t.Context(), who, again)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(who.Email, again, id)
			ids[id] = true
		}
	}
	if len(ids) != 4 {
		t.Errorf("%d ids for 4 creations: %v", len(ids), ids)
	}
}

func TestKeyThatStripeRefusesIsPermanent(t *testing.T) {
	base := stripetest.Mock(t)
	live, err := stripe.ParseKey("sk_live_" + secretPart) // stripe-mock takes test keys alone
	if err != nil {
		t.Fatal(err)
	}
	_, err = stripe.New(live, base).EnsureCustomer(t.Context(), jane, false)
	if err == nil {
		t.Fatal("it is taken")
	}
	mustBeKeepable(t, err)
	t.Log(err)
}

// Stripe-mock knows which parameters and paths there are, and answers the same
// to all: what is checked is that it refuses none.
func TestCallsAreValidToStripe(t *testing.T) {
	client := stripe.New(mustKey(t), stripetest.Mock(t))
	ctx := t.Context()
	for name, call := range map[string]func() (any, error){
		"subscription": func() (any, error) { return client.Subscription(ctx, "sub_1") },
		"invoice":      func() (any, error) { return client.Invoice(ctx, "in_1") },
		"method":       func() (any, error) { return client.Method(ctx, "pm_1") },
		"price":        func() (any, error) { return client.Price(ctx, "price_1") },
		"invoice of":   func() (any, error) { return client.InvoiceOf(ctx, "pi_1") },
		"charge":       func() (any, error) { return client.Charge(ctx, attempt) },
		"events": func() (any, error) {
			page, _, err := client.Events(ctx, time.Unix(1790000000, 0), time.Unix(1790000100, 0), "evt_1")
			return len(page), err
		},
		"charge, long ago": func() (any, error) {
			ch := attempt
			ch.Final = true
			return client.Charge(ctx, ch)
		},
	} {
		got, err := call()
		t.Logf("%s: %+v, %v", name, got, err)
		if err != nil && strings.Contains(err.Error(), "status") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
