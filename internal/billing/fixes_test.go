package billing_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
)

// desk keeps the fixes of one customer, as a store does.
type desk struct {
	mu      sync.Mutex
	credits int64
	fixes   map[string]*billing.Fix // by the external id
	tried   map[string]time.Time
	orders  []billing.FixOrder
	settled []billing.FixOutcome
	kept    int // calls with something to keep
	err     error
}

func newDesk(credits int64) *desk {
	return &desk{credits: credits, fixes: make(map[string]*billing.Fix), tried: make(map[string]time.Time)}
}

func (d *desk) BeginFix(ctx context.Context, o billing.FixOrder, keep *idempotency.Once[billing.FixResult]) (billing.FixResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.orders = append(d.orders, o)
	if keep != nil {
		d.kept++
	}
	if err := errors.Join(d.err, ctx.Err()); err != nil {
		return billing.FixResult{}, err
	}
	x, known := d.fixes[o.ExternalID]
	switch {
	case known && x.State == billing.FixPending:
		turn := time.Since(d.tried[x.ID]) >= billing.ChargeTurn
		if turn {
			d.tried[x.ID] = time.Now()
		}
		return billing.FixResult{Fix: *x, Existing: true, Turn: turn}, nil
	case known && x.State == billing.FixUntold:
		x.State = billing.FixFailed
		return billing.FixResult{Fix: *x, Existing: true}, nil
	case known && x.State == billing.FixPaid:
		return billing.FixResult{Fix: *x, Existing: true}, nil
	case known:
		o.ID, o.Attempt = x.ID, x.Attempt
	}
	x = &o.Fix
	d.fixes[o.ExternalID] = x
	if d.credits > 0 {
		d.credits--
		x.State, x.PaidBy = billing.FixPaid, billing.ByCredit
		return billing.FixResult{Fix: *x}, nil
	}
	x.State, x.PaidBy, x.Cents, x.Attempt = billing.FixPending, billing.ByCharge, o.CentsByPlan[billing.PayAsYouGo], x.Attempt+1
	x.BegunAt, x.StripeCustomer, x.Method = time.Now(), "cus_1", "pm_1"
	d.tried[x.ID] = time.Now()
	return billing.FixResult{Fix: *x, Turn: true}, nil
}

func (d *desk) find(id string) *billing.Fix {
	for _, x := range d.fixes {
		if x.ID == id {
			return x
		}
	}
	return nil
}

func (d *desk) SettleFix(ctx context.Context, o billing.FixOutcome, _ *idempotency.Once[billing.FixResult]) (billing.FixResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settled = append(d.settled, o)
	if err := errors.Join(d.err, ctx.Err()); err != nil {
		return billing.FixResult{}, err
	}
	x := d.find(o.FixID)
	switch {
	case x.State == billing.FixUntold && o.Told:
		x.State = billing.FixFailed
		return billing.FixResult{Fix: *x, Existing: true}, nil
	case x.State != billing.FixPending || x.Attempt != o.Attempt:
		return billing.FixResult{Fix: *x, Existing: true}, nil
	}
	x.Intent, x.Why, x.State = o.Intent, o.Why, billing.FixUntold
	switch {
	case o.Paid:
		x.State = billing.FixPaid
	case o.Told:
		x.State = billing.FixFailed
	}
	return billing.FixResult{Fix: *x}, nil
}

func (d *desk) Fix(ctx context.Context, id string) (billing.Fix, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	x := d.find(id)
	switch err := errors.Join(d.err, ctx.Err()); {
	case err != nil:
		return billing.Fix{}, err
	case x == nil:
		return billing.Fix{}, fault.Missing("no such fix")
	}
	return *x, nil
}

func (d *desk) FixesBetween(context.Context, string, time.Time, time.Time) (int64, error) {
	panic("nobody asks")
}

// bank charges after a while, or never.
type bank struct {
	billing.Provider
	mu      sync.Mutex
	takes   time.Duration
	deaf    bool // to the end of its context
	outcome billing.ChargeOutcome
	err     error
	charges []billing.Charge
}

func (b *bank) Charge(ctx context.Context, c billing.Charge) (billing.ChargeOutcome, error) {
	b.mu.Lock()
	b.charges = append(b.charges, c)
	b.mu.Unlock()
	wait := ctx
	if b.deaf {
		wait = context.WithoutCancel(ctx)
	}
	select {
	case <-time.After(b.takes):
		return b.outcome, b.err
	case <-wait.Done():
		return billing.ChargeOutcome{}, context.Cause(wait)
	}
}

