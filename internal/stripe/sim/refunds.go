package sim

import "fmt"

// chargeGiven is the charge that a form names, or that of the intent it names.
// It is never nil.
func (c *call) chargeGiven() *Charge {
	if pi := given[*PaymentIntent](c, "payment_intent"); pi != nil {
		if ch, ok := c.byID[pi.LatestCharge].(*Charge); ok {
			return ch
		}
		c.form.refuse(invalid("payment_intent", "", "This PaymentIntent does not have a successful charge to refund."))
		return new(Charge)
	}
	return needed[Charge](c, "charge")
}

func (c *call) createRefund() (any, *Failure) {
	ch := c.chargeGiven()
	left := ch.Amount - ch.AmountRefunded
	amount, reason, metadata := c.form.number("amount", left), c.form.text("reason"), c.form.metadata(nil)
	switch {
	case !ch.Paid:
		c.form.refuse(invalid("charge", "", "This charge did not succeed: there is nothing to refund."))
	case ch.Disputed:
		c.form.refuse(invalid("charge", "charge_disputed", "Charge "+ch.ID+" has been charged back; cannot issue a refund."))
	case left == 0:
		c.form.refuse(invalid("charge", "charge_already_refunded", "Charge "+ch.ID+" has already been refunded."))
	case amount < 1 || amount > left:
		c.form.refuse(invalid("amount", "", fmt.Sprintf("Refund amount (%d) is greater than unrefunded amount on charge (%d), or nothing.", amount, left)))
	}
	if f := c.form.done(); f != nil {
		return nil, f
	}
	at, before := c.now(ch.Customer), c.before(ch)
	base := c.base("re", "refund", at, c.live)
	refund := put(c.Server, &c.refunds, &Refund{
		ID: base.ID, Object: base.Object, Created: at, Amount: amount, Charge: ch.ID, Currency: ch.Currency, Metadata: metadata,
		PaymentIntent: ch.PaymentIntent, Reason: reason, Status: "succeeded",
	})
	ch.AmountRefunded += amount
	ch.Refunded = ch.AmountRefunded == ch.Amount
	c.emitChange("charge.refunded", at, ch, before)
	return refund, nil
}

func (c *call) listRefunds() (any, *Failure) {
	charge, intent := c.form.text("charge"), c.form.text("payment_intent")
	return page(c, c.refunds, func(row *Refund) bool { return is(charge, row.Charge) && is(intent, row.PaymentIntent) })
}

// openDispute is a cardholder's complaint, which no call of Stripe's makes.
func (c *call) openDispute() (any, *Failure) {
	ch := c.chargeGiven()
	amount, status := c.form.number("amount", ch.Amount), "needs_response"
	if c.form.flag("inquiry", false) {
		status = "warning_needs_response"
	}
	if !ch.Paid || ch.Disputed || amount < 1 || amount > ch.Amount {
		c.form.refuse(invalid("charge", "", "This charge did not succeed, has a dispute already, or is smaller than the amount."))
	}
	if f := c.form.done(); f != nil {
		return nil, f
	}
	return c.dispute(ch, amount, status), nil
}

func (s *Server) dispute(ch *Charge, amount int64, status string) *Dispute {
	at := s.now(ch.Customer)
	d := put(s, &s.disputes, &Dispute{
		Base: s.base("dp", "dispute", at, ch.Livemode), Amount: amount, Charge: ch.ID, Currency: ch.Currency,
		IsChargeRefundable: status == "warning_needs_response", PaymentIntent: ch.PaymentIntent, Reason: "fraudulent", Status: status,
	})
	d.EvidenceDetails.DueBy = at + 7*24*3600
	ch.Disputed = true
	s.emit("charge.dispute.created", at, d)
	return d
}

func (c *call) closeDispute() (any, *Failure) {
	d := named[Dispute](c)
	switch status := c.form.need("status"); {
	case status != "won" && status != "lost" && status != "warning_closed":
		c.form.refuse(invalid("status", "", "Invalid status: must be won, lost or warning_closed"))
	case d.Status != "needs_response" && d.Status != "warning_needs_response":
		c.form.refuse(invalid("status", "", "This dispute is closed: it was "+d.Status+"."))
	}
	if f := c.form.done(); f != nil {
		return nil, f
	}
	ch := c.byID[d.Charge].(*Charge)
	at, before := c.now(ch.Customer), c.before(d)
	d.Status, d.IsChargeRefundable = c.form.text("status"), false
	c.emitChange("charge.dispute.closed", at, d, before)
	return d, nil
}

func (c *call) listDisputes() (any, *Failure) {
	charge, intent := c.form.text("charge"), c.form.text("payment_intent")
	return page(c, c.disputes, func(row *Dispute) bool { return is(charge, row.Charge) && is(intent, row.PaymentIntent) })
}
