package stripe_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/billing"
	"gatehouse/internal/jobs"
	"gatehouse/internal/stripe"
)

// request is what a script was asked.
type request struct {
	what string // method and path
	form url.Values
	key  string // Idempotency-Key
}

// script is a server that gives answers in turn, the last one for ever. One
// that begins with a status is not 200.
type script struct {
	mu      sync.Mutex
	answers []string
	asked   []request
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	s.mu.Lock()
	s.asked = append(s.asked, request{r.Method + " " + r.URL.EscapedPath(), r.Form, r.Header.Get("Idempotency-Key")})
	answer := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	s.mu.Unlock()
	status := http.StatusOK
	if _, err := fmt.Sscanf(answer, "%d ", &status); err == nil {
		answer = answer[4:]
	}
	if answer == "lost" {
		panic(http.ErrAbortHandler)
	}
	w.WriteHeader(status)
	if rest, ok := strings.CutSuffix(answer, "cut"); ok {
		w.Header().Set("Content-Length", "9999")
		fmt.Fprint(w, rest)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	fmt.Fprint(w, answer)
}

func (s *script) requests() []request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *script) paths() (all []string) {
	for _, r := range s.requests() {
		all = append(all, r.what)
	}
	return all
}

// says is a client of a server that gives these answers.
func says(t *testing.T, answers ...string) (*script, *stripe.Client) {
	t.Helper()
	s := &script{answers: answers}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return s, stripe.New(mustKey(t), server.URL)
}

// mustPass fails on an error that a job may not try again, or not keep.
func mustPass(t *testing.T, err error) {
	t.Helper()
	if jobs.IsPermanent(err) {
		t.Errorf("for good: %v", err)
	}
	mustBeKeepable(t, err)
}

const (
	noSuch   = `404 {"error":{"type":"invalid_request_error","code":"resource_missing","param":"id","message":"No such thing: 'jane@example.test'"}}`
	noSuchIn = `400 {"error":{"type":"invalid_request_error","code":"resource_missing","param":"customer","message":"No such customer: 'cus_1'"}}`
)

func TestKeyTellsWhetherMoneyIsReal(t *testing.T) {
	for kind, want := range map[string]bool{"sk_test_": false, "rk_test_": false, "sk_live_": true, "rk_live_": true} {
		key, err := stripe.ParseKey(kind + secretPart)
		if err != nil {
			t.Fatal(err)
		}
		if got := stripe.New(key, "http://127.0.0.1:1").Live(); got != want {
			t.Errorf("%s: %v", kind, got)
		}
	}
}

