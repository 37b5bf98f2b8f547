package sim_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/stripe/sim"
)

const day = 24 * 3600

// began is where clocks begin: 31 January 2027, 12:00 UTC.
var began = time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC).Unix()

func (r *rig) clock() string {
	r.Helper()
	return r.post("/v1/test_helpers/test_clocks", "frozen_time", fmt.Sprint(began))
}

func (r *rig) subscription(id string) sim.Subscription {
	r.Helper()
	for _, sub := range r.Subscriptions() {
		if sub.ID == id {
			return sub
		}
	}
	r.Fatalf("there is no subscription %s", id)
	return sim.Subscription{}
}

func (r *rig) mustTell(seen *int, want ...string) {
	r.Helper()
	if got := r.told(seen); got != strings.Join(want, " ") {
		r.Fatalf("told %s\nwant %s", strings.ReplaceAll(got, " ", "\n     "), strings.Join(want, "\n     "))
	}
}

func TestLifeOfASubscription(t *testing.T) {
	r, seen := newRig(t, nil), 0
	clock := r.clock()
	customer, method := r.customer(clock, "pm_card_visa")
	r.mustTell(&seen, "customer.created", "payment_method.attached", "customer.updated")

	id := r.post("/v1/subscriptions", "customer", customer, "items[0][price]", "price_pro", "metadata[org]", "org_1")
	r.mustTell(&seen, "customer.subscription.created", "invoice.created", "payment_intent.created", "invoice.finalized",
		"charge.succeeded", "payment_intent.succeeded", "invoice_payment.paid", "invoice.paid", "invoice.payment_succeeded")
	first := time.Date(2027, 2, 28, 12, 0, 0, 0, time.UTC).Unix() // a month of 31 January
	if sub := r.subscription(id); sub.Status != "active" || int64(sub.Items.Data[0].CurrentPeriodEnd) != first || int64(sub.Created) != began {
		t.Errorf("at first: %+v", sub)
	}

	r.advance(clock, first)
	r.mustTell(&seen, "invoice.created", "customer.subscription.updated")
	if e := r.Events()[seen-1]; int64(e.Created) != first || !strings.Contains(string(e.Data.PreviousAttributes), fmt.Sprintf(`"current_period_end":%d`, first)) {
		t.Errorf("the renewal: %+v", e)
	}
	// An invoice's own period is the one before; its lines are of the one that is paid for.
	if inv := r.invoice(r.subscription(id).LatestInvoice); int64(inv.PeriodStart) != began || int64(inv.PeriodEnd) != first || int64(inv.Lines.Data[0].Period.Start) != first || inv.Status != "draft" {
		t.Errorf("the renewal's invoice: %+v", inv)
	}
	r.advance(clock, first+3599)
	r.mustTell(&seen)
	r.advance(clock, first+3600) // a draft lasts an hour
	paid := []string{"payment_intent.created", "invoice.finalized", "charge.succeeded", "payment_intent.succeeded",
		"invoice_payment.paid", "invoice.paid", "invoice.payment_succeeded"}
	r.mustTell(&seen, paid...)
	second := time.Date(2027, 3, 31, 12, 0, 0, 0, time.UTC).Unix() // of the anchor's day again
	if sub := r.subscription(id); int64(sub.Items.Data[0].CurrentPeriodEnd) != second {
		t.Errorf("the second period ends at %d, want %d", sub.Items.Data[0].CurrentPeriodEnd, second)
	}

	r.post("/v1/payment_methods/" + method + "/detach")
	r.mustTell(&seen, "payment_method.detached", "customer.updated")
	bad := r.post("/v1/payment_methods/pm_card_chargeDeclined/attach", "customer", customer)
	r.post("/v1/subscriptions/"+id, "default_payment_method", bad)
	r.mustTell(&seen, "payment_method.attached", "customer.subscription.updated")
	r.advance(clock, second+3600)
	failed := []string{"charge.failed", "payment_intent.payment_failed", "invoice.payment_failed"}
	r.mustTell(&seen, append([]string{"invoice.created", "customer.subscription.updated", "payment_intent.created", "invoice.finalized"},
		append(failed, "customer.subscription.updated")...)...)
	if sub := r.subscription(id); sub.Status != "past_due" {
		t.Errorf("the status is %s, want past_due", sub.Status)
	}
	if e := r.Events()[seen-1]; string(e.Data.PreviousAttributes) != `{"status":"active"}` {
		t.Errorf("previous attributes %s", e.Data.PreviousAttributes)
	}
	r.advance(clock, second+3600+day)
	r.mustTell(&seen, failed...)
	open := r.subscription(id).LatestInvoice
	good := r.post("/v1/payment_methods/pm_card_visa/attach", "customer", customer)
	r.post("/v1/invoices/"+open+"/pay", "payment_method", good)
	r.mustTell(&seen, append([]string{"payment_method.attached"}, append(paid[2:], "customer.subscription.updated")...)...)
	if sub := r.subscription(id); sub.Status != "active" {
		t.Errorf("the status is %s, want active", sub.Status)
	}

	r.post("/v1/subscriptions/"+id, "cancel_at_period_end", "true")
	r.mustTell(&seen, "customer.subscription.updated")
	r.advance(clock, time.Date(2027, 4, 30, 12, 0, 0, 0, time.UTC).Unix())
	r.mustTell(&seen, "customer.subscription.deleted")
	if sub := r.subscription(id); sub.Status != "canceled" || sub.EndedAt == sub.CanceledAt || sub.CancellationDetails.Reason != "cancellation_requested" {
		t.Errorf("at the end: %+v", sub)
	}
	r.quiet()
	if came := len(r.hook.requests()); came != seen {
		t.Errorf("%d events came, want %d", came, seen)
	}
}
