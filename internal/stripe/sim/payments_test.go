package sim_test

import (
	"net/http"
	"strings"
	"testing"

	stripego "github.com/stripe/stripe-go/v85"
)

func TestCardsDoWhatStripesTestCardsDo(t *testing.T) {
	r := newRig(t, nil)
	for card, want := range map[string]struct{ code, decline, kinds string }{
		"pm_card_visa":                                 {kinds: "payment_intent.created charge.succeeded payment_intent.succeeded"},
		"pm_card_chargeDeclined":                       {"card_declined", "generic_decline", "payment_intent.created charge.failed payment_intent.payment_failed"},
		"pm_card_chargeCustomerFail":                   {"card_declined", "generic_decline", "payment_intent.created charge.failed payment_intent.payment_failed"},
		"pm_card_visa_chargeDeclinedInsufficientFunds": {"card_declined", "insufficient_funds", "payment_intent.created charge.failed payment_intent.payment_failed"},
		"pm_card_authenticationRequired":               {"authentication_required", "authentication_required", "payment_intent.created charge.failed payment_intent.payment_failed"},
		"pm_card_createDispute":                        {kinds: "payment_intent.created charge.succeeded payment_intent.succeeded charge.dispute.created"},
	} {
		t.Run(card, func(t *testing.T) {
			customer, method := r.customer("", card)
			seen := len(r.Events())
			params := &stripego.PaymentIntentCreateParams{
				Amount: new(int64(2900)), Currency: new("usd"), Customer: &customer, PaymentMethod: &method, OffSession: new(true), Confirm: new(true),
				Description: new("a fix"), Metadata: map[string]string{"gatehouse_fix_id": "fix_1"},
			}
			pi, err := r.api.V1PaymentIntents.Create(t.Context(), params)
			if kinds := r.told(&seen); kinds != want.kinds {
				t.Errorf("told %s, want %s", kinds, want.kinds)
			}
			charge := r.Charges()[len(r.Charges())-1]
			if want.code == "" {
				if err != nil || pi.Status != "succeeded" || pi.AmountReceived != 2900 || pi.LatestCharge.ID != charge.ID || pi.Metadata["gatehouse_fix_id"] != "fix_1" {
					t.Fatalf("%+v, %v", pi, err)
				}
				if !charge.Paid || charge.Metadata["gatehouse_fix_id"] != "fix_1" || charge.Disputed != (card == "pm_card_createDispute") {
					t.Errorf("charge %+v", charge)
				}
				return
			}
			e := errorOf(t, err)
			if e.HTTPStatusCode != http.StatusPaymentRequired || e.Type != "card_error" || string(e.Code) != want.code || string(e.DeclineCode) != want.decline || e.Msg == "" {
				t.Errorf("error %+v", e)
			}
			if e.PaymentMethod.ID != method || e.ChargeID != charge.ID || e.PaymentIntent.Status != "requires_payment_method" ||
				string(e.PaymentIntent.LastPaymentError.DeclineCode) != want.decline || e.PaymentIntent.Metadata["gatehouse_fix_id"] != "fix_1" || e.PaymentIntent.PaymentMethod != nil {
				t.Errorf("error %+v", e)
			}
			if charge.Paid || charge.FailureCode != want.code {
				t.Errorf("charge %+v", charge)
			}
		})
	}
}

func TestCardholderWhoIsThereIsAsked(t *testing.T) {
	r := newRig(t, nil)
	customer, method := r.customer("", "pm_card_authenticationRequired")
	pi := r.must("POST", "/v1/payment_intents", "amount", "2900", "currency", "usd", "customer", customer, "payment_method", method, "confirm", "true")
	if pi["status"] != "requires_action" || pi["next_action"] == nil || len(r.Charges()) != 0 {
		t.Errorf("%v", pi)
	}
	if e := r.refused(402, "POST", "/v1/payment_intents", "amount", "2900", "currency", "usd", "customer", customer,
		"payment_method", method, "confirm", "true", "error_on_requires_action", "true"); e.Code != "authentication_required" {
		t.Errorf("%+v", e)
	}
}