func TestObjectsAreAskedFor(t *testing.T) {
	pro := []billing.Price{{ID: "price_pro", LookupKey: "pro_monthly"}}
	us := billing.Party{StripeID: "cus_T1", CustomerID: jane.ID}
	ask := map[string]func(context.Context, *stripe.Client, string) (any, error){
		"subscription": func(ctx context.Context, c *stripe.Client, id string) (any, error) { return c.Subscription(ctx, id) },
		"invoice":      func(ctx context.Context, c *stripe.Client, id string) (any, error) { return c.Invoice(ctx, id) },
		"method":       func(ctx context.Context, c *stripe.Client, id string) (any, error) { return c.Method(ctx, id) },
		"price":        func(ctx context.Context, c *stripe.Client, id string) (any, error) { return c.Price(ctx, id) },
		"invoice of":   func(ctx context.Context, c *stripe.Client, id string) (any, error) { return c.InvoiceOf(ctx, id) },
	}
	for _, tt := range []struct {
		kind, id string
		answers  []string
		want     any
		asked    []string
	}{
		{"subscription", "sub_T1", []string{sample(t, "subscription_2022-08-01")}, billing.SubscriptionObject{
			ID: "sub_T1", Status: "active", Party: us, Prices: pro, Started: second(1790000000), PeriodStart: second(1790000000), PeriodEnd: second(1792592000),
		}, []string{"GET /v1/subscriptions/sub_T1"}},
		{"subscription", "sub_T1", []string{
			`{"id":"sub_T1","object":"subscription","status":"canceled","items":{"data":[{"id":"si_1","price":"p1"}],"has_more":true}}`,
			`{"object":"list","data":[{"id":"si_1","price":{"id":"p1","lookup_key":null}},{"id":"si_2","price":"p2"}],"has_more":true}`,
			`{"object":"list","data":[{"id":"si_3","price":"p3"}],"has_more":false}`,
		}, billing.SubscriptionObject{ID: "sub_T1", Status: "canceled", Prices: []billing.Price{{ID: "p1"}, {ID: "p2", Partial: true}, {ID: "p3", Partial: true}}},
			[]string{"GET /v1/subscriptions/sub_T1", "GET /v1/subscription_items", "GET /v1/subscription_items"}},
		{"invoice", "in_T1", []string{sample(t, "invoice_2026-09-30.endive")}, billing.InvoiceObject{ID: "in_T1", Subscription: "sub_T1", Cents: 59900, Prices: pro}, []string{"GET /v1/invoices/in_T1"}},
		{"invoice", "in_T1", []string{
			sample(t, "invoice_2024-09-30.acacia"),
			`{"object":"list","data":[{"id":"il_1","amount":-1,"price":"p1"},{"id":"il_2","amount":1,"pricing":{"price_details":{"price":"p2"}}}],"has_more":false}`,
		}, billing.InvoiceObject{ID: "in_T1", Subscription: "sub_T1", Intent: "ch_T1", Cents: 59900, Prices: []billing.Price{{ID: "p2", Partial: true}}},
			[]string{"GET /v1/invoices/in_T1", "GET /v1/invoices/in_T1/lines"}},
		{"method", "pm_T1", []string{sample(t, "payment_method")}, billing.MethodObject{ID: "pm_T1", Attached: true}, []string{"GET /v1/payment_methods/pm_T1"}},
		{"method", "pm_T1", []string{`{"id":"pm_T1","customer":null}`}, billing.MethodObject{ID: "pm_T1"}, []string{"GET /v1/payment_methods/pm_T1"}},
		{"price", "price_pro", []string{`{"id":"price_pro","object":"price","lookup_key":"pro_monthly","metadata":{"plan":"pro"}}`}, billing.Price{ID: "price_pro", LookupKey: "pro_monthly", Plan: "pro"}, []string{"GET /v1/prices/price_pro"}},
		{"price", "a/../b?c", []string{`{"id":"a/../b?c","object":"price"}`}, billing.Price{ID: "a/../b?c"}, []string{"GET /v1/prices/a%2F..%2Fb%3Fc"}},
		{"invoice of", "pi_T1", []string{`{"object":"list","data":[{"id":"inpay_0","object":"invoice_payment","invoice":"in_0","payment":{"payment_intent":"pi_0"}},` +
			`{"id":"inpay_1","object":"invoice_payment","invoice":{"id":"in_T1"},"payment":{"type":"payment_intent","payment_intent":"pi_T1"}}],"has_more":false}`}, "in_T1", []string{"GET /v1/invoice_payments"}},
		{"invoice of", "pi_T1", []string{noneFound}, "", []string{"GET /v1/invoice_payments"}},
		{"invoice of", "ch_T1", []string{noSuch}, "", nil},
	} {
		s, client := says(t, tt.answers...)
		got, err := ask[tt.kind](t.Context(), client, tt.id)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s %s: %v, -want +got\n%s", tt.kind, tt.id, err, diff)
		}
		if asked := s.paths(); !slices.Equal(asked, tt.asked) {
			t.Errorf("%s %s: asked %q, want %q", tt.kind, tt.id, asked, tt.asked)
		}
		if tt.kind == "invoice of" && tt.asked != nil {
			want := url.Values{"payment[type]": {"payment_intent"}, "payment[payment_intent]": {tt.id}}
			if diff := cmp.Diff(want, s.requests()[0].form); diff != "" {
				t.Error(diff)
			}
		}
		if n := len(s.requests()); n > 1 && s.requests()[1].form.Get("limit") != "100" || n > 2 && s.requests()[2].form.Get("starting_after") != "si_2" {
			t.Errorf("%s: asked %+v", tt.kind, s.requests())
		}
	}
	for kind, do := range ask {
		for _, id := range []string{"", ".", "..", "a b", "ü", "a\nb", strings.Repeat("x", 256)} {
			if s, client := says(t, noSuch); kind != "invoice of" {
				if _, err := do(t.Context(), client, id); !errors.Is(err, billing.ErrGone) || len(s.requests()) > 0 {
					t.Errorf("%s %q: %v after %d requests", kind, id, err, len(s.requests()))
				}
			}
		}
		for _, answer := range []string{noSuch, noSuchIn} {
			_, client := says(t, answer)
			if _, err := do(t.Context(), client, "pi_1"); !errors.Is(err, billing.ErrGone) {
				t.Errorf("%s: %v, want ErrGone", kind, err)
			}
		}
		for _, answer := range []string{
			`404 {"error":{"type":"invalid_request_error","message":"Unrecognized request URL (GET: /v1/jane@example.test)"}}`, `404 <html>`, "404 {}",
			`401 {"error":{"type":"invalid_request_error","message":"Invalid API Key provided: ` + testKey + `"}}`, `403 {"error":{"type":"invalid_request_error"}}`,
			`400 {"error":{"type":"invalid_request_error","param":"jane@example.test"}}`, `429 {"error":{"type":"invalid_request_error","code":"rate_limit"}}`, `500 {"error":{"type":"api_error"}}`, "503 ", "lost", "{cut",
			`{}`, `[]`, `null`, `{"id":"jane@example test"}`, `{"id":"pi_2"}`, `{"id":"pi_1","object":"jane@example.test"}`, `{"object":"list","data":[],"has_more":true}`, `{"object":"list","data":[{"invoice":7}]}`,
		} {
			_, client := says(t, answer)
			if _, err := do(t.Context(), client, "pi_1"); err == nil || errors.Is(err, billing.ErrGone) {
				t.Errorf("%s: %s gives %v", kind, answer, err)
			} else {
				mustPass(t, err)
			}
		}
	}
}

