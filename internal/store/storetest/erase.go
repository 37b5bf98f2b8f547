package storetest

import (
	"fmt"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
	"gatehouse/internal/ratelimit"
)

func export(t testing.TB, b Backend, id string) account.Data {
	t.Helper()
	d, err := b.Export(t.Context(), id)
	done(t, err)
	return d
}

var eraseTests = map[string]func(*testing.T, Backend){
	"ExportHasAllOfOneCustomer": func(t *testing.T, b Backend) {
		signUpWith(t, b, "eve@example.dev", jobs.WelcomeMail)
		o, _ := newOpening(t, b.Clock, "ada@"+loadDomain)
		o.Email, o.Jobs = "Ada@"+loadDomain, []jobs.Kind{jobs.WelcomeMail, jobs.StripeCustomer}
		done(t, b.Open(t.Context(), o, nil))
		done(t, b.SetStripeCustomer(t.Context(), o.ID, "cus_1"))
		revoked, operator := newIssue(t, b), apikey.Principal{CustomerID: o.ID}
		done(t, b.AddKey(t.Context(), operator, revoked, nil))
		b.Clock.Move(time.Minute)
		at := b.Clock.Now()
		done(t, b.RevokeKey(t.Context(), operator, revoked.ID))
		failed := claimOne(t, b, jobs.StripeCustomer)
		done(t, b.Bury(t.Context(), failed, "refused"))

		customer := o.Customer
		customer.StripeCustomerID = "cus_1"
		dead := failed
		dead.Running, dead.DeadAt, dead.Reason = false, at, "refused"
		want := account.Data{
			Customer: customer, CanonicalEmail: "ada@" + loadDomain, LoadTest: true,
			Keys:    []account.Key{{Record: o.Key.Record}, {Record: revoked.Record, RevokedAt: at}},
			Entries: []billing.Entry{o.Grant},
			Jobs:    []jobs.Job{dead, {Kind: jobs.WelcomeMail, Subject: o.ID, CreatedAt: o.CreatedAt, DueAt: o.CreatedAt}},
		}
		if diff := gocmp.Diff(want, export(t, b, o.ID), gocmp.FilterPath(func(p gocmp.Path) bool { return p.Last().String() == ".Claim" }, gocmp.Ignore())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	},
	"WhatIsTheirsIsGoneAndTheLedgerStays": func(t *testing.T, b Backend) {
		other := openKept(t, b, "eve@example.dev", request("other"))
		o, secret := newOpening(t, b.Clock, "ada@example.dev")
		o.Jobs = []jobs.Kind{jobs.WelcomeMail, jobs.StripeCustomer}
		done(t, b.Open(t.Context(), o, keep(request("open"), customerID)))
		done(t, b.SetStripeCustomer(t.Context(), o.ID, "cus_1"))
		before := export(t, b, other.ID)
		if len(claim(t, b, jobs.StripeCustomer, 10)) != 1 {
			t.Fatal("no job is under way")
		}
		at := b.Clock.Now().Add(time.Minute)
		got, err := b.Erase(t.Context(), o.ID, at)
		want := o.Customer
		want.Name, want.Email, want.Company, want.ErasedAt, want.StripeCustomerID = "", "", "", at, "cus_1"
		if diff := gocmp.Diff(account.Erased{Customer: want, Running: 1, Logged: b.KeepsErased}, got); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		left := account.Data{Customer: want, CanonicalEmail: "erased:" + o.ID, Entries: []billing.Entry{o.Grant}}
		if diff := gocmp.Diff(left, export(t, b, o.ID)); diff != "" {
			t.Errorf("left (-want +got):\n%s", diff)
		}
		for _, policy := range []ratelimit.Name{"", "api"} {
			if who, _, err := b.Enter(t.Context(), present(t, secret), policy, apiLimit); err != nil || who.KeyID != "" {
				t.Errorf("policy %q: entered as %v, %v", policy, who, err)
			}
		}
		wantOutcome(t, b, request("open"), "")
		wantOutcome(t, b, request("other"), other.ID)
		if diff := gocmp.Diff(before, export(t, b, other.ID)); diff != "" {
			t.Errorf("another customer (-want +got):\n%s", diff)
		}
		report, err := billing.Verify(b.Ledgers(t.Context(), ""))
		if err != nil || report.Customers != 2 || report.Entries != 2 || len(report.Findings) > 0 {
			t.Errorf("ledgers are %+v, %v", report, err)
		}
	},
	"ErasedOnceAndForEver": func(t *testing.T, b Backend) {
		o, _, by := signUp(t, b, "ada@example.dev")
		first, err := b.Erase(t.Context(), o.ID, b.Clock.Now())
		done(t, err)
		again, err := b.Erase(t.Context(), o.ID, b.Clock.Now().Add(time.Hour))
		if want := (account.Erased{Customer: first.Customer, Already: true, Logged: b.KeepsErased}); err != nil || again != want {
			t.Errorf("again: %+v, %v, want %+v", again, err, want)
		}
		_, err = b.Suspend(t.Context(), o.ID, b.Clock.Now())
		wantFault(t, err, fault.Conflict, "")
		_, err = b.Resume(t.Context(), o.ID)
		wantFault(t, err, fault.Conflict, "")
		wantFault(t, b.AddKey(t.Context(), by, newIssue(t, b), nil), fault.Unauthenticated, "")
		wantFault(t, b.AddKey(t.Context(), apikey.Principal{CustomerID: o.ID}, newIssue(t, b), nil), fault.Conflict, "")
		wantKeys(t, b, o.ID, 0)
		if _, n, err := b.QueueStripeCustomers(t.Context(), "", 10); err != nil || n != 0 {
			t.Errorf("%d jobs were queued for the erased, %v", n, err)
		}
		if got, err := b.Customer(t.Context(), o.ID); err != nil || got != first.Customer {
			t.Errorf("now %+v, %v, want %+v", got, err, first.Customer)
		}
	},
	"TheAddressIsFree": func(t *testing.T, b Backend) {
		for range 2 { // who is erased does not stand in the way of the next who is
			o, _, _ := signUp(t, b, "ada@example.dev")
			_, err := b.Erase(t.Context(), o.ID, b.Clock.Now())
			done(t, err)
			_, err = b.CustomerByEmail(t.Context(), "ada@example.dev")
			wantFault(t, err, fault.NotFound, "")
		}
		signUp(t, b, "ada@example.dev")
	},
	"EventsThatNameThemAndAreNobodys": func(t *testing.T, b Backend) {
		o, _ := newOpening(t, b.Clock, "ada@example.dev")
		o.Email = "Ada+ci@Example.dev"
		done(t, b.Open(t.Context(), o, nil))
		other := someoneWith(t, b)
		tell := func(payload string) string { // it is ignored before anybody is known to be meant
			r := billing.Receipt{ID: "evt_" + newID(t), Type: "customer.created", Payload: []byte(payload), Note: "over there"}
			takeIn(t, b, r)
			e, err := b.Apply(t.Context(), billing.Change{EventID: r.ID, State: billing.Ignored, Customer: billing.Party{StripeID: "cus_Ada1"}})
			if err != nil || e.State != billing.Ignored || e.CustomerID != "" {
				t.Fatalf("%s is %+v, %v", payload, e, err)
			}
			return r.ID
		}
		wants := make(map[string]bool) // events that are emptied
		for _, payload := range []string{
			`{"data": {"object": {"id": "cus_Ada1", "email": "Ada+ci@Example.dev"}}}`,
			`{"receipt_email": "aDA+CI@example.DEV"}`, `{"email": "ada@example.dev"}`, `{"ada@example.dev": 1}`,
			`{"email": "\u0061da\u0040example\u002edev"}`, `{"why": "Mail\nada@example.dev."}`, `{"why": "<ada@example.dev>"}`,
			`{"customer": "cus_Ada1"}`, `{"customer": "cus\u005FAda1"}`, `{"url": "/v1/customers/cus_Ada1/sources"}`,
			`{"metadata": {"gatehouse_customer_id": "` + o.ID + `"}}`, `{"key": "customer-` + o.ID + `-1"}`,
			`ada@example.dev`, `{"email": "ada@example.dev"`, "cus_Ada1\x00\xff", `{"customer": "cus_Ada1"} {"`,
		} {
			wants[tell(payload)] = true
		}
		for _, payload := range []string{
			`{"customer": "cus_Ada12"}`, `{"customer": "xcus_Ada1"}`, `{"customer": "cus_ada1"}`, `{"id": "` + o.ID + `0"}`,
			`{"email": "joada@example.dev"}`, `{"email": "jo.ada@example.dev"}`, `{"email": "o'ada@example.dev"}`, `{"email": "\u00fcada@example.dev"}`,
			`{"email": "ada@example.dev.uk"}`, `{"email": "ada@example.development"}`, `{"email": "ada@example.dev-ops.io"}`, `{"email": "adaxexample.dev"}`,
			`{}`, `{"name": "Ada Łovelace", "company": "Engines"}`, `joada@example.dev`, `cus_Ada12`,
		} {
			wants[tell(payload)] = false
		}
		theirs := billing.Receipt{ID: "evt_theirs", Type: "invoice.paid", Payload: []byte(`{"email": "ada@example.dev"}`)}
		takeIn(t, b, theirs)
		_, err := b.Apply(t.Context(), billing.Change{EventID: theirs.ID, State: billing.Done, Customer: billing.Party{CustomerID: other}})
		done(t, err)
		wants[theirs.ID] = false
		done(t, b.SetStripeCustomer(t.Context(), o.ID, "cus_Ada1"))
		_, err = b.Erase(t.Context(), o.ID, b.Clock.Now())
		done(t, err)
		for id, empty := range wants {
			if e := event(t, b, id); (len(e.Payload) == 0) != empty {
				t.Errorf("left is %q, of %+v", e.Payload, e.History)
			}
		}
	},
	"EventsThatWereNeverDecided": func(t *testing.T, b Backend) {
		in, id := newInbox(b), someoneWith(t, b)
		done(t, b.SetStripeCustomer(t.Context(), id, "cus_1"))
		tells := func(evt, park string) {
			takeIn(t, b, billing.Receipt{ID: evt, Type: "customer.updated", Payload: []byte(`{"customer": "cus_1"}`), Park: park})
		}
		lives := in.takeIn(t, billing.Change{EventID: "lives", State: billing.Ignored})
		for _, evt := range []string{"dead", "dropped", "waits", "queued", "parks"} {
			tells(evt, "")
		}
		tells("intake", "its livemode is another")
		done(t, park(t, b, "waits", "price:p"))
		_, err := b.DropJobs(t.Context(), jobs.Filter{Kind: jobs.StripeEvent, Subject: "waits"})
		done(t, err)
		_, err = b.DropJobs(t.Context(), jobs.Filter{Kind: jobs.StripeEvent, Subject: "dropped"})
		done(t, err)
		done(t, b.Bury(t.Context(), claimSubject(t, b, "dead"), "it broke us"))
		again := in.takeIn(t, invoice(id, "in_1", "pi_1", 60))
		_, err = b.Apply(t.Context(), in.changes[again])
		done(t, err)
		_, err = b.Replay(t.Context(), billing.EventFilter{ID: again})
		done(t, err)
		done(t, b.Bury(t.Context(), claimSubject(t, b, again), "it broke us"))

		_, err = b.Erase(t.Context(), id, b.Clock.Now())
		done(t, err)
		empty := func(want bool, ids ...string) {
			t.Helper()
			for _, id := range ids {
				if e := event(t, b, id); (len(e.Payload) == 0) != want {
					t.Errorf("%s, %s, is empty: %t", id, e.State, !want)
				}
			}
		}
		empty(true, "dead", "dropped", "waits", "intake", again)
		for _, evt := range []string{"dead", "dropped", "waits", "intake", again} {
			wantEvent(t, event(t, b, evt), billing.Ignored, "erased", "")
		}
		empty(false, lives, "queued", "parks") // jobs read them still
		wantEventJobs(t, b, lives, "parks", "queued")

		// They are emptied when they are decided, though nobody is found to be meant.
		_, err = b.Apply(t.Context(), billing.Change{EventID: "queued", State: billing.Ignored})
		done(t, err)
		done(t, park(t, b, "parks", "price:p"))
		_, err = b.Apply(t.Context(), in.changes[lives])
		done(t, err)
		empty(true, "queued", "parks")
		wantEvent(t, event(t, b, "queued"), billing.Ignored, "", "")
		wantEvent(t, event(t, b, "parks"), billing.Ignored, "erased", "")
		empty(false, lives)
	},
	"ErasedAgainDoesTheRest": func(t *testing.T, b Backend) {
		id := someoneWith(t, b)
		done(t, b.SetStripeCustomer(t.Context(), id, "cus_1"))
		tells := func(evt, park string) {
			takeIn(t, b, billing.Receipt{ID: evt, Type: "customer.updated", Payload: []byte(`{"customer": "cus_1"}`), Park: park})
		}
		tells("dies", "")
		_, err := b.Erase(t.Context(), id, b.Clock.Now())
		done(t, err)
		done(t, b.Bury(t.Context(), claimSubject(t, b, "dies"), "it broke us"))
		tells("comes", "its livemode is another")
		again, err := b.Erase(t.Context(), id, b.Clock.Now())
		if err != nil || !again.Already {
			t.Errorf("again: %+v, %v", again, err)
		}
		for _, evt := range []string{"dies", "comes"} {
			e := event(t, b, evt)
			wantEvent(t, e, billing.Ignored, "erased", "")
			if len(e.Payload) > 0 {
				t.Errorf("%s is left as %q", evt, e.Payload)
			}
		}
		wantEventJobs(t, b)
	},
	"EventsWhereThereAreMany": func(t *testing.T, b Backend) {
		o, _, _ := signUp(t, b, "ada@example.dev")
		const n = 1200
		for i := range n {
			text := `{"email": "eve@example.dev"}`
			if i%100 == 99 {
				text = `{"email": "ada@example.dev"}`
			}
			takeIn(t, b, billing.Receipt{ID: fmt.Sprint("evt_", i), Payload: []byte(text), Park: "its livemode is another"})
			if i%7 == 0 {
				b.Clock.Move(time.Second)
			}
		}
		_, err := b.Erase(t.Context(), o.ID, b.Clock.Now())
		done(t, err)
		for i := range n {
			if e := event(t, b, fmt.Sprint("evt_", i)); (len(e.Payload) == 0) != (i%100 == 99) {
				t.Errorf("event %d is left as %q", i, e.Payload)
			}
		}
	},
	"OfNobody": func(t *testing.T, b Backend) {
		_, err := b.Export(t.Context(), newID(t))
		wantFault(t, err, fault.NotFound, "")
		_, err = b.Erase(t.Context(), newID(t), b.Clock.Now())
		wantFault(t, err, fault.NotFound, "")
	},
}
