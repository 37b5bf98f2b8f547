package sim

import (
	"crypto/rand"
	"maps"
	"net/http"
)

func (c *call) createIntent() (any, *Failure) {
	form := c.form
	form.need("amount")
	amount, currency := form.number("amount", 0), form.need("currency")
	if amount < 50 {
		form.refuse(invalid("amount", "amount_too_small", "Amount must be at least $0.50 usd"))
	}
	customer := given[*Customer](c, "customer")
	description, metadata := form.text("description"), form.metadata(nil)
	confirm, off := form.flag("confirm", false), form.flag("off_session", false)
	away := form.flag("error_on_requires_action", false) || off
	var pm *PaymentMethod
	if id := form.text("payment_method"); id != "" {
		if pm = c.method("payment_method", id); pm.used && (customer == nil || pm.Customer != customer.ID) {
			form.refuse(notAttached("payment_method", id))
		}
	}
	switch {
	case off && !confirm:
		form.refuse(invalid("off_session", "", "You can only set off_session when confirm is true."))
	case confirm && pm == nil:
		form.refuse(invalid("payment_method", "payment_intent_unexpected_state", "You cannot confirm this PaymentIntent because it's missing a payment method."))
	}
	form.all("payment_method_types")
	form.ignore("automatic_payment_methods[enabled]", "automatic_payment_methods[allow_redirects]")
	if f := form.done(); f != nil {
		return nil, f
	}
	id := ""
	if customer != nil {
		id = customer.ID
	}
	pi := c.newIntent(amount, currency, id, description, c.live)
	pi.Metadata = metadata
	if pm != nil {
		pi.PaymentMethod, pi.Status = pm.ID, "requires_confirmation"
	}
	c.emit("payment_intent.created", pi.Created, pi)
	if !confirm {
		return pi, nil
	}
	return pi, c.pay(pi, pm, away)
}

// newIntent stores a payment that has not been tried.
func (s *Server) newIntent(amount int64, currency, customer, description string, live bool) *PaymentIntent {
	pi := &PaymentIntent{
		Base: s.base("pi", "payment_intent", s.now(customer), live), Amount: amount, CaptureMethod: "automatic", Currency: currency,
		Customer: customer, Description: description, PaymentMethodTypes: []string{"card"}, Status: "requires_payment_method",
	}
	pi.ClientSecret = pi.ID + "_secret_" + rand.Text()
	return put(s, &s.intents, pi)
}

// pay charges a card for an intent; away says that nobody is there to ask. A
// failure has all that the answer of 402 needs.
func (s *Server) pay(pi *PaymentIntent, pm *PaymentMethod, away bool) *Failure {
	at := s.now(pi.Customer)
	if s.byID[pm.ID] == nil { // a well-known one, used at once
		put(s, &s.methods, pm)
	}
	pm.used = true
	pi.PaymentMethod, pi.LastPaymentError, pi.NextAction = pm.ID, nil, nil
	does := pm.does
	if s.declines > 0 {
		s.declines--
		does = generic
	}
	if does == authenticationNeeded && !away {
		pi.Status, pi.NextAction = "requires_action", &NextAction{Type: "use_stripe_sdk"}
		s.emit("payment_intent.requires_action", at, pi)
		return nil
	}
	ch := &Charge{
		Base: s.base("ch", "charge", at, pi.Livemode), Amount: pi.Amount, Currency: pi.Currency, Customer: pi.Customer, Description: pi.Description,
		Metadata: maps.Clone(pi.Metadata), PaymentIntent: pi.ID, PaymentMethod: pm.ID, Status: "failed",
	}
	ch.PaymentMethodDetails.Card, ch.PaymentMethodDetails.Type = pm.Card, "card"
	pi.LatestCharge = put(s, &s.charges, ch).ID
	if does != "" && does != disputed {
		return s.decline(pi, ch, pm, does)
	}
	ch.AmountCaptured, ch.Captured, ch.Paid, ch.Status = pi.Amount, true, true, "succeeded"
	pi.AmountReceived, pi.Status = pi.Amount, "succeeded"
	s.emit("charge.succeeded", at, ch)
	s.emit("payment_intent.succeeded", at, pi)
	if does == disputed {
		s.dispute(ch, ch.Amount, "needs_response")
	}
	return nil
}

// decline ends a charge that does not come through.
func (s *Server) decline(pi *PaymentIntent, ch *Charge, pm *PaymentMethod, why outcome) *Failure {
	code, message := "card_declined", "Your card was declined."
	switch why {
	case insufficientFunds:
		message = "Your card has insufficient funds."
	case authenticationNeeded:
		code, message = string(why), "Your card was declined. This transaction requires authentication."
	}
	shown := *pm // as it was, whatever becomes of it
	failure := Failure{
		status: http.StatusPaymentRequired, Type: "card_error", Code: code, DeclineCode: string(why), Message: message, Charge: ch.ID, PaymentMethod: &shown,
	}
	reason := failure
	ch.FailureCode, ch.FailureMessage = code, message
	pi.PaymentMethod, pi.Status, pi.LastPaymentError = "", "requires_payment_method", &reason
	s.emit("charge.failed", ch.Created, ch)
	s.emit("payment_intent.payment_failed", ch.Created, pi)
	failure.PaymentIntent = pi
	return &failure
}

func (c *call) listIntents() (any, *Failure) {
	customer := c.form.text("customer")
	return page(c, c.intents, func(row *PaymentIntent) bool { return is(customer, row.Customer) })
}

func (c *call) listCharges() (any, *Failure) {
	customer, intent := c.form.text("customer"), c.form.text("payment_intent")
	return page(c, c.charges, func(row *Charge) bool { return is(customer, row.Customer) && is(intent, row.PaymentIntent) })
}
