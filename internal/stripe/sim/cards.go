package sim

import "strings"

// outcome is what charging a card comes to: "" is a success, disputed one that
// the cardholder disputes at once, and the others are decline codes.
type outcome string

const (
	disputed             outcome = "disputed"
	generic              outcome = "generic_decline"
	insufficientFunds    outcome = "insufficient_funds"
	authenticationNeeded outcome = "authentication_required" // on session it is asked for
)

// testCards are those of Stripe's test mode that are known here. A token is
// named as its payment method, with tok_ for pm_card_.
var testCards = []struct {
	method, number string
	does           outcome
}{
	{"pm_card_visa", "4242424242424242", ""},
	{"pm_card_chargeDeclined", "4000000000000002", generic},
	{"pm_card_chargeCustomerFail", "4000000000000341", generic},
	{"pm_card_visa_chargeDeclinedInsufficientFunds", "4000000000009995", insufficientFunds},
	{"pm_card_authenticationRequired", "4000002760003184", authenticationNeeded},
	{"pm_card_createDispute", "4000000000000259", disputed},
}

// card is a new payment method, not yet stored, of the test card that has this
// id, number or token; nil if none has.
func (c *call) card(name string) *PaymentMethod {
	for _, known := range testCards {
		if name != known.method && name != known.number && name != strings.Replace(known.method, "pm_card_", "tok_", 1) {
			continue
		}
		last4 := known.number[len(known.number)-4:]
		return &PaymentMethod{
			Base: c.base("pm", "payment_method", c.now(""), c.live), Type: "card", does: known.does,
			Card: Card{Brand: "visa", Country: "US", ExpMonth: 12, ExpYear: 2034, Fingerprint: "fp_" + last4, Funding: "credit", Last4: last4},
		}
	}
	return nil
}

func (c *call) createMethod() (any, *Failure) {
	if kind := c.form.need("type"); kind != "card" {
		c.form.refuse(invalid("type", "", "This stand-in knows no payment method but card."))
	}
	name, param := c.form.text("card[number]"), "card[number]"
	if token := c.form.text("card[token]"); token != "" {
		name, param = token, "card[token]"
	}
	pm := c.card(strings.ReplaceAll(name, " ", ""))
	if pm == nil || strings.HasPrefix(name, "pm_") {
		c.form.refuse(invalid(param, "incorrect_number", "Your card number is incorrect, or is no test card of this stand-in."))
		pm = new(PaymentMethod)
	}
	pm.Card.ExpMonth, pm.Card.ExpYear = c.form.number("card[exp_month]", pm.Card.ExpMonth), c.form.number("card[exp_year]", pm.Card.ExpYear)
	pm.BillingDetails.Email, pm.BillingDetails.Name = c.form.text("billing_details[email]"), c.form.text("billing_details[name]")
	pm.Metadata = c.form.metadata(nil)
	c.form.ignore("card[cvc]")
	if f := c.form.done(); f != nil {
		return nil, f
	}
	return put(c.Server, &c.methods, pm), nil
}

// method is the payment method that has an id; of one of Stripe's well-known
// ids a new one, which is stored unless the call fails.
func (c *call) method(param, id string) *PaymentMethod {
	if pm, ok := c.byID[id].(*PaymentMethod); ok {
		return pm
	}
	pm := c.card(id)
	if pm == nil || !strings.HasPrefix(id, "pm_") {
		c.form.refuse(missing(param, id))
		return new(PaymentMethod)
	}
	return pm
}

func notAttached(param, id string) *Failure {
	return invalid(param, "resource_missing", "The customer does not have a payment method with the ID "+id+". The payment method must be attached to the customer.")
}

func (c *call) attachMethod() (any, *Failure) {
	pm, customer := c.method("id", c.id), needed[Customer](c, "customer")
	switch {
	case pm.Customer != "":
		c.form.refuse(invalid("", "", "The payment method you provided has already been attached to a customer."))
	case pm.used:
		c.form.refuse(invalid("", "", "This PaymentMethod was previously used without being attached to a Customer or was detached from a Customer, and may not be used again."))
	}
	if f := c.form.done(); f != nil {
		if f.Param == "id" {
			f.status = 404
		}
		return nil, f
	}
	at := c.now(customer.ID)
	if c.byID[pm.ID] == nil {
		put(c.Server, &c.methods, pm).Created = at
	}
	pm.Customer, pm.used = customer.ID, true
	c.emit("payment_method.attached", at, pm)
	return pm, nil
}

func (c *call) detachMethod() (any, *Failure) {
	pm := named[PaymentMethod](c)
	if pm.Customer == "" {
		c.form.refuse(invalid("", "", "The payment method you provided is not attached to a customer so detachment is impossible."))
	}
	if f := c.form.done(); f != nil {
		return nil, f
	}
	customer := c.byID[pm.Customer].(*Customer)
	at, before, was := c.now(customer.ID), c.before(pm), c.before(customer)
	pm.Customer = ""
	c.emitChange("payment_method.detached", at, pm, before)
	if customer.InvoiceSettings.DefaultPaymentMethod == pm.ID {
		customer.InvoiceSettings.DefaultPaymentMethod = ""
		c.emitChange("customer.updated", at, customer, was)
	}
	for _, sub := range c.subscriptions {
		if sub.DefaultPaymentMethod == pm.ID {
			was := c.before(sub)
			sub.DefaultPaymentMethod = ""
			c.emitChange("customer.subscription.updated", at, sub, was)
		}
	}
	return pm, nil
}

func (c *call) listMethods() (any, *Failure) {
	customer, kind := c.id, c.form.text("type")
	if customer == "" {
		customer = c.form.text("customer")
	} else {
		_ = named[Customer](c)
	}
	return page(c, c.methods, func(row *PaymentMethod) bool { return is(customer, row.Customer) && is(kind, row.Type) })
}
