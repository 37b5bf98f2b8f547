package sim

import (
	"fmt"
	"maps"
	"strconv"
)

const (
	draftFor   = 3600      // seconds, for which a renewal's invoice may still be changed
	retryAfter = 24 * 3600 // seconds between tries of a payment; Stripe's are set in days too
	mostTries  = 3
	payableFor = 23 * 3600 // seconds, in which the first payment of a subscription must come
)

// draft makes the invoice of a subscription's period. Like Stripe's it has the
// period before as its own, from then until now; what is paid for is the lines'.
func (s *Server) draft(sub *Subscription, reason string, from, at Stamp) *Invoice {
	customer := s.byID[sub.Customer].(*Customer)
	inv := &Invoice{
		Base: s.base("in", "invoice", at, sub.Livemode), AutoAdvance: true, BillingReason: reason, CollectionMethod: sub.CollectionMethod,
		Currency: sub.Currency, Customer: customer.ID, CustomerEmail: customer.Email, CustomerName: customer.Name,
		PeriodStart: from, PeriodEnd: at, Status: "draft", TestClock: sub.TestClock,
	}
	inv.Parent.Type = "subscription_details"
	inv.Parent.SubscriptionDetails.Subscription, inv.Parent.SubscriptionDetails.Metadata = sub.ID, maps.Clone(sub.Metadata)
	inv.Lines = list[*InvoiceLine]{Object: "list", URL: "/v1/invoices/" + inv.ID + "/lines"}
	for _, item := range sub.Items.Data {
		line := &InvoiceLine{
			ID: s.base("il", "", at, false).ID, Object: "line_item", Amount: item.Price.UnitAmount * item.Quantity, Currency: sub.Currency,
			Description: fmt.Sprintf("%d × %s", item.Quantity, s.byID[item.Price.Product].(*Product).Name), Invoice: inv.ID, Livemode: sub.Livemode,
			Metadata: maps.Clone(sub.Metadata), Quantity: item.Quantity, QuantityDecimal: strconv.FormatInt(item.Quantity, 10),
		}
		if sub.Status == "trialing" {
			line.Amount = 0
		}
		line.Subtotal = line.Amount
		line.Period.Start, line.Period.End = item.CurrentPeriodStart, item.CurrentPeriodEnd
		line.Parent.Type, line.Pricing.Type, line.Pricing.UnitAmountDecimal = "subscription_item_details", "price_details", item.Price.UnitAmountDecimal
		line.Parent.SubscriptionItemDetails.Subscription, line.Parent.SubscriptionItemDetails.SubscriptionItem = sub.ID, item.ID
		line.Pricing.PriceDetails.Price, line.Pricing.PriceDetails.Product = item.Price.ID, item.Price.Product
		inv.Lines.Data = append(inv.Lines.Data, line)
		inv.Total += line.Amount
	}
	inv.Subtotal, inv.AmountDue, inv.AmountRemaining = inv.Total, inv.Total, inv.Total
	if reason == "subscription_cycle" {
		inv.AutomaticallyFinalizesAt = at + draftFor
	}
	sub.LatestInvoice = put(s, &s.invoices, inv).ID
	s.emit("invoice.created", at, inv)
	return inv
}

// finalize opens a draft, or ends it where there is nothing to pay.
func (s *Server) finalize(inv *Invoice, at Stamp) {
	inv.Status, inv.AutomaticallyFinalizesAt, inv.EffectiveAt, inv.StatusTransitions.FinalizedAt = "open", 0, at, at
	inv.Number = fmt.Sprintf("SIM-%04d", len(s.invoices))
	if inv.AmountDue > 0 {
		pi := s.newIntent(inv.AmountDue, inv.Currency, inv.Customer, "Subscription", inv.Livemode)
		pi.invoice = inv.ID
		s.emit("payment_intent.created", at, pi)
		inv.payment = put(s, &s.payments, &InvoicePayment{
			Base: s.base("inpay", "invoice_payment", at, inv.Livemode), AmountRequested: inv.AmountDue, Currency: inv.Currency,
			Invoice: inv.ID, IsDefault: true, Status: "open",
		})
		inv.payment.Payment.PaymentIntent, inv.payment.Payment.Type = pi.ID, "payment_intent"
	}
	s.emit("invoice.finalized", at, inv)
	if inv.AmountDue == 0 {
		s.paid(inv, at)
	}
}

// attempt tries to pay an open invoice: with pm, or else the subscription's
// card, or else the customer's.
func (s *Server) attempt(inv *Invoice, pm *PaymentMethod, at Stamp) *Failure {
	sub := s.subscriptionOf(inv)
	customer := s.byID[inv.Customer].(*Customer)
	for _, id := range []string{sub.DefaultPaymentMethod, customer.InvoiceSettings.DefaultPaymentMethod} {
		if known, ok := s.byID[id].(*PaymentMethod); ok && pm == nil {
			pm = known
		}
	}
	inv.AttemptCount++
	inv.Attempted, inv.NextPaymentAttempt = true, 0
	failure := invalid("", "resource_missing", "This customer has no attached payment source or default payment method.")
	if pm != nil {
		failure = s.pay(s.intentOf(inv), pm, true)
	}
	if failure == nil {
		s.paid(inv, at)
		return nil
	}
	last := inv.AttemptCount >= mostTries
	first := inv.BillingReason == "subscription_create" // is not tried again by itself
	if !last && !first && sub.EndedAt == 0 {
		inv.NextPaymentAttempt = at + retryAfter
	}
	s.emit("invoice.payment_failed", at, inv)
	switch {
	case first || sub.EndedAt != 0:
	case last && !s.o.Unpaid:
		s.terminate(sub, at, "payment_failed")
	case last:
		s.become(sub, "unpaid", at)
	default:
		s.become(sub, "past_due", at)
	}
	return failure
}

