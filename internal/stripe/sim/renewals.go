package sim

import "time"

// Renew does what is due by now for customers without a test clock. It is done
// every minute by itself.
func (s *Server) Renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	now := s.now("")
	for {
		at, do := s.due("")
		if do == nil || at > now {
			break
		}
		do(now)
	}
	s.commit()
}

func (s *Server) tick() {
	ticker := time.NewTicker(time.Minute)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			s.Renew()
		case <-s.ending.Done():
			return
		}
	}
}

// due is what is to be done next for the customers of a clock, "" being those
// without one, and when; nil if there is nothing.
func (s *Server) due(clock string) (first Stamp, do func(at Stamp)) {
	consider := func(at Stamp, what func(at Stamp)) {
		if at > 0 && (do == nil || at < first) {
			first, do = at, what
		}
	}
	for _, sub := range s.subscriptions {
		if sub.TestClock != clock {
			continue
		}
		switch sub.Status {
		case "incomplete":
			consider(sub.Created+payableFor, func(at Stamp) { s.expire(sub, at) })
		case "active", "trialing", "past_due":
			consider(sub.Items.Data[0].CurrentPeriodEnd, func(at Stamp) { s.renew(sub, at) })
		}
	}
	for _, inv := range s.invoices {
		if inv.TestClock != clock {
			continue
		}
		switch inv.Status {
		case "draft":
			consider(inv.AutomaticallyFinalizesAt, func(at Stamp) {
				s.finalize(inv, at)
				if inv.Status == "open" {
					_ = s.attempt(inv, nil, at) // its events tell
				}
			})
		case "open":
			consider(inv.NextPaymentAttempt, func(at Stamp) { _ = s.attempt(inv, nil, at) })
		}
	}
	return first, do
}

// renew begins a subscription's next period, or ends it.
func (s *Server) renew(sub *Subscription, at Stamp) {
	start, end := sub.Items.Data[0].CurrentPeriodStart, sub.Items.Data[0].CurrentPeriodEnd
	if sub.CancelAtPeriodEnd {
		s.terminate(sub, at, "cancellation_requested")
		return
	}
	before := s.before(sub)
	if sub.Status == "trialing" {
		sub.Status = "active"
	}
	sub.period(end, sub.next(end))
	s.draft(sub, "subscription_cycle", start, at)
	s.emitChange("customer.subscription.updated", at, sub, before)
}

// expire ends a subscription that was never paid.
func (s *Server) expire(sub *Subscription, at Stamp) {
	before := s.before(sub)
	sub.Status, sub.EndedAt = "incomplete_expired", at
	if inv, ok := s.byID[sub.LatestInvoice].(*Invoice); ok && inv.Status == "open" {
		s.void(inv, at)
	}
	s.emitChange("customer.subscription.updated", at, sub, before)
}
