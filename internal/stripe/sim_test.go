package stripe_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/billing"
	"gatehouse/internal/stripe"
	"gatehouse/internal/stripe/sim"
)

// inbox takes webhooks as the API does.
type inbox struct {
	*testing.T
	secrets stripe.Secrets

	mu   sync.Mutex
	came []billing.Receipt
}

func (i *inbox) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		_, err = i.secrets.Verify(r.Header.Values(stripe.SignatureHeader), body, time.Now())
	}
	if err != nil {
		i.Error(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.came = append(i.came, stripe.Receive(body, "by a webhook"))
}

// read returns the events that came, by type.
func (i *inbox) read() map[string]billing.Event {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := map[string]billing.Event{}
	for _, r := range i.came {
		e, err := stripe.ParseEvent(r.Payload)
		if err != nil || r.Park != "" || r.ID != e.ID || r.Type != e.Type {
			i.Errorf("%+v, parked because %q, %v\n%s", e, r.Park, err, r.Payload)
		}
		all[e.Type] = e
	}
	return all
}

// TestLifeAtStripe goes through all that has an effect, told in an old version
// of the API and a new one, against the stand-in.
func TestLifeAtStripe(t *testing.T) {
	for _, version := range []string{"2022-11-15", sim.Version} {
		t.Run(version, func(t *testing.T) { lifeAtStripe(t, version) })
	}
}

func lifeAtStripe(t *testing.T, version string) {
	in := &inbox{T: t, secrets: mustSecrets(t, oldSecret+","+newSecret)}
	endpoint := httptest.NewServer(in)
	t.Cleanup(endpoint.Close)
	server, err := sim.New(sim.Options{APIVersion: version, Webhooks: []string{endpoint.URL}, Secrets: []string{newSecret}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client, ctx, begun := stripe.New(mustKey(t), server.URL()), t.Context(), time.Now()
	post := func(path string, pairs ...string) (id string) {
		form := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			form.Set(pairs[i], pairs[i+1])
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL()+path, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+testKey)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var made struct{ ID string }
		if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d, %v", path, resp.StatusCode, err)
		}
		return made.ID
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	customer, err := client.EnsureCustomer(ctx, jane, false)
	must(err)
	method := post("/v1/payment_methods/pm_card_visa/attach", "customer", customer)
	post("/v1/customers/"+customer, "invoice_settings[default_payment_method]", method)
	subscription := post("/v1/subscriptions", "customer", customer, "items[0][price]", "price_pro", "metadata[gatehouse_customer_id]", jane.ID)

	ch := billing.Charge{FixID: attempt.FixID, Attempt: 1, Customer: customer, Method: method, Cents: 2900, Currency: "usd"}
	paid, err := client.Charge(ctx, ch)
	must(err)
	lookedFor, lookedAt := ch, ch
	lookedFor.Again, lookedAt.Final = true, true
	for _, again := range []billing.Charge{ch, lookedFor, lookedAt} {
		if got, err := client.Charge(ctx, again); err != nil || got != paid || !paid.Paid {
			t.Errorf("charged again: %+v, %v; want %+v", got, err, paid)
		}
	}
	bad := post("/v1/payment_methods/pm_card_chargeDeclined/attach", "customer", customer)
	ch.Attempt, ch.Method = 2, bad
	for _, again := range []bool{false, true} {
		ch.Again = again
		if got, err := client.Charge(ctx, ch); err != nil || got.Paid || got.Why != "generic_decline" || got.Intent == "" {
			t.Errorf("a bad card: %+v, %v", got, err)
		}
	}
	ch.Attempt, ch.Final = 3, true
	if got, err := client.Charge(ctx, ch); err != nil || got != (billing.ChargeOutcome{Why: "not_charged"}) {
		t.Errorf("never made: %+v, %v", got, err)
	}
	post("/v1/refunds", "payment_intent", paid.Intent, "amount", "900")
	post("/v1/refunds", "payment_intent", paid.Intent)
	ch = billing.Charge{FixID: attempt.FixID, Attempt: 4, Customer: customer, Method: method, Cents: 2900, Currency: "usd"}
	paid2, err := client.Charge(ctx, ch)
	must(err)
	charges := server.Charges()
	dispute := post("/_sim/disputes", "charge", charges[len(charges)-1].ID)
	post("/_sim/disputes/"+dispute+"/close", "status", "won")
	post("/v1/payment_methods/" + method + "/detach")
	post("/v1/subscriptions/"+subscription, "cancel_at_period_end", "true")

	must(server.Quiet(ctx))
	told := in.read()
	now, err := client.Subscription(ctx, subscription)
	must(err)
	if s := told["customer.subscription.created"].Subscription; s == nil || s.ID != subscription || s.Party != (billing.Party{StripeID: customer, CustomerID: jane.ID}) ||
		len(s.Prices) != 1 || s.Prices[0] != (billing.Price{ID: "price_pro", LookupKey: "pro_monthly"}) || s.PeriodEnd.Before(begun) ||
		!s.PeriodEnd.Equal(now.PeriodEnd) || !s.Started.Equal(now.Started) || s.CancelsAtEnd || !now.CancelsAtEnd || now.Status != "active" {
		t.Errorf("the subscription was %+v and is %+v", s, now)
	}
	i := told["invoice.paid"].Invoice
	if i == nil || told["invoice.payment_succeeded"].Invoice == nil || i.Cents != 59900 || i.Subscription != subscription || len(i.Prices) != 1 || i.Prices[0].ID != "price_pro" {
		t.Fatalf("the invoice was %+v", i)
	}
	if (i.Intent != "") != (version != sim.Version) || i.Prices[0].Partial != (version == sim.Version) {
		t.Errorf("the invoice was %+v in %s", i, version)
	}
	if full, err := client.Invoice(ctx, i.ID); err != nil || full.Cents != 59900 || full.Subscription != subscription || full.Prices[0].ID != "price_pro" {
		t.Errorf("the invoice is %+v, %v", full, err)
	}
	if p, err := client.Price(ctx, "price_pro"); err != nil || p != (billing.Price{ID: "price_pro", LookupKey: "pro_monthly"}) {
		t.Errorf("the price is %+v, %v", p, err)
	}
	intents := server.Intents()
	if of, err := client.InvoiceOf(ctx, intents[0].ID); err != nil || of != i.ID {
		t.Errorf("%s paid %s, %v; want %s", intents[0].ID, of, err, i.ID)
	}
	if of, err := client.InvoiceOf(ctx, paid.Intent); err != nil || of != "" {
		t.Errorf("a charge paid the invoice %s, %v", of, err)
	}
	if p := told["invoice_payment.paid"].InvoicePayment; version == sim.Version && (p == nil || *p != billing.InvoicePaymentObject{Invoice: i.ID, Intent: intents[0].ID}) {
		t.Errorf("the invoice's payment was %+v", p)
	}
	c := told["charge.refunded"].Charge
	if c == nil || c.Intent != paid.Intent || c.FixID != attempt.FixID || c.Cents != 2900 || c.Refunded != 2900 && c.Refunded != 900 || c.RefundedBefore != 0 && c.RefundedBefore != 900 {
		t.Errorf("the charge was %+v", c)
	}
	if d := told["charge.dispute.closed"].Dispute; d == nil || d.ID != dispute || d.Intent != paid2.Intent || d.Status != "won" || d.Cents != 2900 {
		t.Errorf("the dispute was %+v", d)
	}
	if e := told["payment_method.detached"]; e.Method == nil || e.Method.ID != method || e.Method.Attached || e.Party.StripeID != customer {
		t.Errorf("the method was %+v of %+v", e.Method, e.Party)
	}
	if m, err := client.Method(ctx, method); err != nil || m.Attached {
		t.Errorf("the method is %+v, %v", m, err)
	}
	if _, err := client.Subscription(ctx, "sub_none"); !errors.Is(err, billing.ErrGone) {
		t.Errorf("no subscription: %v", err)
	}

	var listed, came []string
	page, more, err := client.Events(ctx, begun.Add(-time.Minute), time.Now().Add(time.Minute), "")
	must(err)
	for _, r := range page {
		if r.Park != "" {
			t.Errorf("parked because %s", r.Park)
		}
		listed = append(listed, r.ID)
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	for _, r := range in.came {
		if e := told[r.Type]; e.Subscription != nil || e.Invoice != nil || e.Method != nil || e.Charge != nil || e.Dispute != nil || e.InvoicePayment != nil {
			came = append(came, r.ID)
		}
	}
	slices.Sort(listed)
	slices.Sort(came)
	if more || !slices.Equal(listed, came) {
		t.Errorf("%q came, %q are listed", came, listed)
	}
}