// paid ends an invoice, and with it what its subscription waits for.
func (s *Server) paid(inv *Invoice, at Stamp) {
	inv.Status, inv.StatusTransitions.PaidAt, inv.AmountPaid, inv.AmountRemaining = "paid", at, inv.AmountDue, 0
	inv.NextPaymentAttempt, inv.Attempted, inv.AutoAdvance = 0, true, false
	if p := inv.payment; p != nil && !inv.outOfBand {
		p.Status, p.AmountPaid, p.StatusTransitions.PaidAt = "paid", p.AmountRequested, at
		if s.eventVersion() >= flattened { // it is younger
			s.emit("invoice_payment.paid", at, p)
		}
	}
	s.emit("invoice.paid", at, inv)
	if !inv.outOfBand {
		s.emit("invoice.payment_succeeded", at, inv)
	}
	sub := s.subscriptionOf(inv)
	switch sub.Status {
	case "incomplete", "past_due", "unpaid":
		s.become(sub, "active", at)
	}
}

// become changes a subscription's status and tells of it.
func (s *Server) become(sub *Subscription, status string, at Stamp) {
	before := s.before(sub)
	sub.Status = status
	s.emitChange("customer.subscription.updated", at, sub, before)
}

// stopInvoices leaves a subscription's invoices as they are.
func (s *Server) stopInvoices(sub *Subscription) {
	for _, inv := range s.invoices {
		if inv.Parent.SubscriptionDetails.Subscription == sub.ID {
			inv.AutoAdvance, inv.NextPaymentAttempt, inv.AutomaticallyFinalizesAt = false, 0, 0
		}
	}
}

func (s *Server) subscriptionOf(inv *Invoice) *Subscription {
	return s.byID[inv.Parent.SubscriptionDetails.Subscription].(*Subscription)
}

// intentOf is the payment of an invoice, or nil.
func (s *Server) intentOf(inv *Invoice) *PaymentIntent {
	if inv.payment == nil {
		return nil
	}
	return s.byID[inv.payment.Payment.PaymentIntent].(*PaymentIntent)
}

func (c *call) payInvoice() (any, *Failure) {
	inv := named[Invoice](c)
	pm := given[*PaymentMethod](c, "payment_method")
	if pm != nil && pm.Customer != inv.Customer {
		c.form.refuse(notAttached("payment_method", pm.ID))
	}
	outOfBand := c.form.flag("paid_out_of_band", false)
	c.form.ignore("off_session")
	if inv.Status != "open" && inv.Status != "draft" {
		c.form.refuse(invalid("", "", "Invoice is already "+inv.Status))
	}
	if f := c.form.done(); f != nil {
		return nil, f
	}
	at := c.now(inv.Customer)
	if inv.Status == "draft" {
		c.finalize(inv, at)
	}
	switch {
	case inv.Status == "paid":
		return inv, nil
	case outOfBand:
		inv.outOfBand = true
		c.paid(inv, at)
		return inv, nil
	}
	return inv, c.attempt(inv, pm, at)
}

func (c *call) voidInvoice() (any, *Failure) {
	inv := named[Invoice](c)
	if inv.Status != "open" {
		c.form.refuse(invalid("", "", "You can only pass in open invoices. This invoice isn't open."))
	}
	if f := c.form.done(); f != nil {
		return nil, f
	}
	c.void(inv, c.now(inv.Customer))
	return inv, nil
}

func (s *Server) void(inv *Invoice, at Stamp) {
	inv.Status, inv.StatusTransitions.VoidedAt, inv.AutoAdvance, inv.NextPaymentAttempt = "void", at, false, 0
	if p := inv.payment; p != nil {
		p.Status, p.StatusTransitions.CanceledAt = "canceled", at
		s.intentOf(inv).Status = "canceled"
	}
	s.emit("invoice.voided", at, inv)
}

func (c *call) listInvoices() (any, *Failure) {
	customer, sub, status := c.form.text("customer"), c.form.text("subscription"), c.form.text("status")
	return page(c, c.invoices, func(row *Invoice) bool {
		return is(customer, row.Customer) && is(sub, row.Parent.SubscriptionDetails.Subscription) && is(status, row.Status)
	})
}

func (c *call) listPayments() (any, *Failure) {
	invoice, intent, status := c.form.text("invoice"), c.form.text("payment[payment_intent]"), c.form.text("status")
	if kind := c.form.text("payment[type]"); !is(kind, "payment_intent") {
		c.form.refuse(invalid("payment[type]", "", "This stand-in knows no payment of an invoice but payment_intent."))
	}
	return page(c, c.payments, func(row *InvoicePayment) bool {
		return is(invoice, row.Invoice) && is(intent, row.Payment.PaymentIntent) && is(status, row.Status)
	})
}
