package storetest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
)

var modelTests = map[string]func(*testing.T, Backend){
	// More of them: go test -run 'TestConformance/Model' -rapid.checks=10000.
	"LedgersAreAsIfOneDidAllInOrder": func(t *testing.T, b Backend) {
		rapid.Check(t, func(rt *rapid.T) {
			s := newSimulation(t, b)
			defer func() { b = s.Backend }() // which may be another, reopened
			s.run(rt, rapid.SliceOfN(deeds, 1, 12).Draw(rt, "deeds"))
		})
	},
}

// deed is something that is done to a ledger, or several such things at once.
type deed struct {
	kind        string
	at          int // the payment or fix that it is about
	n           int64
	part, whole int64 // of a payment's cents
	how         string
	together    []deed
}

// String says all of a deed in a line.
func (d deed) String() string {
	if d.kind == "together" {
		return fmt.Sprint("together", d.together)
	}
	return fmt.Sprintf("%s %d %+d %d/%d %s", d.kind, d.at, d.n, d.part, d.whole, d.how)
}

var thirds = []int64{0, 19966, 29950, 59899, 59900}

var happening = rapid.Custom(func(t *rapid.T) deed {
	d := deed{kind: rapid.SampledFrom([]string{"pay", "pay", "attach", "refund", "refund", "dispute"}).Draw(t, "kind"), at: rapid.IntRange(0, 3).Draw(t, "payment")}
	switch d.kind {
	case "refund":
		d.part, d.whole = rapid.SampledFrom(thirds).Draw(t, "from"), rapid.SampledFrom(thirds).Draw(t, "to")
	case "dispute":
		d.n, d.part = rapid.Int64Range(0, 1).Draw(t, "which"), rapid.SampledFrom(thirds[1:]).Draw(t, "cents")
		d.how = rapid.SampledFrom([]string{"", "won", "lost"}).Draw(t, "result")
	}
	return d
})

var fixing = rapid.Custom(func(t *rapid.T) deed {
	return deed{kind: "fix", at: rapid.IntRange(0, 5).Draw(t, "fix")}
})

var deeds = rapid.Custom(func(t *rapid.T) deed {
	d := deed{kind: rapid.SampledFrom([]string{"event", "event", "event", "event", "fix", "fix", "settle", "settle", "adjust", "again", "restart", "events together", "fixes together"}).Draw(t, "kind")}
	switch d.kind {
	case "event":
		return happening.Draw(t, "event")
	case "fix":
		return fixing.Draw(t, "fix")
	case "settle":
		d.at, d.n = rapid.IntRange(0, 5).Draw(t, "fix"), rapid.Int64Range(0, 1).Draw(t, "how late")
		d.how = rapid.SampledFrom([]string{"paid", "paid", "declined", "untold"}).Draw(t, "outcome")
	case "adjust":
		d.at, d.n = rapid.IntRange(0, 3).Draw(t, "reference"), rapid.Int64Range(-70, 20).Filter(func(n int64) bool { return n != 0 }).Draw(t, "amount")
	case "again":
		d.at = rapid.IntRange(0, 9).Draw(t, "event")
	case "events together":
		// What two of them take of one payment depends on which is first.
		d.together = rapid.SliceOfNDistinct(happening, 2, 6, func(d deed) string {
			if d.kind == "pay" {
				return fmt.Sprint("pay ", d.at)
			}
			return fmt.Sprint(d.at)
		}).Draw(t, "events")
		d.together = append(d.together, d.together...) // each of them by two events
		d.kind = "together"
	case "fixes together":
		d.together = rapid.SliceOfN(fixing, 2, 8).Draw(t, "fixes")
		d.kind = "together"
	}
	return d
})

// simulation does deeds to one customer, and to a model of the customer's ledger.
type simulation struct {
	*inbox
	t     *testing.T
	order billing.FixOrder
	sent  []string // events, the oldest first

	net        int64 // credits, or less than zero a debt
	references map[string]bool
	payments   map[string]*payment
	parked     map[string]bool // events
	fixes      map[int]*billing.Fix
}

func newSimulation(t *testing.T, b Backend) *simulation {
	t.Helper()
	s := &simulation{
		inbox: newInbox(b), t: t, order: payer(t, b, 5), net: 5, payments: make(map[string]*payment), parked: make(map[string]bool), fixes: make(map[int]*billing.Fix),
	}
	id := s.order.CustomerID
	s.references = map[string]bool{billing.SignUpReference(id): true, "adjustment:so many for " + id: true}
	return s
}

func (s *simulation) run(rt *rapid.T, all []deed) {
	for i, d := range all {
		switch d.kind {
		case "restart":
			s.Store = s.Reopen(s.t)
		case "together":
			s.together(rt, d.together)
		default:
			s.do(rt, d)
		}
		if d.kind == "together" || i == len(all)-1 || i%4 == 0 {
			s.compare(rt, fmt.Sprintf("after deed %d, %v,", i, d))
		}
	}
}

