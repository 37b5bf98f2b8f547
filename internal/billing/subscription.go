package billing

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// FactKind is what a Fact is known from. It is stored.
type FactKind string

// The kinds, in the order in which those of one second are read.
const (
	FactCreated FactKind = "created" // the subscription was made
	FactFailed  FactKind = "failed"  // a payment for it failed
	FactPaid    FactKind = "paid"    // a payment for it succeeded
	FactUpdated FactKind = "updated" // it changed, or ended
	FactFetched FactKind = "fetched" // Stripe said so when it was asked, which outweighs what was said before
)

var factOrder = map[FactKind]int{FactCreated: 0, FactFailed: 1, FactPaid: 2, FactUpdated: 3}

// Fact is what one event tells of a subscription. A subscription is what all
// its facts say, read in the order of their times, however they came.
type Fact struct {
	SubscriptionID string
	EventID        string
	Kind           FactKind
	At             time.Time // when it was so; whole seconds when Stripe tells it
	Seen           time.Time // when Stripe was asked, for what was fetched
	Status         string    // of the subscription; "" of payments
	Was            string    // its status before; "": not said, or the same
	Pro            bool      // it has a line of Pro
	CancelsAtEnd   bool
	Started        time.Time // when the subscription was made; zero: not said
	PeriodStart    time.Time // zero: not said
	PeriodEnd      time.Time
}

// Standing is what a customer's subscriptions come to.
type Standing struct {
	Plan         Plan
	State        string // "" until there was a subscription
	CancelsAtEnd bool
	PeriodStart  time.Time // zero without Pro
	PeriodEnd    time.Time
}

// Statuses of subscriptions that are more than a word here.
const (
	statusActive   = "active"
	statusPastDue  = "past_due"
	statusUnpaid   = "unpaid"
	statusCanceled = "canceled"
	statusExpired  = "incomplete_expired"
)

// KnownStatus says whether a status is one of Stripe's.
func KnownStatus(s string) bool {
	return slices.Contains([]string{statusActive, "trialing", statusPastDue, statusUnpaid, "paused", "incomplete", statusCanceled, statusExpired}, s)
}

func hasEnded(status string) bool { return status == statusCanceled || status == statusExpired }

// CanPay says whether a customer with a payment method, and a subscription of a
// state, may be charged.
func CanPay(state string) bool { return state != statusPastDue && state != statusUnpaid }

// subscription is one subscription, folded from its facts.
type subscription struct {
	id, status     string
	pro, described bool // described: not only its payments are known
	ended          bool
	cancels        bool
	started        time.Time
	start, end     time.Time
}

// Stand folds the facts of one customer, in any order, into its standing.
// hadMethod says whether a payment method was ever attached.
func Stand(facts []Fact, hadMethod bool) Standing {
	bySubscription := make(map[string][]Fact)
	for _, f := range facts {
		bySubscription[f.SubscriptionID] = append(bySubscription[f.SubscriptionID], f)
	}
	var current, last *subscription // one that runs; or the last one that ended
	var troubled string             // the state of one that only payments are known of
	for _, id := range slices.Sorted(maps.Keys(bySubscription)) {
		s := fold(id, bySubscription[id])
		switch {
		case !s.pro:
		case !s.described:
			troubled = cmp.Or(s.status, troubled)
		case s.ended:
			last = later(last, &s)
		default:
			current = later(current, &s)
		}
	}
	switch {
	case current != nil:
		return Standing{Pro, current.status, current.cancels, current.start, current.end}
	case last != nil:
		return Standing{Plan: PayAsYouGo, State: statusCanceled}
	case hadMethod:
		return Standing{Plan: PayAsYouGo, State: troubled}
	}
	return Standing{Plan: Trial, State: troubled}
}

// later is the one of two subscriptions that was made later.
func later(a, b *subscription) *subscription {
	if a == nil || cmp.Or(a.started.Compare(b.started), cmp.Compare(a.id, b.id)) < 0 {
		return b
	}
	return a
}

// fold reads a subscription's facts in order. What was fetched last holds, and
// what happened after it; an end is never undone.
func fold(id string, facts []Fact) subscription {
	s := subscription{id: id}
	var fetched Fact
	for _, f := range facts {
		s.pro = s.pro || f.Pro
		if f.Kind == FactFetched && cmp.Or(f.Seen.Compare(fetched.Seen), cmp.Compare(f.EventID, fetched.EventID)) > 0 {
			fetched = f
		}
	}
	if fetched.EventID != "" {
		s.read(fetched)
	}
	facts = slices.DeleteFunc(slices.Clone(facts), func(f Fact) bool {
		return fetched.EventID != "" && (f.Kind == FactFetched || !f.At.After(fetched.At)) && !hasEnded(f.Status)
	})
	slices.SortFunc(facts, func(a, b Fact) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(factOrder[a.Kind], factOrder[b.Kind]), cmp.Compare(a.EventID, b.EventID))
	})
	for len(facts) > 0 {
		next := follows(s.status, facts)
		s.read(facts[next])
		facts = slices.Delete(facts, next, next+1)
	}
	return s
}

// follows finds which of the sorted facts comes next. Stripe's times are whole
// seconds, so updates of one second are strung together by the status that each
// says it changed.
func follows(status string, facts []Fact) int {
	first := facts[0]
	if first.Kind != FactUpdated {
		return 0
	}
	from := 0 // none found
	for i, f := range facts {
		switch {
		case f.Kind != FactUpdated || !f.At.Equal(first.At):
			return from
		case f.Was == "" && f.Status == status: // what left the status alone was before what changed it
			return i
		case f.Was == status && facts[from].Was != status:
			from = i
		}
	}
	return from
}

func (s *subscription) read(f Fact) {
	if s.started.IsZero() || !f.Started.IsZero() {
		s.started = f.Started
	}
	switch {
	case s.ended:
		return
	case f.Kind == FactFailed:
		s.status = statusPastDue
		return
	case f.Kind == FactPaid:
		if s.status == statusPastDue {
			s.status = statusActive
		}
		return
	}
	s.described, s.status, s.ended, s.cancels = true, f.Status, hasEnded(f.Status), f.CancelsAtEnd
	if !f.PeriodEnd.IsZero() {
		s.start, s.end = f.PeriodStart, f.PeriodEnd
	}
}
