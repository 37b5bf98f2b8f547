package sim

import "slices"

func (c *call) createClock() (any, *Failure) {
	c.form.need("frozen_time")
	clock := &TestClock{
		Base: c.base("clock", "test_helpers.test_clock", c.now(""), c.live), FrozenTime: Stamp(c.form.number("frozen_time", 0)),
		Name: c.form.text("name"), Status: "ready",
	}
	clock.DeletesAfter = clock.Created + keptFor
	if f := c.form.done(); f != nil {
		return nil, f
	}
	return put(c.Server, &c.clocks, clock), nil
}

// advanceClock does all that becomes due and answers then. The answer says
// "advancing", as Stripe's does, which works on; asked again it is "ready".
func (c *call) advanceClock() (any, *Failure) {
	clock := named[TestClock](c)
	c.form.need("frozen_time")
	until := Stamp(c.form.number("frozen_time", 0))
	if until <= clock.FrozenTime {
		c.form.refuse(invalid("frozen_time", "", "The frozen_time must be after the clock's."))
	}
	if most := c.furthest(clock); until > most {
		c.form.refuse(invalid("frozen_time", "", "Test clock can be advanced by at most two intervals of the shortest subscription: to "+most.time().Format("2006-01-02T15:04:05Z")+"."))
	}
	if f := c.form.done(); f != nil {
		return nil, f
	}
	c.cause = EventRequest{} // time is not a request
	for {
		at, do := c.due(clock.ID)
		if do == nil || at > until {
			break
		}
		clock.FrozenTime = max(at, clock.FrozenTime)
		do(clock.FrozenTime)
	}
	clock.FrozenTime = until
	answer := *clock
	answer.Status = "advancing"
	return &answer, nil
}

// furthest is where a clock may be put: two intervals of its shortest
// subscription on, or two years.
func (c *call) furthest(clock *TestClock) Stamp {
	most := Stamp(addMonths(clock.FrozenTime.time(), 24).Unix())
	for _, sub := range c.subscriptions {
		if sub.TestClock == clock.ID && sub.EndedAt == 0 {
			copied := *sub
			copied.BillingCycleAnchor = clock.FrozenTime
			most = min(most, copied.next(copied.next(clock.FrozenTime)))
		}
	}
	return most
}

// deleteClock takes its customers and all that is theirs with it.
func (c *call) deleteClock() (any, *Failure) {
	clock := named[TestClock](c)
	if f := c.form.done(); f != nil {
		return nil, f
	}
	gone := make(map[string]bool)
	for _, customer := range c.customers {
		gone[customer.ID] = customer.TestClock == clock.ID
	}
	remove(c.Server, &c.customers, func(row *Customer) bool { return gone[row.ID] })
	remove(c.Server, &c.methods, func(row *PaymentMethod) bool { return gone[row.Customer] })
	remove(c.Server, &c.intents, func(row *PaymentIntent) bool { return gone[row.Customer] })
	remove(c.Server, &c.subscriptions, func(row *Subscription) bool { return gone[row.Customer] })
	remove(c.Server, &c.invoices, func(row *Invoice) bool { return gone[row.Customer] })
	remove(c.Server, &c.clocks, func(row *TestClock) bool { return row == clock })
	return tree{"id": clock.ID, "object": clock.Object, "deleted": true}, nil
}

func remove[T identified](s *Server, rows *[]T, gone func(T) bool) {
	*rows = slices.DeleteFunc(*rows, func(row T) bool {
		if gone(row) {
			delete(s.byID, row.base().ID)
			return true
		}
		return false
	})
}