func TestIntentsThatMayNotBe(t *testing.T) {
	r := newRig(t, nil)
	customer, _ := r.customer("", "pm_card_visa")
	_, others := r.customer("", "pm_card_visa")
	sound := []string{"amount", "2900", "currency", "usd", "customer", customer}
	for name, tt := range map[string]struct {
		pairs       []string
		code, param string
	}{
		"no amount":        {[]string{"currency", "usd"}, "parameter_missing", "amount"},
		"no currency":      {[]string{"amount", "2900"}, "parameter_missing", "currency"},
		"a small amount":   {[]string{"amount", "49", "currency", "usd"}, "amount_too_small", "amount"},
		"no number":        {[]string{"amount", "29.00", "currency", "usd"}, "parameter_invalid_integer", "amount"},
		"a stranger":       {[]string{"amount", "2900", "currency", "usd", "customer", "cus_none"}, "resource_missing", "customer"},
		"another's card":   {append(sound, "payment_method", others), "resource_missing", "payment_method"},
		"no card":          {append(sound, "payment_method", "pm_none"), "resource_missing", "payment_method"},
		"nothing to pay":   {append(sound, "confirm", "true"), "payment_intent_unexpected_state", "payment_method"},
		"off, unconfirmed": {append(sound, "off_session", "true"), "", "off_session"},
		"no boolean":       {append(sound, "confirm", "yes"), "", "confirm"},
		"unknown":          {append(sound, "application_fee", "1"), "parameter_unknown", "application_fee"},
	} {
		t.Run(name, func(t *testing.T) {
			if e := r.refused(400, "POST", "/v1/payment_intents", tt.pairs...); string(e.Code) != tt.code || e.Param != tt.param {
				t.Errorf("%+v", e)
			}
		})
	}
	if n := len(r.Charges()); n != 0 {
		t.Errorf("%d charges were made", n)
	}
}

func TestPaymentMethods(t *testing.T) {
	r := newRig(t, nil)
	pm, err := r.api.V1PaymentMethods.Create(t.Context(), &stripego.PaymentMethodCreateParams{
		Type: new("card"), Card: &stripego.PaymentMethodCreateCardParams{Number: new("4242 4242 4242 4242"), ExpMonth: new(int64(7)), ExpYear: new(int64(2031)), CVC: new("123")},
		BillingDetails: &stripego.PaymentMethodCreateBillingDetailsParams{Name: new("Jane")},
	})
	if err != nil || pm.Card.Last4 != "4242" || pm.Card.ExpYear != 2031 || pm.Customer != nil || pm.BillingDetails.Name != "Jane" {
		t.Fatalf("%+v, %v", pm, err)
	}
	customer := r.post("/v1/customers", "email", "jane@example.test")
	seen := len(r.Events())
	attached, err := r.api.V1PaymentMethods.Attach(t.Context(), pm.ID, &stripego.PaymentMethodAttachParams{Customer: &customer})
	if err != nil || attached.Customer.ID != customer {
		t.Fatalf("%+v, %v", attached, err)
	}
	if e := r.refused(400, "POST", "/v1/payment_methods/"+pm.ID+"/attach", "customer", customer); !strings.Contains(e.Msg, "already been attached") {
		t.Errorf("%+v", e)
	}
	if data := r.must("GET", "/v1/payment_methods", "customer", customer)["data"].([]any); len(data) != 1 {
		t.Errorf("%v", data)
	}
	if data := r.must("GET", "/v1/customers/"+customer+"/payment_methods")["data"].([]any); len(data) != 1 {
		t.Errorf("%v", data)
	}
	r.refused(404, "GET", "/v1/customers/cus_none/payment_methods")
	r.post("/v1/payment_methods/" + pm.ID + "/detach")
	if kinds := r.told(&seen); kinds != "payment_method.attached payment_method.detached" {
		t.Errorf("told %s", kinds)
	}
	last := r.Events()[seen-1]
	if string(last.Data.PreviousAttributes) != `{"customer":"`+customer+`"}` || !strings.Contains(string(last.Data.Object), `"customer":null`) {
		t.Errorf("detached: %+v", last)
	}
	for _, what := range []string{"attach", "detach"} {
		pairs := []string{"customer", customer}
		if what == "detach" {
			pairs = nil
		}
		if e := r.refused(400, "POST", "/v1/payment_methods/"+pm.ID+"/"+what, pairs...); e.Msg == "" {
			t.Errorf("%s again: %+v", what, e)
		}
	}
	if token := r.must("POST", "/v1/payment_methods", "type", "card", "card[token]", "tok_chargeDeclined"); token["id"] == "" {
		t.Errorf("%v", token)
	}
	for _, pairs := range [][]string{{"card[number]", "4111111111111112"}, {"card[token]", "tok_none"}, {"card[token]", "pm_card_visa"}, {}} {
		r.refused(400, "POST", "/v1/payment_methods", append(pairs, "type", "card")...)
	}
	r.refused(400, "POST", "/v1/payment_methods", "type", "sepa_debit")
	r.refused(404, "POST", "/v1/payment_methods/pm_none/attach", "customer", customer)
	if n := len(r.PaymentMethods()); n != 2 {
		t.Errorf("%d payment methods, want 2", n)
	}
}

