package billing_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"gatehouse/internal/billing"
)

func at(second int) time.Time { return time.Unix(1_800_000_000+int64(second), 0).UTC() }

// fact is what is told of a subscription with a line of Pro. Its event's id says
// all of it.
func fact(subscription string, kind billing.FactKind, second int, was, status string) billing.Fact {
	f := billing.Fact{
		SubscriptionID: subscription, EventID: fmt.Sprintf("%s %d %s %s-%s", subscription, second, kind, was, status), Kind: kind, At: at(second), Was: was, Status: status, Pro: true,
	}
	if status != "" {
		f.Started, f.PeriodStart, f.PeriodEnd = at(0), at(second), at(second+100)
	}
	return f
}

func created(second int, status string) billing.Fact {
	return fact("sub", billing.FactCreated, second, "", status)
}

func updated(second int, was, status string) billing.Fact {
	return fact("sub", billing.FactUpdated, second, was, status)
}

func fetched(second int, status string) billing.Fact {
	f := fact("sub", billing.FactFetched, second, "", status)
	f.Seen = f.At
	return f
}

var (
	failed = func(second int) billing.Fact { return fact("sub", billing.FactFailed, second, "", "") }
	repaid = func(second int) billing.Fact { return fact("sub", billing.FactPaid, second, "", "") }
)

// with changes a fact.
func with(f billing.Fact, change func(*billing.Fact)) billing.Fact {
	change(&f)
	return f
}

func onPro(state string, from int) billing.Standing {
	return billing.Standing{Plan: billing.Pro, State: state, PeriodStart: at(from), PeriodEnd: at(from + 100)}
}