// do does one deed, which must have the result that the model says.
func (s *simulation) do(rt *rapid.T, d deed) {
	switch d.kind {
	case "fix":
		s.fix(rt, d)
	case "settle":
		s.settle(rt, d)
	case "adjust":
		reference := fmt.Sprint(s.order.CustomerID, "'s ", d.at)
		refused := s.references["adjustment:"+reference] || d.n < -max(s.net, 0)
		_, err := s.Adjust(s.t.Context(), s.order.CustomerID, d.n, reference)
		if f, ok := errors.AsType[*fault.Error](err); (err != nil) != refused || err != nil && (!ok || f.Kind != fault.Conflict) {
			rt.Fatalf("adjusting by %d to %d: %v", s.net, d.n, err)
		}
		if !refused {
			s.add(d.n, "adjustment:"+reference)
		}
	case "again":
		if len(s.sent) > 0 {
			if n, err := s.Replay(s.t.Context(), billing.EventFilter{ID: s.sent[d.at%len(s.sent)]}); err != nil || n != 1 {
				rt.Fatalf("replayed %d, %v", n, err)
			}
			s.applyAll(rt)
		}
	default:
		s.sent = append(s.sent, s.takeIn(s.t, s.change(d)))
		s.applyAll(rt)
	}
}

// change is what an event of a deed comes to.
func (s *simulation) change(d deed) billing.Change {
	id := s.order.CustomerID
	name := fmt.Sprint(d.at, " of ", id)
	switch d.kind {
	case "pay":
		bought := int64(60)
		if d.at == 3 {
			bought = 0
		}
		return invoice(id, "in_"+name, "pi_"+name, bought)
	case "attach":
		return attached(id, "pm_"+name, 1)
	case "refund":
		return refund(id, "pi_"+name, d.part, d.whole)
	case "dispute":
		return dispute(fmt.Sprint("dp_", d.n, " of ", name), "pi_"+name, d.part, d.how)
	}
	panic(d.kind)
}

// applyAll applies the events that are due, and to the model in the same order.
func (s *simulation) applyAll(rt *rapid.T) {
	for range 100 {
		found := claim(s.t, s.Backend, jobs.StripeEvent, 100)
		if len(found) == 0 {
			return
		}
		slices.SortFunc(found, func(a, b jobs.Job) int { return cmp.Compare(a.Subject, b.Subject) })
		for _, j := range found {
			e, err := s.Apply(s.t.Context(), s.changes[j.Subject])
			done(s.t, err)
			done(s.t, s.Done(s.t.Context(), j))
			s.model(j.Subject)
			if parked := e.State == billing.Parked; parked != s.parked[e.ID] {
				rt.Fatalf("%s is %s, %q", e.ID, e.State, e.Reason)
			}
		}
	}
	rt.Fatalf("events are queued again for ever")
}

// model does to the model what an event does.
func (s *simulation) model(evt string) {
	c := s.changes[evt]
	delete(s.parked, evt)
	switch {
	case c.Method != nil:
		s.add(5, "payment_method:"+s.order.CustomerID)
	case c.Payment != nil:
		s.payment(c.Payment.Intent).known = true
		if c.Payment.Credits > 0 {
			s.add(c.Payment.Credits, "invoice:"+c.Payment.ID)
		}
	case !s.payment(c.Reversal.Intent).known:
		s.parked[evt] = true
	case !strings.HasPrefix(c.Reversal.Intent, "pi_3"): // which bought nothing
		s.reverse(s.payment(c.Reversal.Intent), *c.Reversal)
	}
}

func (s *simulation) payment(intent string) *payment {
	if s.payments[intent] == nil {
		s.payments[intent] = &payment{disputes: make(map[string]standing)}
	}
	return s.payments[intent]
}

// add books a fact once.
func (s *simulation) add(n int64, reference string) (did bool) {
	if s.references[reference] {
		return false
	}
	s.references[reference] = true
	if n > 0 && s.net < 0 {
		s.references["debt:"+reference] = true
	}
	s.net += n
	return true
}

// fix orders a fix.
func (s *simulation) fix(rt *rapid.T, d deed) {
	known := s.fixes[d.at]
	r, err := s.BeginFix(s.t.Context(), of(s.order, s.t, fmt.Sprint("fix-", d.at)), nil)
	done(s.t, err)
	want := billing.FixPending
	switch {
	case known != nil && known.State == billing.FixUntold:
		want = billing.FixFailed
	case known != nil && known.State != billing.FixFailed:
		want = known.State
	case s.net > 0:
		want = billing.FixPaid
		s.add(-1, "fix:"+r.ID)
	}
	if r.State != want || known != nil && r.ID != known.ID {
		rt.Fatalf("the fix is %+v, want it %s", r, want)
	}
	s.fixes[d.at] = &r.Fix
}