var (
	cameThrough = billing.ChargeOutcome{Intent: "pi_1", Paid: true}
	declined    = billing.ChargeOutcome{Intent: "pi_1", Why: "insufficient_funds"}
)

func service(d *desk, b *bank) *billing.Fixes {
	if b == nil {
		return billing.NewFixes(d, billing.DefaultCatalogue(), nil, time.Now)
	}
	return billing.NewFixes(d, billing.DefaultCatalogue(), b, time.Now)
}

func record(ctx context.Context, f *billing.Fixes, externalID string) (billing.FixResult, error) {
	return f.Record(ctx, "customer-1", "key-1", billing.FixRequest{ExternalID: &externalID}, new(idempotency.Once[billing.FixResult]))
}

func wantKind(t *testing.T, err error, kind fault.Kind, code string) *fault.Error {
	t.Helper()
	e, ok := errors.AsType[*fault.Error](err)
	if !ok || e.Kind != kind || e.Code != code {
		t.Fatalf("error is %v, want %s", err, code)
	}
	return e
}

// wantUnsettled wants an error that says when to ask again, and why it is one in
// what is logged alone.
func wantUnsettled(t *testing.T, err error) {
	t.Helper()
	e := wantKind(t, err, fault.Unavailable, "UNAVAILABLE")
	if e.RetryAfter != 5*time.Second || e.Err == nil || !strings.Contains(e.Message, "same external_id") {
		t.Errorf("%+v", e)
	}
}

func TestOrderOfAFix(t *testing.T) {
	for _, b := range []*bank{nil, {}} {
		d := newDesk(1)
		external, repository, request := " fix 1\t", " acme/engine", "#7 "
		got, err := service(d, b).Record(t.Context(), "customer-1", "key-1", billing.FixRequest{ExternalID: &external, Repository: &repository, PullRequest: &request}, nil)
		if err != nil || got.PaidBy != billing.ByCredit {
			t.Fatalf("%+v, %v", got, err)
		}
		want := billing.FixOrder{KeyID: "key-1", Fix: billing.Fix{CustomerID: "customer-1", ExternalID: "fix 1", Repository: "acme/engine", PullRequest: "#7", Currency: "usd"}}
		if b != nil {
			want.CentsByPlan = map[billing.Plan]int64{billing.Trial: 2900, billing.PayAsYouGo: 2900, billing.Pro: 1500}
		}
		o := d.orders[0]
		if id, err := uuid.Parse(o.ID); err != nil || id.Version() != 7 {
			t.Errorf("the id is %s, %v", o.ID, err)
		}
		if o.ID = ""; !cmp.Equal(want, o) {
			t.Errorf("(-want +got):\n%s", cmp.Diff(want, o))
		}
		if b != nil && len(b.charges) > 0 {
			t.Errorf("charged %+v", b.charges)
		}
	}
}

func TestFixesTextsAreChecked(t *testing.T) {
	long := strings.Repeat("é", 256)
	fits, spaces, nul, line, separator, tab := " "+long[:2*255]+"\n", " \t", "a\x00", "a\nb", "a\u2028b", "a\tb"
	for _, tt := range []struct {
		name string
		r    billing.FixRequest
		want []string
	}{
		{"nothing", billing.FixRequest{}, []string{"external_id required"}},
		{"spaces", billing.FixRequest{ExternalID: &spaces, Repository: &spaces, PullRequest: &spaces}, []string{"external_id required"}},
		{"255 characters", billing.FixRequest{ExternalID: &fits, Repository: &fits, PullRequest: &fits}, nil},
		{"256 characters", billing.FixRequest{ExternalID: &long, Repository: &long, PullRequest: &long}, []string{"external_id too_long", "repository too_long", "pull_request too_long"}},
		{"NUL", billing.FixRequest{ExternalID: &nul, Repository: &nul, PullRequest: &nul}, []string{"external_id malformed", "repository malformed", "pull_request malformed"}},
		{"lines", billing.FixRequest{ExternalID: &line, Repository: &separator, PullRequest: &tab}, []string{"external_id malformed", "repository malformed", "pull_request malformed"}},
	} {
		d := newDesk(1)
		_, err := service(d, nil).Record(t.Context(), "customer-1", "", tt.r, nil)
		if tt.want == nil {
			if err != nil || len(d.orders) != 1 {
				t.Errorf("%s: %v", tt.name, err)
			}
			continue
		}
		var got []string
		for _, detail := range wantKind(t, err, fault.Invalid, "VALIDATION_FAILED").Details {
			got = append(got, detail.Field+" "+detail.Reason)
		}
		if !cmp.Equal(tt.want, got) || len(d.orders) > 0 {
			t.Errorf("%s: %q, want %q; ordered are %+v", tt.name, got, tt.want, d.orders)
		}
	}
}

