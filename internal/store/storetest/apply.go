package storetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/billing"
	"gatehouse/internal/jobs"
)

// inbox is a backend whose events come to what was said when they were taken in,
// however often their jobs run.
type inbox struct {
	Backend
	mu      sync.Mutex
	changes map[string]billing.Change
}

func newInbox(b Backend) *inbox { return &inbox{Backend: b, changes: make(map[string]billing.Change)} }

// takeIn takes in an event and what it comes to, Done unless that says otherwise.
// It makes an id where there is none.
func (in *inbox) takeIn(t testing.TB, c billing.Change) (id string) {
	t.Helper()
	if c.EventID == "" {
		c.EventID = "evt_" + newID(t)
	}
	if c.State == "" {
		c.State = billing.Done
	}
	c.By = "the test"
	takeIn(t, in.Backend, receipt(c.EventID))
	in.mu.Lock()
	defer in.mu.Unlock()
	in.changes[c.EventID] = c
	return c.EventID
}

// work applies all events whose jobs are due, until none is.
func (in *inbox) work(t testing.TB) {
	t.Helper()
	for range 100 {
		found := claim(t, in.Backend, jobs.StripeEvent, 100)
		if len(found) == 0 {
			return
		}
		for _, j := range found {
			in.mu.Lock()
			c := in.changes[j.Subject]
			in.mu.Unlock()
			_, err := in.Apply(t.Context(), c)
			done(t, err)
			done(t, in.Done(t.Context(), j))
		}
	}
	t.Fatal("events are queued again for ever")
}

// apply takes in an event and works until nothing is due, and returns it as it is
// then.
func (in *inbox) apply(t testing.TB, c billing.Change) billing.StoredEvent {
	t.Helper()
	id := in.takeIn(t, c)
	in.work(t)
	return event(t, in.Backend, id)
}

// credits read a customer's, and whether the ledger adds up to them.
func credits(t testing.TB, b Backend, customer string) (balance, debt int64) {
	t.Helper()
	c, err := b.Customer(t.Context(), customer)
	done(t, err)
	report, err := billing.Verify(b.Ledgers(t.Context(), customer))
	if err != nil || report.Customers != 1 || len(report.Findings) > 0 {
		t.Errorf("ledger: %+v, %v", report, err)
	}
	if c.CreditBalance > 0 && c.CreditDebt > 0 {
		t.Errorf("there are %d credits beside a debt of %d", c.CreditBalance, c.CreditDebt)
	}
	return c.CreditBalance, c.CreditDebt
}

func wantCredits(t testing.TB, b Backend, customer string, balance, debt int64) {
	t.Helper()
	if gotBalance, gotDebt := credits(t, b, customer); gotBalance != balance || gotDebt != debt {
		t.Errorf("balance %d, debt %d, want %d, %d", gotBalance, gotDebt, balance, debt)
	}
}

