package sim_test

import (
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
	stripego "github.com/stripe/stripe-go/v85"

	"gatehouse/internal/stripe/stripetest"
)

// made has one of each object, seen by the API.
func made(r *rig) map[string]map[string]any {
	r.Helper()
	clock := r.clock()
	id := r.subscribe(clock, "pm_card_visa", "metadata[org]", "org_1")
	sub := r.subscription(id)
	charge := r.Charges()[0]
	refund := r.post("/v1/refunds", "charge", charge.ID, "amount", "100")
	dispute := r.post("/_sim/disputes", "charge", charge.ID)
	payment := r.must("GET", "/v1/invoice_payments")["data"].([]any)[0].(map[string]any)["id"].(string)
	all := make(map[string]map[string]any)
	for _, path := range []string{
		"/v1/customers/" + sub.Customer, "/v1/products/prod_pro", "/v1/prices/price_pro", "/v1/payment_methods/" + charge.PaymentMethod,
		"/v1/payment_intents/" + charge.PaymentIntent, "/v1/charges/" + charge.ID, "/v1/subscriptions/" + id, "/v1/invoices/" + sub.LatestInvoice,
		"/v1/invoice_payments/" + payment, "/v1/refunds/" + refund, "/v1/disputes/" + dispute, "/v1/events/" + r.Events()[0].ID,
		"/v1/test_helpers/test_clocks/" + clock, "/v1/customers", "/v1/subscriptions", "/v1/events",
	} {
		all[path] = r.must("GET", path)
	}
	return all
}

// TestKeysAreStripes holds every key that the stand-in answers, and its type,
// against Stripe's own description of its API.
func TestKeysAreStripes(t *testing.T) {
	base := stripetest.Mock(t)
	r := newRig(t, nil)
	for path, ours := range made(r) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+testKey)
		resp, err := new(http.Client).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var theirs map[string]any
		err = json.UnmarshalRead(resp.Body, &theirs)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
		}
		compare(t, fmt.Sprint(ours["object"]), ours, theirs)
	}
}

// optional are keys that stripe-mock leaves out of its examples, though its
// description has them.
var optional = []string{
	"invoice.lines.pricing.price_details",
	"invoice_payment.payment.payment_intent",
	"list.data.previous_attributes", // of an event
}

func compare(t *testing.T, at string, ours, theirs any) {
	t.Helper()
	switch ours := ours.(type) {
	case map[string]any:
		their, ok := theirs.(map[string]any)
		if !ok {
			break
		}
		for key, value := range ours {
			if _, shown := value.(map[string]any); key == "metadata" || key == "object" && shown {
				continue // anything, also as what an event shows
			}
			name := at + "." + key
			known, ok := their[key]
			if !ok && !slices.Contains(optional, name) {
				t.Errorf("%s is no key of Stripe's", name)
			} else if ok {
				compare(t, name, value, known)
			}
		}
		return
	case []any:
		their, ok := theirs.([]any)
		if !ok {
			break
		}
		for _, row := range ours {
			if len(their) > 0 {
				compare(t, at[:len(at)-len(".data")], row, their[0])
			}
		}
		return
	}
	if ours != nil && theirs != nil && fmt.Sprintf("%T", ours) != fmt.Sprintf("%T", theirs) {
		t.Errorf("%s is a %T, and a %T of Stripe's", at, ours, theirs)
	}
}

func TestObjectsDecodeIntoStripeGosTypes(t *testing.T) {
	r := newRig(t, nil)
	made(r)
	r.quiet()
	objects := make(map[string][]byte)
	for _, e := range r.hook.events(t) {
		objects[string(e.Type)] = e.Data.Raw
	}
	sub := decode[stripego.Subscription](t, objects["customer.subscription.created"])
	item := sub.Items.Data[0]
	if sub.Object != "subscription" || sub.Customer.ID == "" || sub.Status != "active" || sub.BillingMode.Type != "flexible" || sub.LatestInvoice.ID == "" ||
		sub.Metadata["org"] != "org_1" || sub.TestClock.ID == "" || sub.CollectionMethod != "charge_automatically" || sub.StartDate != began || sub.Currency != "usd" {
		t.Errorf("%+v", sub)
	}
	if item.Price.LookupKey != "pro_monthly" || item.Price.Metadata == nil || item.Price.UnitAmount != 59900 || item.Price.Recurring.Interval != "month" ||
		item.Price.Product.ID != "prod_pro" || item.CurrentPeriodStart != began || item.CurrentPeriodEnd <= began || item.Quantity != 1 || item.Subscription != sub.ID {
		t.Errorf("%+v", item)
	}
	inv := decode[stripego.Invoice](t, objects["invoice.paid"])
	line := inv.Lines.Data[0]
	if inv.Status != "paid" || inv.Parent.SubscriptionDetails.Subscription.ID != sub.ID || inv.Parent.SubscriptionDetails.Metadata["org"] != "org_1" ||
		inv.BillingReason != "subscription_create" || inv.AmountPaid != 59900 || inv.AmountRemaining != 0 || !inv.Attempted || inv.AttemptCount != 1 ||
		inv.StatusTransitions.PaidAt != began || inv.StatusTransitions.FinalizedAt != began || inv.NextPaymentAttempt != 0 || inv.AutoAdvance || inv.CustomerEmail != "jane@example.test" {
		t.Errorf("%+v", inv)
	}
	if line.Pricing.PriceDetails.Price.ID != "price_pro" || line.Pricing.PriceDetails.Product != "prod_pro" || line.Pricing.UnitAmountDecimal != 59900 ||
		line.Parent.SubscriptionItemDetails.SubscriptionItem != item.ID || line.Parent.SubscriptionItemDetails.Proration || line.Period.End != item.CurrentPeriodEnd || line.Quantity != 1 {
		t.Errorf("%+v", line)
	}
	payment := decode[stripego.InvoicePayment](t, objects["invoice_payment.paid"])
	pi := decode[stripego.PaymentIntent](t, objects["payment_intent.succeeded"])
	if payment.Invoice.ID != inv.ID || payment.Payment.PaymentIntent.ID != pi.ID || payment.Status != "paid" || payment.AmountPaid != 59900 || payment.StatusTransitions.PaidAt != began {
		t.Errorf("%+v", payment)
	}
	charge := decode[stripego.Charge](t, objects["charge.refunded"])
	if pi.LatestCharge.ID != charge.ID || pi.Customer.ID != sub.Customer.ID || pi.ClientSecret == "" || charge.PaymentIntent.ID != pi.ID || charge.AmountRefunded != 100 || charge.Refunded || !charge.Captured {
		t.Errorf("%+v\n%+v", pi, charge)
	}
	pm := decode[stripego.PaymentMethod](t, objects["payment_method.attached"])
	if pm.Type != "card" || pm.Card.Last4 != "4242" || pm.Card.Brand != "visa" || pm.Card.Fingerprint == "" || pm.Customer.ID != sub.Customer.ID || charge.PaymentMethod != pm.ID || pm.Created != began {
		t.Errorf("%+v", pm)
	}
	d := decode[stripego.Dispute](t, objects["charge.dispute.created"])
	if d.Charge.ID != charge.ID || d.PaymentIntent.ID != pi.ID || d.Amount != 59900 || d.Status != "needs_response" || d.IsChargeRefundable || d.EvidenceDetails.DueBy <= began {
		t.Errorf("%+v", d)
	}
}