func TestListWithoutEndEnds(t *testing.T) {
	s, client := says(t, `{"id":"in_1","lines":{"has_more":true}}`, `{"object":"list","data":[{"id":"il_1"}],"has_more":true}`)
	if _, err := client.Invoice(t.Context(), "in_1"); err == nil || len(s.requests()) > 100 {
		t.Errorf("%v after %d requests", err, len(s.requests()))
	}
}

func TestEventsAreListed(t *testing.T) {
	page := `{"object":"list","data":[{"id":"evt_2","object":"event", "type":"invoice.paid","created":9},{"id":"evt_1","object":"event","type":5}],"has_more":true}`
	s, client := says(t, page)
	got, more, err := client.Events(t.Context(), time.Unix(1000, 5), time.Unix(2000, 0), "evt_3")
	want := []billing.Receipt{
		{ID: "evt_2", Type: "invoice.paid", Payload: []byte(`{"id":"evt_2","object":"event", "type":"invoice.paid","created":9}`), Note: "fetched by the reconciler"},
		{ID: "evt_1", Payload: []byte(`{"id":"evt_1","object":"event","type":5}`), Note: "fetched by the reconciler", Park: "it has no type, or one that is none of Stripe's"},
	}
	if diff := cmp.Diff(want, got); err != nil || !more || diff != "" {
		t.Errorf("more %v, %v, -want +got\n%s", more, err, diff)
	}
	form := s.requests()[0].form
	if types := form["types[]"]; len(types) != 14 || !slices.Contains(types, "charge.dispute.closed") {
		t.Errorf("types %q", types)
	}
	form.Del("types[]")
	if diff := cmp.Diff(url.Values{"created[gte]": {"1000"}, "created[lte]": {"2000"}, "limit": {"100"}, "starting_after": {"evt_3"}}, form); diff != "" {
		t.Error(diff)
	}

	long := `{"object":"list","data":[` + strings.Repeat(" ", 16<<20) + `],"has_more":false}`
	s, client = says(t, long, long, `{"object":"list","data":[],"has_more":false}`)
	if got, more, err := client.Events(t.Context(), time.Unix(1000, 0), time.Unix(2000, 0), ""); err != nil || more || len(got) > 0 || len(s.requests()) != 3 || s.requests()[2].form.Get("limit") != "1" {
		t.Errorf("%v after %d requests", err, len(s.requests()))
	}
	for _, answer := range []string{long, `{"object":"list","data":[{"object":"event"}]}`, `{"object":"list","data":[7]}`, `{"data":[]}`, `{"object":"list","data":[],"has_more":true}`, `401 {"error":{"type":"invalid_request_error"}}`, "lost"} {
		_, client := says(t, answer)
		if _, _, err := client.Events(t.Context(), time.Unix(1000, 0), time.Unix(2000, 0), ""); err == nil {
			t.Errorf("%.80s passes", answer)
		} else {
			mustPass(t, err)
		}
	}
	_, client = says(t, noSuchIn) // the event to go on from is older than 30 days
	if _, _, err := client.Events(t.Context(), time.Unix(1000, 0), time.Unix(2000, 0), "evt_0"); !errors.Is(err, billing.ErrGone) {
		t.Error(err)
	}
}