// settle says what became of a charge, or of one before it.
func (s *simulation) settle(rt *rapid.T, d deed) {
	f := s.fixes[d.at]
	if f == nil {
		return
	}
	intent := fmt.Sprintf("pi_%d_%s", f.Attempt-d.n, f.ID)
	o := billing.FixOutcome{FixID: f.ID, CustomerID: f.CustomerID, Attempt: f.Attempt - d.n, Told: d.how != "untold", ChargeOutcome: billing.ChargeOutcome{Intent: intent, Paid: d.how == "paid", Why: "declined"}}
	r, err := s.SettleFix(s.t.Context(), o, nil)
	done(s.t, err)
	want := f.State
	switch {
	case want == billing.FixUntold && o.Told:
		want = billing.FixFailed
	case want != billing.FixPending || d.n > 0:
	case o.Paid:
		want = billing.FixPaid
		s.references["charge:"+intent], s.references["fix:"+f.ID] = true, true
	case o.Told:
		want = billing.FixFailed
	default:
		want = billing.FixUntold
	}
	if r.State != want {
		rt.Fatalf("settled as %+v, want %s", r, want)
	}
	s.fixes[d.at] = &r.Fix
}

// together does several at once, each until it is known to be done, while what is
// under way is lost where that is possible.
func (s *simulation) together(rt *rapid.T, all []deed) {
	calls := make([]func() error, len(all))
	var events []string
	for i, d := range all {
		if d.kind == "fix" {
			o := of(s.order, s.t, fmt.Sprint("fix-", d.at))
			calls[i] = func() error {
				_, err := s.BeginFix(context.Background(), o, nil)
				return err
			}
			continue
		}
		c := s.change(d)
		if c.Reversal != nil && s.waits(c.Reversal.Intent) {
			// It would matter which of the two is first once the payment is known.
			calls[i] = func() error { return nil }
			continue
		}
		c.EventID, c.State = "evt_"+newID(s.t), billing.Done
		s.changes[c.EventID] = c
		events = append(events, c.EventID)
		calls[i] = func() error {
			_, err := s.TakeIn(context.Background(), receipt(c.EventID))
			if err == nil {
				_, err = s.Apply(context.Background(), c)
			}
			return err
		}
	}
	var running sync.WaitGroup
	for _, call := range calls {
		running.Go(func() {
			if err := patiently(call); err != nil {
				s.t.Error(err)
			}
		})
	}
	if s.Crash != nil {
		s.Crash(s.t)
	}
	running.Wait()
	if s.Crash != nil { // and has no connection left that was ended
		s.Store = s.Reopen(s.t)
	}
	if all[0].kind == "fix" {
		s.modelFixes(rt, all)
		return
	}
	s.sent = append(s.sent, events...)
	// What was applied before its payment was waits for it, so in the end it is as
	// if all payments had been first.
	slices.SortStableFunc(events, func(a, b string) int {
		first := func(evt string) int { return map[bool]int{true: 0, false: 1}[s.changes[evt].Payment != nil] }
		return cmp.Compare(first(a), first(b))
	})
	for _, evt := range events {
		s.model(evt)
	}
	_, _, err := s.Revisit(s.t.Context())
	done(s.t, err)
	s.applyAll(rt)
	// Which of the grants met a debt is the order's to say, and whether a dispute
	// grew.
	of := func(reference string) (of string, theirs bool) {
		if of, debt := strings.CutPrefix(reference, "debt:"); debt {
			return of, true
		}
		if i := strings.LastIndexByte(reference, ':'); strings.HasPrefix(reference, "dispute:") && i > len("dispute:") {
			return reference[:i], true
		}
		return "", false
	}
	maps.DeleteFunc(s.references, func(reference string, _ bool) bool { _, theirs := of(reference); return theirs })
	for reference := range s.stored() {
		if of, theirs := of(reference); theirs && s.references[of] {
			s.references[reference] = true
		}
	}
}

// waits says whether an event about a payment is parked.
func (s *simulation) waits(intent string) bool {
	for evt := range s.parked {
		if s.changes[evt].Reversal.Intent == intent {
			return true
		}
	}
	return false
}

// modelFixes learns which of the fixes that were ordered together were paid by a
// credit: as many as there were credits for.
func (s *simulation) modelFixes(rt *rapid.T, all []deed) {
	left, unpaid := max(s.net, 0), 0
	stored := s.storedFixes()
	for at := range 6 {
		was, is := s.fixes[at], stored[at]
		ordered := slices.ContainsFunc(all, func(d deed) bool { return d.at == at })
		switch {
		case was == nil && is == nil && !ordered:
			continue
		case is == nil || !ordered && is.State != was.State:
			rt.Fatalf("fix %d was %+v and is %+v", at, was, is)
		case was != nil && (was.State == billing.FixPaid || was.State == billing.FixPending):
			if is.State != was.State {
				rt.Fatalf("fix %d was %+v and is %+v", at, was, is)
			}
		case is.State == billing.FixPaid && ordered:
			left--
			s.add(-1, "fix:"+is.ID)
		case is.State == billing.FixPending:
			unpaid++
		case ordered && (was == nil || was.State == billing.FixFailed):
			rt.Fatalf("fix %d was ordered, and is %+v", at, is)
		}
		s.fixes[at] = is
	}
	if left < 0 || left > 0 && unpaid > 0 {
		rt.Fatalf("%d are not paid, with %d credits left", unpaid, left)
	}
}
