package sim

import "crypto/rand"

// base makes an object's id, which is another in every run: the database of who
// is tested outlives a stand-in.
func (s *Server) base(prefix, object string, at Stamp, live bool) Base {
	return Base{ID: prefix + "_" + rand.Text()[:20], Object: object, Created: at, Livemode: live}
}

// now is the time of a customer: of its clock, if it has one.
func (s *Server) now(customer string) Stamp {
	if c, ok := s.byID[customer].(*Customer); ok {
		if clock, ok := s.byID[c.TestClock].(*TestClock); ok {
			return clock.FrozenTime
		}
	}
	return Stamp(s.o.Now().Unix())
}

func (c *call) createCustomer() (any, *Failure) {
	made := &Customer{Email: c.form.text("email"), Name: c.form.text("name"), Metadata: c.form.metadata(nil), Asked: 1}
	at := c.now("")
	if clock := given[*TestClock](c, "test_clock"); clock != nil {
		made.TestClock, at = clock.ID, clock.FrozenTime
	}
	if f := c.form.done(); f != nil {
		return nil, f
	}
	made.Base = c.base("cus", "customer", at, c.live)
	c.made = put(c.Server, &c.customers, made)
	c.emit("customer.created", at, made)
	return made, nil
}

func (c *call) updateCustomer() (any, *Failure) {
	customer := named[Customer](c)
	const param = "invoice_settings[default_payment_method]"
	method := given[*PaymentMethod](c, param)
	if method != nil && method.Customer != customer.ID {
		c.form.refuse(notAttached(param, method.ID))
	}
	metadata := c.form.metadata(customer.Metadata)
	email, name := c.form.text("email"), c.form.text("name")
	if f := c.form.done(); f != nil {
		return nil, f
	}
	before := c.before(customer)
	customer.Metadata = metadata
	if c.form.has("email") {
		customer.Email = email
	}
	if c.form.has("name") {
		customer.Name = name
	}
	if method != nil {
		customer.InvoiceSettings.DefaultPaymentMethod = method.ID
	} else if c.form.has(param) {
		customer.InvoiceSettings.DefaultPaymentMethod = ""
	}
	c.emitChange("customer.updated", c.now(customer.ID), customer, before)
	return customer, nil
}

func (c *call) listCustomers() (any, *Failure) {
	email, clock := c.form.text("email"), c.form.text("test_clock")
	return page(c, c.customers, func(row *Customer) bool { return is(email, row.Email) && is(clock, row.TestClock) })
}
