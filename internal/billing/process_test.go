package billing_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
)

// tray is an inbox of one event.
type tray struct {
	billing.Inbox
	event         billing.StoredEvent
	prices        []string // that are known to be Pro's
	subscriptions []string // likewise
	err           map[string]error
	applied       []billing.Change
	parks         string // for what the store parks it
}

func (i *tray) Event(context.Context, string) (billing.StoredEvent, error) {
	return i.event, i.err["event"]
}

func (i *tray) ProPrices(_ context.Context, prices []string, subscription string) (known []string, isPro bool, err error) {
	for _, id := range prices {
		if slices.Contains(i.prices, id) {
			known = append(known, id)
		}
	}
	return known, slices.Contains(i.subscriptions, subscription), i.err["prices"]
}

func (i *tray) Apply(_ context.Context, c billing.Change) (billing.StoredEvent, error) {
	if err := i.err["apply"]; err != nil {
		return billing.StoredEvent{}, err
	}
	i.applied = append(i.applied, c)
	i.event.State, i.event.Reason, i.event.WaitsFor = c.State, c.Reason, c.WaitsFor
	if i.parks != "" {
		i.event.State, i.event.WaitsFor = billing.Parked, i.parks
	}
	return i.event, nil
}

// till is a provider that knows what it was given. What it has not is gone.
type till struct {
	billing.Provider
	live          bool
	subscriptions map[string]billing.SubscriptionObject
	invoices      map[string]billing.InvoiceObject
	methods       map[string]billing.MethodObject
	prices        map[string]billing.Price
	invoiceOf     map[string]string
	err           error // of all calls
}

func have[T any](p *till, all map[string]T, id string) (T, error) {
	object, ok := all[id]
	if !ok {
		return object, errors.Join(billing.ErrGone, p.err)
	}
	return object, p.err
}

func (p *till) Live() bool { return p.live }
func (p *till) Subscription(_ context.Context, id string) (billing.SubscriptionObject, error) {
	return have(p, p.subscriptions, id)
}

func (p *till) Invoice(_ context.Context, id string) (billing.InvoiceObject, error) {
	return have(p, p.invoices, id)
}

func (p *till) Method(_ context.Context, id string) (billing.MethodObject, error) {
	return have(p, p.methods, id)
}

func (p *till) Price(_ context.Context, id string) (billing.Price, error) {
	return have(p, p.prices, id)
}

func (p *till) InvoiceOf(_ context.Context, intent string) (string, error) {
	return have(p, p.invoiceOf, intent)
}

// processing is a processor at work on one event.
type processing struct {
	*billing.Processor
	tray     *tray
	log      bytes.Buffer
	observed []string
}

var asked = at(1000).Add(time.Millisecond) // the processor's clock

func process(i *tray, read func([]byte) (billing.Event, error), p billing.Provider) *processing {
	i.event.ID, i.event.Type, i.event.Payload = "evt_1", "a.type", []byte("the payload")
	if i.event.State == "" {
		i.event.State = billing.Received
	}
	w := &processing{tray: i}
	w.Processor = billing.NewProcessor(i, read, billing.DefaultCatalogue(), p, func() time.Time { return asked },
		slog.New(slog.NewTextHandler(&w.log, nil)), func(kind string, state billing.EventState) { w.observed = append(w.observed, kind+" "+string(state)) })
	return w
}

func (w *processing) handle(t *testing.T) error {
	t.Helper()
	return w.Handle(t.Context(), jobs.Job{Kind: jobs.StripeEvent, Subject: "evt_1", Claim: 7, Tries: 2})
}

// reads returns what a payload says.
func reads(e billing.Event) func([]byte) (billing.Event, error) {
	return func(payload []byte) (billing.Event, error) {
		if string(payload) != "the payload" {
			return e, errors.New("another payload")
		}
		e.ID = "evt_1"
		return e, nil
	}
}

var (
	party     = billing.Party{StripeID: "cus_1"}
	pro       = billing.Price{ID: "price_pro", LookupKey: "pro_monthly"}
	plain     = billing.Price{ID: "price_plain", LookupKey: "plain"}
	unclear   = billing.Price{ID: "price_what", Partial: true}
	errStripe = errors.New("no answer")
)

