package sim

import (
	"fmt"
	"net/http"
	"slices"
	"time"
)

func (c *call) createSubscription() (any, *Failure) {
	form := c.form
	customer := needed[Customer](c, "customer")
	at := c.now(customer.ID)
	sub := &Subscription{
		Base: c.base("sub", "subscription", at, c.live), BillingCycleAnchor: at, CollectionMethod: "charge_automatically", Customer: customer.ID,
		Description: form.text("description"), Metadata: form.metadata(nil), StartDate: at, TestClock: customer.TestClock,
		Items: list[*SubscriptionItem]{Object: "list"},
	}
	sub.BillingMode.Type, sub.Items.URL = "flexible", "/v1/subscription_items?subscription="+sub.ID
	if pm := given[*PaymentMethod](c, "default_payment_method"); pm != nil {
		if sub.DefaultPaymentMethod = pm.ID; pm.Customer != customer.ID {
			form.refuse(notAttached("default_payment_method", pm.ID))
		}
	}
	for i := 0; i == 0 || form.has(fmt.Sprintf("items[%d][price]", i)); i++ {
		price := needed[Price](c, fmt.Sprintf("items[%d][price]", i))
		quantity := form.number(fmt.Sprintf("items[%d][quantity]", i), 1)
		if price.Recurring == nil {
			form.refuse(invalid("items", "", "The price specified is set to `type=one_time` but this field only accepts prices with `type=recurring`."))
			break
		}
		base := c.base("si", "subscription_item", at, c.live)
		sub.Currency = price.Currency
		sub.Items.Data = append(sub.Items.Data, &SubscriptionItem{
			ID: base.ID, Object: base.Object, Created: at, Price: price, Quantity: quantity, Subscription: sub.ID,
		})
		if first := sub.Items.Data[0].Price.Recurring; *first != *price.Recurring {
			form.refuse(invalid("items", "", "This stand-in takes prices of one interval only in one subscription."))
		}
	}
	trial := time.Duration(form.number("trial_period_days", 0)) * 24 * time.Hour
	form.ignore("payment_behavior", "off_session")
	if f := form.done(); f != nil {
		return nil, f
	}
	put(c.Server, &c.subscriptions, sub)
	first := len(c.fresh)
	if trial > 0 {
		sub.Status, sub.TrialStart, sub.TrialEnd = "trialing", at, at+Stamp(trial.Seconds())
		sub.BillingCycleAnchor = sub.TrialEnd
		sub.period(at, sub.TrialEnd)
	} else {
		sub.period(at, sub.next(at))
	}
	inv := c.draft(sub, "subscription_create", at, at)
	c.finalize(inv, at)
	if trial == 0 {
		_ = c.attempt(inv, nil, at) // the status tells
		if sub.Status = "incomplete"; inv.Status == "paid" {
			sub.Status = "active"
		}
	}
	// It is told first, as it is at the end of the call.
	c.emit("customer.subscription.created", at, sub)
	last := len(c.fresh) - 1
	c.fresh = slices.Insert(c.fresh[:last], first, c.fresh[last])
	return sub, nil
}