func TestChargeOfAFix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, b := newDesk(0), &bank{takes: time.Second, outcome: cameThrough}
		f := service(d, b)
		got, err := record(t.Context(), f, "fix-1")
		if err != nil || got.State != billing.FixPaid || got.Existing {
			t.Fatalf("%+v, %v", got, err)
		}
		want := billing.Charge{FixID: got.ID, Attempt: 1, Customer: "cus_1", Method: "pm_1", Cents: 2900, Currency: "usd"}
		if diff := cmp.Diff([]billing.Charge{want}, b.charges); diff != "" {
			t.Errorf("charged (-want +got):\n%s", diff)
		}
		told := billing.FixOutcome{FixID: got.ID, CustomerID: "customer-1", Attempt: 1, Told: true, ChargeOutcome: cameThrough}
		if diff := cmp.Diff([]billing.FixOutcome{told}, d.settled); diff != "" || d.kept != 1 {
			t.Errorf("kept %d, settled (-want +got):\n%s", d.kept, diff)
		}
		again, err := record(t.Context(), f, "fix-1")
		if err != nil || !again.Existing || again.ID != got.ID || len(b.charges) != 1 {
			t.Errorf("again: %+v, %v, charged %d", again, err, len(b.charges))
		}
	})
}

func TestRefusedChargeIsToldAndTriedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, b := newDesk(0), &bank{outcome: declined}
		f := service(d, b)
		_, err := record(t.Context(), f, "fix-1")
		if e := wantKind(t, err, fault.PaymentRequired, "PAYMENT_FAILED"); !strings.Contains(e.Message, "insufficient_funds") {
			t.Errorf("%q does not say why", e.Message)
		}
		b.outcome = cameThrough
		if got, err := record(t.Context(), f, "fix-1"); err != nil || got.Attempt != 2 || got.State != billing.FixPaid {
			t.Errorf("then: %+v, %v", got, err)
		}
		if b.charges[1].FixID != b.charges[0].FixID || b.charges[1].Attempt != 2 || b.charges[1].Again {
			t.Errorf("charged %+v", b.charges)
		}
	})
}

// Nobody knows whether a charge came through, and who asks again hears of it.
func TestChargeOfUnknownOutcome(t *testing.T) {
	for name, b := range map[string]*bank{
		"it hangs":                    {takes: time.Hour},
		"it fails":                    {err: errors.New("no connection")},
		"it comes through too late":   {takes: 11 * time.Second, outcome: cameThrough},
		"it is refused as nobody was": {err: fmt.Errorf("no method: %w", billing.ErrGone)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDesk(0)
				f := service(d, b)
				began := time.Now()
				_, err := record(t.Context(), f, "fix-1")
				wantUnsettled(t, err)
				if took := time.Since(began); took > 10*time.Second || len(d.settled) > 0 {
					t.Errorf("it took %v, settled %+v", took, d.settled)
				}
				id := d.fixes["fix-1"].ID
				_, err = record(t.Context(), f, "fix-1") // it is the other's turn still, or nobody's
				if wantUnsettled(t, err); time.Since(began) < 10*time.Second {
					t.Error("it did not wait")
				}
				<-time.After(billing.ChargeTurn)
				b.takes, b.err, b.outcome = 0, nil, cameThrough
				got, err := record(t.Context(), f, "fix-1")
				if err != nil || got.ID != id || got.Attempt != 1 || !b.charges[len(b.charges)-1].Again || len(b.charges) != 2 {
					t.Errorf("in its own turn: %+v, %v, charged %+v", got, err, b.charges)
				}
			})
		})
	}
}

