package stripe

import (
	"cmp"
	"errors"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"gatehouse/internal/billing"
)

// What an event's objects are called in errors.
const (
	inObject   = "data.object"
	inPrevious = "data.previous_attributes"
)

// anyone reads whom an object is about that nothing else is read of.
func anyone(object jsontext.Value) billing.Party {
	var w owned
	if decode(inObject, object, &w) != nil {
		return billing.Party{}
	}
	if w.Object == "customer" {
		w.Customer = ref(w.ID)
	}
	return w.party()
}

// previous reads what an event says has changed, which may be nothing.
func (d data) previous(into any) error {
	if d.Previous == nil || d.Previous.Kind() == jsontext.KindNull {
		return nil
	}
	return decode(inPrevious, d.Previous, into)
}

func subscriptionEvent(e *billing.Event, d data) error {
	o, _, err := readSubscription(inObject, d.Object)
	if err != nil {
		return err
	}
	var was struct {
		Status word `json:"status"`
	}
	if err := d.previous(&was); err != nil {
		return err
	}
	o.Was = string(was.Status)
	if e.Type == "customer.subscription.deleted" && o.Status != "incomplete_expired" {
		o.Status = "canceled" // it is what the event is sent for
	}
	e.Party, e.Subscription = o.Party, &o
	return nil
}

// item is a line of a subscription: what is paid for, and until when.
type item struct {
	ID    ident `json:"id"`
	Price price `json:"price"`
	Plan  plan  `json:"plan"`
	period
}

type period struct {
	Start unix `json:"current_period_start"`
	End   unix `json:"current_period_end"`
}

// readSubscription reads a subscription, and says whether it has items that are
// left out. Its period is its own, or as of 2025-03-31 that of the item whose
// period ends first.
func readSubscription(name string, raw jsontext.Value) (o billing.SubscriptionObject, more bool, err error) {
	var w struct {
		owned
		Status      word       `json:"status"`
		CancelAtEnd bool       `json:"cancel_at_period_end"`
		CancelAt    unix       `json:"cancel_at"`
		Created     unix       `json:"created"`
		Started     unix       `json:"start_date"` // may be set back, and so says less of which was made later
		Items       list[item] `json:"items"`
		Plan        plan       `json:"plan"`
		period
	}
	if err := decodeObject(name, "subscription", raw, &w); err != nil {
		return o, false, err
	}
	o = billing.SubscriptionObject{
		ID: string(w.ID), Status: string(w.Status), Party: w.party(),
		CancelsAtEnd: w.CancelAtEnd || !w.CancelAt.IsZero(), Started: w.Created.Time,
	}
	if o.Started.IsZero() {
		o.Started = w.Started.Time
	}
	when := w.period
	for _, i := range w.Items.Data {
		if w.End.IsZero() && !i.End.IsZero() && (when.End.IsZero() || i.End.Before(when.End.Time)) {
			when = i.period
		}
	}
	if when.Start.Before(when.End.Time) { // otherwise it is none
		o.PeriodStart, o.PeriodEnd = when.Start.Time, when.End.Time
	}
	if o.Prices = pricesOf(w.Items.Data); len(o.Prices) == 0 && w.Plan.ID != "" {
		o.Prices = []billing.Price{w.Plan.Price}
	}
	return o, w.Items.More, nil
}

