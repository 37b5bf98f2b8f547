package sim_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	stripego "github.com/stripe/stripe-go/v85"
)

func TestListsArePaged(t *testing.T) {
	r := newRig(t, nil)
	var made []string
	for i := range 7 {
		made = append(made, r.post("/v1/customers", "name", fmt.Sprint(i)))
	}
	slices.Reverse(made)
	page := func(pairs ...string) (ids []string, more bool) {
		l := r.must("GET", "/v1/customers", pairs...)
		for _, row := range l["data"].([]any) {
			ids = append(ids, row.(map[string]any)["id"].(string))
		}
		if l["object"] != "list" || l["url"] != "/v1/customers" {
			t.Errorf("%v", l)
		}
		return ids, l["has_more"].(bool)
	}
	for _, tt := range []struct {
		pairs []string
		from  int
		until int
		more  bool
	}{
		{nil, 0, 7, false},
		{[]string{"limit", "3"}, 0, 3, true},
		{[]string{"limit", "7"}, 0, 7, false},
		{[]string{"limit", "3", "starting_after", made[2]}, 3, 6, true},
		{[]string{"limit", "3", "starting_after", made[5]}, 6, 7, false},
		{[]string{"starting_after", made[6]}, 7, 7, false},
		{[]string{"limit", "3", "ending_before", made[5]}, 2, 5, true},
		{[]string{"limit", "3", "ending_before", made[2]}, 0, 2, false},
		{[]string{"ending_before", made[0]}, 0, 0, false},
	} {
		if ids, more := page(tt.pairs...); !slices.Equal(ids, made[tt.from:tt.until]) || more != tt.more {
			t.Errorf("%v: %v, %v; want %v, %v", tt.pairs, ids, more, made[tt.from:tt.until], tt.more)
		}
	}
	for _, pairs := range [][]string{{"limit", "0"}, {"limit", "101"}, {"limit", "x"}, {"starting_after", "cus_none"}, {"starting_after", "price_pro"}, {"page", "2"}} {
		r.refused(400, "GET", "/v1/customers", pairs...)
	}
	n := 0
	for c, err := range r.api.V1Customers.List(t.Context(), &stripego.CustomerListParams{ListParams: stripego.ListParams{Limit: new(int64(2))}}).All(t.Context()) {
		if err != nil || c.ID != made[n] {
			t.Fatalf("%d: %+v, %v", n, c, err)
		}
		n++
	}
	if n != 7 {
		t.Errorf("stripe-go pages through %d, want 7", n)
	}
}

func TestEventsAreFound(t *testing.T) {
	r := newRig(t, nil)
	clock := r.clock()
	r.subscribe(clock, "pm_card_visa")
	r.advance(clock, began+day)
	r.post("/v1/customers", "test_clock", clock)
	r.quiet()
	list := func(pairs ...string) string {
		r.Helper()
		var kinds []string
		for _, row := range r.must("GET", "/v1/events", append(pairs, "limit", "100")...)["data"].([]any) {
			kinds = append(kinds, row.(map[string]any)["type"].(string))
		}
		return strings.Join(kinds, " ")
	}
	for _, tt := range []struct {
		pairs []string
		want  string
	}{
		{[]string{"type", "invoice.paid"}, "invoice.paid"},
		{[]string{"types[]", "invoice.paid", "types[]", "customer.subscription.created"}, "invoice.paid customer.subscription.created"},
		{[]string{"types[0]", "invoice.paid", "types[1]", "invoice.created"}, "invoice.paid invoice.created"},
		{[]string{"created[gt]", fmt.Sprint(began)}, "customer.created"},
		{[]string{"created[gte]", fmt.Sprint(began + day)}, "customer.created"},
		{[]string{"created[gte]", fmt.Sprint(began), "created[lt]", fmt.Sprint(began + day), "type", "customer.created"}, "customer.created"},
		{[]string{"created[lte]", fmt.Sprint(began - 1)}, ""},
		{[]string{"created", fmt.Sprint(began + day)}, "customer.created"},
		{[]string{"delivery_success", "false"}, ""},
		{[]string{"delivery_success", "true", "type", "invoice.paid"}, "invoice.paid"},
	} {
		if got := list(tt.pairs...); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.pairs, got, tt.want)
		}
	}
	var many []string
	for i := range 21 {
		many = append(many, "types[]", fmt.Sprint("a.", i))
	}
	r.refused(400, "GET", "/v1/events", many...)
	last := r.Events()[len(r.Events())-1]
	e, err := r.api.V1Events.Retrieve(t.Context(), last.ID, nil)
	if err != nil || e.Type != "customer.created" || e.APIVersion != "2026-03-25.dahlia" || e.PendingWebhooks != 0 || e.Request.ID == "" {
		t.Errorf("%+v, %v", e, err)
	}
	r.refused(404, "GET", "/v1/events/evt_none")
}

