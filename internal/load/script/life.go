package script

import (
	"fmt"
	"strings"
	"time"
)

// A customer's life at Stripe repeats this: a card, three months of Pro, of
// which the first is disputed in vain, the second paid late and the third
// refunded, and the end of the subscription and of the card.
const (
	attached = iota
	subscribed
	succeeded1
	paid1
	renewed1
	disputed1
	won1
	failed2
	pastDue2
	paid2
	renewed2
	succeeded3
	paid3
	renewed3
	refunded3
	leaving
	canceled
	detached
	lifeLength
)

const (
	cardCredits = 5
	paidCredits = 60
	signUpGives = 5
	proCents    = 59900
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
	countered := int64(0) // payments that went back
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
		case disputed1, refunded3:
			countered++
		case won1:
			countered--
		case canceled:
			s.plan, s.state = "pay_as_you_go", "canceled"
		}
	}
	s.credits += s.cards*cardCredits + (s.paid-countered)*paidCredits
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

// event is the i-th event of a life, in the form of Stripe's API of 2024-06-20,
// the last by which an invoice says what paid it.
func (l life) event(i int) string {
	round, step := i/lifeLength, i%lifeLength
	at := l.began.Add(time.Duration(i) * time.Hour).Unix()
	start := l.began.Add(time.Duration(round*lifeLength+subscribed) * time.Hour).Unix()
	var kind, object string
	month := map[int]int{
		succeeded1: 1, paid1: 1, disputed1: 1, won1: 1, failed2: 2, paid2: 2, succeeded3: 3, paid3: 3, refunded3: 3,
	}[step]
	switch step {
	case attached, detached:
		kind = "payment_method.attached"
		if step == detached {
			kind = "payment_method.detached"
		}
		object = fmt.Sprintf(`"id":%q,"object":"payment_method","type":"card","card":{"brand":"visa","last4":"4242"},"created":%d`, l.of("pm", round, 0), start)
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
		kind, object = "invoice.payment_succeeded", l.invoice(round, month, at, "paid", proCents)
	case disputed1:
		kind, object = "charge.dispute.created", l.dispute(round, month, at, "needs_response")
	case won1:
		kind, object = "charge.dispute.closed", l.dispute(round, month, at, "won")
	case refunded3:
		kind = "charge.refunded"
		object = fmt.Sprintf(`"id":%q,"object":"charge","amount":%d,"amount_refunded":%d,"refunded":true,"currency":"usd","created":%d,"payment_intent":%q,"invoice":%q`,
			l.of("ch", round, month), proCents, proCents, at, l.of("pi", round, month), l.of("in", round, month))
	default:
		kind, object = "invoice.paid", l.invoice(round, month, at, "paid", proCents)
	}
	var b strings.Builder
	fmt.Fprintf(&b, `{"id":%q,"object":"event","api_version":"2024-06-20","created":%d,"livemode":false,"type":%q,"pending_webhooks":1,`+
		`"request":{"id":null,"idempotency_key":null},"data":{"object":{%s,"customer":"cus_load%s_%d","livemode":false,"metadata":{"gatehouse_customer_id":%q}}}}`,
		l.id(i), at, kind, object, l.run, l.n, l.owner)
	return b.String()
}

const pro = `{"id":"price_load_pro","object":"price","lookup_key":"pro_monthly","metadata":{},"unit_amount":59900,"currency":"usd","recurring":{"interval":"month"}}`

// of names an object of a round and a month of it, or of the whole round.
func (l life) of(kind string, round, month int) string {
	return fmt.Sprintf("%s_load%s_%d_%d_%d", kind, l.run, l.n, round, month)
}

func (l life) subscription(round int, start int64, status string, leaves bool) string {
	id := l.of("sub", round, 0)
	return fmt.Sprintf(`"id":%q,"object":"subscription","status":%q,"created":%d,"start_date":%d,"current_period_start":%d,"current_period_end":%d,"cancel_at_period_end":%t,"currency":"usd",`+
		`"items":{"object":"list","has_more":false,"data":[{"id":"si_%s","object":"subscription_item","quantity":1,"price":%s}]}`,
		id, status, start, start, start, start+30*86400, leaves, id, pro)
}

func (l life) invoice(round, month int, at int64, status string, paid int) string {
	id := l.of("in", round, month)
	return fmt.Sprintf(`"id":%q,"object":"invoice","status":%q,"created":%d,"currency":"usd","amount_due":%d,"amount_paid":%d,"billing_reason":"subscription_cycle",`+
		`"payment_intent":%q,"subscription":%q,"subscription_details":{"metadata":{"gatehouse_customer_id":%q}},`+
		`"lines":{"object":"list","has_more":false,"data":[{"id":"il_%s","object":"line_item","type":"subscription","amount":%d,"currency":"usd","price":%s,"quantity":1}]}`,
		id, status, at, proCents, paid, l.of("pi", round, month), l.of("sub", round, 0), l.owner, id, proCents, pro)
}

func (l life) dispute(round, month int, at int64, status string) string {
	return fmt.Sprintf(`"id":%q,"object":"dispute","amount":%d,"currency":"usd","created":%d,"reason":"fraudulent","status":%q,"charge":%q,"payment_intent":%q`,
		l.of("dp", round, month), proCents, at, status, l.of("ch", round, month), l.of("pi", round, month))
}
