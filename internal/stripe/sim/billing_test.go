package sim_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	stripego "github.com/stripe/stripe-go/v85"

	"gatehouse/internal/stripe/sim"
)

// subscribe is a subscription of a new customer with this card, or without one.
func (r *rig) subscribe(clock, card string, pairs ...string) string {
	r.Helper()
	var customer string
	if card == "" {
		customer = r.post("/v1/customers", "test_clock", clock)
	} else {
		customer, _ = r.customer(clock, card)
	}
	return r.post("/v1/subscriptions", append(pairs, "customer", customer, "items[0][price]", "price_pro")...)
}

func (r *rig) invoice(id string) sim.Invoice {
	r.Helper()
	for _, inv := range r.Invoices() {
		if inv.ID == id {
			return inv
		}
	}
	r.Fatalf("there is no invoice %s", id)
	return sim.Invoice{}
}

func TestFirstPaymentThatNeverComes(t *testing.T) {
	for _, card := range []string{"pm_card_chargeDeclined", ""} {
		r := newRig(t, nil)
		clock, seen := r.clock(), 0
		id := r.subscribe(clock, card)
		sub := r.subscription(id)
		if inv := r.invoice(sub.LatestInvoice); sub.Status != "incomplete" || inv.Status != "open" || inv.AttemptCount != 1 || inv.NextPaymentAttempt != 0 || inv.AmountRemaining != 59900 {
			t.Errorf("%+v\n%+v", sub, inv)
		}
		if kinds := r.told(&seen); !strings.HasSuffix(kinds, " invoice.payment_failed") || strings.Contains(kinds, "customer.subscription.updated") {
			t.Errorf("told %s", kinds)
		}
		r.advance(clock, began+23*3600-1)
		r.mustTell(&seen)
		r.advance(clock, began+23*3600)
		r.mustTell(&seen, "invoice.voided", "customer.subscription.updated")
		if sub := r.subscription(id); sub.Status != "incomplete_expired" || r.invoice(sub.LatestInvoice).Status != "void" {
			t.Errorf("%+v", sub)
		}
		r.refused(400, "POST", "/v1/subscriptions/"+id, "metadata[a]", "1")
		r.refused(404, "DELETE", "/v1/subscriptions/"+id)
	}
}

func TestFirstPaymentThatComesLater(t *testing.T) {
	r := newRig(t, nil)
	id := r.subscribe("", "pm_card_chargeDeclined")
	sub := r.subscription(id)
	if e := r.refused(402, "POST", "/v1/invoices/"+sub.LatestInvoice+"/pay"); e.DeclineCode != "generic_decline" {
		t.Errorf("%+v", e)
	}
	good := r.post("/v1/payment_methods/pm_card_visa/attach", "customer", sub.Customer)
	seen := len(r.Events())
	inv, err := r.api.V1Invoices.Pay(t.Context(), sub.LatestInvoice, &stripego.InvoicePayParams{PaymentMethod: &good})
	if err != nil || inv.Status != "paid" || inv.AttemptCount != 3 {
		t.Fatalf("%+v, %v", inv, err)
	}
	r.mustTell(&seen, "charge.succeeded", "payment_intent.succeeded", "invoice_payment.paid", "invoice.paid", "invoice.payment_succeeded", "customer.subscription.updated")
	if sub := r.subscription(id); sub.Status != "active" {
		t.Errorf("%+v", sub)
	}
	r.refused(400, "POST", "/v1/invoices/"+sub.LatestInvoice+"/pay")
	if n := len(r.Intents()); n != 1 {
		t.Errorf("%d intents for one invoice", n)
	}
}