// attempt is of a fix of 2026-01-01, by its id.
var attempt = billing.Charge{FixID: "019b76da-a800-7000-8000-000000000001", Attempt: 3, Customer: "cus_1", Method: "pm_1", Cents: 2900, Currency: "usd"}

const madeAt = 1767225600 // when the fix was recorded

// intentOf is a payment intent of an attempt.
func intentOf(id, status string, number, created int64, more string) string {
	return fmt.Sprintf(`{"id":%q,"object":"payment_intent","status":%q,"created":%d,"metadata":{"gatehouse_fix_id":%q,"gatehouse_attempt":"%d"}%s}`, id, status, created, attempt.FixID, number, more)
}

func declined(code, decline, status string) string {
	return fmt.Sprintf(`402 {"error":{"type":"card_error","code":%q,"decline_code":%q,"message":"jane@example.test","payment_intent":{"id":"pi_1","status":%q,"client_secret":"s"}}}`, code, decline, status)
}

func TestChargeSaysWhatIsCertain(t *testing.T) {
	const lastError = `,"last_payment_error":{"type":"card_error","code":"card_declined","decline_code":"lost_card"}`
	for name, tt := range map[string]struct {
		answer string
		want   billing.ChargeOutcome // zero: an error
	}{
		"succeeded":                  {intentOf("pi_1", "succeeded", 3, madeAt, ""), billing.ChargeOutcome{Intent: "pi_1", Paid: true}},
		"without metadata":           {`{"id":"pi_1","object":"payment_intent","status":"succeeded","metadata":{}}`, billing.ChargeOutcome{Intent: "pi_1", Paid: true}},
		"processing":                 {intentOf("pi_1", "processing", 3, madeAt, ""), billing.ChargeOutcome{}},
		"asks for the cardholder":    {intentOf("pi_1", "requires_action", 3, madeAt, ""), billing.ChargeOutcome{Intent: "pi_1", Why: "requires_action"}},
		"asks for a method":          {intentOf("pi_1", "requires_payment_method", 3, madeAt, lastError), billing.ChargeOutcome{Intent: "pi_1", Why: "lost_card"}},
		"canceled":                   {intentOf("pi_1", "canceled", 3, madeAt, ""), billing.ChargeOutcome{Intent: "pi_1", Why: "canceled"}},
		"not captured":               {intentOf("pi_1", "requires_capture", 3, madeAt, ""), billing.ChargeOutcome{Intent: "pi_1", Why: "requires_capture"}},
		"a status to come":           {intentOf("pi_1", "requires_thought", 3, madeAt, ""), billing.ChargeOutcome{}},
		"no status":                  {`{"id":"pi_1","object":"payment_intent"}`, billing.ChargeOutcome{}},
		"another attempt":            {intentOf("pi_1", "succeeded", 2, madeAt, ""), billing.ChargeOutcome{}},
		"another object":             {`{"id":"ch_1","object":"charge","status":"succeeded"}`, billing.ChargeOutcome{}},
		"no id":                      {`{"object":"payment_intent","status":"succeeded"}`, billing.ChargeOutcome{}},
		"not JSON":                   {`<html>`, billing.ChargeOutcome{}},
		"cut":                        {`{"id":"pi_1"cut`, billing.ChargeOutcome{}},
		"lost":                       {"lost", billing.ChargeOutcome{}},
		"declined":                   {declined("card_declined", "insufficient_funds", "requires_payment_method"), billing.ChargeOutcome{Intent: "pi_1", Why: "insufficient_funds"}},
		"asked for the cardholder":   {declined("authentication_required", "authentication_required", "requires_payment_method"), billing.ChargeOutcome{Intent: "pi_1", Why: "authentication_required"}},
		"expired":                    {declined("expired_card", "", "requires_payment_method"), billing.ChargeOutcome{Intent: "pi_1", Why: "expired_card"}},
		"a reason that is no word":   {declined("card_declined", "jane@example.test", "requires_payment_method"), billing.ChargeOutcome{Intent: "pi_1", Why: "card_declined"}},
		"a long reason":              {declined(strings.Repeat("c", 65), strings.Repeat("d", 65), "canceled"), billing.ChargeOutcome{Intent: "pi_1", Why: "card_error"}},
		"declined, says the answer":  {declined("card_declined", "generic_decline", "succeeded"), billing.ChargeOutcome{}},
		"declined, and still tried":  {declined("card_declined", "generic_decline", "processing"), billing.ChargeOutcome{}},
		"declined without an intent": {`402 {"error":{"type":"card_error","code":"card_declined"}}`, billing.ChargeOutcome{Why: "card_declined"}},
		"402 of somebody":            {`402 {"error":"payment required"}`, billing.ChargeOutcome{}},
		"402 of Stripe's own":        {`402 {"error":{"type":"api_error"}}`, billing.ChargeOutcome{}},
		"no such customer":           {noSuchIn, billing.ChargeOutcome{Why: "resource_missing"}},
		"no such method":             {noSuch, billing.ChargeOutcome{Why: "resource_missing"}},
		"the method is detached":     {`400 {"error":{"type":"invalid_request_error","message":"The payment method pm_1 was previously used"}}`, billing.ChargeOutcome{Why: "invalid_request_error"}},
		"too small":                  {`400 {"error":{"type":"invalid_request_error","code":"amount_too_small"}}`, billing.ChargeOutcome{Why: "amount_too_small"}},
		"no such address":            {`404 {"error":{"type":"invalid_request_error","message":"Unrecognized request URL"}}`, billing.ChargeOutcome{}},
		"the key had other words":    {`400 {"error":{"type":"idempotency_error","message":"Keys"}}`, billing.ChargeOutcome{}},
		"the key is in use":          {`409 {"error":{"type":"idempotency_error","code":"idempotency_key_in_use"}}`, billing.ChargeOutcome{}},
		"the API key":                {`401 {"error":{"type":"invalid_request_error"}}`, billing.ChargeOutcome{}},
		"what the API key may not":   {`403 {"error":{"type":"invalid_request_error"}}`, billing.ChargeOutcome{}},
		"too many":                   {`429 {"error":{"type":"invalid_request_error","code":"lock_timeout"}}`, billing.ChargeOutcome{}},
		"Stripe failed":              {`500 {"error":{"type":"api_error"}}`, billing.ChargeOutcome{}},
		"Stripe is away":             {`503 `, billing.ChargeOutcome{}},
		"a proxy's 400":              {`400 {"message":"jane@example.test"}`, billing.ChargeOutcome{}},
	} {
		s, client := says(t, tt.answer)
		got, err := client.Charge(t.Context(), attempt)
		if got != tt.want || (err != nil) != (tt.want == billing.ChargeOutcome{}) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, tt.want)
		}
		if err != nil {
			mustPass(t, err)
		}
		want := []request{{"POST /v1/payment_intents", url.Values{
			"amount": {"2900"}, "currency": {"usd"}, "customer": {"cus_1"}, "payment_method": {"pm_1"}, "off_session": {"true"}, "payment_method_types[]": {"card"}, "confirm": {"true"},
			"metadata[gatehouse_fix_id]": {attempt.FixID}, "metadata[gatehouse_attempt]": {"3"},
		}, "fix:" + attempt.FixID + ":charge:3"}}
		if diff := cmp.Diff(want, s.requests(), cmp.AllowUnexported(request{})); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