// What is known is written, though who asked has no time left, or is gone.
func TestKnownOutcomeIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, b := newDesk(0), &bank{takes: 10 * time.Second, deaf: true, outcome: cameThrough}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if got, err := record(ctx, service(d, b), "fix-1"); err != nil || got.State != billing.FixPaid {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// Who asks for a fix whose charge is under way waits for it.
func TestManyWaitForOneCharge(t *testing.T) {
	for _, outcome := range []billing.ChargeOutcome{cameThrough, declined} {
		synctest.Test(t, func(t *testing.T) {
			d, b := newDesk(0), &bank{takes: 3 * time.Second, outcome: outcome}
			f := service(d, b)
			began := time.Now()
			var all sync.WaitGroup
			for range 20 {
				all.Go(func() {
					got, err := record(t.Context(), f, "fix-1")
					if outcome.Paid && (err != nil || got.State != billing.FixPaid) {
						t.Errorf("%+v, %v", got, err)
					}
					if !outcome.Paid {
						_ = wantKind(t, err, fault.PaymentRequired, "PAYMENT_FAILED")
					}
				})
			}
			all.Wait()
			if took := time.Since(began); took > 3200*time.Millisecond || len(b.charges) != 1 {
				t.Errorf("it took %v and %d charges", took, len(b.charges))
			}
		})
	}
}

// While one waits, the attempt fails and another begins the next.
func TestAnotherAttemptWhileOneWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, b := newDesk(0), &bank{takes: time.Hour}
		f := service(d, b)
		var all sync.WaitGroup
		all.Go(func() { _, _ = record(t.Context(), f, "fix-1") })
		synctest.Wait()
		all.Go(func() {
			_, err := record(t.Context(), f, "fix-1")
			wantUnsettled(t, err)
		})
		synctest.Wait()
		d.mu.Lock()
		d.fixes["fix-1"].Attempt = 2
		d.mu.Unlock()
		all.Wait()
		if d.fixes["fix-1"].State != billing.FixPending || len(b.charges) != 1 {
			t.Errorf("%+v, charged %+v", d.fixes["fix-1"], b.charges)
		}
	})
}

// A charge that was begun before the API key was taken away is not made.
func TestNobodyIsChargedWithoutAProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDesk(0)
		_, err := record(t.Context(), service(d, nil), "fix-1") // this store begins it all the same
		wantUnsettled(t, err)
		if d.orders[0].CentsByPlan != nil {
			t.Errorf("ordered %+v", d.orders[0])
		}
	})
}

func TestErrorsOfTheDeskPassThrough(t *testing.T) {
	d := newDesk(0)
	d.err = fault.Away(errors.New("no database"))
	if _, err := record(t.Context(), service(d, &bank{}), "fix-1"); !errors.Is(err, d.err) {
		t.Errorf("%v", err)
	}
}

func TestChargeJob(t *testing.T) {
	run := func(t *testing.T, d *desk, b *bank, id string) error {
		t.Helper()
		return service(d, b).ChargeJob(t.Context(), jobs.Job{Kind: jobs.FixCharge, Subject: id})
	}
	pending := func(t *testing.T) (*desk, string) {
		t.Helper()
		d := newDesk(0)
		_, err := record(t.Context(), service(d, &bank{err: errors.New("no connection")}), "fix-1")
		wantUnsettled(t, err)
		return d, d.fixes["fix-1"].ID
	}
	for _, outcome := range []billing.ChargeOutcome{cameThrough, declined} {
		synctest.Test(t, func(t *testing.T) {
			d, id := pending(t)
			<-time.After(time.Hour)
			b := &bank{outcome: outcome}
			if err := run(t, d, b, id); err != nil || len(b.charges) != 1 || !b.charges[0].Again || b.charges[0].Final || d.settled[0].Told {
				t.Errorf("%v, charged %+v, settled %+v", err, b.charges, d.settled)
			}
			if err := run(t, d, b, id); err != nil || len(b.charges) != 1 {
				t.Errorf("again: %v, charged %+v", err, b.charges)
			}
			_, err := record(t.Context(), service(d, b), "fix-1")
			if outcome.Paid {
				if err != nil {
					t.Error(err)
				}
				return
			}
			_ = wantKind(t, err, fault.PaymentRequired, "PAYMENT_FAILED") // of what the job found
			if len(b.charges) != 1 {
				t.Errorf("charged before it was told: %+v", b.charges)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		d, id := pending(t)
		<-time.After(time.Hour + 1)
		b := &bank{err: errStripe}
		if err := run(t, d, b, id); !errors.Is(err, errStripe) || !b.charges[0].Late || b.charges[0].Final {
			t.Errorf("%v, charged %+v", err, b.charges)
		}
		<-time.After(5 * time.Minute)
		b.charges = nil
		err := run(t, d, b, id)
		if _, told := errors.AsType[*fault.Error](err); !errors.Is(err, errStripe) || told || jobs.IsPermanent(err) || !b.charges[0].Final {
			t.Errorf("%v, charged %+v", err, b.charges)
		}
		if err := run(t, d, b, "no such fix"); err != nil {
			t.Errorf("of a fix that is gone: %v", err)
		}
		d.err = errStripe
		if err := run(t, d, b, id); !errors.Is(err, errStripe) {
			t.Errorf("when the database is away: %v", err)
		}
	})
}