func TestRefundsAndDisputes(t *testing.T) {
	r := newRig(t, nil)
	customer, method := r.customer("", "pm_card_visa")
	pay := func() (intent, charge string) {
		pi := r.must("POST", "/v1/payment_intents", "amount", "2900", "currency", "usd", "customer", customer, "payment_method", method, "confirm", "true")
		return pi["id"].(string), pi["latest_charge"].(string)
	}
	intent, charge := pay()
	seen := len(r.Events())
	part, err := r.api.V1Refunds.Create(t.Context(), &stripego.RefundCreateParams{Charge: &charge, Amount: new(int64(900)), Reason: new("requested_by_customer")})
	if err != nil || part.Amount != 900 || part.Status != "succeeded" || part.PaymentIntent.ID != intent {
		t.Fatalf("%+v, %v", part, err)
	}
	if e := r.Events()[seen]; e.Type != "charge.refunded" || string(e.Data.PreviousAttributes) != `{"amount_refunded":0}` {
		t.Errorf("%+v", e)
	}
	r.refused(400, "POST", "/v1/refunds", "charge", charge, "amount", "2001")
	r.post("/v1/refunds", "payment_intent", intent)
	if e := decode[stripego.Charge](t, r.Events()[seen+1].Data.Object); !e.Refunded || e.AmountRefunded != 2900 || e.Customer.ID != customer || e.PaymentIntent.ID != intent {
		t.Errorf("%+v", e)
	}
	if e := r.refused(400, "POST", "/v1/refunds", "charge", charge); e.Code != "charge_already_refunded" {
		t.Errorf("%+v", e)
	}
	if data := r.must("GET", "/v1/refunds", "charge", charge)["data"].([]any); len(data) != 2 {
		t.Errorf("%v", data)
	}

	for status, inquiry := range map[string]string{"won": "false", "lost": "false", "warning_closed": "true"} {
		intent, charge := pay()
		seen := len(r.Events())
		id := r.post("/_sim/disputes", "charge", charge, "amount", "2000", "inquiry", inquiry)
		d, err := r.api.V1Disputes.Retrieve(t.Context(), id, nil)
		if err != nil || d.Amount != 2000 || d.PaymentIntent.ID != intent || d.Charge.ID != charge || d.IsChargeRefundable != (inquiry == "true") {
			t.Errorf("%+v, %v", d, err)
		}
		if e := r.refused(400, "POST", "/v1/refunds", "charge", charge); e.Code != "charge_disputed" {
			t.Errorf("%+v", e)
		}
		r.refused(400, "POST", "/_sim/disputes", "charge", charge)
		r.refused(400, "POST", "/_sim/disputes/"+id+"/close", "status", "settled")
		r.post("/_sim/disputes/"+id+"/close", "status", status)
		r.refused(400, "POST", "/_sim/disputes/"+id+"/close", "status", status)
		if kinds := r.told(&seen); kinds != "charge.dispute.created charge.dispute.closed" {
			t.Errorf("told %s", kinds)
		}
		if d := decode[stripego.Dispute](t, r.Events()[seen-1].Data.Object); string(d.Status) != status {
			t.Errorf("%+v", d)
		}
	}
	if n := len(r.Disputes()); n != 3 {
		t.Errorf("%d disputes, want 3", n)
	}
	r.Decline(1)
	r.refused(402, "POST", "/v1/payment_intents", "amount", "2900", "currency", "usd", "customer", customer, "payment_method", method, "confirm", "true")
	failed := r.Charges()[len(r.Charges())-1].ID
	r.refused(400, "POST", "/v1/refunds", "charge", failed)
	pay() // only one was declined
}