func TestStand(t *testing.T) {
	ended := billing.Standing{Plan: billing.PayAsYouGo, State: "canceled"}
	cancels := func(f *billing.Fact) { f.CancelsAtEnd = true }
	of := func(id string, started int) func(*billing.Fact) {
		return func(f *billing.Fact) { f.SubscriptionID, f.EventID, f.Started = id, id+f.EventID, at(started) }
	}
	plain := func(f *billing.Fact) { f.Pro = false }
	tests := []struct {
		name      string
		hadMethod bool
		facts     []billing.Fact
		want      billing.Standing
	}{
		{"nothing", false, nil, billing.Standing{Plan: billing.Trial}},
		{"a payment method", true, nil, billing.Standing{Plan: billing.PayAsYouGo}},
		{"created", false, []billing.Fact{created(1, "active")}, onPro("active", 1)},
		{"created in trial, with a method", true, []billing.Fact{created(1, "trialing")}, onPro("trialing", 1)},
		{"no line of Pro", true, []billing.Fact{with(created(1, "active"), plain)}, billing.Standing{Plan: billing.PayAsYouGo}},
		{"no line of Pro, and ended", false, []billing.Fact{with(updated(1, "", "canceled"), plain)}, billing.Standing{Plan: billing.Trial}},
		{"a line of Pro later", false, []billing.Fact{with(created(1, "active"), plain), updated(2, "", "active")}, onPro("active", 2)},
		{"a line of Pro once", false, []billing.Fact{created(1, "active"), with(updated(2, "", "active"), plain)}, onPro("active", 2)},
		{"paused", false, []billing.Fact{created(1, "active"), updated(2, "active", "paused")}, onPro("paused", 2)},
		{"to be cancelled", false, []billing.Fact{created(1, "active"), with(updated(2, "", "active"), cancels)},
			billing.Standing{Plan: billing.Pro, State: "active", CancelsAtEnd: true, PeriodStart: at(2), PeriodEnd: at(102)}},
		{"to be cancelled, and not after all", false, []billing.Fact{with(updated(2, "", "active"), cancels), updated(3, "", "active")}, onPro("active", 3)},
		{"a period that is not said stays", false, []billing.Fact{created(1, "active"), with(updated(2, "active", "unpaid"), func(f *billing.Fact) { f.PeriodStart, f.PeriodEnd = time.Time{}, time.Time{} })}, onPro("unpaid", 1)},

		{"a payment failed", false, []billing.Fact{created(1, "active"), failed(2)}, onPro("past_due", 1)},
		{"and then came through", false, []billing.Fact{created(1, "active"), failed(2), repaid(3)}, onPro("active", 1)},
		{"a payment changes nothing else", false, []billing.Fact{created(1, "unpaid"), repaid(3)}, onPro("unpaid", 1)},
		{"failed before it was made", false, []billing.Fact{failed(1)}, billing.Standing{Plan: billing.Trial, State: "past_due"}},
		{"failed before it was made, with a method", true, []billing.Fact{failed(1)}, billing.Standing{Plan: billing.PayAsYouGo, State: "past_due"}},
		{"paid before it was made", false, []billing.Fact{repaid(1)}, billing.Standing{Plan: billing.Trial}},
		{"failed and paid before it was made", false, []billing.Fact{repaid(2), failed(1)}, billing.Standing{Plan: billing.Trial, State: "active"}},
		{"a failed payment that was no Pro's", false, []billing.Fact{with(failed(1), plain)}, billing.Standing{Plan: billing.Trial}},

		{"ended", true, []billing.Fact{created(1, "active"), updated(2, "active", "canceled")}, ended},
		{"ended without a method", false, []billing.Fact{created(1, "active"), updated(2, "active", "canceled")}, ended},
		{"never begun", true, []billing.Fact{created(1, "incomplete"), updated(2, "incomplete", "incomplete_expired")}, ended},
		{"ended from the start", true, []billing.Fact{created(1, "canceled")}, ended},
		{"an end is not undone by what is older", true, []billing.Fact{updated(5, "active", "canceled"), created(1, "active"), updated(3, "", "active"), repaid(4)}, ended},
		{"nor by what is newer", true, []billing.Fact{updated(5, "active", "canceled"), updated(6, "", "active"), repaid(7), failed(8)}, ended},
		{"nor by what was fetched later", true, []billing.Fact{updated(5, "active", "canceled"), fetched(6, "active")}, ended},
		{"nor by what was fetched before", true, []billing.Fact{updated(5, "active", "canceled"), fetched(4, "active")}, ended},
		{"an end that was fetched once stays", true, []billing.Fact{fetched(5, "canceled"), fetched(6, "active")}, ended},

		{"two: the later one counts", false, []billing.Fact{with(created(9, "past_due"), of("a", 1)), with(created(3, "active"), of("b", 2))}, onPro("active", 3)},
		{"two: one that runs counts, not one that ended later", false, []billing.Fact{with(created(1, "active"), of("a", 1)), with(updated(9, "active", "canceled"), of("b", 5))}, onPro("active", 1)},
		{"two that ended", false, []billing.Fact{with(updated(1, "", "canceled"), of("a", 1)), with(updated(9, "", "canceled"), of("b", 5))}, ended},
		{"two of one time", false, []billing.Fact{with(created(1, "active"), of("b", 1)), with(created(2, "trialing"), of("a", 1))}, onPro("active", 1)},
		{"only payments of two", false, []billing.Fact{with(failed(1), of("a", 0)), with(failed(1), of("b", 0)), with(repaid(2), of("b", 0))}, billing.Standing{Plan: billing.Trial, State: "active"}},

		{"fetched", false, []billing.Fact{fetched(5, "active")}, onPro("active", 5)},
		{"fetched outweighs what was before", false, []billing.Fact{updated(4, "active", "past_due"), fetched(5, "active"), failed(5)}, onPro("active", 5)},
		{"what is newer outweighs what was fetched", false, []billing.Fact{fetched(5, "active"), failed(6)}, onPro("past_due", 5)},
		{"of two answers the one asked for later holds", false, []billing.Fact{
			with(fetched(9, "past_due"), func(f *billing.Fact) { f.Seen = at(5) }), with(fetched(8, "active"), func(f *billing.Fact) { f.Seen = at(6) }),
		}, onPro("active", 8)},

		{"of two answers asked for at one time one holds", false, []billing.Fact{fetched(5, "past_due"), fetched(5, "active")}, onPro("past_due", 5)},

		{"in one second by what was before", false, []billing.Fact{created(1, "active"), updated(2, "past_due", "unpaid"), updated(2, "active", "past_due")}, onPro("unpaid", 2)},
		{"in one second there and back", false, []billing.Fact{created(1, "active"), updated(2, "past_due", "active"), updated(2, "active", "past_due")}, onPro("active", 2)},
		{"in one second with what left it alone", false, []billing.Fact{created(1, "active"), updated(2, "active", "past_due"), with(updated(2, "", "past_due"), cancels), updated(2, "past_due", "unpaid")}, onPro("unpaid", 2)},
		{"in one second from nothing known", false, []billing.Fact{updated(2, "past_due", "unpaid"), updated(2, "active", "past_due")}, onPro("unpaid", 2)},
		{"made and active in one second", false, []billing.Fact{updated(1, "incomplete", "active"), created(1, "incomplete"), repaid(1)}, onPro("active", 1)},
		{"made and ended in one second", false, []billing.Fact{updated(1, "active", "canceled"), created(1, "active")}, ended},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for range 20 { // in any order
				rand.Shuffle(len(tt.facts), func(i, j int) { tt.facts[i], tt.facts[j] = tt.facts[j], tt.facts[i] })
				before := slices.Clone(tt.facts)
				if diff := cmp.Diff(tt.want, billing.Stand(tt.facts, tt.hadMethod)); diff != "" {
					t.Fatalf("(-want +got):\n%s", diff)
				}
				if !slices.Equal(before, tt.facts) {
					t.Fatal("it changed what it was given")
				}
			}
		})
	}
}

