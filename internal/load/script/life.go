package script

import (
	"fmt"
	"strings"
	"time"
)

// A customer's life at Stripe repeats this: a card, three months of Pro, of
// which the second is paid late, and the end of the subscription.
const (
	attached = iota
	subscribed
	succeeded1
	paid1
	renewed1
	failed2
	pastDue2
	paid2
	renewed2
	succeeded3
	paid3
	renewed3
	leaving
	canceled
	lifeLength
)

const (
	cardCredits = 5
	paidCredits = 60
	signUpGives = 5
)

// standing is what a customer's events come to.
type standing struct {
	plan, state string // state "": null
	credits     int64
	cards, paid int64 // grants of each kind
}

// expected is what a customer stands at after the first n events of its life.
func expected(n int) standing {
	s := standing{plan: "trial", credits: signUpGives}
	for i := range n {
		switch i % lifeLength {
		case attached:
			if i == attached {
				s.cards++
			}
			if s.plan == "trial" {
				s.plan = "pay_as_you_go"
			}
		case subscribed, renewed1, renewed2, renewed3, leaving:
			s.plan, s.state = "pro", "active"
		case succeeded1, succeeded3: // paid1 and paid3 are of the same invoices
			s.paid++
		case paid2:
			s.paid++
			s.state = "active"
		case failed2, pastDue2:
			s.state = "past_due"
		case canceled:
			s.plan, s.state = "pay_as_you_go", "canceled"
		}
	}
	s.credits += s.cards*cardCredits + s.paid*paidCredits
	return s
}

// life makes one customer's events.
type life struct {
	run   string
	owner string    // the customer's id here
	n     int       // its number
	began time.Time // the first event's time; each is an hour after the one before
}

func (l life) id(i int) string { return fmt.Sprintf("evt_load%s_%d_%d", l.run, l.n, i) }

// event is the i-th event of a life, in the form of Stripe's API of 2025-03-31.
func (l life) event(i int) string {
	round, step := i/lifeLength, i%lifeLength
	at := l.began.Add(time.Duration(i) * time.Hour).Unix()
	start := l.began.Add(time.Duration(round*lifeLength+subscribed) * time.Hour).Unix()
	var kind, object string
	month := map[int]int{succeeded1: 1, paid1: 1, failed2: 2, paid2: 2, succeeded3: 3, paid3: 3}[step]
	switch step {
	case attached:
		kind = "payment_method.attached"
		object = fmt.Sprintf(`"id":"pm_load%s_%d_%d","object":"payment_method","type":"card","card":{"brand":"visa","last4":"4242"},"created":%d`, l.run, l.n, round, at)
	case subscribed:
		kind, object = "customer.subscription.created", l.subscription(round, start, "active", false)
	case renewed1, renewed2, renewed3:
		kind, object = "customer.subscription.updated", l.subscription(round, start, "active", false)
	case pastDue2:
		kind, object = "customer.subscription.updated", l.subscription(round, start, "past_due", false)
	case leaving:
		kind, object = "customer.subscription.updated", l.subscription(round, start, "active", true)
	case canceled:
		kind, object = "customer.subscription.deleted", l.subscription(round, start, "canceled", true)
	case failed2:
		kind, object = "invoice.payment_failed", l.invoice(round, month, at, "open", 0)
	case succeeded1, succeeded3:
		kind, object = "invoice.payment_succeeded", l.invoice(round, month, at, "paid", 59900)
	default:
		kind, object = "invoice.paid", l.invoice(round, month, at, "paid", 59900)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `{"id":%q,"object":"event","api_version":"2025-03-31.basil","created":%d,"livemode":false,"type":%q,"pending_webhooks":1,`+
		`"request":{"id":null,"idempotency_key":null},"data":{"object":{%s,"customer":"cus_load%s_%d","livemode":false,"metadata":{"gatehouse_customer_id":%q}}}}`,
		l.id(i), at, kind, object, l.run, l.n, l.owner)
	return b.String()
}

const pro = `{"id":"price_load_pro","object":"price","lookup_key":"pro_monthly","metadata":{},"unit_amount":59900,"currency":"usd","recurring":{"interval":"month"}}`

func (l life) subscriptionID(round int) string {
	return fmt.Sprintf("sub_load%s_%d_%d", l.run, l.n, round)
}

func (l life) subscription(round int, start int64, status string, leaves bool) string {
	id := l.subscriptionID(round)
	return fmt.Sprintf(`"id":%q,"object":"subscription","status":%q,"created":%d,"start_date":%d,"cancel_at_period_end":%t,"currency":"usd",`+
		`"items":{"object":"list","has_more":false,"data":[{"id":"si_%s","object":"subscription_item","current_period_start":%d,"current_period_end":%d,"quantity":1,"price":%s}]}`,
		id, status, start, start, leaves, id, start, start+30*86400, pro)
}

func (l life) invoice(round, month int, at int64, status string, paid int) string {
	id := fmt.Sprintf("in_load%s_%d_%d_%d", l.run, l.n, round, month)
	return fmt.Sprintf(`"id":%q,"object":"invoice","status":%q,"created":%d,"currency":"usd","amount_due":59900,"amount_paid":%d,"billing_reason":"subscription_cycle",`+
		`"parent":{"type":"subscription_details","subscription_details":{"subscription":%q,"metadata":{"gatehouse_customer_id":%q}}},`+
		`"lines":{"object":"list","has_more":false,"data":[{"id":"il_%s","object":"line_item","amount":59900,"currency":"usd","pricing":{"type":"price_details",`+
		`"price_details":{"price":%s,"product":"prod_load_pro"},"unit_amount_decimal":"59900"},"quantity":1}]}`,
		id, status, at, paid, l.subscriptionID(round), l.owner, id, pro)
}