func TestChargeIsLookedForFirst(t *testing.T) {
	const lastError = `,"last_payment_error":{"code":"card_declined"}`
	paid := billing.ChargeOutcome{Intent: "pi_1", Paid: true}
	list := func(more bool, intents ...string) string {
		return fmt.Sprintf(`{"object":"list","data":[%s],"has_more":%v}`, strings.Join(intents, ","), more)
	}
	other := `{"id":"pi_9","object":"payment_intent","status":"succeeded","created":1767225700,"metadata":{}}`
	another := intentOf("pi_8", "succeeded", 2, madeAt, "")
	const look, pay = "GET /v1/payment_intents", "POST /v1/payment_intents"
	type age int
	const again, late, final age = 0, 1, 2
	for name, tt := range map[string]struct {
		when    age
		answers []string
		want    billing.ChargeOutcome // zero: an error
		asked   []string
	}{
		"came through":             {again, []string{list(false, other, intentOf("pi_1", "succeeded", 3, madeAt, ""))}, paid, []string{look}},
		"came through, long ago":   {final, []string{list(false, other, intentOf("pi_1", "succeeded", 3, madeAt, ""))}, paid, []string{look}},
		"is on the second page":    {again, []string{list(true, other, another), list(true, intentOf("pi_1", "succeeded", 3, madeAt, ""), intentOf("pi_0", "succeeded", 1, madeAt-90000, ""))}, paid, []string{look, look}},
		"once refused, once not":   {final, []string{list(false, intentOf("pi_2", "canceled", 3, madeAt+9, ""), intentOf("pi_1", "succeeded", 3, madeAt, ""), intentOf("pi_0", "canceled", 3, madeAt, ""))}, paid, []string{look}},
		"was declined":             {again, []string{list(false, intentOf("pi_1", "requires_payment_method", 3, madeAt, lastError))}, billing.ChargeOutcome{Intent: "pi_1", Why: "card_declined"}, []string{look}},
		"was canceled":             {again, []string{list(false, intentOf("pi_1", "canceled", 3, madeAt, ""))}, billing.ChargeOutcome{Intent: "pi_1", Why: "canceled"}, []string{look}},
		"asks for the cardholder":  {again, []string{list(false, intentOf("pi_1", "requires_action", 3, madeAt, ""))}, billing.ChargeOutcome{Intent: "pi_1", Why: "requires_action"}, []string{look}},
		"is processing":            {again, []string{list(false, intentOf("pi_1", "processing", 3, madeAt, ""))}, billing.ChargeOutcome{}, []string{look}},
		"is processing, long ago":  {final, []string{list(false, intentOf("pi_1", "processing", 3, madeAt, ""))}, billing.ChargeOutcome{}, []string{look}},
		"is being made":            {again, []string{list(false, intentOf("pi_1", "requires_confirmation", 3, madeAt, "")), `409 {"error":{"type":"idempotency_error"}}`}, billing.ChargeOutcome{}, []string{look, pay}},
		"was made meanwhile":       {again, []string{list(false, intentOf("pi_1", "requires_payment_method", 3, madeAt, "")), intentOf("pi_1", "succeeded", 3, madeAt, "")}, paid, []string{look, pay}},
		"was left, long ago":       {final, []string{list(false, intentOf("pi_1", "requires_confirmation", 3, madeAt, ""))}, billing.ChargeOutcome{Intent: "pi_1", Why: "requires_confirmation"}, []string{look}},
		"is not there":             {again, []string{list(false, other, another), intentOf("pi_1", "succeeded", 3, madeAt, "")}, paid, []string{look, pay}},
		"is not there, long ago":   {final, []string{list(false, other, another)}, billing.ChargeOutcome{Why: "not_charged"}, []string{look}},
		"is not there, and no end": {final, []string{list(true, another)}, billing.ChargeOutcome{}, slices.Repeat([]string{look}, 50)},
		"older ones are there":     {final, []string{list(true, another, intentOf("pi_0", "succeeded", 2, madeAt-90000, ""))}, billing.ChargeOutcome{Why: "not_charged"}, []string{look}},
		"Stripe is away":           {again, []string{"503 "}, billing.ChargeOutcome{}, []string{look}},
		"Stripe is away, long ago": {final, []string{"lost"}, billing.ChargeOutcome{}, []string{look}},
		"the customer is gone":     {final, []string{noSuchIn}, billing.ChargeOutcome{}, []string{look}}, // perhaps of another account, in which the charge is
		"was left, late":           {late, []string{list(false, intentOf("pi_1", "requires_confirmation", 3, madeAt, ""))}, billing.ChargeOutcome{}, []string{look}},
		"is not there, late":       {late, []string{list(false, other, another)}, billing.ChargeOutcome{}, []string{look}},
		"came through, late":       {late, []string{list(false, other, intentOf("pi_1", "succeeded", 3, madeAt, ""))}, paid, []string{look}},
		"no list":                  {final, []string{`{}`}, billing.ChargeOutcome{}, []string{look}},
	} {
		s, client := says(t, tt.answers...)
		ch := attempt
		ch.Again, ch.Late, ch.Final = tt.when == again, tt.when >= late, tt.when == final
		got, err := client.Charge(t.Context(), ch)
		if got != tt.want || (err != nil) != (tt.want == billing.ChargeOutcome{}) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, tt.want)
		}
		if err != nil {
			mustPass(t, err)
		}
		if asked := s.paths(); !slices.Equal(asked, tt.asked) {
			t.Errorf("%s: asked %q, want %q", name, asked, tt.asked)
		}
		if form := s.requests()[0].form; form.Get("customer") != "cus_1" || form.Get("limit") != "100" {
			t.Errorf("%s: looked for %v", name, form)
		}
	}
}

func TestChargeEndsWithItsContext(t *testing.T) {
	_, client := says(t, "lost")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := client.Charge(ctx, attempt); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestNothingOfACallIsPrinted(t *testing.T) {
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = out, out
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	for _, answer := range []string{declined("card_declined", "lost_card", "canceled"), noSuch, "lost", "{}", "[", intentOf("pi_1", "succeeded", 3, madeAt, "")} {
		_, client := says(t, answer)
		_, _ = client.Charge(t.Context(), attempt)
		_, _, _ = client.Events(t.Context(), time.Unix(1, 0), time.Unix(2, 0), "")
		_, _ = client.Subscription(t.Context(), "sub_1")
	}
	if printed, err := os.ReadFile(out.Name()); err != nil || len(printed) > 0 {
		t.Errorf("%v, printed:\n%s", err, printed)
	}
}