// pricesOf returns what is paid for, each price once.
func pricesOf[T interface{ priceOf() billing.Price }](lines []T) (all []billing.Price) {
	seen := make(map[billing.Price]bool, len(lines))
	for _, line := range lines {
		if p := line.priceOf(); p.ID != "" && !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	return all
}

func (i item) priceOf() billing.Price {
	if i.Price.ID != "" {
		return i.Price.Price
	}
	return i.Plan.Price
}

func invoiceEvent(e *billing.Event, d data) error {
	o, who, err := readInvoice(inObject, d.Object)
	e.Party, e.Invoice = who, &o
	return err
}

// line is a line of an invoice. As of 2025-03-31 its price is in pricing.
type line struct {
	ID      ident `json:"id"`
	Amount  int64 `json:"amount"` // below zero: a credit for something else
	Price   price `json:"price"`
	Plan    plan  `json:"plan"`
	Pricing struct {
		Details struct {
			Price price `json:"price"`
		} `json:"price_details"`
	} `json:"pricing"`
}

func (l line) priceOf() billing.Price {
	switch {
	case l.Amount < 0:
		return billing.Price{}
	case l.Price.ID != "":
		return l.Price.Price
	case l.Pricing.Details.Price.ID != "":
		return l.Pricing.Details.Price.Price
	}
	return l.Plan.Price
}

// details tell of an invoice's subscription.
type details struct {
	Subscription ref      `json:"subscription"`
	Metadata     metadata `json:"metadata"`
}

// readInvoice reads an invoice and whose it is. As of 2025-03-31 what it says
// of its subscription is below its parent, and its intent is left out.
func readInvoice(name string, raw jsontext.Value) (billing.InvoiceObject, billing.Party, error) {
	var w struct {
		owned
		Subscription ref     `json:"subscription"`
		Details      details `json:"subscription_details"`
		Parent       struct {
			Details details `json:"subscription_details"`
		} `json:"parent"`
		Intent ref        `json:"payment_intent"`
		Charge ref        `json:"charge"`
		Paid   cents      `json:"amount_paid"`
		Lines  list[line] `json:"lines"`
	}
	err := decodeObject(name, "invoice", raw, &w)
	who := w.party()
	who.CustomerID = string(cmp.Or(w.Metadata.Owner, w.Parent.Details.Metadata.Owner, w.Details.Metadata.Owner))
	return billing.InvoiceObject{
		ID:           string(w.ID),
		Subscription: string(cmp.Or(w.Parent.Details.Subscription, w.Subscription)),
		Intent:       string(cmp.Or(w.Intent, w.Charge)),
		Cents:        int64(w.Paid),
		Prices:       pricesOf(w.Lines.Data),
		MoreLines:    w.Lines.More,
		OnlyCredits:  len(w.Lines.Data) > 0 && !slices.ContainsFunc(w.Lines.Data, func(l line) bool { return l.Amount >= 0 }),
	}, who, err
}

func methodEvent(e *billing.Event, d data) error {
	o, who, err := readMethod(inObject, d.Object)
	if err != nil {
		return err
	}
	if o.Attached = e.Type == "payment_method.attached"; !o.Attached {
		var was struct {
			Customer ref `json:"customer"`
		}
		if err := d.previous(&was); err != nil {
			return err
		}
		who.StripeID = cmp.Or(string(was.Customer), who.StripeID)
	}
	e.Party, e.Method = who, &o
	return nil
}

func readMethod(name string, raw jsontext.Value) (billing.MethodObject, billing.Party, error) {
	var w owned
	err := decodeObject(name, "payment_method", raw, &w)
	return billing.MethodObject{ID: string(w.ID), Attached: w.Customer != ""}, w.party(), err
}

func chargeEvent(e *billing.Event, d data) error {
	var w struct {
		owned
		Intent   ref        `json:"payment_intent"`
		Invoice  maybe[ref] `json:"invoice"`
		Cents    cents      `json:"amount"`
		Refunded cents      `json:"amount_refunded"`
	}
	if err := decodeObject(inObject, "charge", d.Object, &w); err != nil {
		return err
	}
	// Where it is not said how much was refunded before, it is taken for none.
	var was struct {
		Refunded cents `json:"amount_refunded"`
	}
	if err := d.previous(&was); err != nil {
		return err
	}
	if was.Refunded > w.Refunded || w.Refunded > w.Cents {
		return errors.New(inObject + ".amount_refunded is less than before, or more than was paid")
	}
	e.Party = w.party()
	e.Charge = &billing.ChargeObject{
		ID: string(w.ID), Intent: string(w.Intent), Invoice: string(w.Invoice.Value), FixID: string(w.Metadata.Fix),
		NoInvoice: w.Invoice.Given && w.Invoice.Value == "",
		Cents:     int64(w.Cents), Refunded: int64(w.Refunded), RefundedBefore: int64(was.Refunded),
	}
	return nil
}

func disputeEvent(e *billing.Event, d data) error {
	var w struct {
		owned
		Charge ref   `json:"charge"`
		Intent ref   `json:"payment_intent"`
		Cents  cents `json:"amount"`
		Status word  `json:"status"`
	}
	err := decodeObject(inObject, "dispute", d.Object, &w)
	if err == nil && w.Charge == "" && w.Intent == "" {
		err = errors.New(inObject + ".charge is missing")
	}
	e.Party = w.party()
	e.Dispute = &billing.DisputeObject{ID: string(w.ID), Charge: string(w.Charge), Intent: string(w.Intent), Cents: int64(w.Cents), Status: string(w.Status)}
	return err
}

// payment is what paid an invoice, or a part of it.
type payment struct {
	owned
	Invoice ref `json:"invoice"`
	Payment struct {
		Intent ref `json:"payment_intent"`
		Charge ref `json:"charge"`
	} `json:"payment"`
}

func invoicePaymentEvent(e *billing.Event, d data) error {
	var w payment
	err := decodeObject(inObject, "invoice_payment", d.Object, &w)
	if err == nil && w.Invoice == "" {
		err = errors.New(inObject + ".invoice is missing")
	}
	e.Party = w.party()
	e.InvoicePayment = &billing.InvoicePaymentObject{Invoice: string(w.Invoice), Intent: string(cmp.Or(w.Payment.Intent, w.Payment.Charge))}
	return err
}