func TestEventsNameTheRequest(t *testing.T) {
	r := newRig(t, nil)
	params := &stripego.CustomerCreateParams{Email: new("jane@example.test")}
	params.SetIdempotencyKey("k")
	c, err := r.api.V1Customers.Create(t.Context(), params)
	if err != nil {
		t.Fatal(err)
	}
	e := r.Events()[0]
	if e.Request.IdempotencyKey != "k" || e.Request.ID != c.LastResponse.RequestID || e.Request.ID == "" {
		t.Errorf("%+v; the answer is %s's", e.Request, c.LastResponse.RequestID)
	}
}

func TestEventsOfOlderVersions(t *testing.T) {
	for _, version := range []string{"2022-11-15", "2024-09-30.acacia", "2025-03-31.basil", "2026-03-25.dahlia"} {
		old := version < "2025"
		r := newRig(t, nil)
		r.must("POST", "/_sim/faults", "api_version", version)
		clock := r.clock()
		id := r.subscribe(clock, "pm_card_visa", "metadata[org]", "org_1")
		sub := r.subscription(id)
		r.advance(clock, int64(sub.Items.Data[0].CurrentPeriodEnd))
		pi, charge := r.Intents()[0], r.Charges()[0]
		told := make(map[string]map[string]any)
		previous := ""
		for _, e := range r.Events() {
			if e.APIVersion != version {
				t.Fatalf("%s: %+v", version, e)
			}
			told[e.Type] = decode[map[string]any](t, e.Data.Object)
			if e.Type == "customer.subscription.updated" {
				previous = string(e.Data.PreviousAttributes)
			}
		}
		if _, younger := told["invoice_payment.paid"]; younger == old {
			t.Errorf("%s: invoice_payment.paid is told: %v", version, younger)
		}
		created, paid := told["customer.subscription.created"], told["invoice.paid"]
		line := paid["lines"].(map[string]any)["data"].([]any)[0].(map[string]any)
		item := created["items"].(map[string]any)["data"].([]any)[0].(map[string]any)
		for what, has := range map[string]bool{
			"subscription's period":          created["current_period_end"] == float64(sub.Items.Data[0].CurrentPeriodEnd),
			"invoice's subscription":         paid["subscription"] == id,
			"invoice's metadata of it":       fmt.Sprint(paid["subscription_details"]) == "map[metadata:map[org:org_1]]",
			"invoice's paid":                 paid["paid"] == true && paid["paid_out_of_band"] == false,
			"invoice's payment and charge":   paid["payment_intent"] == pi.ID && paid["charge"] == charge.ID,
			"payment's and charge's invoice": told["payment_intent.succeeded"]["invoice"] == paid["id"] && told["charge.succeeded"]["invoice"] == paid["id"],
			"line's price":                   fmt.Sprint(line["price"]) != "<nil>" && line["price"].(map[string]any)["lookup_key"] == "pro_monthly",
			"line's subscription and item":   line["subscription"] == id && line["subscription_item"] == item["id"] && line["proration"] == false,
			"period that was":                strings.Contains(previous, `"current_period_end":`) && !strings.Contains(previous, `"items"`),
		} {
			if has != old {
				t.Errorf("%s: the %s is there: %v", version, what, has)
			}
		}
		for what, has := range map[string]bool{
			"items' period":  item["current_period_end"] != nil,
			"parent":         paid["parent"] != nil,
			"line's parent":  line["parent"] != nil,
			"line's pricing": line["pricing"] != nil,
			"billing mode":   created["billing_mode"] != nil,
		} {
			if has == old {
				t.Errorf("%s: the %s is there: %v", version, what, has)
			}
		}
	}
}

func TestAnswersOfOlderVersions(t *testing.T) {
	r := newRig(t, nil)
	id := r.subscribe("", "pm_card_visa")
	for _, path := range []string{"/v1/subscriptions/" + id, "/v1/subscriptions"} {
		for version, old := range map[string]bool{"2022-11-15": true, "2026-03-25.dahlia": false, "": false} {
			body := r.asked(path, version)
			if has := strings.Contains(body, `"current_period_end":`) && !strings.Contains(body, `"billing_mode"`); has != old {
				t.Errorf("%s of %s has the old form: %v, in %s", path, version, has, body)
			}
		}
	}
}
