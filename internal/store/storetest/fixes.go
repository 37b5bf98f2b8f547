package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
)

// payer is somebody with so many credits and a payment method, who pays as they
// go, and orders fixes.
func payer(t testing.TB, b Backend, credits int64) billing.FixOrder {
	t.Helper()
	_, _, by := signUp(t, b, newID(t)+"@example.dev")
	id := by.CustomerID
	done(t, b.SetStripeCustomer(t.Context(), id, "cus_"+id))
	method := attached(id, "pm_"+id, 1)
	method.Method.Credits = 0
	done(t, decide(t, b, method)())
	_, err := b.Adjust(t.Context(), id, credits-5, "so many for "+id)
	done(t, err)
	return billing.FixOrder{
		Fix: billing.Fix{CustomerID: id, Currency: "usd"}, KeyID: by.KeyID,
		CentsByPlan: map[billing.Plan]int64{billing.Trial: 2900, billing.PayAsYouGo: 2901, billing.Pro: 1500},
	}
}

// of names what an order is for; its id is what the fix gets if it is new.
func of(o billing.FixOrder, t testing.TB, externalID string) billing.FixOrder {
	t.Helper()
	o.ID, o.ExternalID = newID(t), externalID
	return o
}

func begin(t testing.TB, b Backend, o billing.FixOrder) billing.FixResult {
	t.Helper()
	r, err := b.BeginFix(t.Context(), o, nil)
	done(t, err)
	return r
}

// settle says what became of an attempt that somebody waits for.
func settle(t testing.TB, b Backend, f billing.Fix, attempt int64, o billing.ChargeOutcome) billing.FixResult {
	t.Helper()
	r, err := b.SettleFix(t.Context(), billing.FixOutcome{FixID: f.ID, CustomerID: f.CustomerID, Attempt: attempt, Told: true, ChargeOutcome: o}, nil)
	done(t, err)
	return r
}

// settleUntold says it where nobody waits.
func settleUntold(t testing.TB, b Backend, f billing.Fix, attempt int64, o billing.ChargeOutcome) billing.FixResult {
	t.Helper()
	r, err := b.SettleFix(t.Context(), billing.FixOutcome{FixID: f.ID, CustomerID: f.CustomerID, Attempt: attempt, ChargeOutcome: o}, nil)
	done(t, err)
	return r
}

// payFor begins a fix that is charged, and has it paid by an intent.
func payFor(t testing.TB, b Backend, o billing.FixOrder, intent string) error {
	t.Helper()
	r := begin(t, b, of(o, t, intent))
	if !r.Turn {
		t.Fatalf("there is nothing to charge: %+v", r)
	}
	_, err := b.SettleFix(t.Context(), billing.FixOutcome{FixID: r.ID, CustomerID: r.CustomerID, Attempt: r.Attempt, ChargeOutcome: billing.ChargeOutcome{Intent: intent, Paid: true}}, nil)
	return err
}

// wantFix compares a fix with what is stored of it, and with what a call said.
func wantFix(t testing.TB, b Backend, got billing.FixResult, want billing.FixResult) {
	t.Helper()
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +said):\n%s", diff)
	}
	stored, err := b.Fix(t.Context(), want.ID)
	if diff := gocmp.Diff(want.Fix, stored); err != nil || diff != "" {
		t.Errorf("%v (-want +stored):\n%s", err, diff)
	}
}

func wantLimit(t testing.TB, err error) {
	t.Helper()
	wantFault(t, err, fault.Forbidden, "")
	if f, _ := errors.AsType[*fault.Error](err); f.Code != "USAGE_LIMIT_EXCEEDED" {
		t.Errorf("refused with %s", f.Code)
	}
}

// chargeJobs are those that see charges through, but for their claims.
func wantChargeJob(t testing.TB, b Backend, fix string, due time.Time) {
	t.Helper()
	var want []jobs.Job
	if !due.IsZero() {
		want = append(want, jobs.Job{Kind: jobs.FixCharge, Subject: fix, CreatedAt: due.Add(-billing.ChargeTurn), DueAt: due})
	}
	wantJobs(t, "charges", listed(t, b, jobs.Filter{Kind: jobs.FixCharge}), want...)
}

// patiently asks again while the store can't be reached: so many at once are
// more than it has connections for.
func patiently(call func() error) (err error) {
	for range 100 {
		if err = call(); err == nil {
			return nil
		}
		if f, ok := errors.AsType[*fault.Error](err); !ok || f.Kind != fault.Unavailable {
			return err
		}
	}
	return err
}