func aSubscription(change func(*billing.SubscriptionObject)) billing.SubscriptionObject {
	o := billing.SubscriptionObject{ID: "sub_1", Status: "active", Was: "past_due", Party: party, Prices: []billing.Price{plain, pro}, Started: at(1), PeriodStart: at(2), PeriodEnd: at(3)}
	if change != nil {
		change(&o)
	}
	return o
}

func subscriptionEvent(kind string, o billing.SubscriptionObject) billing.Event {
	return billing.Event{Type: kind, Created: at(10), Party: party, Subscription: &o}
}

func invoiceEvent(kind string, o billing.InvoiceObject) billing.Event {
	o.ID, o.Intent, o.Cents = "in_1", "pi_1", 59900
	return billing.Event{Type: kind, Created: at(10), Party: party, Invoice: &o}
}

func chargeEvent(o billing.ChargeObject) billing.Event {
	o.ID, o.Cents, o.RefundedBefore, o.Refunded = "ch_1", 100, 10, 20
	return billing.Event{Type: "charge.refunded", Created: at(10), Party: party, Charge: &o}
}

func TestEventComesTo(t *testing.T) {
	told := billing.Fact{SubscriptionID: "sub_1", EventID: "evt_1", Kind: billing.FactUpdated, At: at(10), Status: "active", Was: "past_due", Pro: true, Started: at(1), PeriodStart: at(2), PeriodEnd: at(3)}
	fact := func(change func(*billing.Fact)) []billing.Fact {
		f := told
		change(&f)
		return []billing.Fact{f}
	}
	fromStripe := func(f *billing.Fact) {
		f.Kind, f.At, f.Seen, f.Was, f.Status = billing.FactFetched, asked, asked, "", "unpaid"
	}
	payment := func(credits int64) *billing.Payment {
		return &billing.Payment{ID: "in_1", Intent: "pi_1", Cents: 59900, Credits: credits, Source: billing.ProPayment}
	}
	paidFact := []billing.Fact{{SubscriptionID: "sub_1", EventID: "evt_1", Kind: billing.FactPaid, At: at(10), Pro: true}}
	plainFact := []billing.Fact{with(paidFact[0], func(f *billing.Fact) { f.Pro = false })}
	back := func(change func(*billing.Reversal)) *billing.Reversal {
		r := billing.Reversal{Intent: "pi_1", Charge: "ch_1", Cents: 100, From: 10, To: 20}
		if change != nil {
			change(&r)
		}
		return &r
	}
	dispute := func(kind, status string) billing.Event {
		return billing.Event{Type: kind, Created: at(10), Dispute: &billing.DisputeObject{ID: "dp_1", Charge: "ch_1", Intent: "pi_1", Cents: 50, Status: status}}
	}
	disputed := func(closed, won bool) *billing.Reversal {
		return &billing.Reversal{Intent: "pi_1", Charge: "ch_1", Dispute: "dp_1", DisputeCents: 50, Closed: closed, Won: won}
	}
	unpaid := aSubscription(func(o *billing.SubscriptionObject) { o.Status, o.Was = "unpaid", "" })
	knows := func(o billing.SubscriptionObject) *till {
		return &till{subscriptions: map[string]billing.SubscriptionObject{"sub_1": o}}
	}
	parked := func(reason, waits string) billing.Change {
		return billing.Change{State: billing.Parked, Reason: reason, WaitsFor: waits, Customer: party}
	}
	const updated = "customer.subscription.updated"
	tests := []struct {
		name     string
		event    billing.Event
		provider *till
		inbox    tray
		want     billing.Change // its reason is a part of what is said
	}{
		{"nothing of ours", billing.Event{Type: "ping", Party: party}, nil, tray{}, billing.Change{State: billing.Ignored, Reason: "changes nothing", Customer: party}},
		{"a connected account's", billing.Event{Account: "acct_1", Party: party, Subscription: &unpaid}, nil, tray{}, parked("connected account acct_1", "")},
		{"live, with a test key", billing.Event{Live: true, Party: party, Subscription: &unpaid}, &till{}, tray{}, parked("its livemode is true, and the API key's is false", "")},
		{"test, with a live key", billing.Event{Party: party, Subscription: &unpaid}, &till{live: true}, tray{}, parked("its livemode is false, and the API key's is true", "")},
		{"live, without a key", billing.Event{Live: true, Type: "ping"}, nil, tray{}, billing.Change{State: billing.Ignored, Reason: "changes nothing"}},

		{"a subscription is made", subscriptionEvent("customer.subscription.created", aSubscription(nil)), nil, tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(f *billing.Fact) { f.Kind = billing.FactCreated }), ProPrices: []string{"price_pro"}}},
		{"a subscription changes", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.CancelsAtEnd = true })), nil, tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(f *billing.Fact) { f.CancelsAtEnd = true }), ProPrices: []string{"price_pro"}}},
		{"a subscription as it is now", subscriptionEvent(updated, aSubscription(nil)), knows(unpaid), tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(fromStripe), ProPrices: []string{"price_pro"}}},
		{"the node's clock is behind", func() billing.Event {
			e := subscriptionEvent(updated, aSubscription(nil))
			e.Created = at(2000)
			return e
		}(), knows(unpaid), tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(f *billing.Fact) { fromStripe(f); f.At = at(2000) }), ProPrices: []string{"price_pro"}}},
		{"a subscription that was Pro's, and is not any more", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{pro, unclear} })),
			knows(aSubscription(func(o *billing.SubscriptionObject) {
				o.Status, o.Prices = "unpaid", []billing.Price{plain, {ID: "price_what"}}
			})), tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(fromStripe), ProPrices: []string{"price_pro"}}},
		{"an end that was told is one, whatever Stripe says", subscriptionEvent("customer.subscription.deleted", aSubscription(func(o *billing.SubscriptionObject) { o.Status = "canceled" })), knows(unpaid), tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(f *billing.Fact) { f.Status = "canceled" }), ProPrices: []string{"price_pro"}}},
		{"an end that Stripe says", subscriptionEvent(updated, aSubscription(nil)), knows(aSubscription(func(o *billing.SubscriptionObject) { o.Status = "canceled" })), tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(f *billing.Fact) { fromStripe(f); f.Status = "canceled" }), ProPrices: []string{"price_pro"}}},
		{"a subscription that is gone", subscriptionEvent(updated, aSubscription(nil)), knows(billing.SubscriptionObject{}).without(), tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(*billing.Fact) {}), ProPrices: []string{"price_pro"}}},
		{"a status that nobody knows", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Status = "asleep" })), nil, tray{}, parked(`status "asleep" is not known`, "")},
		{"a status that nobody knows, by now", subscriptionEvent(updated, aSubscription(nil)), knows(aSubscription(func(o *billing.SubscriptionObject) { o.Status = "" })), tray{}, parked(`status "" is not known`, "")},
		{"no line of Pro", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{plain} })), nil, tray{},
			billing.Change{State: billing.Ignored, Reason: "no line of Pro", Customer: party, Facts: fact(func(f *billing.Fact) { f.Pro = false })}},
		{"no line at all", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = nil })), nil, tray{},
			billing.Change{State: billing.Ignored, Reason: "no line of Pro", Customer: party, Facts: fact(func(f *billing.Fact) { f.Pro = false })}},
		{"no line of Pro any more", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{plain} })), nil, tray{subscriptions: []string{"sub_1"}},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(f *billing.Fact) { f.Pro = false })}},
		{"a price that once was Pro's", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{plain} })), nil, tray{prices: []string{"price_plain"}},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(*billing.Fact) {}), ProPrices: []string{"price_plain"}}},
		{"an unclear price, and nobody to ask", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{unclear} })), nil, tray{}, parked("price_what", "price:price_what")},
		{"an unclear price beside Pro's", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{unclear, pro} })), nil, tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(*billing.Fact) {}), ProPrices: []string{"price_pro"}}},
		{"an unclear price that is known", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{unclear} })), nil, tray{prices: []string{"price_what"}},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(*billing.Fact) {}), ProPrices: []string{"price_what"}}},
		{"an unclear price of a subscription that is Pro's", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{unclear} })), nil, tray{subscriptions: []string{"sub_1"}},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(f *billing.Fact) { f.Pro = false })}},
		{"an unclear price that Stripe says is Pro's", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{unclear} })),
			&till{prices: map[string]billing.Price{"price_what": {ID: "price_what", Plan: "pro"}}}, tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: fact(func(*billing.Fact) {}), ProPrices: []string{"price_what"}}},
		{"an unclear price that Stripe says is none", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{unclear} })),
			&till{prices: map[string]billing.Price{"price_what": plain}}, tray{},
			billing.Change{State: billing.Ignored, Reason: "no line of Pro", Customer: party, Facts: fact(func(f *billing.Fact) { f.Pro = false })}},
		{"an unclear price that is gone", subscriptionEvent(updated, aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{unclear} })), &till{}, tray{}, parked("price_what", "price:price_what")},

		{"an invoice is paid", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{pro}}), nil, tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: paidFact, Payment: payment(60), ProPrices: []string{"price_pro"}}},
		{"a payment succeeded", invoiceEvent("invoice.payment_succeeded", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{pro}}), knows(unpaid), tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: []billing.Fact{with(told, fromStripe)}, Payment: payment(60), ProPrices: []string{"price_pro"}}},
		{"a payment failed", invoiceEvent("invoice.payment_failed", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{pro}}), nil, tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: []billing.Fact{with(paidFact[0], func(f *billing.Fact) { f.Kind = billing.FactFailed })}, ProPrices: []string{"price_pro"}}},
		{"paid, and the subscription is gone", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{pro}}), &till{}, tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: paidFact, Payment: payment(60), ProPrices: []string{"price_pro"}}},
		{"paid, and its status is news", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{pro}}), knows(aSubscription(func(o *billing.SubscriptionObject) { o.Status = "asleep" })), tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: paidFact, Payment: payment(60), ProPrices: []string{"price_pro"}}},
		{"an invoice for no subscription", invoiceEvent("invoice.paid", billing.InvoiceObject{Prices: []billing.Price{pro}}), &till{}, tray{},
			billing.Change{State: billing.Done, Customer: party, Payment: payment(60), ProPrices: []string{"price_pro"}}},
		{"an invoice of nothing of ours", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{plain}}), nil, tray{},
			billing.Change{State: billing.Ignored, Reason: "no line of Pro", Customer: party, Facts: plainFact, Payment: payment(0)}},
		{"an invoice of nothing of ours that failed", invoiceEvent("invoice.payment_failed", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{plain}}), nil, tray{},
			billing.Change{State: billing.Ignored, Reason: "no line of Pro", Customer: party, Facts: []billing.Fact{with(plainFact[0], func(f *billing.Fact) { f.Kind = billing.FactFailed })}}},
		{"an invoice of nothing of ours, for no subscription", invoiceEvent("invoice.paid", billing.InvoiceObject{Prices: []billing.Price{plain}}), nil, tray{},
			billing.Change{State: billing.Ignored, Reason: "no line of Pro", Customer: party, Payment: payment(0)}},
		{"an invoice without lines, of a subscription not heard of", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1"}), nil, tray{}, parked("what the invoice is for is not known", "subscription:sub_1")},
		{"with lines left out, of a subscription not heard of", invoiceEvent("invoice.payment_failed", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{plain}, MoreLines: true}), nil, tray{}, parked("what the invoice is for is not known", "subscription:sub_1")},
		{"an invoice without lines, for no subscription", invoiceEvent("invoice.paid", billing.InvoiceObject{}), nil, tray{},
			billing.Change{State: billing.Ignored, Reason: "no line of Pro", Customer: party, Payment: payment(0)}},
		{"of a Pro subscription, for something else", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{plain}}), nil, tray{subscriptions: []string{"sub_1"}},
			billing.Change{State: billing.Done, Customer: party, Facts: plainFact, Payment: payment(0)}},
		{"of a Pro subscription, without lines", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1"}), nil, tray{subscriptions: []string{"sub_1"}},
			billing.Change{State: billing.Done, Customer: party, Facts: paidFact, Payment: payment(60)}},
		{"of a Pro subscription that was ended, of credits alone", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", OnlyCredits: true}), nil, tray{subscriptions: []string{"sub_1"}},
			billing.Change{State: billing.Done, Customer: party, Facts: plainFact, Payment: payment(0)}},
		{"of credits alone, of a subscription not heard of", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", OnlyCredits: true}), nil, tray{},
			billing.Change{State: billing.Ignored, Reason: "no line of Pro", Customer: party, Facts: plainFact, Payment: payment(0)}},
		{"of credits alone as far as is told, and Pro beyond", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", OnlyCredits: true, MoreLines: true}),
			&till{invoices: map[string]billing.InvoiceObject{"in_1": {Subscription: "sub_1", Prices: []billing.Price{pro}}}}, tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: paidFact, Payment: payment(60), ProPrices: []string{"price_pro"}}},
		{"of a Pro subscription, with lines left out", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{plain}, MoreLines: true}), nil, tray{subscriptions: []string{"sub_1"}},
			billing.Change{State: billing.Done, Customer: party, Facts: paidFact, Payment: payment(60)}},
		{"with lines left out, of which one is Pro's", invoiceEvent("invoice.paid", billing.InvoiceObject{Prices: []billing.Price{plain}, MoreLines: true}),
			&till{invoices: map[string]billing.InvoiceObject{"in_1": {Subscription: "sub_1", Prices: []billing.Price{plain, pro}}}}, tray{},
			billing.Change{State: billing.Done, Customer: party, Facts: paidFact, Payment: payment(60), ProPrices: []string{"price_pro"}}},
		{"with lines left out, of which none is", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{plain}, MoreLines: true}),
			&till{invoices: map[string]billing.InvoiceObject{"in_1": {Subscription: "sub_1", Prices: []billing.Price{plain, plain}}}}, tray{},
			billing.Change{State: billing.Ignored, Reason: "no line of Pro", Customer: party, Facts: plainFact, Payment: payment(0)}},
		{"with lines left out, and it is gone", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{plain}, MoreLines: true}), &till{}, tray{subscriptions: []string{"sub_1"}},
			billing.Change{State: billing.Done, Customer: party, Facts: paidFact, Payment: payment(60)}},
		{"an unclear line", invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{unclear}}), nil, tray{}, parked("price_what", "price:price_what")},

		{"a method is attached", billing.Event{Created: at(10), Party: party, Method: &billing.MethodObject{ID: "pm_1", Attached: true}}, nil, tray{},
			billing.Change{State: billing.Done, Customer: party, Method: &billing.Method{ID: "pm_1", AttachedAt: at(10), Credits: 5}}},
		{"a method is attached still", billing.Event{Created: at(10), Party: party, Method: &billing.MethodObject{ID: "pm_1", Attached: true}}, &till{methods: map[string]billing.MethodObject{"pm_1": {ID: "pm_1", Attached: true}}}, tray{},
			billing.Change{State: billing.Done, Customer: party, Method: &billing.Method{ID: "pm_1", AttachedAt: at(10), Credits: 5}}},
		{"a method was attached, and is gone", billing.Event{Created: at(10), Party: party, Method: &billing.MethodObject{ID: "pm_1", Attached: true}}, &till{}, tray{},
			billing.Change{State: billing.Done, Customer: party, Method: &billing.Method{ID: "pm_1", AttachedAt: at(10), Credits: 5}}},
		{"a method was attached, and is no longer", billing.Event{Created: at(10), Party: party, Method: &billing.MethodObject{ID: "pm_1", Attached: true}}, &till{methods: map[string]billing.MethodObject{"pm_1": {ID: "pm_1"}}}, tray{},
			billing.Change{State: billing.Done, Customer: party, Method: &billing.Method{ID: "pm_1", AttachedAt: at(10), DetachedAt: asked, Credits: 5}}},
		{"a method is detached", billing.Event{Created: at(10), Method: &billing.MethodObject{ID: "pm_1"}}, &till{methods: map[string]billing.MethodObject{"pm_1": {ID: "pm_1", Attached: true}}}, tray{},
			billing.Change{State: billing.Done, Method: &billing.Method{ID: "pm_1", DetachedAt: at(10), Credits: 5}}},

		{"a refund of an invoice", chargeEvent(billing.ChargeObject{Intent: "pi_1", Invoice: "in_1"}), nil, tray{},
			billing.Change{State: billing.Done, Customer: party, Reversal: back(func(r *billing.Reversal) { r.Payment = "in_1" })}},
		{"a refund of nobody knows what", chargeEvent(billing.ChargeObject{Intent: "pi_1"}), nil, tray{}, billing.Change{State: billing.Done, Customer: party, Reversal: back(nil)}},
		{"a refund, and Stripe knows of what", chargeEvent(billing.ChargeObject{Intent: "pi_1"}), &till{invoiceOf: map[string]string{"pi_1": "in_1"}}, tray{},
			billing.Change{State: billing.Done, Customer: party, Reversal: back(func(r *billing.Reversal) { r.Payment = "in_1" })}},
		{"a refund of no invoice", chargeEvent(billing.ChargeObject{Intent: "pi_1"}), &till{invoiceOf: map[string]string{"pi_1": ""}}, tray{}, billing.Change{State: billing.Ignored, Reason: "paid for nothing here", Customer: party}},
		{"a refund of what certainly was no invoice", chargeEvent(billing.ChargeObject{Intent: "pi_1", NoInvoice: true}), nil, tray{}, billing.Change{State: billing.Ignored, Reason: "paid for nothing here", Customer: party}},
		{"a refund, and the intent is gone", chargeEvent(billing.ChargeObject{Intent: "pi_1"}), &till{}, tray{}, billing.Change{State: billing.Done, Customer: party, Reversal: back(nil)}},
		{"a refund of a fix", chargeEvent(billing.ChargeObject{Intent: "pi_1", FixID: "fix-1", NoInvoice: true}), &till{invoiceOf: map[string]string{"pi_1": ""}}, tray{}, billing.Change{State: billing.Done, Customer: party, Reversal: back(nil)}},
		{"a refund without an intent", chargeEvent(billing.ChargeObject{Invoice: "in_1"}), nil, tray{},
			billing.Change{State: billing.Done, Customer: party, Reversal: back(func(r *billing.Reversal) { r.Payment, r.Intent = "in_1", "ch_1" })}},

		{"a dispute", dispute("charge.dispute.created", "needs_response"), nil, tray{}, billing.Change{State: billing.Done, Reversal: disputed(false, false)}},
		{"a dispute of an invoice", dispute("charge.dispute.created", "needs_response"), &till{invoiceOf: map[string]string{"pi_1": "in_1"}}, tray{},
			billing.Change{State: billing.Done, Reversal: func() *billing.Reversal { r := disputed(false, false); r.Payment = "in_1"; return r }()}},
		{"a dispute of no invoice", dispute("charge.dispute.created", "needs_response"), &till{invoiceOf: map[string]string{"pi_1": ""}}, tray{}, billing.Change{State: billing.Done, Reversal: disputed(false, false)}},
		{"a dispute that is won, and not closed", dispute("charge.dispute.updated", "won"), nil, tray{}, billing.Change{State: billing.Done, Reversal: disputed(false, false)}},
		{"a dispute is won", dispute("charge.dispute.closed", "won"), nil, tray{}, billing.Change{State: billing.Done, Reversal: disputed(true, true)}},
		{"a dispute is lost", dispute("charge.dispute.closed", "lost"), nil, tray{}, billing.Change{State: billing.Done, Reversal: disputed(true, false)}},
		{"an inquiry ends", dispute("charge.dispute.closed", "warning_closed"), nil, tray{}, billing.Change{State: billing.Done, Reversal: disputed(true, true)}},

		{"which intent paid", billing.Event{Party: party, InvoicePayment: &billing.InvoicePaymentObject{Invoice: "in_1", Intent: "pi_1"}}, nil, tray{},
			billing.Change{State: billing.Done, Reason: "which intent", Customer: party, Payment: &billing.Payment{ID: "in_1", Intent: "pi_1", Link: true}}},
		{"no intent paid", billing.Event{Party: party, InvoicePayment: &billing.InvoicePaymentObject{Invoice: "in_1"}}, nil, tray{}, billing.Change{State: billing.Ignored, Reason: "changes nothing", Customer: party}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var provider billing.Provider
			if tt.provider != nil {
				provider = tt.provider
			}
			w := process(&tt.inbox, reads(tt.event), provider)
			if err := w.handle(t); err != nil || len(w.tray.applied) != 1 {
				t.Fatalf("applied %+v, %v", w.tray.applied, err)
			}
			got := w.tray.applied[0]
			if !strings.Contains(got.Reason, tt.want.Reason) || got.Reason != "" && tt.want.Reason == "" {
				t.Errorf("the reason is %q, want %q", got.Reason, tt.want.Reason)
			}
			if got.EventID != "evt_1" || got.Claim != 7 || got.By != "job stripe_event/evt_1, claim 7, try 2" {
				t.Errorf("event %s, by %q", got.EventID, got.By)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.IgnoreFields(billing.Change{}, "EventID", "Claim", "By", "Reason")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if want := []string{"a.type " + string(tt.want.State)}; !slices.Equal(w.observed, want) {
				t.Errorf("observed %q, want %q", w.observed, want)
			}
			level := ""
			if tt.want.State == billing.Parked {
				level = map[bool]string{true: "level=ERROR", false: "level=WARN"}[tt.want.WaitsFor == ""]
			}
			if log := w.log.String(); !strings.Contains(log, level) || level == "" && log != "" {
				t.Errorf("logged is %q", log)
			}
		})
	}
}