func TestPaymentThatFailsForGood(t *testing.T) {
	for _, unpaid := range []bool{false, true} {
		r := newRig(t, func(o *sim.Options) { o.Unpaid = unpaid })
		clock := r.clock()
		id := r.subscribe(clock, "pm_card_visa")
		end := int64(r.subscription(id).Items.Data[0].CurrentPeriodEnd)
		r.advance(clock, end)
		r.Decline(3)
		seen := len(r.Events())
		r.advance(clock, end+3600+2*day)
		failed := []string{"charge.failed", "payment_intent.payment_failed", "invoice.payment_failed"}
		want := append([]string{"payment_intent.created", "invoice.finalized"}, failed...)
		want = append(want, "customer.subscription.updated")
		want = append(append(want, failed...), failed...)
		last := "customer.subscription.deleted"
		if unpaid {
			last = "customer.subscription.updated"
		}
		r.mustTell(&seen, append(want, last)...)
		sub := r.subscription(id)
		if inv := r.invoice(sub.LatestInvoice); inv.Status != "open" || inv.AttemptCount != 3 || inv.NextPaymentAttempt != 0 {
			t.Errorf("%+v", inv)
		}
		if unpaid {
			r.post("/v1/invoices/" + sub.LatestInvoice + "/pay")
			if sub := r.subscription(id); sub.Status != "active" {
				t.Errorf("%+v", sub)
			}
		} else if sub.Status != "canceled" || sub.CancellationDetails.Reason != "payment_failed" {
			t.Errorf("%+v", sub)
		}
	}
}

func TestTrial(t *testing.T) {
	r := newRig(t, nil)
	clock := r.clock()
	customer, _ := r.customer(clock, "pm_card_visa")
	seen := len(r.Events())
	sub, err := r.api.V1Subscriptions.Create(t.Context(), &stripego.SubscriptionCreateParams{
		Customer: &customer, TrialPeriodDays: new(int64(14)), PaymentBehavior: new("default_incomplete"),
		Items: []*stripego.SubscriptionCreateItemParams{{Price: new("price_pro"), Quantity: new(int64(2))}, {Price: new("price_other")}},
	})
	if err != nil || sub.Status != "trialing" || sub.TrialEnd != began+14*day || sub.Items.Data[0].CurrentPeriodEnd != sub.TrialEnd || sub.Items.Data[0].Quantity != 2 {
		t.Fatalf("%+v, %v", sub, err)
	}
	// The first invoice is of nothing, and is paid.
	r.mustTell(&seen, "customer.subscription.created", "invoice.created", "invoice.finalized", "invoice.paid", "invoice.payment_succeeded")
	r.advance(clock, sub.TrialEnd+3600)
	if inv := r.invoice(r.subscription(sub.ID).LatestInvoice); inv.Status != "paid" || inv.AmountPaid != 2*59900+1900 || len(inv.Lines.Data) != 2 {
		t.Errorf("%+v", inv)
	}
	if sub := r.subscription(sub.ID); sub.Status != "active" || int64(sub.Items.Data[0].CurrentPeriodEnd) != time.Date(2027, 3, 14, 12, 0, 0, 0, time.UTC).Unix() {
		t.Errorf("%+v", sub)
	}
}

func TestInvoicesMayEndOtherwise(t *testing.T) {
	r := newRig(t, nil)
	sub := r.subscription(r.subscribe("", "pm_card_chargeDeclined"))
	seen := len(r.Events())
	r.post("/v1/invoices/"+sub.LatestInvoice+"/pay", "paid_out_of_band", "true")
	r.mustTell(&seen, "invoice.paid", "customer.subscription.updated") // no payment has succeeded
	sub = r.subscription(r.subscribe("", "pm_card_chargeDeclined"))
	seen = len(r.Events())
	r.post("/v1/invoices/" + sub.LatestInvoice + "/void")
	r.mustTell(&seen, "invoice.voided")
	r.refused(400, "POST", "/v1/invoices/"+sub.LatestInvoice+"/void")
	r.refused(400, "POST", "/v1/invoices/"+sub.LatestInvoice+"/pay")
	for status, want := range map[string]int{"": 2, "paid": 1, "void": 1, "open": 0} {
		if data := r.must("GET", "/v1/invoices", "status", status)["data"].([]any); len(data) != want {
			t.Errorf("%s: %v", status, data)
		}
	}
	found := 0
	for p, err := range r.api.V1InvoicePayments.List(t.Context(), &stripego.InvoicePaymentListParams{
		Payment: &stripego.InvoicePaymentListPaymentParams{Type: new("payment_intent"), PaymentIntent: new(r.Intents()[1].ID)},
	}).All(t.Context()) {
		if found++; err != nil || p.Invoice.ID != sub.LatestInvoice || p.Status != "canceled" {
			t.Errorf("%+v, %v", p, err)
		}
	}
	if data := r.must("GET", "/v1/invoice_payments", "invoice", sub.LatestInvoice)["data"].([]any); found != 1 || len(data) != 1 {
		t.Errorf("%d and %v", found, data)
	}
}