func TestCustomersAreUpdated(t *testing.T) {
	r := newRig(t, nil)
	customer, method := r.customer("", "pm_card_visa")
	seen := len(r.Events())
	got, err := r.api.V1Customers.Update(t.Context(), customer, &stripego.CustomerUpdateParams{
		Name: new("Jane"), Metadata: map[string]string{"a": "1", "b": "2"},
	})
	if err != nil || got.Name != "Jane" || got.Email != "jane@example.test" || got.Metadata["a"] != "1" || got.InvoiceSettings.DefaultPaymentMethod.ID != method {
		t.Fatalf("%+v, %v", got, err)
	}
	if e := r.Events()[seen]; e.Type != "customer.updated" || string(e.Data.PreviousAttributes) != `{"metadata":{"a":null,"b":null},"name":null}` {
		t.Errorf("%+v", e)
	}
	if c := r.must("POST", "/v1/customers/"+customer, "metadata[a]", "", "email", "")["metadata"].(map[string]any); len(c) != 1 || c["b"] != "2" {
		t.Errorf("%v", c)
	}
	if c := r.must("POST", "/v1/customers/"+customer, "metadata", ""); len(c["metadata"].(map[string]any)) != 0 || c["email"] != nil {
		t.Errorf("%v", c)
	}
	seen = len(r.Events())
	r.post("/v1/customers/"+customer, "name", "Jane")
	if kinds := r.told(&seen); kinds != "" {
		t.Errorf("what changes nothing tells %s", kinds)
	}
	_, others := r.customer("", "pm_card_visa")
	if e := r.refused(400, "POST", "/v1/customers/"+customer, "invoice_settings[default_payment_method]", others); e.Code != "resource_missing" {
		t.Errorf("%+v", e)
	}
	r.post("/v1/customers/"+customer, "invoice_settings[default_payment_method]", "")
	if c := r.Customers()[0]; c.InvoiceSettings.DefaultPaymentMethod != "" {
		t.Errorf("%+v", c)
	}
}

func TestLivemodeFollowsTheKey(t *testing.T) {
	r := newRig(t, nil)
	for _, prefix := range []string{"sk_live_", "rk_live_", "sk_test_", "rk_test_"} {
		live := strings.Contains(prefix, "live")
		c, err := clientOf(prefix+"1234567890", r.URL()).V1Customers.Create(t.Context(), &stripego.CustomerCreateParams{Email: new("jane@example.test")})
		if err != nil || c.Livemode != live {
			t.Errorf("%s: %+v, %v", prefix, c, err)
		}
		if e := r.Events()[len(r.Events())-1]; e.Livemode != live {
			t.Errorf("%s: %+v", prefix, e)
		}
	}
	for _, key := range []string{"", "pk_test_1234567890", "sk"} {
		_, err := clientOf(key, r.URL()).V1Customers.Create(t.Context(), nil)
		if err == nil {
			t.Errorf("%q is taken", key)
		}
	}
}

func TestPrices(t *testing.T) {
	r := newRig(t, nil)
	found := r.must("GET", "/v1/prices", "lookup_keys[]", "pro_monthly")["data"].([]any)
	if len(found) != 1 || found[0].(map[string]any)["id"] != "price_pro" {
		t.Errorf("%v", found)
	}
	other, err := r.api.V1Prices.Retrieve(t.Context(), "price_other", nil)
	if err != nil || other.LookupKey != "" || other.Recurring.Interval != "month" || other.UnitAmount == 0 {
		t.Errorf("%+v, %v", other, err)
	}
	made, err := r.api.V1Prices.Create(t.Context(), &stripego.PriceCreateParams{
		Currency: new("usd"), UnitAmount: new(int64(500)), Product: new("prod_pro"), Metadata: map[string]string{"plan": "pro"},
		Recurring: &stripego.PriceCreateRecurringParams{Interval: new("year"), IntervalCount: new(int64(2))},
	})
	if err != nil || made.Metadata["plan"] != "pro" || made.Recurring.IntervalCount != 2 || made.Type != "recurring" || made.UnitAmountDecimal != 500 {
		t.Errorf("%+v, %v", made, err)
	}
	if once := r.must("POST", "/v1/prices", "currency", "usd", "unit_amount", "1", "product", "prod_pro"); once["type"] != "one_time" || once["recurring"] != nil {
		t.Errorf("%v", once)
	}
	r.refused(400, "POST", "/v1/prices", "currency", "usd", "product", "prod_none")
	r.refused(400, "POST", "/v1/prices", "currency", "usd", "product", "prod_pro", "recurring[interval]", "moon")
	if p := r.must("GET", "/v1/products/prod_pro"); p["name"] != "Pro" {
		t.Errorf("%v", p)
	}
}