func (p *till) without() *till {
	p.subscriptions = nil
	return p
}

func TestEventThatCannotBeRead(t *testing.T) {
	w := process(&tray{}, func([]byte) (billing.Event, error) { return billing.Event{}, errors.New("no JSON") }, &till{})
	if err := w.handle(t); err != nil || w.tray.applied[0].State != billing.Parked || w.tray.applied[0].Reason != "it can't be understood: no JSON" {
		t.Errorf("applied %+v, %v", w.tray.applied, err)
	}
}

// What the store parks is said too.
func TestEventThatTheStoreParks(t *testing.T) {
	w := process(&tray{parks: "stripe_customer:cus_1"}, reads(billing.Event{}), nil)
	if err := w.handle(t); err != nil || !slices.Equal(w.observed, []string{"a.type parked"}) || !strings.Contains(w.log.String(), "level=WARN") || !strings.Contains(w.log.String(), "waits_for=stripe_customer:cus_1") {
		t.Errorf("observed %q, logged %q, %v", w.observed, w.log.String(), err)
	}
}

func TestPanicGivesTheEventUp(t *testing.T) {
	w := process(&tray{}, func([]byte) (billing.Event, error) { panic("a secret") }, nil)
	err := w.handle(t)
	if !jobs.IsPermanent(err) || !strings.Contains(err.Error(), "panic: string at process_test.go") || len(w.tray.applied) > 0 {
		t.Errorf("applied %+v, %v", w.tray.applied, err)
	}
	if log := w.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "event=evt_1") || strings.Contains(log, "a secret") {
		t.Errorf("logged is %q", log)
	}
}