func TestSubscriptionsAreChanged(t *testing.T) {
	r := newRig(t, nil)
	clock := r.clock()
	id := r.subscribe(clock, "pm_card_visa", "metadata[org]", "org_1")
	seen := len(r.Events())
	got, err := r.api.V1Subscriptions.Update(t.Context(), id, &stripego.SubscriptionUpdateParams{CancelAtPeriodEnd: new(true), Metadata: map[string]string{"org": "org_2"}})
	if err != nil || got.CancelAt != got.Items.Data[0].CurrentPeriodEnd || got.Status != "active" || got.Metadata["org"] != "org_2" {
		t.Fatalf("%+v, %v", got, err)
	}
	want := `{"cancel_at":null,"cancel_at_period_end":false,"canceled_at":null,"cancellation_details":{"reason":null},"metadata":{"org":"org_1"}}`
	if e := r.Events()[seen]; string(e.Data.PreviousAttributes) != want {
		t.Errorf("previous attributes %s, want %s", e.Data.PreviousAttributes, want)
	}
	r.post("/v1/subscriptions/"+id, "cancel_at_period_end", "false")
	item := r.subscription(id).Items.Data[0].ID
	r.post("/v1/subscriptions/"+id, "items[0][id]", item, "items[0][price]", "price_other", "proration_behavior", "none")
	r.refused(400, "POST", "/v1/subscriptions/"+id, "items[0][price]", "price_pro")
	r.refused(400, "POST", "/v1/subscriptions/"+id, "items[0][id]", "si_none", "items[0][price]", "price_pro")
	sub := r.subscription(id)
	if sub.CancelAtPeriodEnd || sub.CanceledAt != 0 || sub.Items.Data[0].Price.ID != "price_other" {
		t.Errorf("%+v", sub)
	}
	r.advance(clock, int64(sub.Items.Data[0].CurrentPeriodEnd)+3600)
	if inv := r.invoice(r.subscription(id).LatestInvoice); inv.AmountPaid != 1900 || inv.Parent.SubscriptionDetails.Metadata["org"] != "org_2" {
		t.Errorf("%+v", inv)
	}
	card := r.PaymentMethods()[0].ID
	r.post("/v1/subscriptions/"+id, "default_payment_method", card)
	r.post("/v1/payment_methods/" + card + "/detach")
	if sub := r.subscription(id); sub.DefaultPaymentMethod != "" {
		t.Errorf("%+v", sub)
	}
	seen = len(r.Events())
	gone, err := r.api.V1Subscriptions.Cancel(t.Context(), id, nil)
	if err != nil || gone.Status != "canceled" || gone.EndedAt == 0 || gone.EndedAt != gone.CanceledAt {
		t.Errorf("%+v, %v", gone, err)
	}
	r.mustTell(&seen, "customer.subscription.deleted")
	r.refused(404, "DELETE", "/v1/subscriptions/"+id)
	for status, want := range map[string]int{"": 0, "all": 1, "canceled": 1, "active": 0} {
		if data := r.must("GET", "/v1/subscriptions", "status", status, "customer", sub.Customer)["data"].([]any); len(data) != want {
			t.Errorf("%s: %v", status, data)
		}
	}
}

