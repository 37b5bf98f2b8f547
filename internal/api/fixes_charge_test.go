package api_test

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/billing"
	"gatehouse/internal/idempotency"
)

// till charges as a test says, and remembers what was asked of it.
type till struct {
	billing.Provider
	mu      sync.Mutex
	charge  func(context.Context, billing.Charge) (billing.ChargeOutcome, error)
	charges []billing.Charge
}

func (p *till) Charge(ctx context.Context, c billing.Charge) (billing.ChargeOutcome, error) {
	p.mu.Lock()
	p.charges = append(p.charges, c)
	charge := p.charge
	p.mu.Unlock()
	return charge(ctx, c)
}

func (p *till) will(charge func(context.Context, billing.Charge) (billing.ChargeOutcome, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.charge = charge
}

// asked are the charges since it was asked for last.
func (p *till) asked() []billing.Charge {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked := p.charges
	p.charges = nil
	return asked
}

func pays(_ context.Context, c billing.Charge) (billing.ChargeOutcome, error) {
	return billing.ChargeOutcome{Intent: "pi_" + c.FixID + "_" + strconv.FormatInt(c.Attempt, 10), Paid: true}, nil
}

func declines(_ context.Context, c billing.Charge) (billing.ChargeOutcome, error) {
	return billing.ChargeOutcome{Intent: "pi_" + c.FixID + "_" + strconv.FormatInt(c.Attempt, 10), Why: "insufficient_funds"}, nil
}

func stays(context.Context, billing.Charge) (billing.ChargeOutcome, error) {
	return billing.ChargeOutcome{}, errors.New("the connection was lost")
}

func by(p *till) option { return func(_ testing.TB, s *setup) { s.provider = p } }

// apply has an event of this effect happen.
func (s *server) apply(t testing.TB, c billing.Change) {
	t.Helper()
	c.EventID, c.By, c.State = someEvent(), "a test", billing.Done
	if _, err := s.database.TakeIn(t.Context(), billing.Receipt{ID: c.EventID, Type: "test", Payload: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if e, err := s.database.Apply(t.Context(), c); err != nil || e.State != billing.Done {
		t.Fatalf("applied as %+v (%v)", e, err)
	}
}

// payer signs somebody up who has no credit and one payment method.
func (s *server) payer(t testing.TB) (id, apiKey string) {
	t.Helper()
	id, apiKey = s.signUp(t)
	s.grant(t, id, -5)
	s.apply(t, billing.Change{Customer: billing.Party{StripeID: "cus_" + id, CustomerID: id}, Method: &billing.Method{ID: "pm_" + id, AttachedAt: time.Now()}})
	return id, apiKey
}

// sources are of a customer's entries, the oldest first.
func sources(entries []entry) string {
	var all []string
	for _, e := range entries {
		all = append([]string{e.Source}, all...)
	}
	return strings.Join(all, " ")
}

const spent = "trial_signup adjustment" // the entries of a payer

func TestFixIsPaidByACharge(t *testing.T) {
	p := &till{charge: pays}
	s := newServer(t, by(p))
	id, mine := s.payer(t)
	name := someFix()
	first := s.fix(t, mine, name).want(t, http.StatusCreated)
	got := decode[fixed](t, first)
	if got.Fix.PaidBy != "charge" || got.Fix.AmountCents != 2900 || got.CreditBalance != 0 || got.Fix.ExternalID != name {
		t.Errorf("answered %s", first.body)
	}
	want := billing.Charge{FixID: got.Fix.ID, Attempt: 1, Customer: "cus_" + id, Method: "pm_" + id, Cents: 2900, Currency: "usd"}
	if asked := p.asked(); len(asked) != 1 || asked[0] != want {
		t.Errorf("charged %+v, want %+v", asked, want)
	}
	for range 3 {
		if again := s.fix(t, mine, name).want(t, http.StatusOK); string(again.body) != string(first.body) {
			t.Errorf("answered %s", again.body)
		}
	}
	entries := s.entries(t, mine)
	if sources(entries) != spent+" charge fix" || entries[1].Amount != 1 || entries[0].BalanceAfter != 0 || len(p.asked()) != 0 {
		t.Errorf("the ledger is %+v", entries)
	}
	s.grant(t, id, 1) // credits come first
	if got := decode[fixed](t, s.fix(t, mine, someFix()).want(t, http.StatusCreated)); got.Fix.PaidBy != "credit" || len(p.asked()) != 0 {
		t.Errorf("paid by %+v", got)
	}
	if shown := s.account(t, mine); shown.Usage.Fixes != 2 || shown.Customer.Plan != "pay_as_you_go" || shown.Customer.StripeID == nil || *shown.Customer.StripeID != "cus_"+id {
		t.Errorf("the account shows %+v", shown)
	}
}

// A refusal is no fix. It is told again under its Idempotency-Key, with the
// request's own id, and without one the next try is a new charge.
func TestChargeIsDeclined(t *testing.T) {
	p := &till{charge: declines}
	s := newServer(t, by(p))
	_, mine := s.payer(t)
	name := someFix()
	const message = "The payment was refused (insufficient_funds): no fix was recorded. Check the payment method, then ask again for a new charge."
	first := s.fix(t, mine, name, under(onceKey))
	if p := first.refused(t, http.StatusPaymentRequired, "PAYMENT_FAILED"); p.Error.Message != message || first.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("answered %s (%v)", first.body, first.header)
	}
	left := first.limits(t, "api").remaining
	p.will(pays)
	for i := range 3 {
		again := s.fix(t, mine, name, under(onceKey), header("X-Request-Id", "its id "+strconv.Itoa(i)))
		told := again.refused(t, http.StatusPaymentRequired, "PAYMENT_FAILED")
		if told.Error.Message != message || told.RequestID != "its id "+strconv.Itoa(i) || again.header.Get("Idempotent-Replayed") != "true" {
			t.Errorf("told again as %s (%v)", again.body, again.header)
		}
		if l := again.limits(t, "api"); l.remaining != left-1-i {
			t.Errorf("%d places are left, want %d", l.remaining, left-1-i)
		}
	}
	s.send(t, "POST", fixes, key(mine), under(onceKey), document(`{"external_id": "another"}`)).refused(t, http.StatusUnprocessableEntity, "IDEMPOTENCY_MISMATCH")
	if asked := p.asked(); len(asked) != 1 || asked[0].Attempt != 1 || sources(s.entries(t, mine)) != spent {
		t.Errorf("charged %+v, and the ledger is %s", asked, sources(s.entries(t, mine)))
	}
	p.will(declines)
	s.fix(t, mine, name).refused(t, http.StatusPaymentRequired, "PAYMENT_FAILED")
	p.will(pays)
	second := s.fix(t, mine, name, under(onceKey+"0")).fresh(t)
	s.fix(t, mine, name, under(onceKey+"0")).repeats(t, second)
	if asked := p.asked(); len(asked) != 2 || asked[0].Attempt != 2 || asked[1].Attempt != 3 || asked[1].FixID != asked[0].FixID {
		t.Errorf("charged %+v", asked)
	}
	s.fix(t, mine, name, under(onceKey)).refused(t, http.StatusPaymentRequired, "PAYMENT_FAILED") // that request was refused all the same
	if sources(s.entries(t, mine)) != spent+" charge fix" || s.account(t, mine).Usage.Fixes != 1 {
		t.Errorf("the ledger is %s", sources(s.entries(t, mine)))
	}
}

// The provider is asked for no longer than ten seconds, and then the outcome is
// unknown: nothing is kept, and the same name later tells it.
func TestOutcomeOfAChargeIsUnknown(t *testing.T) {
	now := newClock()
	p := &till{charge: func(ctx context.Context, _ billing.Charge) (billing.ChargeOutcome, error) {
		if at, ok := ctx.Deadline(); !ok || time.Until(at) > 10*time.Second {
			t.Errorf("it is waited for until %v", at)
		}
		return billing.ChargeOutcome{}, context.DeadlineExceeded // as if that had come
	}}
	s := newServer(t, by(p), at(now))
	_, mine := s.payer(t)
	name := someFix()
	a := s.fix(t, mine, name, under(onceKey))
	told := a.refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
	if a.unlimited(t); a.header.Get("Retry-After") != "5" || !strings.Contains(told.Error.Message, "same external_id") {
		t.Errorf("answered %s (%v)", a.body, a.header)
	}
	if shown := s.account(t, mine); shown.Usage.Fixes != 0 || shown.Customer.CreditBalance != 0 || sources(s.entries(t, mine)) != spent {
		t.Errorf("the account shows %+v", shown)
	}
	p.will(pays)
	now.advance(billing.ChargeTurn) // until then it is for the first request alone
	got := s.fix(t, mine, name, under(onceKey)).fresh(t)
	s.fix(t, mine, name, under(onceKey)).repeats(t, got)
	asked := p.asked()
	if len(asked) != 2 || asked[0].Again || !asked[1].Again || asked[1].Attempt != 1 || asked[1].FixID != asked[0].FixID {
		t.Errorf("charged %+v, want the same again", asked)
	}
	if sources(s.entries(t, mine)) != spent+" charge fix" {
		t.Errorf("the ledger is %s", sources(s.entries(t, mine)))
	}
}

// The same where it was declined after all.
func TestOutcomeOfAChargeIsFoundToBeARefusal(t *testing.T) {
	now := newClock()
	p := &till{charge: stays}
	s := newServer(t, by(p), at(now))
	_, mine := s.payer(t)
	name := someFix()
	s.fix(t, mine, name, under(onceKey)).refused(t, http.StatusServiceUnavailable, "UNAVAILABLE")
	p.will(declines)
	now.advance(billing.ChargeTurn)
	for range 2 { // found out, and then told again
		s.fix(t, mine, name, under(onceKey)).refused(t, http.StatusPaymentRequired, "PAYMENT_FAILED")
	}
	if asked := p.asked(); len(asked) != 2 || !asked[1].Again || asked[1].Attempt != 1 {
		t.Errorf("charged %+v", asked)
	}
}

// watchedFixes tells of each that was begun.
type watchedFixes struct {
	billing.FixStore
	begun *sync.WaitGroup
}

func (w watchedFixes) BeginFix(ctx context.Context, o billing.FixOrder, keep *idempotency.Once[billing.FixResult]) (billing.FixResult, error) {
	r, err := w.FixStore.BeginFix(ctx, o, keep)
	w.begun.Done()
	return r, err
}

// While one request's charge is under way others wait for what becomes of it;
// each keeps that under its own Idempotency-Key.
func TestChargeIsWaitedFor(t *testing.T) {
	for name, test := range map[string]struct {
		charge func(context.Context, billing.Charge) (billing.ChargeOutcome, error)
		status int
	}{"paid": {pays, http.StatusOK}, "declined": {declines, http.StatusPaymentRequired}} {
		t.Run(name, func(t *testing.T) {
			begun, settle := make(chan struct{}), make(chan struct{})
			p := &till{charge: func(ctx context.Context, c billing.Charge) (billing.ChargeOutcome, error) {
				close(begun)
				<-settle
				return test.charge(ctx, c)
			}}
			others := make([]answer, 20)
			var waiting sync.WaitGroup // for others to have begun
			waiting.Add(1 + len(others))
			watched := func(_ testing.TB, s *setup) {
				s.fixes = func(store billing.FixStore) billing.FixStore { return watchedFixes{store, &waiting} }
			}
			s := newServer(t, by(p), unlimited, watched)
			nodes := []*server{s, newServer(t, by(p), unlimited, watched, beside(s))}
			_, mine := s.payer(t)
			fix := someFix()
			send := func(i int, details ...detail) (answer, error) {
				return nodes[i%2].try(t.Context(), "POST", fixes, append(details, key(mine), document(`{"external_id": "`+fix+`"}`))...)
			}
			var first answer
			var wg sync.WaitGroup
			wg.Go(func() {
				var err error
				if first, err = send(0); err != nil {
					t.Error(err)
				}
			})
			<-begun
			for i := range others {
				wg.Go(func() {
					var err error
					if others[i], err = send(i, under("the key of number "+strconv.Itoa(i))); err != nil {
						t.Error(err)
					}
				})
			}
			waiting.Wait()
			close(settle)
			wg.Wait()
			for i, got := range others {
				replayed, err := send(i, under("the key of number "+strconv.Itoa(i)))
				if err != nil {
					t.Fatal(err)
				}
				if got.want(t, test.status); test.status == http.StatusOK && string(got.body) != string(first.want(t, http.StatusCreated).body) {
					t.Errorf("one is told %s, and another %s", first.body, got.body)
				}
				if replayed.want(t, got.status).header.Get("Idempotent-Replayed") != "true" {
					t.Errorf("number %d is answered anew: %s", i, replayed.body)
				}
			}
			if n := len(p.asked()); n != 1 {
				t.Errorf("%d charges, want one", n)
			}
		})
	}
}

// Whose last payment failed has no way to pay, and who detached it neither.
func TestNoWayToPayAnyMore(t *testing.T) {
	p := &till{charge: pays}
	s := newServer(t, by(p))
	now := time.Now()
	id, mine := s.payer(t)
	party := billing.Party{StripeID: "cus_" + id}
	s.fix(t, mine, someFix()).want(t, http.StatusCreated)
	s.apply(t, billing.Change{Customer: party, Method: &billing.Method{ID: "pm_" + id, DetachedAt: now.Add(time.Minute)}})
	a := s.fix(t, mine, someFix())
	if p := a.refused(t, http.StatusForbidden, "USAGE_LIMIT_EXCEEDED"); !strings.Contains(p.Error.Message, "add a payment method") {
		t.Errorf("answered %s", a.body)
	}
	s.apply(t, billing.Change{Customer: party, Method: &billing.Method{ID: "pm_2" + id, AttachedAt: now.Add(time.Minute)}})
	s.fix(t, mine, someFix()).want(t, http.StatusCreated)
	s.apply(t, billing.Change{Customer: party, Facts: []billing.Fact{{
		SubscriptionID: "sub_" + id, EventID: someEvent(), Kind: billing.FactCreated, At: now, Status: "past_due", Pro: true, Started: now, PeriodStart: now, PeriodEnd: now.AddDate(0, 1, 0),
	}}})
	if a := s.fix(t, mine, someFix()); a.refused(t, http.StatusForbidden, "USAGE_LIMIT_EXCEEDED").Error.Message != "There are no credits left: the subscription's last payment failed: settle it first." {
		t.Errorf("answered %s", a.body)
	}
	if n := len(p.asked()); n != 2 {
		t.Errorf("%d charges, want 2", n)
	}
	without := newServer(t, beside(s)) // a node that can charge nobody
	s.apply(t, billing.Change{Customer: party, Facts: []billing.Fact{{SubscriptionID: "sub_" + id, EventID: someEvent(), Kind: billing.FactUpdated, At: now, Status: "canceled", Pro: true, Started: now}}})
	without.fix(t, mine, someFix()).refused(t, http.StatusForbidden, "USAGE_LIMIT_EXCEEDED")
	s.fix(t, mine, someFix()).want(t, http.StatusCreated)
}

// On Pro the period is the one that is paid for, and a fix costs less.
func TestFixesOnPro(t *testing.T) {
	p := &till{charge: pays}
	s := newServer(t, by(p))
	id, mine := s.payer(t)
	old := s.fix(t, mine, someFix()).want(t, http.StatusCreated)
	// A period that began after that one, and is no month of the calendar's.
	start := decode[fixed](t, old).Fix.CreatedAt.Add(time.Microsecond)
	end := start.AddDate(0, 1, 3)
	s.apply(t, billing.Change{Customer: billing.Party{StripeID: "cus_" + id}, Facts: []billing.Fact{{
		SubscriptionID: "sub_" + id, EventID: someEvent(), Kind: billing.FactCreated, At: start, Status: "active", Pro: true, Started: start, PeriodStart: start, PeriodEnd: end,
	}}})
	if got := decode[fixed](t, s.fix(t, mine, someFix()).want(t, http.StatusCreated)); got.Fix.AmountCents != 1500 {
		t.Errorf("a fix beyond Pro's credits costs %d", got.Fix.AmountCents)
	}
	shown := s.account(t, mine)
	if u := shown.Usage; u.Fixes != 1 || !u.Start.Equal(start) || !u.End.Equal(end) {
		t.Errorf("the usage is %+v, want one fix from %v to %v", u, start, end)
	}
	if c := shown.Customer; c.Plan != "pro" || c.State == nil || *c.State != "active" {
		t.Errorf("the customer is %+v", c)
	}
	s.apply(t, billing.Change{Customer: billing.Party{StripeID: "cus_" + id}, Facts: []billing.Fact{{SubscriptionID: "sub_" + id, EventID: someEvent(), Kind: billing.FactUpdated, At: start, Status: "canceled", Pro: true, Started: start}}})
	y, m, _ := time.Now().UTC().Date()
	if shown = s.account(t, mine); shown.Usage.Start.Day() != 1 || shown.Usage.Start.After(time.Date(y, m, 1, 0, 0, 0, 0, time.UTC)) || *shown.Customer.State != "canceled" {
		t.Errorf("afterwards the account shows %+v", shown)
	}
}