var statuses = []string{"active", "trialing", "past_due", "unpaid", "paused", "incomplete", "canceled", "incomplete_expired"}

// anyFacts are any that a store may hold of one customer: of one event and
// subscription there is one.
var anyFacts = rapid.Custom(func(t *rapid.T) []billing.Fact {
	one := rapid.Custom(func(t *rapid.T) billing.Fact {
		f := billing.Fact{
			SubscriptionID: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "subscription"), EventID: fmt.Sprint(rapid.IntRange(0, 30).Draw(t, "event")),
			Kind: rapid.SampledFrom([]billing.FactKind{billing.FactCreated, billing.FactFailed, billing.FactPaid, billing.FactUpdated, billing.FactFetched}).Draw(t, "kind"),
			At:   at(rapid.IntRange(0, 4).Draw(t, "at")), Pro: rapid.Bool().Draw(t, "pro"), CancelsAtEnd: rapid.Bool().Draw(t, "cancels"),
			Started: at(rapid.IntRange(0, 3).Draw(t, "started")), PeriodStart: at(rapid.IntRange(0, 9).Draw(t, "start")), PeriodEnd: at(rapid.IntRange(10, 19).Draw(t, "end")),
		}
		if f.Kind == billing.FactFailed || f.Kind == billing.FactPaid {
			return f
		}
		f.Status = rapid.SampledFrom(statuses).Draw(t, "status")
		if f.Kind == billing.FactUpdated {
			f.Was = rapid.SampledFrom(append(statuses, "")).Draw(t, "was")
		}
		if f.Kind == billing.FactFetched {
			f.Seen = at(rapid.IntRange(0, 4).Draw(t, "seen"))
		}
		return f
	})
	return rapid.SliceOfNDistinct(one, 0, 10, func(f billing.Fact) [2]string { return [2]string{f.SubscriptionID, f.EventID} }).Draw(t, "facts")
})

func TestOrderOfFactsDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := anyFacts.Draw(t, "facts")
		method := rapid.Bool().Draw(t, "method")
		want := billing.Stand(facts, method)
		if diff := cmp.Diff(want, billing.Stand(rapid.Permutation(facts).Draw(t, "order"), method)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

func TestEndedOnesAreNeverRevived(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		facts := anyFacts.Draw(t, "facts")
		ended := make(map[string]bool)
		for _, f := range facts {
			ended[f.SubscriptionID] = ended[f.SubscriptionID] || f.Status == "canceled" || f.Status == "incomplete_expired"
		}
		runs := slices.ContainsFunc(facts, func(f billing.Fact) bool { return !ended[f.SubscriptionID] && f.Pro })
		if s := billing.Stand(facts, true); s.Plan == billing.Pro && !runs || s.Plan == billing.Trial {
			t.Fatalf("%+v", s)
		}
	})
}

// history is what happens to one subscription, a second or more apart, and what
// it is in the end, as one who reads it in order sees it.
type history struct {
	facts []billing.Fact
	end   billing.Standing
}

var histories = rapid.Custom(func(t *rapid.T) (h history) {
	status, cancels, ended := "", false, false
	start, second := 0, 0
	note := func(kind billing.FactKind, was string) {
		f := fact("sub", kind, second, was, status)
		f.EventID = fmt.Sprint(rapid.IntRange(0, 1_000_000).Draw(t, "event"))
		switch f.CancelsAtEnd = cancels; kind {
		case billing.FactFailed, billing.FactPaid:
			f.Status, f.Started, f.PeriodStart, f.PeriodEnd, f.CancelsAtEnd = "", time.Time{}, time.Time{}, time.Time{}, false
		case billing.FactFetched:
			f.Seen = f.At
			fallthrough
		default:
			f.PeriodStart, f.PeriodEnd = at(start), at(start+100)
		}
		h.facts = append(h.facts, f)
	}
	status = rapid.SampledFrom(statuses[:6]).Draw(t, "first status")
	note(billing.FactCreated, "")
	for range rapid.IntRange(0, 8).Draw(t, "length") {
		second += rapid.IntRange(1, 3).Draw(t, "later")
		was := status
		switch rapid.IntRange(0, 6).Draw(t, "what") {
		case 0:
			status = rapid.SampledFrom(statuses).Draw(t, "status")
			start = second
			note(billing.FactUpdated, was)
		case 1:
			cancels = !cancels
			note(billing.FactUpdated, "")
		case 2:
			note(billing.FactFailed, "")
			status = "past_due"
		case 3:
			note(billing.FactPaid, "")
			if status == "past_due" {
				status = "active"
			}
		default:
			note(billing.FactFetched, "")
		}
		if ended = status == "canceled" || status == "incomplete_expired"; ended {
			break
		}
	}
	h.end = billing.Standing{Plan: billing.Pro, State: status, CancelsAtEnd: cancels, PeriodStart: at(start), PeriodEnd: at(start + 100)}
	if ended {
		h.end = billing.Standing{Plan: billing.PayAsYouGo, State: "canceled"}
	}
	return h
})

func TestHistoryReadInAnyOrderIsAsInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := histories.Draw(t, "history")
		if diff := cmp.Diff(h.end, billing.Stand(rapid.Permutation(h.facts).Draw(t, "order"), rapid.Bool().Draw(t, "method"))); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}

// What changed a status within one second, no status twice, is strung together
// whatever the events are called.
func TestChangesOfOneSecondAreStrungTogether(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := rapid.Permutation(statuses[:6]).Draw(t, "path")
		path = path[:rapid.IntRange(2, 6).Draw(t, "length")]
		names := rapid.Permutation([]string{"a", "b", "c", "d", "e", "f"}).Draw(t, "names")
		facts := []billing.Fact{created(1, path[0])}
		for i, status := range path[1:] {
			f := updated(5, path[i], status)
			f.EventID, f.PeriodStart, f.PeriodEnd = names[i], at(i), at(100+i)
			facts = append(facts, f)
		}
		last := facts[len(facts)-1]
		want := billing.Standing{Plan: billing.Pro, State: last.Status, PeriodStart: last.PeriodStart, PeriodEnd: last.PeriodEnd}
		if diff := cmp.Diff(want, billing.Stand(rapid.Permutation(facts).Draw(t, "order"), false)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	})
}