func TestCanceledSubscriptionIsChargedNoMore(t *testing.T) {
	r := newRig(t, nil)
	clock := r.clock()
	open, draft := r.subscribe(clock, "pm_card_visa"), r.subscribe(clock, "pm_card_visa")
	r.advance(clock, began+28*day)
	r.must("DELETE", "/v1/subscriptions/"+draft) // its invoice is a draft
	r.Decline(1)
	r.advance(clock, began+28*day+3600)
	r.must("DELETE", "/v1/subscriptions/"+open) // its payment would be tried again
	seen := len(r.Events())
	r.advance(clock, began+40*day)
	r.mustTell(&seen)
	if inv := r.invoice(r.subscription(open).LatestInvoice); inv.Status != "open" || inv.AttemptCount != 1 || inv.NextPaymentAttempt != 0 || inv.AutoAdvance {
		t.Errorf("%+v", inv)
	}
	if inv := r.invoice(r.subscription(draft).LatestInvoice); inv.Status != "draft" {
		t.Errorf("%+v", inv)
	}
}

func TestClocksAreApart(t *testing.T) {
	r := newRig(t, nil)
	one, other := r.clock(), r.clock()
	mine, theirs := r.subscribe(one, "pm_card_visa"), r.subscribe(other, "pm_card_visa")
	before := r.subscription(theirs)
	r.advance(one, began+28*day)
	r.advance(other, began+1)
	r.advance(one, began+28*day+3600)
	if was, is := before.LatestInvoice, r.subscription(theirs).LatestInvoice; was != is {
		t.Error("a clock moves another's subscription")
	}
	if inv := r.invoice(r.subscription(mine).LatestInvoice); inv.Status != "paid" || int64(inv.Created) != began+28*day {
		t.Errorf("%+v", inv)
	}
	r.advance(other, began+28*day)
	r.advance(one, began+29*day)
	if inv := r.invoice(r.subscription(theirs).LatestInvoice); inv.Status != "draft" {
		t.Errorf("a clock pays another's invoice: %+v", inv)
	}
}