// fixID keeps a fix that is paid, and nothing of another.
func fixID(r idempotency.Request) *idempotency.Once[billing.FixResult] {
	return &idempotency.Once[billing.FixResult]{Request: r, Seal: func(f billing.FixResult) (idempotency.Outcome, error) {
		if f.State == billing.FixPending {
			return idempotency.Outcome{}, nil
		}
		return outcome(r, "key-1", string(f.State)+" "+f.ID), nil
	}}
}

var fixTests = map[string]func(*testing.T, Backend){
	"CreditPays": func(t *testing.T, b Backend) {
		o := of(payer(t, b, 2), t, "fix-1")
		o.Repository, o.PullRequest = "acme/engine", "#7"
		want := billing.FixResult{Fix: o.Fix}
		want.State, want.PaidBy, want.BalanceAfter, want.CreatedAt = billing.FixPaid, billing.ByCredit, 1, b.Clock.Now()
		got, err := b.BeginFix(t.Context(), o, nil)
		done(t, err)
		wantFix(t, b, got, want)
		b.Clock.Move(time.Hour)
		again := of(o, t, "fix-1")
		again.Repository = "acme/other"
		want.Existing = true
		wantFix(t, b, begin(t, b, again), want)
		wantCredits(t, b, o.CustomerID, 1, 0)
		wantEntries(t, b, o.CustomerID, "-3 adjustment adjustment:so many for ME", "-1 fix fix:"+o.ID)
		other := of(payer(t, b, 1), t, "fix-1") // another's of that name
		if r := begin(t, b, other); r.Existing || r.ID != other.ID {
			t.Errorf("another customer's is %+v", r)
		}
		last := begin(t, b, of(o, t, "fix-2"))
		if last.Existing || last.BalanceAfter != 0 || last.PaidBy != billing.ByCredit {
			t.Errorf("with the last credit: %+v", last)
		}
		wantChargeJob(t, b, "", time.Time{})
	},
	"TrialsFixesAreCounted": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		o := billing.FixOrder{Fix: billing.Fix{CustomerID: by.CustomerID}, KeyID: by.KeyID}
		used := func(want int64) {
			t.Helper()
			if c, err := b.Customer(t.Context(), o.CustomerID); err != nil || c.TrialFixesUsed != want {
				t.Errorf("%d are used, %v, want %d", c.TrialFixesUsed, err, want)
			}
		}
		for i := range int64(5) {
			used(i)
			for range 2 {
				begin(t, b, of(o, t, fmt.Sprint(i)))
			}
		}
		used(5)
		_, err := b.BeginFix(t.Context(), of(o, t, "6"), nil)
		wantLimit(t, err)
		done(t, decide(t, b, attached(o.CustomerID, "pm_1", 1))()) // and no trial any more
		begin(t, b, of(o, t, "6"))
		used(5)
		wantCredits(t, b, o.CustomerID, 4, 0)
	},
	"NoWayToPay": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, newID(t)+"@example.dev")
		trial := payer(t, b, 0)
		_, err := b.Adjust(t.Context(), by.CustomerID, -5, "spent")
		done(t, err)
		trial.CustomerID, trial.KeyID = by.CustomerID, by.KeyID
		state := func(status string) billing.FixOrder {
			o := payer(t, b, 0)
			f := fact("sub_"+o.CustomerID, billing.FactUpdated, 1, "", status)
			done(t, decide(t, b, told(o.CustomerID, f))())
			return o
		}
		gone, atOnce, nobody, unknown := payer(t, b, 0), payer(t, b, 0), payer(t, b, 0), payer(t, b, 0)
		done(t, decide(t, b, detached("pm_"+gone.CustomerID, 2))())
		done(t, decide(t, b, detached("pm_"+atOnce.CustomerID, 1))())
		nobody.CentsByPlan = nil
		_, _, by = signUp(t, b, newID(t)+"@example.dev") // at Stripe
		unknown.CustomerID, unknown.KeyID = by.CustomerID, by.KeyID
		method := attached(by.CustomerID, "pm_"+by.CustomerID, 1)
		method.Method.Credits = 0
		done(t, decide(t, b, method)())
		_, err = b.Adjust(t.Context(), by.CustomerID, -5, "spent too")
		done(t, err)
		for name, o := range map[string]billing.FixOrder{
			"a trial": trial, "past due": state("past_due"), "unpaid": state("unpaid"), "the method is gone": gone, "it was gone within its second": atOnce, "nobody charges": nobody, "unknown to Stripe": unknown,
		} {
			_, err := b.BeginFix(t.Context(), of(o, t, "fix-1"), fixID(request(name)))
			wantLimit(t, err)
			wantOutcome(t, b, request(name), "")
			if d := export(t, b, o.CustomerID); len(d.Fixes) > 0 {
				t.Errorf("%s: recorded are %+v", name, d.Fixes)
			}
			_, err = b.Adjust(t.Context(), o.CustomerID, 1, name)
			done(t, err)
			if r := begin(t, b, of(o, t, "fix-1")); r.PaidBy != billing.ByCredit || r.State != billing.FixPaid {
				t.Errorf("%s, with a credit: %+v", name, r)
			}
		}
		for _, status := range []string{"active", "trialing", "paused", "incomplete", "canceled"} {
			if r := begin(t, b, of(state(status), t, "fix-1")); !r.Turn {
				t.Errorf("%s: %+v", status, r)
			}
		}
	},
	"ChargeIsBegunAndSeenThrough": func(t *testing.T, b Backend) {
		o := of(payer(t, b, 0), t, "fix-1")
		id := o.CustomerID
		done(t, decide(t, b, attached(id, "pm_last", 2))())
		_, err := b.Adjust(t.Context(), id, -5, "the reward")
		done(t, err)
		want := billing.FixResult{Fix: o.Fix, Turn: true}
		now := b.Clock.Now()
		want.State, want.PaidBy, want.Cents, want.CreatedAt = billing.FixPending, billing.ByCharge, 2901, now
		want.Attempt, want.BegunAt, want.StripeCustomer, want.Method = 1, now, "cus_"+id, "pm_last"
		wantFix(t, b, begin(t, b, o), want)
		wantCredits(t, b, id, 0, 0)
		wantChargeJob(t, b, o.ID, now.Add(billing.ChargeTurn))

		b.Clock.Move(time.Second)
		want.State, want.Intent, want.Turn = billing.FixPaid, "pi_1", false
		wantFix(t, b, settle(t, b, want.Fix, 1, billing.ChargeOutcome{Intent: "pi_1", Paid: true}), want)
		entries := []string{
			"-5 adjustment adjustment:so many for ME", "+5 payment_method_added payment_method:ME", "-5 adjustment adjustment:the reward",
			"+1 charge charge:pi_1", "-1 fix fix:" + o.ID,
		}
		want.Existing = true
		for _, later := range []billing.ChargeOutcome{{Intent: "pi_1", Paid: true}, {Intent: "pi_2", Paid: true}, {Intent: "pi_1", Why: "card_declined"}} {
			wantFix(t, b, settle(t, b, want.Fix, 1, later), want)
		}
		wantFix(t, b, begin(t, b, of(o, t, "fix-1")), want)
		wantEntries(t, b, id, entries...)
		wantCredits(t, b, id, 0, 0)
		wantChargeJob(t, b, "", time.Time{})
		back := refund(id, "pi_1", 0, 2901)
		back.Reversal.Cents = 2901
		done(t, decide(t, b, back)())
		wantCredits(t, b, id, 0, 1) // the fix is used
		if c, err := b.Customer(t.Context(), id); err != nil || c.TrialFixesUsed != 0 {
			t.Errorf("%d of the trial's were used, %v", c.TrialFixesUsed, err)
		}
	},
	"ProPaysItsOwnPrice": func(t *testing.T, b Backend) {
		o := payer(t, b, 0)
		done(t, decide(t, b, told(o.CustomerID, fact("sub_1", billing.FactCreated, 1, "", "active")))())
		if r := begin(t, b, of(o, t, "fix-1")); r.Cents != 1500 || !r.Turn {
			t.Errorf("charged is %+v", r)
		}
	},
	"OneAtATimeHasTheTurn": func(t *testing.T, b Backend) {
		o := payer(t, b, 0)
		first := begin(t, b, of(o, t, "fix-1"))
		for _, tt := range []struct {
			after time.Duration
			turn  bool
		}{{0, false}, {billing.ChargeTurn - time.Microsecond, false}, {time.Microsecond, true}, {0, false}, {billing.ChargeTurn - time.Microsecond, false}, {time.Microsecond, true}} {
			b.Clock.Move(tt.after)
			want := first
			want.Existing, want.Turn = true, tt.turn
			wantFix(t, b, begin(t, b, of(o, t, "fix-1")), want)
		}
		if j := claimOne(t, b, jobs.FixCharge); j.Subject != first.ID {
			t.Errorf("its job is %+v", j)
		}
	},
	"RefusedOneIsTriedAgainAsItself": func(t *testing.T, b Backend) {
		o := payer(t, b, 0)
		first := begin(t, b, of(o, t, "fix-1"))
		want := first
		want.State, want.Why, want.Intent, want.Turn = billing.FixFailed, "card_declined", "pi_1", false
		wantFix(t, b, settle(t, b, first.Fix, 1, billing.ChargeOutcome{Intent: "pi_1", Why: "card_declined"}), want)
		wantChargeJob(t, b, "", time.Time{})
		wantCredits(t, b, o.CustomerID, 0, 0)
		b.Clock.Move(time.Hour)
		done(t, decide(t, b, attached(o.CustomerID, "pm_new", 2))())
		_, err := b.Adjust(t.Context(), o.CustomerID, -5, "the reward")
		done(t, err)

		again := of(o, t, "fix-1")
		again.Repository = "acme/engine"
		want = billing.FixResult{Fix: first.Fix, Turn: true}
		want.Repository, want.Attempt, want.BegunAt, want.CreatedAt, want.Method = "acme/engine", 2, b.Clock.Now(), b.Clock.Now(), "pm_new"
		wantFix(t, b, begin(t, b, again), want)
		wantChargeJob(t, b, first.ID, b.Clock.Now().Add(billing.ChargeTurn))
		want.Turn, want.Existing = false, true
		wantFix(t, b, settle(t, b, first.Fix, 1, billing.ChargeOutcome{Intent: "pi_1", Paid: true}), want) // of a try that is over
		wantFix(t, b, settle(t, b, first.Fix, 3, billing.ChargeOutcome{Intent: "pi_1", Paid: true}), want)
		wantCredits(t, b, o.CustomerID, 0, 0)
		want.State, want.Intent, want.Existing = billing.FixPaid, "pi_2", false
		wantFix(t, b, settle(t, b, first.Fix, 2, billing.ChargeOutcome{Intent: "pi_2", Paid: true}), want)
		wantChargeJob(t, b, "", time.Time{})
	},
	"RefusalIsToldBeforeAnotherTry": func(t *testing.T, b Backend) {
		refused := billing.ChargeOutcome{Intent: "pi_1", Why: "card_declined"}
		for name, hear := range map[string]func(billing.FixOrder) billing.FixResult{
			"who asks next": func(o billing.FixOrder) billing.FixResult { return begin(t, b, of(o, t, "fix-1")) },
			"who waits":     func(o billing.FixOrder) billing.FixResult { return settle(t, b, o.Fix, 1, refused) },
		} {
			o := payer(t, b, 0)
			first := begin(t, b, of(o, t, "fix-1"))
			want := first
			want.State, want.Why, want.Intent, want.Turn = billing.FixUntold, "card_declined", "pi_1", false
			wantFix(t, b, settleUntold(t, b, first.Fix, 1, refused), want)
			wantChargeJob(t, b, "", time.Time{})
			want.Existing = true
			wantFix(t, b, settleUntold(t, b, first.Fix, 1, refused), want)
			want.State, o.ID = billing.FixFailed, first.ID
			wantFix(t, b, hear(o), want)
			again := begin(t, b, of(o, t, "fix-1"))
			if again.ID != first.ID || again.Attempt != 2 || !again.Turn || again.Existing || again.Why != "" {
				t.Errorf("%s: then it is %+v", name, again)
			}
			settleUntold(t, b, first.Fix, 2, billing.ChargeOutcome{Intent: "pi_" + name, Paid: true})
			if r := begin(t, b, of(o, t, "fix-1")); r.State != billing.FixPaid || !r.Existing {
				t.Errorf("%s: once it is paid it is %+v", name, r)
			}
		}
	},
	"RefusedOneIsPaidByACreditLater": func(t *testing.T, b Backend) {
		o := payer(t, b, 0)
		first := begin(t, b, of(o, t, "fix-1"))
		settle(t, b, first.Fix, 1, billing.ChargeOutcome{Intent: "pi_1", Why: "card_declined"})
		_, err := b.Adjust(t.Context(), o.CustomerID, 2, "sorry")
		done(t, err)
		b.Clock.Move(time.Second)
		want := billing.FixResult{Fix: of(o, t, "fix-1").Fix}
		want.ID, want.State, want.PaidBy, want.BalanceAfter, want.CreatedAt, want.Attempt = first.ID, billing.FixPaid, billing.ByCredit, 1, b.Clock.Now(), 1
		wantFix(t, b, begin(t, b, of(o, t, "fix-1")), want)
		want.Existing = true
		wantFix(t, b, settle(t, b, first.Fix, 1, billing.ChargeOutcome{Intent: "pi_1", Paid: true}), want)
		wantCredits(t, b, o.CustomerID, 1, 0)
	},
	"BoughtFixSettlesNoDebt": func(t *testing.T, b Backend) {
		o := payer(t, b, 0)
		done(t, decide(t, b, invoice(o.CustomerID, "in_1", "pi_1", 60))())
		_, err := b.Adjust(t.Context(), o.CustomerID, -60, "spent")
		done(t, err)
		done(t, decide(t, b, refund(o.CustomerID, "pi_1", 0, 59900))())
		wantCredits(t, b, o.CustomerID, 0, 60)
		done(t, payFor(t, b, o, "pi_2"))
		wantCredits(t, b, o.CustomerID, 0, 60)
		r := begin(t, b, of(o, t, "fix-2")) // and a grant may come before it is settled
		done(t, decide(t, b, invoice(o.CustomerID, "in_3", "pi_3", 63))())
		wantCredits(t, b, o.CustomerID, 3, 0)
		if r = settle(t, b, r.Fix, 1, billing.ChargeOutcome{Intent: "pi_4", Paid: true}); r.BalanceAfter != 3 {
			t.Errorf("settled as %+v", r)
		}
		wantCredits(t, b, o.CustomerID, 3, 0)
	},
	"OutcomeIsKeptOnceItIsFinal": func(t *testing.T, b Backend) {
		o := payer(t, b, 1)
		byCredit := of(o, t, "fix-1")
		_, err := b.BeginFix(t.Context(), byCredit, fixID(request("credit")))
		done(t, err)
		wantOutcome(t, b, request("credit"), "done "+byCredit.ID)
		_, err = b.BeginFix(t.Context(), of(o, t, "fix-9"), fixID(request("credit")))
		wantRunning(t, err)

		byCharge := of(o, t, "fix-2")
		_, err = b.BeginFix(t.Context(), byCharge, fixID(request("charge")))
		done(t, err)
		wantOutcome(t, b, request("charge"), "")
		_, err = b.BeginFix(t.Context(), of(o, t, "fix-2"), fixID(request("charge"))) // the client asks again
		done(t, err)
		wantOutcome(t, b, request("charge"), "")
		outcome := billing.FixOutcome{FixID: byCharge.ID, CustomerID: o.CustomerID, Attempt: 1, ChargeOutcome: billing.ChargeOutcome{Intent: "pi_1", Paid: true}}
		_, err = b.SettleFix(t.Context(), outcome, fixID(request("charge")))
		done(t, err)
		wantOutcome(t, b, request("charge"), "done "+byCharge.ID)
		_, err = b.SettleFix(t.Context(), outcome, fixID(request("charge")))
		wantRunning(t, err)
		_, err = b.BeginFix(t.Context(), of(o, t, "fix-2"), fixID(request("another")))
		done(t, err)
		wantOutcome(t, b, request("another"), "done "+byCharge.ID)

		broken := fixID(request("broken"))
		broken.Seal = func(billing.FixResult) (idempotency.Outcome, error) {
			return idempotency.Outcome{}, errors.New("no key")
		}
		unmade := of(o, t, "fix-3")
		if _, err := b.BeginFix(t.Context(), unmade, broken); err == nil {
			t.Error("begun, though its outcome can't be kept")
		}
		_, err = b.Fix(t.Context(), unmade.ID)
		wantFault(t, err, fault.NotFound, "")
		wantChargeJob(t, b, "", time.Time{})
	},
	"KeyThatHasEndedOrdersNothing": func(t *testing.T, b Backend) {
		o := payer(t, b, 1)
		operator := o
		operator.KeyID = ""
		_, err := b.Suspend(t.Context(), o.CustomerID, b.Clock.Now())
		done(t, err)
		_, err = b.BeginFix(t.Context(), of(o, t, "fix-1"), nil)
		wantFault(t, err, fault.Forbidden, "")
		_, err = b.Resume(t.Context(), o.CustomerID)
		done(t, err)
		o.KeyID = newID(t)
		_, err = b.BeginFix(t.Context(), of(o, t, "fix-1"), nil)
		wantFault(t, err, fault.Unauthenticated, "")
		wantCredits(t, b, o.CustomerID, 1, 0)
		o.CustomerID, o.KeyID = newID(t), ""
		_, err = b.BeginFix(t.Context(), of(o, t, "fix-1"), nil)
		wantFault(t, err, fault.NotFound, "")
		_, err = b.Fix(t.Context(), newID(t))
		wantFault(t, err, fault.NotFound, "")
		_, err = b.SettleFix(t.Context(), billing.FixOutcome{FixID: newID(t), Attempt: 1}, nil)
		wantFault(t, err, fault.NotFound, "")
	},
}
