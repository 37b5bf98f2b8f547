package script

import (
	"cmp"
	"fmt"
	"slices"
)

// occurrence is an event as it was stored.
type occurrence struct {
	told  stripeEvent
	again int // copies before it
}

// stripeEvent is what the target understands of an event.
type stripeEvent struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Created int64  `json:"created"`
	Data    struct {
		Object struct {
			ID       string            `json:"id"`
			Status   string            `json:"status"`
			Metadata map[string]string `json:"metadata"`
			Items    struct {
				Data []struct {
					Price stripePrice `json:"price"`
				} `json:"data"`
			} `json:"items"`
			Lines struct {
				Data []struct {
					Price stripePrice `json:"price"`
				} `json:"data"`
			} `json:"lines"`
		} `json:"object"`
	} `json:"data"`
}

type stripePrice struct {
	Key string `json:"lookup_key"`
}

// pro says whether it has a line of Pro.
func (e *stripeEvent) pro() bool {
	o := &e.Data.Object
	return len(o.Items.Data) > 0 && o.Items.Data[0].Price.Key == "pro_monthly" ||
		len(o.Lines.Data) > 0 && o.Lines.Data[0].Price.Key == "pro_monthly"
}

// stands is what events come to by the contract's table, in the order given.
func stands(came []occurrence) (s standing, entries []string) {
	s, entries = standing{plan: "trial", credits: 5}, []string{"trial_signup"}
	paid := make(map[string]bool)
	for _, c := range came {
		switch e := &c.told; e.Type {
		case "payment_method.attached":
			if s.cards == 0 {
				s.cards, s.credits, entries = 1, s.credits+5, append(entries, "payment_method_added")
			}
			if s.plan == "trial" {
				s.plan = "pay_as_you_go"
			}
		case "customer.subscription.created":
			if e.pro() {
				s.plan, s.state = "pro", e.Data.Object.Status
			}
		case "customer.subscription.updated":
			s.state = e.Data.Object.Status
		case "customer.subscription.deleted":
			s.plan, s.state = "pay_as_you_go", "canceled"
		case "invoice.payment_failed":
			s.state = "past_due"
		case "invoice.paid", "invoice.payment_succeeded":
			if s.state == "past_due" {
				s.state = "active"
			}
			if fact := fmt.Sprint(e.Data.Object.ID, c.again); e.pro() && !paid[fact] {
				paid[fact] = true
				s.paid, s.credits, entries = s.paid+1, s.credits+60, append(entries, "pro_subscription_payment")
			}
		case "charge.refunded":
			s.credits, entries = s.credits-60, append(entries, "refund")
		case "charge.dispute.created":
			s.credits, entries = s.credits-60, append(entries, "dispute")
		case "charge.dispute.closed":
			s.credits, entries = s.credits+60, append(entries, "dispute_won")
		}
	}
	return s, entries
}

func (t *target) stands(b *buyer) (standing, []string) {
	came := slices.Clone(b.came)
	if !t.byArrival {
		slices.SortStableFunc(came, func(a, b occurrence) int { return cmp.Compare(a.told.Created, b.told.Created) })
	}
	return stands(came)
}