// wantEntries compares a ledger after the sign-up's grant, each entry as its
// amount, its debt if there is one, and source and reference.
func wantEntries(t testing.TB, b Backend, customer string, want ...string) {
	t.Helper()
	entries, err := b.Entries(t.Context(), customer, 0, 1000)
	done(t, err)
	slices.Reverse(entries)
	var got []string
	for _, e := range entries[1:] {
		text := fmt.Sprintf("%+d %s %s", e.Amount, e.Source, strings.ReplaceAll(e.Reference, customer, "ME"))
		if e.Debt != 0 {
			text = fmt.Sprintf("%+d debt%+d %s %s", e.Amount, e.Debt, e.Source, strings.ReplaceAll(e.Reference, customer, "ME"))
		}
		got = append(got, text)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

// second is so many seconds after the tests' clock began.
func second(s int) time.Time { return NewClock().Now().Add(time.Duration(s) * time.Second) }

// fact is what is told of a subscription with a line of Pro.
func fact(subscription string, kind billing.FactKind, at int, was, status string) billing.Fact {
	f := billing.Fact{SubscriptionID: subscription, EventID: fmt.Sprintf("evt_%s_%s_%d_%s", subscription, kind, at, status), Kind: kind, At: second(at), Was: was, Status: status, Pro: true}
	if status != "" {
		f.Started, f.PeriodStart, f.PeriodEnd = second(0), second(at), second(at+3600)
	}
	return f
}

// told is an event that tells a fact of a customer's.
func told(customer string, f billing.Fact) billing.Change {
	return billing.Change{EventID: f.EventID, Customer: billing.Party{CustomerID: customer}, Facts: []billing.Fact{f}}
}

func invoice(customer, id, intent string, credits int64) billing.Change {
	return billing.Change{Customer: billing.Party{CustomerID: customer}, Payment: &billing.Payment{ID: id, Intent: intent, Cents: 59900, Credits: credits, Source: billing.ProPayment}}
}

func attached(customer, id string, at int) billing.Change {
	return billing.Change{Customer: billing.Party{CustomerID: customer}, Method: &billing.Method{ID: id, AttachedAt: second(at), Credits: 5}}
}

// detached does not say whose it was.
func detached(id string, at int) billing.Change {
	return billing.Change{Method: &billing.Method{ID: id, DetachedAt: second(at), Credits: 5}}
}

func refund(customer, intent string, from, to int64) billing.Change {
	return billing.Change{Customer: billing.Party{CustomerID: customer}, Reversal: &billing.Reversal{Intent: intent, Charge: "ch_" + intent, Cents: 59900, From: from, To: to}}
}

// dispute does not say whose it is.
func dispute(id, intent string, cents int64, result string) billing.Change {
	return billing.Change{Reversal: &billing.Reversal{Intent: intent, Charge: "ch_" + intent, Dispute: id, DisputeCents: cents, Closed: result != "", Won: result == "won"}}
}

// methods are the payment methods that are attached.
func methods(t testing.TB, b Backend, customer string) []string {
	t.Helper()
	return export(t, b, customer).Methods
}

var applyTests = map[string]func(*testing.T, Backend){
	"CustomerIsFoundInEachWay": func(t *testing.T, b Backend) {
		in := newInbox(b)
		ada, eve := someoneWith(t, b), someoneWith(t, b)
		done(t, b.SetStripeCustomer(t.Context(), ada, "cus_ada"))
		wants := func(c billing.Change, who string) {
			t.Helper()
			e := in.apply(t, c)
			if e.CustomerID != who || e.State == billing.Parked {
				t.Errorf("%+v is %s's, %s, want %s's", c, e.CustomerID, e.State, who)
			}
		}
		stranger := billing.Party{StripeID: "cus_stranger", CustomerID: "stranger"}
		wants(billing.Change{Customer: billing.Party{StripeID: "cus_ada"}}, ada)
		wants(billing.Change{Customer: billing.Party{StripeID: "cus_ada", CustomerID: eve}}, ada) // what is stored outweighs what an object says
		wants(billing.Change{State: billing.Ignored, Customer: billing.Party{CustomerID: eve}}, eve)
		if c, err := b.Customer(t.Context(), eve); err != nil || c.StripeCustomerID != "" {
			t.Errorf("without a name at Stripe eve is %q there, %v", c.StripeCustomerID, err)
		}
		wants(billing.Change{Customer: billing.Party{StripeID: "cus_eve", CustomerID: eve}}, eve)
		wants(billing.Change{Customer: billing.Party{StripeID: "cus_other", CustomerID: eve}}, eve)
		if c, err := b.Customer(t.Context(), eve); err != nil || c.StripeCustomerID != "cus_eve" {
			t.Errorf("eve is %q at Stripe, %v", c.StripeCustomerID, err)
		}
		wants(told(ada, fact("sub_1", billing.FactCreated, 1, "", "active")), ada)
		next := told("", fact("sub_1", billing.FactUpdated, 2, "", "active"))
		wants(next, ada)
		next.EventID, next.Facts[0].EventID, next.Customer = "evt_moved", "evt_moved", billing.Party{StripeID: "cus_eve"}
		wants(next, ada) // whose it once was it stays
		wants(attached(eve, "pm_1", 1), eve)
		wants(detached("pm_1", 2), eve)
		wants(invoice(ada, "in_1", "pi_1", 60), ada)
		for _, r := range []billing.Reversal{{Payment: "in_1"}, {Intent: "pi_1"}, {Payment: "in_9", Intent: "pi_1"}} {
			wants(billing.Change{Reversal: &r}, ada)
			wants(billing.Change{Reversal: &r, Customer: billing.Party{StripeID: "cus_eve"}}, ada)
			wants(billing.Change{Reversal: &r, Customer: stranger}, ada)
		}
	},
	"UnknownCustomerParks": func(t *testing.T, b Backend) {
		in := newInbox(b)
		for _, tt := range []struct {
			who   billing.Party
			waits string
		}{
			{billing.Party{StripeID: "cus_1"}, "stripe_customer:cus_1"},
			{billing.Party{StripeID: "cus_1", CustomerID: "2"}, "stripe_customer:cus_1"},
			{billing.Party{CustomerID: "2"}, "customer:2"},
			{billing.Party{}, ""},
		} {
			for _, c := range []billing.Change{told("", fact("sub_1", billing.FactCreated, 1, "", "active")), invoice("", "in_1", "pi_1", 60), attached("", "pm_1", 1)} {
				c.EventID, c.Customer = "", tt.who
				if c.Method != nil && tt.who == (billing.Party{}) {
					continue // noted for later
				}
				e := in.apply(t, c)
				wantEvent(t, e, billing.Parked, "no such customer", tt.waits)
				if e.CustomerID != "" {
					t.Errorf("it is %s's", e.CustomerID)
				}
			}
			wantEvent(t, in.apply(t, billing.Change{State: billing.Ignored, Customer: tt.who, Reason: "no"}), billing.Ignored, "no", "")
			plain := fact("sub_1", billing.FactCreated, 1, "", "active")
			plain.Pro = false // it may be one day
			wantEvent(t, in.apply(t, billing.Change{State: billing.Ignored, Customer: tt.who, Facts: []billing.Fact{plain}}), billing.Parked, "no such customer", tt.waits)
		}
		for _, r := range []billing.Reversal{{Payment: "in_9", Intent: "pi_9"}, {Intent: "pi_9"}} {
			want := map[string]string{"in_9": "payment:in_9", "": "payment:pi_9"}[r.Payment]
			wantEvent(t, in.apply(t, billing.Change{Reversal: &r, Customer: billing.Party{StripeID: "cus_1"}}), billing.Parked, "not known", want)
		}
		wantEventJobs(t, b)
	},
	"ParkedIsWokenByWhatItWaitsFor": func(t *testing.T, b Backend) {
		id, other := someoneWith(t, b), someoneWith(t, b)
		order := payer(t, b, 0)
		for _, tt := range []struct {
			name, waits string
			wake        func() error
		}{
			{"a Stripe customer is noted", "stripe_customer:cus_1", func() error { return b.SetStripeCustomer(t.Context(), id, "cus_1") }},
			{"metadata names a Stripe customer", "stripe_customer:cus_2", decide(t, b, billing.Change{Customer: billing.Party{StripeID: "cus_2", CustomerID: other}})},
			{"a price is learned", "price:price_1", decide(t, b, billing.Change{Customer: billing.Party{CustomerID: id}, ProPrices: []string{"price_0", "price_1"}})},
			{"a price is learned of nobody's", "price:price_2", decide(t, b, billing.Change{Customer: billing.Party{StripeID: "cus_9"}, ProPrices: []string{"price_2"}})},
			{"an invoice is paid", "payment:in_1", decide(t, b, invoice(id, "in_1", "", 60))},
			{"an invoice is paid, by its intent", "payment:pi_2", decide(t, b, invoice(id, "in_2", "pi_2", 60))},
			{"what paid an invoice is told", "payment:pi_1", decide(t, b, linked("in_1", "pi_1"))},
			{"an invoice is paid whose intent was told", "payment:pi_3", func() error {
				done(t, decide(t, b, linked("in_3", "pi_3"))())
				return decide(t, b, invoice(id, "in_3", "", 60))()
			}},
			{"a fix is paid for", "payment:pi_4", func() error { return payFor(t, b, order, "pi_4") }},
			{"a subscription is Pro's", "subscription:sub_1", decide(t, b, told(id, fact("sub_1", billing.FactPaid, 1, "", "")))},
		} {
			evt := parkedFor(t, b, tt.waits)
			similar := parkedFor(t, b, tt.waits+"0")
			done(t, tt.wake())
			e := event(t, b, evt)
			why := tt.waits + " is there"
			if strings.HasPrefix(tt.waits, billing.WaitsForPrice) { // one of several may do
				why = billing.WaitsForPrice + " something is known"
				wantEvent(t, event(t, b, similar), billing.Received, "", "")
				_, err := b.Apply(t.Context(), billing.Change{EventID: similar, State: billing.Ignored})
				done(t, err)
				done(t, b.Done(t.Context(), claimSubject(t, b, similar)))
			} else {
				wantEvent(t, event(t, b, similar), billing.Parked, "", tt.waits+"0")
			}
			if wantEvent(t, e, billing.Received, "", ""); !slices.Contains(e.History, stamped(b, "queued again: "+why)) {
				t.Errorf("%s: %q", tt.name, e.History)
			}
			wantEventJobs(t, b, evt)
			_, err := b.Apply(t.Context(), billing.Change{EventID: evt, State: billing.Ignored})
			done(t, err)
			done(t, b.Done(t.Context(), claimOne(t, b, jobs.StripeEvent)))
		}
	},
	"RevisitQueuesWhatNobodyWoke": func(t *testing.T, b Backend) {
		id, order := someoneWith(t, b), payer(t, b, 0)
		done(t, b.SetStripeCustomer(t.Context(), id, "cus_1"))
		done(t, decide(t, b, billing.Change{Customer: billing.Party{CustomerID: id}, ProPrices: []string{"price_1"}})())
		done(t, decide(t, b, invoice(id, "in_1", "pi_1", 60))())
		done(t, decide(t, b, linked("in_2", "pi_2"))()) // and it is nobody's yet
		done(t, payFor(t, b, order, "pi_3"))
		done(t, decide(t, b, told(id, fact("sub_1", billing.FactPaid, 1, "", "")))())
		other := fact("sub_2", billing.FactPaid, 1, "", "")
		other.Pro = false
		done(t, decide(t, b, told(id, other))())
		var there, missing []string
		for _, waits := range []string{"subscription:sub_1", "stripe_customer:cus_1", "customer:" + id, "price:price_1", "payment:in_1", "payment:pi_1", "payment:pi_3"} {
			there = append(there, parkedFor(t, b, waits))
		}
		for _, waits := range []string{
			"", "stripe_customer:cus_9", "stripe_customer:" + id, "customer:cus_1", "customer:", "customer:" + id + "0", "price:price_9", "price:", "price:cus_1",
			"payment:in_2", "payment:pi_2", "payment:", "payment:price_1", "subscription:sub_2", "subscription:",
		} {
			missing = append(missing, parkedFor(t, b, waits))
		}
		for i, want := range []int{len(there), 0} {
			queued, parked, err := b.Revisit(t.Context())
			if err != nil || queued != want || parked != (billing.ParkedEvents{Waiting: len(missing) - 1, Stuck: 1}) {
				t.Errorf("time %d: queued %d, parked %+v, %v, want %d and %d", i, queued, parked, err, want, len(missing))
			}
		}
		slices.Sort(there)
		wantEventJobs(t, b, there...)
		for _, evt := range there {
			if e := event(t, b, evt); e.State != billing.Received || e.History[len(e.History)-1] != stamped(b, "queued again: what it waited for is there") {
				t.Errorf("%+v", e)
			}
		}
	},
	"WokenWhileItRunsItRunsAgain": func(t *testing.T, b Backend) {
		takeIn(t, b, receipt("evt_1"))
		late := claimOne(t, b, jobs.StripeEvent)
		done(t, park(t, b, "evt_1", "price:price_1"))
		done(t, decide(t, b, billing.Change{Customer: billing.Party{StripeID: "cus_9"}, ProPrices: []string{"price_1"}})())
		done(t, b.Done(t.Context(), late)) // it does not know
		wantEventJobs(t, b, "evt_1")
		if j := claimOne(t, b, jobs.StripeEvent); j.Claim <= late.Claim || j.Tries != 1 {
			t.Errorf("claimed %+v after %+v", j, late)
		}
	},
	"EffectsOfAStrangersEventComeWithTheCustomer": func(t *testing.T, b Backend) {
		in := newInbox(b)
		stripe := billing.Party{StripeID: "cus_1"}
		created, paid, method := told("", fact("sub_1", billing.FactCreated, 1, "", "active")), invoice("", "in_1", "pi_1", 60), attached("", "pm_1", 1)
		created.Customer, paid.Customer, method.Customer = stripe, stripe, stripe
		back := refund("", "pi_1", 0, 59900)
		back.Customer = stripe
		for _, c := range []billing.Change{back, method, paid, created} {
			wantEvent(t, in.apply(t, c), billing.Parked, "", map[bool]string{true: "payment:pi_1", false: "stripe_customer:cus_1"}[c.Reversal != nil])
		}
		id := someoneWith(t, b)
		wantCredits(t, b, id, 5, 0)
		done(t, b.SetStripeCustomer(t.Context(), id, "cus_1"))
		in.work(t)
		wantCredits(t, b, id, 10, 0)
		if c, err := b.Customer(t.Context(), id); err != nil || c.Plan != billing.Pro || c.State != "active" {
			t.Errorf("the customer is %+v, %v", c, err)
		}
		if queued, parked, err := b.Revisit(t.Context()); err != nil || queued > 0 || parked != (billing.ParkedEvents{}) {
			t.Errorf("%+v wait, %d had to be woken, %v", parked, queued, err)
		}
	},
	"ErasedCustomersEventsAreBlank": func(t *testing.T, b Backend) {
		in, id := newInbox(b), someoneWith(t, b)
		paid := in.apply(t, invoice(id, "in_1", "pi_1", 60)).ID
		waits := in.apply(t, refund(id, "pi_2", 0, 59900)).ID
		other := in.apply(t, invoice(someoneWith(t, b), "in_4", "pi_4", 60)).ID
		queued := in.takeIn(t, invoice(id, "in_3", "pi_3", 60))
		_, err := b.Replay(t.Context(), billing.EventFilter{ID: paid})
		done(t, err)
		_, err = b.Erase(t.Context(), id, b.Clock.Now())
		done(t, err)
		blank := func(evt string, want bool) {
			t.Helper()
			if e := event(t, b, evt); (len(e.Payload) == 0) != want {
				t.Errorf("%s, %s, is blank: %t", evt, e.State, !want)
			}
		}
		blank(paid, false) // a job reads it still
		blank(waits, true)
		blank(queued, false)
		wantEvent(t, event(t, b, waits), billing.Ignored, "erased", "")
		in.work(t)
		later := in.apply(t, attached(id, "pm_1", 1)).ID
		parked := in.apply(t, refund(id, "pi_5", 0, 59900)).ID
		for _, evt := range []string{paid, queued, later, parked} {
			blank(evt, true)
		}
		wantEvent(t, event(t, b, parked), billing.Ignored, "erased", "")
		blank(other, false)
		wantCredits(t, b, id, 125, 0) // no method is kept of the erased, nor rewarded
		if len(methods(t, b, id)) > 0 {
			t.Error("a payment method of the erased is kept")
		}
		if n, err := b.Replay(t.Context(), billing.EventFilter{}); err != nil || n != 1 {
			t.Errorf("replayed %d, %v, want the other customer's alone", n, err)
		}
	},
}

func linked(payment, intent string) billing.Change {
	return billing.Change{Payment: &billing.Payment{ID: payment, Intent: intent, Link: true}}
}

// decide takes in an event; what it returns decides it.
func decide(t testing.TB, b Backend, c billing.Change) func() error {
	c.EventID = newID(t)
	if c.State == "" {
		c.State = billing.Done
	}
	return func() error {
		takeIn(t, b, receipt(c.EventID))
		_, err := b.Apply(t.Context(), c)
		if err == nil {
			_, err = b.DropJobs(t.Context(), jobs.Filter{Kind: jobs.StripeEvent, Subject: c.EventID})
		}
		return err
	}
}

func park(t testing.TB, b Backend, evt, waits string) error {
	_, err := b.Apply(t.Context(), billing.Change{EventID: evt, State: billing.Parked, WaitsFor: waits})
	return err
}

// parkedFor is an event that waits.
func parkedFor(t testing.TB, b Backend, waits string) (evt string) {
	t.Helper()
	evt = newID(t)
	takeIn(t, b, receipt(evt))
	done(t, park(t, b, evt, waits))
	_, err := b.DropJobs(t.Context(), jobs.Filter{Kind: jobs.StripeEvent, Subject: evt})
	done(t, err)
	return evt
}
