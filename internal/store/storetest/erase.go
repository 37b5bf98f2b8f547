package storetest

import (
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
	"OfNobody": func(t *testing.T, b Backend) {
		_, err := b.Export(t.Context(), newID(t))
		wantFault(t, err, fault.NotFound, "")
		_, err = b.Erase(t.Context(), newID(t), b.Clock.Now())
		wantFault(t, err, fault.NotFound, "")
	},
}