func TestEventThatIsDecidedOrGone(t *testing.T) {
	for _, i := range []*tray{
		{event: billing.StoredEvent{State: billing.Done}}, {event: billing.StoredEvent{State: billing.Ignored}}, {event: billing.StoredEvent{State: billing.Parked}},
		{err: map[string]error{"event": fault.Missing("swept")}},
	} {
		if w := process(i, reads(billing.Event{}), nil); w.handle(t) != nil || len(i.applied) > 0 || len(w.observed) > 0 {
			t.Errorf("%s: applied %+v, observed %q", i.event.State, i.applied, w.observed)
		}
	}
}

// What is away is asked again, later: nothing is decided.
func TestWhatIsAwayIsTriedAgain(t *testing.T) {
	away := fault.Away(errors.New("no connection"))
	subscription := subscriptionEvent("customer.subscription.updated", aSubscription(func(o *billing.SubscriptionObject) { o.Prices = []billing.Price{unclear} }))
	for name, tt := range map[string]struct {
		event    billing.Event
		provider *till
		err      map[string]error
	}{
		"the inbox":            {billing.Event{}, nil, map[string]error{"event": away}},
		"the inbox's decision": {billing.Event{}, nil, map[string]error{"apply": away}},
		"its prices":           {subscription, nil, map[string]error{"prices": away}},
		"its prices again":     {invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1"}), nil, map[string]error{"prices": away}},
		"a subscription":       {subscription, &till{err: errStripe, subscriptions: map[string]billing.SubscriptionObject{"sub_1": {}}}, nil},
		"a price":              {subscription, &priceAway, nil},
		"an invoice":           {invoiceEvent("invoice.paid", billing.InvoiceObject{MoreLines: true}), &till{err: errStripe, invoices: map[string]billing.InvoiceObject{"in_1": {}}}, nil},
		"an invoice's subscription": {invoiceEvent("invoice.paid", billing.InvoiceObject{Subscription: "sub_1", Prices: []billing.Price{pro}}),
			&till{err: errStripe, subscriptions: map[string]billing.SubscriptionObject{"sub_1": {}}}, nil},
		"a method":            {billing.Event{Method: &billing.MethodObject{ID: "pm_1", Attached: true}}, &till{err: errStripe, methods: map[string]billing.MethodObject{"pm_1": {}}}, nil},
		"an intent's invoice": {chargeEvent(billing.ChargeObject{Intent: "pi_1"}), &till{err: errStripe, invoiceOf: map[string]string{"pi_1": ""}}, nil},
	} {
		i := &tray{err: tt.err}
		var provider billing.Provider
		if tt.provider != nil {
			provider = tt.provider
		}
		w := process(i, reads(tt.event), provider)
		err := w.handle(t)
		if !errors.Is(err, errStripe) && !errors.Is(err, away) || jobs.IsPermanent(err) || len(i.applied) > 0 || len(w.observed) > 0 {
			t.Errorf("%s is away: applied %+v, %v", name, i.applied, err)
		}
	}
}

var priceAway = till{err: errStripe, prices: map[string]billing.Price{"price_what": {}}}

// What is parked on arrival nobody will hear of from a job.
func TestIntakeTellsOfWhatItParks(t *testing.T) {
	for _, tt := range []struct {
		park  string
		isNew bool
		err   error
	}{{"", true, nil}, {"no JSON", true, nil}, {"no JSON", false, nil}, {"no JSON", false, errStripe}} {
		var observed []string
		var log bytes.Buffer
		intake := billing.NewIntake(door{isNew: tt.isNew, err: tt.err}, slog.New(slog.NewTextHandler(&log, nil)), func(kind string, state billing.EventState) { observed = append(observed, kind+" "+string(state)) })
		isNew, err := intake.TakeIn(t.Context(), billing.Receipt{ID: "evt_1", Type: "a.type", Park: tt.park})
		told := tt.park != "" && tt.isNew
		if isNew != tt.isNew || !errors.Is(err, tt.err) || told != slices.Equal(observed, []string{"a.type parked"}) || told != strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("%+v: new %t, %v, observed %q, logged %q", tt, isNew, err, observed, log.String())
		}
	}
}

// door is an inbox that takes in, or not.
type door struct {
	billing.Inbox
	isNew bool
	err   error
}

func (d door) TakeIn(context.Context, billing.Receipt) (bool, error) { return d.isNew, d.err }