func TestSubscriptionsThatMayNotBe(t *testing.T) {
	r := newRig(t, nil)
	customer, _ := r.customer("", "pm_card_visa")
	_, others := r.customer("", "pm_card_visa")
	once := r.post("/v1/prices", "currency", "usd", "unit_amount", "1", "product", "prod_pro")
	daily := r.post("/v1/prices", "currency", "usd", "unit_amount", "1", "product", "prod_pro", "recurring[interval]", "day")
	for name, pairs := range map[string][]string{
		"no customer":    {"items[0][price]", "price_pro"},
		"no price":       {"customer", customer},
		"another price":  {"customer", customer, "items[0][price]", "price_none"},
		"once":           {"customer", customer, "items[0][price]", once},
		"two intervals":  {"customer", customer, "items[0][price]", "price_pro", "items[1][price]", daily},
		"another's card": {"customer", customer, "items[0][price]", "price_pro", "default_payment_method", others},
		"unknown":        {"customer", customer, "items[0][price]", "price_pro", "items[0][plan]", "pro"},
	} {
		if e := r.refused(400, "POST", "/v1/subscriptions", pairs...); e.Type != "invalid_request_error" || e.Msg == "" {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if n := len(r.Subscriptions()) + len(r.Invoices()); n != 0 {
		t.Errorf("%d subscriptions and invoices were made", n)
	}
}

func TestClocks(t *testing.T) {
	r := newRig(t, nil)
	clock, err := r.api.V1TestHelpersTestClocks.Create(t.Context(), &stripego.TestHelpersTestClockCreateParams{FrozenTime: new(began), Name: new("a year")})
	if err != nil || clock.Status != "ready" || clock.FrozenTime != began {
		t.Fatalf("%+v, %v", clock, err)
	}
	customer, _ := r.customer(clock.ID, "pm_card_visa")
	r.customer("", "pm_card_visa") // on no clock
	daily := r.post("/v1/prices", "currency", "usd", "unit_amount", "100", "product", "prod_other", "recurring[interval]", "day", "recurring[interval_count]", "2")
	r.post("/v1/subscriptions", "customer", customer, "items[0][price]", daily)
	if e := r.refused(400, "POST", "/v1/test_helpers/test_clocks/"+clock.ID+"/advance", "frozen_time", fmt.Sprint(began+4*day+1)); !strings.Contains(e.Msg, "two intervals") {
		t.Errorf("%+v", e)
	}
	r.refused(400, "POST", "/v1/test_helpers/test_clocks/"+clock.ID+"/advance", "frozen_time", fmt.Sprint(began))
	advanced, err := r.api.V1TestHelpersTestClocks.Advance(t.Context(), clock.ID, &stripego.TestHelpersTestClockAdvanceParams{FrozenTime: new(began + 4*day)})
	if err != nil || advanced.Status != "advancing" {
		t.Errorf("%+v, %v", advanced, err)
	}
	if got, err := r.api.V1TestHelpersTestClocks.Retrieve(t.Context(), clock.ID, nil); err != nil || got.Status != "ready" || got.FrozenTime != began+4*day {
		t.Errorf("%+v, %v", got, err)
	}
	if n := len(r.Invoices()); n != 3 { // the third is still a draft
		t.Errorf("%d invoices, want 3", n)
	}
	last := r.Events()[len(r.Events())-1]
	if int64(last.Created) != began+4*day || last.Request.ID != "" {
		t.Errorf("%+v", last)
	}
	if data := r.must("GET", "/v1/customers", "test_clock", clock.ID)["data"].([]any); len(data) != 1 {
		t.Errorf("%v", data)
	}
	if gone := r.must("DELETE", "/v1/test_helpers/test_clocks/"+clock.ID); gone["deleted"] != true {
		t.Errorf("%v", gone)
	}
	r.refused(404, "GET", "/v1/customers/"+customer)
	if n := len(r.Customers()); n != 1 || len(r.Subscriptions())+len(r.Invoices())+len(r.Intents()) != 0 {
		t.Errorf("%d customers are left, want 1, and no more", n)
	}
}

func TestWithoutAClockTimeIsReal(t *testing.T) {
	var mu sync.Mutex
	now := time.Unix(began, 0)
	r := newRig(t, func(o *sim.Options) {
		o.Now = func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return now
		}
	})
	id := r.subscribe("", "pm_card_visa")
	seen := len(r.Events())
	r.Renew()
	r.mustTell(&seen)
	for _, to := range []int64{28 * day, 28*day + 3600} {
		mu.Lock()
		now = time.Unix(began+to, 0)
		mu.Unlock()
		r.Renew()
	}
	r.mustTell(&seen, "invoice.created", "customer.subscription.updated", "payment_intent.created", "invoice.finalized", "charge.succeeded",
		"payment_intent.succeeded", "invoice_payment.paid", "invoice.paid", "invoice.payment_succeeded")
	if sub := r.subscription(id); sub.Status != "active" || r.invoice(sub.LatestInvoice).Status != "paid" {
		t.Errorf("%+v", sub)
	}
	mu.Lock()
	now = time.Date(2027, 6, 1, 0, 0, 0, 0, time.UTC)
	mu.Unlock()
	r.Renew() // what it has slept through: 31 March, 30 April and 31 May
	if sub := r.subscription(id); len(r.Invoices()) != 5 || sub.Items.Data[0].CurrentPeriodEnd != sim.Stamp(time.Date(2027, 6, 30, 12, 0, 0, 0, time.UTC).Unix()) {
		t.Errorf("%d invoices, %+v", len(r.Invoices()), sub)
	}
	mu.Lock()
	now = now.Add(30*24*time.Hour + time.Second)
	mu.Unlock()
	r.post("/v1/customers")
	if all := r.Events(); len(all) != 1 || all[0].Type != "customer.created" {
		t.Errorf("after 30 days: %+v", all)
	}
}