func (c *call) updateSubscription() (any, *Failure) {
	sub := named[Subscription](c)
	form := c.form
	metadata, description := form.metadata(sub.Metadata), form.text("description")
	ends := form.flag("cancel_at_period_end", sub.CancelAtPeriodEnd)
	method := given[*PaymentMethod](c, "default_payment_method")
	if method != nil && method.Customer != sub.Customer {
		form.refuse(notAttached("default_payment_method", method.ID))
	}
	if sub.EndedAt != 0 {
		form.refuse(invalid("", "", "A canceled subscription can only update its cancellation_details and metadata."))
	}
	if form.wrong != nil {
		return nil, form.wrong
	}
	item := *sub.Items.Data[0]
	if id := form.text("items[0][id]"); !is(id, item.ID) || id == "" && form.has("items[0][price]") {
		form.refuse(invalid("items[0][id]", "", "This stand-in changes a subscription's first item only: its id is "+item.ID+"."))
	}
	price := given[*Price](c, "items[0][price]")
	if price != nil {
		item.Price = price
		if price.Recurring == nil || *price.Recurring != *sub.Items.Data[0].Price.Recurring {
			form.refuse(invalid("items[0][price]", "", "This stand-in changes to prices of the same interval only."))
		}
	}
	item.Quantity = form.number("items[0][quantity]", item.Quantity)
	form.ignore("proration_behavior", "payment_behavior")
	if f := form.done(); f != nil {
		return nil, f
	}
	at, before := c.now(sub.Customer), c.before(sub)
	sub.Metadata, sub.Items.Data[0] = metadata, &item
	if form.has("description") {
		sub.Description = description
	}
	if method != nil {
		sub.DefaultPaymentMethod = method.ID
	}
	switch {
	case ends && !sub.CancelAtPeriodEnd:
		sub.CancelAtPeriodEnd, sub.CancelAt, sub.CanceledAt, sub.CancellationDetails.Reason = true, item.CurrentPeriodEnd, at, "cancellation_requested"
	case !ends && sub.CancelAtPeriodEnd:
		sub.CancelAtPeriodEnd, sub.CancelAt, sub.CanceledAt, sub.CancellationDetails.Reason = false, 0, 0, ""
	}
	c.emitChange("customer.subscription.updated", at, sub, before)
	return sub, nil
}

func (c *call) cancelSubscription() (any, *Failure) {
	sub := named[Subscription](c)
	if sub.EndedAt != 0 {
		c.form.refuse(&Failure{status: http.StatusNotFound, Type: "invalid_request_error", Code: "resource_missing", Message: "No such subscription: " + sub.ID})
	}
	if f := c.form.done(); f != nil {
		return nil, f
	}
	sub.CanceledAt = 0
	c.terminate(sub, c.now(sub.Customer), "cancellation_requested")
	return sub, nil
}

// terminate cancels a subscription for good; nothing more is tried for it.
func (s *Server) terminate(sub *Subscription, at Stamp, reason string) {
	if sub.CanceledAt == 0 {
		sub.CanceledAt, sub.CancellationDetails.Reason = at, reason
	}
	sub.Status, sub.EndedAt = "canceled", at
	s.stopInvoices(sub)
	s.emit("customer.subscription.deleted", at, sub)
}

func (c *call) listSubscriptions() (any, *Failure) {
	customer, status := c.form.text("customer"), c.form.text("status")
	return page(c, c.subscriptions, func(row *Subscription) bool {
		return is(customer, row.Customer) && (status == "all" || status == row.Status || status == "" && row.Status != "canceled")
	})
}

// period sets what is paid for now.
func (sub *Subscription) period(start, end Stamp) {
	for _, item := range sub.Items.Data {
		item.CurrentPeriodStart, item.CurrentPeriodEnd = start, end
	}
}

// next is the end of a period: the first one after at, counted from the anchor,
// so that a subscription of 31 January is due on 28 February and 31 March.
func (sub *Subscription) next(at Stamp) Stamp {
	anchor, every := sub.BillingCycleAnchor.time(), sub.Items.Data[0].Price.Recurring
	for n := int(every.IntervalCount); ; n += int(every.IntervalCount) {
		end := anchor
		switch every.Interval {
		case "day":
			end = anchor.AddDate(0, 0, n)
		case "week":
			end = anchor.AddDate(0, 0, 7*n)
		case "month":
			end = addMonths(anchor, n)
		case "year":
			end = addMonths(anchor, 12*n)
		}
		if Stamp(end.Unix()) > at {
			return Stamp(end.Unix())
		}
	}
}

// addMonths is the same day n months later, or the last one of a month that
// has none such.
func addMonths(t time.Time, n int) time.Time {
	last := time.Date(t.Year(), t.Month()+time.Month(n)+1, 0, 0, 0, 0, 0, time.UTC).Day()
	return time.Date(t.Year(), t.Month()+time.Month(n), min(t.Day(), last), t.Hour(), t.Minute(), t.Second(), 0, time.UTC)
}
