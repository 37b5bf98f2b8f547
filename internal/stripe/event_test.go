package stripe_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	stripego "github.com/stripe/stripe-go/v85"

	"gatehouse/internal/billing"
	"gatehouse/internal/stripe"
)

func TestReceiptIsOfWhatCame(t *testing.T) {
	long := strings.Repeat("e", 255)
	for name, tt := range map[string]struct {
		body, id, kind, park string // id "": made of the hash; park: what it says, "" when it is not parked
	}{
		"an event":               {`{"id":"evt_1","object":"event","type":"invoice.paid","data":{}}`, "evt_1", "invoice.paid", ""},
		"in another order":       {` { "type" : "x.y" , "object" : "event" , "id" : "evt_1" } `, "evt_1", "x.y", ""},
		"escapes":                {`{"id":"evt\u005f1","object":"\u0065vent","type":"x"}`, "evt_1", "x", ""},
		"the longest id":         {`{"id":"` + long + `","object":"event","type":"x"}`, long, "x", ""},
		"a key twice inside":     {`{"id":"evt_1","object":"event","type":"x","data":{"a":1,"a":2}}`, "evt_1", "x", ""}, // ParseEvent will say so
		"ids inside":             {`{"data":{"id":"evt_2","object":"charge","type":"y"},"id":"evt_1","object":"event","type":"x"}`, "evt_1", "x", ""},
		"thin":                   {`{"id":"evt_1","object":"v2.core.event","type":"v1.invoice.paid"}`, "evt_1", "v1.invoice.paid", "thin event"},
		"another object":         {`{"id":"cus_1","object":"customer"}`, "cus_1", "", "not an event"},
		"no object":              {`{"id":"evt_1","type":"x"}`, "evt_1", "x", "not an event"},
		"object twice":           {`{"id":"evt_1","object":"event","object":"event","type":"x"}`, "evt_1", "x", "not an event"},
		"no type":                {`{"id":"evt_1","object":"event"}`, "evt_1", "", "no type"},
		"a type of no type":      {`{"id":"evt_1","object":"event","type":7}`, "evt_1", "", "no type"},
		"a type with NUL":        {`{"id":"evt_1","object":"event","type":"x\u0000"}`, "evt_1", "", "no type"},
		"a long type":            {`{"id":"evt_1","object":"event","type":"` + long + `e"}`, "evt_1", "", "no type"},
		"type twice":             {`{"id":"evt_1","object":"event","type":"x","type":"y"}`, "evt_1", "", "no type"},
		"no id":                  {`{"object":"event","type":"x"}`, "", "x", "no id"},
		"a null id":              {`{"id":null,"object":"event","type":"x"}`, "", "x", "no id"},
		"a number for an id":     {`{"id":1,"object":"event","type":"x"}`, "", "x", "no id"},
		"an object for an id":    {`{"id":{"id":"evt_1"},"object":"event","type":"x"}`, "", "x", "no id"},
		"an empty id":            {`{"id":"","object":"event","type":"x"}`, "", "x", "no id"},
		"a long id":              {`{"id":"` + long + `e","object":"event","type":"x"}`, "", "x", "no id"},
		"an id with a space":     {`{"id":"evt 1","object":"event","type":"x"}`, "", "x", "no id"},
		"an id with NUL":         {`{"id":"evt\u00001","object":"event","type":"x"}`, "", "x", "no id"},
		"an id beyond ASCII":     {`{"id":"evt_ü","object":"event","type":"x"}`, "", "x", "no id"},
		"two ids":                {`{"id":"evt_1","id":"evt_2","object":"event","type":"x"}`, "", "x", "no id"},
		"two ids, the same":      {`{"id":"evt_1","id":"evt_1","object":"event","type":"x"}`, "", "x", "no id"},
		"three ids":              {`{"id":"evt_1","id":"evt_2","\u0069d":"evt_3","object":"event","type":"x"}`, "", "x", "no id"},
		"nothing":                {``, "", "", "no JSON object"},
		"null":                   {`null`, "", "", "no JSON object"},
		"a list":                 {`[{"id":"evt_1","object":"event","type":"x"}]`, "", "", "no JSON object"},
		"a form":                 {`id=evt_1&object=event`, "", "", "no JSON object"},
		"a mark before":          {"\ufeff" + `{"id":"evt_1","object":"event","type":"x"}`, "", "", "no JSON object"},
		"cut":                    {`{"id":"evt_1","object":"event","type":"x"`, "", "", "no JSON"},
		"cut inside":             {`{"id":"evt_1","object":"event","type":"x","data":{"a`, "", "", "no JSON"},
		"more after":             {`{"id":"evt_1","object":"event","type":"x"}{}`, "", "", "no JSON"},
		"a comma after":          {`{"id":"evt_1","object":"event","type":"x",}`, "", "", "no JSON"},
		"NUL":                    {`{"id":"evt_1","object":"event","type":"x"}` + "\x00", "", "", "no JSON"},
		"bytes that are no text": {`{"id":"evt_1","object":"event","type":"x","a":"` + "\xff" + `"}`, "", "", "no JSON"},
		"deep":                   {`{"id":"evt_1","object":"event","type":"x","data":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + `}`, "", "", "no JSON"},
		"deep without end":       {strings.Repeat(`{"a":`, 200_000), "", "", "no JSON"},
	} {
		r := stripe.Receive([]byte(tt.body), "by hand")
		if tt.id == "" {
			if !strings.HasPrefix(r.ID, "sha256:") || len(r.ID) != len("sha256:")+64 {
				t.Errorf("%s: id %s, want one made of a hash", name, r.ID)
			}
		} else if r.ID != tt.id {
			t.Errorf("%s: id %s, want %s", name, r.ID, tt.id)
		}
		if r.Type != tt.kind || r.Note != "by hand" || string(r.Payload) != tt.body {
			t.Errorf("%s: type %q, note %q, %d bytes", name, r.Type, r.Note, len(r.Payload))
		}
		if (r.Park == "") != (tt.park == "") || !strings.Contains(r.Park, tt.park) {
			t.Errorf("%s: parked because %q, want %q", name, r.Park, tt.park)
		}
	}
	if a, b := stripe.Receive([]byte("a"), ""), stripe.Receive([]byte("b"), ""); a.ID == b.ID {
		t.Error("other bytes have the same id")
	}
}

// event puts an object into an event of a type.
func event(kind, object, more string) []byte {
	return fmt.Appendf(nil, `{"id":"evt_T1","object":"event","api_version":"2026-03-25.dahlia","created":1790003601,"livemode":false,"pending_webhooks":1,`+
		`"request":{"id":null,"idempotency_key":null},"type":%q,"data":{"object":%s%s}}`, kind, object, more)
}

// sample is an object in testdata.
func sample(t testing.TB, name string) string {
	t.Helper()
	object, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(object)
}

func second(s int64) time.Time { return time.Unix(s, 0).UTC() }

// told is an event as it is read, of what is about its object.
func told(kind string, of billing.Event) billing.Event {
	of.ID, of.Type, of.Created = "evt_T1", kind, second(1790003601)
	return of
}

func TestShapesOfAllVersionsAreRead(t *testing.T) {
	us := billing.Party{StripeID: "cus_T1", CustomerID: jane.ID}
	subscription := func(change func(*billing.SubscriptionObject)) *billing.SubscriptionObject {
		o := billing.SubscriptionObject{
			ID: "sub_T1", Status: "active", Party: us, Prices: []billing.Price{{ID: "price_pro", LookupKey: "pro_monthly"}},
			Started: second(1790000000), PeriodStart: second(1790000000), PeriodEnd: second(1792592000),
		}
		if change != nil {
			change(&o)
		}
		return &o
	}
	invoice := func(change func(*billing.InvoiceObject)) *billing.InvoiceObject {
		o := billing.InvoiceObject{ID: "in_T1", Subscription: "sub_T1", Intent: "pi_T1", Cents: 59900, Prices: []billing.Price{{ID: "price_pro", LookupKey: "pro_monthly"}}}
		if change != nil {
			change(&o)
		}
		return &o
	}
	partial := []billing.Price{{ID: "price_pro", Partial: true}}
	for _, tt := range []struct {
		name, kind, object, more string
		want                     billing.Event
	}{
		{"subscription of 2022-08-01", "customer.subscription.created", sample(t, "subscription_2022-08-01"), "",
			billing.Event{Party: us, Subscription: subscription(nil)}},
		{"subscription of acacia", "customer.subscription.updated", sample(t, "subscription_2024-09-30.acacia"), `,"previous_attributes":{"status":"past_due","cancel_at_period_end":false}`,
			billing.Event{Party: us, Subscription: subscription(func(o *billing.SubscriptionObject) { o.Was, o.CancelsAtEnd = "past_due", true })}},
		{"subscription of basil", "customer.subscription.resumed", sample(t, "subscription_2025-03-31.basil"), `,"previous_attributes":null`,
			billing.Event{Party: us, Subscription: subscription(func(o *billing.SubscriptionObject) {
				o.Prices = append(o.Prices, billing.Price{ID: "price_seats", Plan: "seats"})
				o.CancelsAtEnd = true // at a time
			})}},
		{"subscription of dahlia", "customer.subscription.updated", sample(t, "subscription_2026-03-25.dahlia"), `,"previous_attributes":{"items":{"data":[]}}`,
			billing.Event{Party: billing.Party{StripeID: "cus_T1"}, Subscription: subscription(func(o *billing.SubscriptionObject) { o.Party.CustomerID, o.Prices = "", partial })}},
		{"subscription that was deleted", "customer.subscription.deleted", sample(t, "subscription_2026-03-25.dahlia"), "",
			billing.Event{Party: billing.Party{StripeID: "cus_T1"}, Subscription: subscription(func(o *billing.SubscriptionObject) { o.Party.CustomerID, o.Prices, o.Status = "", partial, "canceled" })}},
		{"subscription that expired", "customer.subscription.deleted", `{"id":"sub_T1","status":"incomplete_expired","customer":null,"items":null}`, "",
			billing.Event{Subscription: &billing.SubscriptionObject{ID: "sub_T1", Status: "incomplete_expired"}}},
		{"subscription with a plan", "customer.subscription.created", `{"id":"sub_T1","status":"active","start_date":5,"plan":{"id":"gold-plan","object":"plan","metadata":{"plan":"pro"}}}`, "",
			billing.Event{Subscription: &billing.SubscriptionObject{ID: "sub_T1", Status: "active", Started: second(5), Prices: []billing.Price{{ID: "gold-plan", Plan: "pro"}}}}},
		{"subscription whose period is none", "customer.subscription.paused", `{"id":"sub_T1","status":"paused","current_period_start":9,"current_period_end":8}`, "",
			billing.Event{Subscription: &billing.SubscriptionObject{ID: "sub_T1", Status: "paused"}}},
		{"trial that will end", "customer.subscription.trial_will_end", sample(t, "subscription_2026-03-25.dahlia"), "",
			billing.Event{Party: billing.Party{StripeID: "cus_T1"}}},

		{"invoice of 2022-08-01", "invoice.payment_succeeded", sample(t, "invoice_2022-08-01"), "", billing.Event{Party: billing.Party{StripeID: "cus_T1"}, Invoice: invoice(nil)}},
		{"invoice of acacia", "invoice.paid", sample(t, "invoice_2024-09-30.acacia"), "",
			billing.Event{Party: us, Invoice: invoice(func(o *billing.InvoiceObject) { o.Intent, o.MoreLines = "ch_T1", true })}},
		{"invoice of dahlia", "invoice.payment_failed", sample(t, "invoice_2026-03-25.dahlia"), "",
			billing.Event{Party: us, Invoice: invoice(func(o *billing.InvoiceObject) { o.Intent, o.Cents, o.Prices = "", 0, partial })}},
		{"invoice of endive, all shown", "invoice.paid", sample(t, "invoice_2026-09-30.endive"), "",
			billing.Event{Party: us, Invoice: invoice(func(o *billing.InvoiceObject) { o.Intent = "" })}},
		{"invoice for no subscription", "invoice.paid", `{"id":"in_T1","customer":"cus_T1","amount_paid":100,"parent":null,"lines":{"data":[{"amount":100,"pricing":null,"price":null,"plan":null}]}}`, "",
			billing.Event{Party: billing.Party{StripeID: "cus_T1"}, Invoice: &billing.InvoiceObject{ID: "in_T1", Cents: 100}}},
		{"invoice of what is left of a month", "invoice.paid", `{"id":"in_T1","customer":"cus_T1","subscription":"sub_T1","lines":{"data":[{"amount":-100,"price":{"id":"price_T1"}}]}}`, "",
			billing.Event{Party: billing.Party{StripeID: "cus_T1"}, Invoice: &billing.InvoiceObject{ID: "in_T1", Subscription: "sub_T1", OnlyCredits: true}}},
		{"invoice that is drawn up", "invoice.finalized", sample(t, "invoice_2026-03-25.dahlia"), "", billing.Event{Party: billing.Party{StripeID: "cus_T1"}}},

		{"method", "payment_method.attached", `{"id":"pm_T1","object":"payment_method","type":"card","customer":"cus_T1","metadata":{}}`, "",
			billing.Event{Party: billing.Party{StripeID: "cus_T1"}, Method: &billing.MethodObject{ID: "pm_T1", Attached: true}}},
		{"method of nobody any more", "payment_method.detached", `{"id":"pm_T1","object":"payment_method","customer":null}`, `,"previous_attributes":{"customer":"cus_T1"}`,
			billing.Event{Party: billing.Party{StripeID: "cus_T1"}, Method: &billing.MethodObject{ID: "pm_T1"}}},
		{"method of who knows", "payment_method.detached", `{"id":"pm_T1","object":"payment_method","customer":null}`, "", billing.Event{Method: &billing.MethodObject{ID: "pm_T1"}}},

		{"charge of an invoice", "charge.refunded", `{"id":"ch_T1","object":"charge","customer":"cus_T1","payment_intent":{"id":"pi_T1","object":"payment_intent"},"invoice":"in_T1","amount":59900,"amount_refunded":59900}`,
			`,"previous_attributes":{"amount_refunded":29900,"refunded":false}`,
			billing.Event{Party: billing.Party{StripeID: "cus_T1"}, Charge: &billing.ChargeObject{ID: "ch_T1", Intent: "pi_T1", Invoice: "in_T1", Cents: 59900, Refunded: 59900, RefundedBefore: 29900}}},
		{"charge of no invoice", "charge.refunded", `{"id":"ch_T1","object":"charge","customer":{"id":"cus_T1","object":"customer"},"payment_intent":null,"invoice":null,"amount":100,"amount_refunded":50}`, "",
			billing.Event{Party: billing.Party{StripeID: "cus_T1"}, Charge: &billing.ChargeObject{ID: "ch_T1", NoInvoice: true, Cents: 100, Refunded: 50}}},
		{"charge of a fix", "charge.refunded", `{"id":"ch_T1","customer":"cus_T1","payment_intent":"pi_T1","amount":2900,"amount_refunded":2900,"metadata":{"gatehouse_fix_id":"fix-1","gatehouse_customer_id":"` + jane.ID + `"}}`, "",
			billing.Event{Party: us, Charge: &billing.ChargeObject{ID: "ch_T1", Intent: "pi_T1", FixID: "fix-1", Cents: 2900, Refunded: 2900}}},

		{"dispute", "charge.dispute.created", `{"id":"dp_T1","object":"dispute","amount":2900,"charge":"ch_T1","payment_intent":"pi_T1","status":"needs_response"}`, "",
			billing.Event{Dispute: &billing.DisputeObject{ID: "dp_T1", Charge: "ch_T1", Intent: "pi_T1", Cents: 2900, Status: "needs_response"}}},
		{"dispute that is over", "charge.dispute.closed", `{"id":"dp_T1","amount":2900,"charge":{"id":"ch_T1","object":"charge"},"payment_intent":{"id":"pi_T1"},"status":"won"}`, "",
			billing.Event{Dispute: &billing.DisputeObject{ID: "dp_T1", Charge: "ch_T1", Intent: "pi_T1", Cents: 2900, Status: "won"}}},
		{"payment of an invoice", "invoice_payment.paid", `{"id":"inpay_T1","object":"invoice_payment","invoice":"in_T1","amount_paid":59900,"payment":{"type":"payment_intent","payment_intent":"pi_T1"},"status":"paid"}`, "",
			billing.Event{InvoicePayment: &billing.InvoicePaymentObject{Invoice: "in_T1", Intent: "pi_T1"}}},
		{"payment of an invoice out of band", "invoice_payment.paid", `{"id":"inpay_T1","invoice":{"id":"in_T1"},"payment":{"type":"payment_record"}}`, "",
			billing.Event{InvoicePayment: &billing.InvoicePaymentObject{Invoice: "in_T1"}}},

		{"customer", "customer.updated", `{"id":"cus_T1","object":"customer","metadata":{"gatehouse_customer_id":"` + jane.ID + `"}}`, "", billing.Event{Party: us}},
		{"what is a customer's", "customer.tax_id.created", `{"id":"txi_T1","object":"tax_id","customer":"cus_T1"}`, "", billing.Event{Party: billing.Party{StripeID: "cus_T1"}}},
		{"what is nobody's", "balance.available", `{"object":"balance","metadata":[],"customer":7}`, "", billing.Event{}},
		{"nothing", "x.y", `null`, "", billing.Event{}},
	} {
		got, err := stripe.ParseEvent(event(tt.kind, tt.object, tt.more))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
			continue
		}
		if diff := cmp.Diff(told(tt.kind, tt.want), got); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, diff)
		}
	}
}

func TestPriceTellsWhetherItIsWhole(t *testing.T) {
	for item, want := range map[string][]billing.Price{
		`{"price":"p"}`:        {{ID: "p", Partial: true}},
		`{"price":{"id":"p"}}`: {{ID: "p", Partial: true}},
		`{"price":{"id":"p","lookup_key":null,"metadata":{}}}`:       {{ID: "p"}},
		`{"price":{"id":"p","lookup_key":null}}`:                     {{ID: "p"}},
		`{"price":{"id":"p","metadata":null}}`:                       {{ID: "p"}},
		`{"price":{"id":"p","lookup_key":"pro_monthly"}}`:            {{ID: "p", LookupKey: "pro_monthly"}},
		`{"price":{"id":"p","metadata":{"plan":"pro"}}}`:             {{ID: "p", Plan: "pro"}},
		`{"plan":{"id":"p","metadata":{}}}`:                          {{ID: "p", Partial: true}},
		`{"plan":{"id":"p","metadata":{"plan":"pro"}},"price":null}`: {{ID: "p", Plan: "pro"}},
		`{"plan":"p"}`: {{ID: "p", Partial: true}},
		`{"plan":{"id":"old"},"price":{"id":"p","lookup_key":null}}`:       {{ID: "p"}},
		`{"price":"p"},{"price":"p"},{"price":"q"},{"price":null},{},null`: {{ID: "p", Partial: true}, {ID: "q", Partial: true}},
		`{"price":{"lookup_key":"pro_monthly"}}`:                           nil,
	} {
		got, err := stripe.ParseEvent(event("customer.subscription.created", `{"id":"sub_1","status":"active","items":{"data":[`+item+`]}}`, ""))
		if err != nil {
			t.Errorf("%s: %v", item, err)
		} else if diff := cmp.Diff(want, got.Subscription.Prices); diff != "" {
			t.Errorf("%s: -want +got\n%s", item, diff)
		}
	}
}

func TestWhatCannotBeReadIsNamed(t *testing.T) {
	address := `"jane@example.test"`
	for _, tt := range []struct{ kind, object, more, want string }{
		{"customer.subscription.updated", `{"id":"sub_1","status":7}`, "", "data.object.status has another type"},
		{"customer.subscription.updated", `{"id":"sub_1","status":` + address + `}`, "", "data.object.status is no word"},
		{"customer.subscription.updated", `{"status":"active"}`, "", "data.object.id is missing"},
		{"customer.subscription.updated", `{"id":"jane@example test","status":"active"}`, "", "data.object.id is no id"},
		{"customer.subscription.updated", `{"id":"sub_1","object":"invoice"}`, "", "data.object.object is another than subscription"},
		{"customer.subscription.updated", `{"id":"sub_1","customer":["` + jane.Email + `"]}`, "", "data.object.customer has another type"},
		{"customer.subscription.updated", `{"id":"sub_1","items":{"data":[{"price":{"id":7}}]}}`, "", "data.object.items.data.0.price.id has another type"},
		{"customer.subscription.updated", `{"id":"sub_1","items":{"data":[{},{"current_period_end":99999999999999}]}}`, "", "data.object.items.data.1.current_period_end is no time"},
		{"customer.subscription.updated", `{"id":"sub_1","created":-1}`, "", "data.object.created is no time"},
		{"customer.subscription.updated", `{"id":"sub_1"}`, `,"previous_attributes":{"status":["x"]}`, "data.previous_attributes.status has another type"},
		{"customer.subscription.updated", `{"id":"sub_1"}`, `,"previous_attributes":[]`, "data.previous_attributes is no object"},
		{"customer.subscription.updated", `null`, "", "data.object is no object"},
		{"invoice.paid", `{"id":"in_1","amount_paid":9223372036854775808}`, "", "data.object.amount_paid has another type or size"},
		{"invoice.paid", `{"id":"in_1","amount_paid":-1}`, "", "data.object.amount_paid is below zero"},
		{"invoice.paid", `{"id":"in_1","amount_paid":1.5}`, "", "data.object.amount_paid has another type"},
		{"invoice.paid", `{"id":"in_1","amount_paid":` + address + `}`, "", "data.object.amount_paid has another type"},
		{"invoice.paid", `{"id":"in_1","lines":[]}`, "", "data.object.lines has another type"},
		{"invoice.paid", `{"id":"in_1","metadata":{` + address + `:1,` + address + `:2}}`, "", "the event has one key twice"},
		{"charge.refunded", `{"id":"ch_1","amount":100,"amount_refunded":101}`, "", "data.object.amount_refunded is"},
		{"charge.refunded", `{"id":"ch_1","amount":100,"amount_refunded":50}`, `,"previous_attributes":{"amount_refunded":51}`, "data.object.amount_refunded is"},
		{"charge.dispute.created", `{"id":"dp_1"}`, "", "data.object.charge is missing"},
		{"invoice_payment.paid", `{"id":"inpay_1"}`, "", "data.object.invoice is missing"},
		{"invoice.paid", `{"id":"in_1","a":` + strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001) + `}`, "", "no JSON that can be read"},
	} {
		_, err := stripe.ParseEvent(event(tt.kind, tt.object, tt.more))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %.80s: %v, want %q", tt.kind, tt.object, err, tt.want)
		} else {
			mustBeKeepable(t, err)
		}
	}
	for payload, want := range map[string]string{
		``: "the event is missing", `[]`: "the event is no object", `x`: "the event is no JSON",
		`{"object":"event","type":"x","created":1}`:                                                "the event.id is missing",
		`{"id":"evt_1","object":"event","created":1}`:                                              "the event.type is missing",
		`{"id":"evt_1","object":"event","type":"x"}`:                                               "the event.created is missing",
		`{"id":"evt_1","object":"event","type":"x","created":"2026-01-01T00:00:00.000Z"}`:          "the event.created has another type",
		`{"id":"evt_1","object":"v2.core.event","type":"x","created":1}`:                           "the event.object is another",
		`{"id":"evt_1","object":"event","type":"x","created":1,"livemode":"yes"}`:                  "the event.livemode has another type",
		`{"id":"evt_1","object":"event","type":"x","created":1,"account":{}}`:                      "the event.account has another type",
		`{"id":"evt_1","object":"event","type":"x","created":1,"data":[]}`:                         "the event.data has another type",
		`{"id":"evt_1","object":"event","type":"invoice.paid","created":1}`:                        "data.object is missing",
		`{"id":"evt_1","object":"event","type":"invoice.paid","created":1,"data":{}}`:              "data.object is missing",
		`{"id":"evt_1","id":"evt_1","object":"event","type":"x","created":1}`:                      "the event has one key twice",
		`{"id":"evt_1","object":"event","type":"x","created":1,"a":"` + "\xff" + jane.Email + `"}`: "the event is no JSON that can be read",
	} {
		if _, err := stripe.ParseEvent([]byte(payload)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", payload, err, want)
		} else {
			mustBeKeepable(t, err)
		}
	}
}

func TestEnvelopeIsRead(t *testing.T) {
	got, err := stripe.ParseEvent([]byte(`{"id":"evt_1","object":"event","type":"x","created":1790003601,"livemode":true,"account":"acct_1","context":"c","data":{"object":{}}}`))
	if want := (billing.Event{ID: "evt_1", Type: "x", Created: second(1790003601), Live: true, Account: "acct_1"}); err != nil || !cmp.Equal(want, got) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMetadataThatIsNoIDIsPassedOver(t *testing.T) {
	for _, value := range []string{`""`, `"a b"`, `"\u0000"`, `7`, `null`, `{"a":1}`, `"` + strings.Repeat("x", 256) + `"`} {
		got, err := stripe.ParseEvent(event("payment_method.attached", `{"id":"pm_1","customer":"cus_1","metadata":{"gatehouse_customer_id":`+value+`}}`, ""))
		if want := (billing.Party{StripeID: "cus_1"}); err != nil || got.Party != want {
			t.Errorf("%.20s: %+v, %v", value, got.Party, err)
		}
	}
}

// stripe-go writes objects with all fields, most of them empty, and objects
// where there were ids.
func TestWhatStripesLibraryWritesIsRead(t *testing.T) {
	for _, tt := range []struct {
		kind, file string
		object     any
	}{
		{"customer.subscription.updated", "subscription_2026-03-25.dahlia", new(stripego.Subscription)},
		{"invoice.paid", "invoice_2026-03-25.dahlia", new(stripego.Invoice)},
		{"payment_method.attached", "payment_method", new(stripego.PaymentMethod)},
	} {
		want, err := stripe.ParseEvent(event(tt.kind, sample(t, tt.file), ""))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(sample(t, tt.file)), tt.object); err != nil {
			t.Fatal(err)
		}
		written, err := json.Marshal(tt.object)
		if err != nil {
			t.Fatal(err)
		}
		got, err := stripe.ParseEvent(event(tt.kind, string(written), ""))
		if err != nil {
			t.Errorf("%s: %v\n%s", tt.kind, err, written)
			continue
		}
		partial := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Partial" }, cmp.Ignore()) // it writes keys that weren't there
		if diff := cmp.Diff(want, got, partial); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.kind, diff)
		}
	}
}

func FuzzReceive(f *testing.F) {
	for _, body := range []string{``, `{}`, `null`, `{"id":"evt_1","object":"event","type":"x"}`, `{"id":"evt_1","id":"evt_2"}`, `{"id":1,"type":"\u0000","object":[]}`, strings.Repeat(`{"id":`, 100), "{\"id\":\"\xff\"}"} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := stripe.Receive(body, "")
		if again := stripe.Receive(body, ""); !cmp.Equal(r, again) {
			t.Errorf("%+v, then %+v", r, again)
		}
		if !isPlain(r.ID) || r.Type != "" && !isPlain(r.Type) {
			t.Errorf("id %q, type %q", r.ID, r.Type)
		}
		if e, err := stripe.ParseEvent(body); err == nil && (r.Park != "" || r.ID != e.ID || r.Type != e.Type) {
			t.Errorf("received as %s of type %s, parked because %q, and read as %s of type %s", r.ID, r.Type, r.Park, e.ID, e.Type)
		}
	})
}

func isPlain(s string) bool {
	return s != "" && len(s) <= 255 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// FuzzParseEvent reads objects as each type of event that is read.
func FuzzParseEvent(f *testing.F) {
	for _, name := range []string{
		"subscription_2022-08-01", "subscription_2024-09-30.acacia", "subscription_2025-03-31.basil", "subscription_2026-03-25.dahlia",
		"invoice_2022-08-01", "invoice_2024-09-30.acacia", "invoice_2026-03-25.dahlia", "invoice_2026-09-30.endive", "payment_method",
	} {
		f.Add(sample(f, name), `{"status":"past_due","customer":"cus_1","amount_refunded":7}`)
	}
	f.Add(`{"id":"ch_1","payment_intent":{"id":"pi_1"},"invoice":null,"amount":9,"amount_refunded":8,"charge":"ch_2","status":"won","payment":{"payment_intent":"pi_2"}}`, `null`)
	kinds := []string{
		"customer.subscription.created", "customer.subscription.deleted", "invoice.paid", "invoice_payment.paid", "payment_method.attached",
		"payment_method.detached", "charge.refunded", "charge.dispute.closed", "customer.created",
	}
	f.Fuzz(func(t *testing.T, object, previous string) {
		for _, kind := range kinds {
			payload := event(kind, object, `,"previous_attributes":`+previous)
			e, err := stripe.ParseEvent(payload)
			again, err2 := stripe.ParseEvent(payload)
			if !cmp.Equal(e, again) || fmt.Sprint(err) != fmt.Sprint(err2) {
				t.Fatalf("%+v %v, then %+v %v", e, err, again, err2)
			}
			if err != nil {
				if text := err.Error(); len(text) > 200 || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
					t.Errorf("the error is %q", text)
				}
				continue
			}
			ids := []string{e.ID, e.Party.StripeID, e.Party.CustomerID}
			numbers := []int64{0}
			switch {
			case e.Subscription != nil:
				ids = append(ids, need(t, e.Subscription.ID), e.Subscription.Party.StripeID, e.Subscription.Status, e.Subscription.Was)
				for _, p := range e.Subscription.Prices {
					ids = append(ids, need(t, p.ID))
				}
				if e.Subscription.PeriodEnd.Before(e.Subscription.PeriodStart) {
					t.Error("a period ends before it begins")
				}
			case e.Invoice != nil:
				ids, numbers = append(ids, need(t, e.Invoice.ID), e.Invoice.Subscription, e.Invoice.Intent), append(numbers, e.Invoice.Cents)
			case e.Method != nil:
				ids = append(ids, need(t, e.Method.ID))
			case e.Charge != nil:
				c := e.Charge
				ids, numbers = append(ids, need(t, c.ID), c.Intent, c.Invoice, c.FixID), append(numbers, c.RefundedBefore, c.Refunded-c.RefundedBefore, c.Cents-c.Refunded)
			case e.Dispute != nil:
				ids, numbers = append(ids, need(t, e.Dispute.ID), e.Dispute.Charge, e.Dispute.Intent, e.Dispute.Status), append(numbers, e.Dispute.Cents)
			case e.InvoicePayment != nil:
				ids = append(ids, need(t, e.InvoicePayment.Invoice), e.InvoicePayment.Intent)
			}
			for _, id := range ids {
				if id != "" && !isPlain(id) {
					t.Errorf("%s: an id is %q", kind, id)
				}
			}
			for _, n := range numbers {
				if n < 0 {
					t.Errorf("%s: an amount is %d", kind, n)
				}
			}
		}
	})
}

func need(t *testing.T, id string) string {
	if id == "" {
		t.Error("an id is missing")
	}
	return id
}

// BenchmarkReceive is what an acknowledgement waits for.
func BenchmarkReceive(b *testing.B) {
	for name, body := range map[string][]byte{
		"invoice": event("invoice.paid", sample(b, "invoice_2026-03-25.dahlia"), ""),
		"deep":    []byte(strings.Repeat("{\"a\":", 200_000)),
		"1 MiB":   event("x.y", `{"a":"`+strings.Repeat("x", 1<<20)+`"}`, ""),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				stripe.Receive(body, "")
			}
		})
	}
}
