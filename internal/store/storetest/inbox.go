package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
)

func receipt(id string) billing.Receipt {
	return billing.Receipt{ID: id, Type: "invoice.paid", Payload: []byte(`{"id": "` + id + `"}`), Note: "over there"}
}

// takeIn takes in an event that is new.
func takeIn(t testing.TB, b Backend, r billing.Receipt) {
	t.Helper()
	if isNew, err := b.TakeIn(t.Context(), r); err != nil || !isNew {
		t.Fatalf("%s is new: %t, %v", r.ID, isNew, err)
	}
}

func event(t testing.TB, b Backend, id string) billing.StoredEvent {
	t.Helper()
	e, err := b.Event(t.Context(), id)
	done(t, err)
	return e
}

// wantEvent fails unless an event is in that state for a reason that holds these
// words, and waits for just that.
func wantEvent(t testing.TB, e billing.StoredEvent, state billing.EventState, reason, waitsFor string) {
	t.Helper()
	if e.State != state || !strings.Contains(e.Reason, reason) || e.WaitsFor != waitsFor {
		t.Errorf("%s is %s, %q, waits for %q; want %s, %q, %q", e.ID, e.State, e.Reason, e.WaitsFor, state, reason, waitsFor)
	}
}

// stamped is a line of a history that was written now.
func stamped(b Backend, line string) string {
	return b.Clock.Now().Format("2006-01-02T15:04:05.000000Z") + " " + line
}

// eventJobs are the subjects of all jobs that apply events, dead or not.
func eventJobs(t testing.TB, b Backend) []string {
	t.Helper()
	return subjects(listed(t, b, jobs.Filter{Kind: jobs.StripeEvent}))
}

func wantEventJobs(t testing.TB, b Backend, want ...string) {
	t.Helper()
	if got := eventJobs(t, b); !slices.Equal(got, want) {
		t.Errorf("queued are %q, want %q", got, want)
	}
}

// listEvents pages through what a filter means.
func listEvents(t testing.TB, b Backend, f billing.EventFilter, limit int) (ids []string) {
	t.Helper()
	for before := ""; ; {
		page, err := b.Events(t.Context(), f, before, limit)
		if err != nil || len(page) > limit {
			t.Fatalf("a page of %d: %v", len(page), err)
		}
		if len(page) == 0 {
			return ids
		}
		for _, e := range page {
			if e.Payload != nil {
				t.Errorf("%s is listed with its payload", e.ID)
			}
			ids = append(ids, e.ID)
		}
		before = page[len(page)-1].ID
	}
}

var inboxTests = map[string]func(*testing.T, Backend){
	"TakenInAsItCame": func(t *testing.T, b Backend) {
		b.Clock.Move(1234 * time.Microsecond)
		now := b.Clock.Now()
		for _, payload := range [][]byte{{}, []byte("\xff\x00\xc3\x28\x80"), bytes.Repeat([]byte("\x00\xfe1'\\"), 1<<20/5)} {
			r := billing.Receipt{ID: fmt.Sprintf("evt_%d", len(payload)), Type: "ping", Payload: payload, Note: "one line\nand\nmore 'quoted' \\n"}
			takeIn(t, b, r)
			want := billing.StoredEvent{Receipt: r, State: billing.Received, ReceivedAt: now, History: []string{stamped(b, "received: one line and more 'quoted' \\n")}}
			want.Note = "" // it is in the history
			got := event(t, b, r.ID)
			if !bytes.Equal(got.Payload, payload) {
				t.Errorf("%d octets came back as %d others", len(payload), len(got.Payload))
			}
			got.Payload, want.Payload, got.Claim = nil, nil, 0
			if diff := gocmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			wantJobs(t, "jobs", listed(t, b, jobs.Filter{Subject: r.ID}), jobs.Job{Kind: jobs.StripeEvent, Subject: r.ID, CreatedAt: now, DueAt: now})
		}
		b.Store = b.Reopen(t)
		if got := event(t, b, "evt_5"); string(got.Payload) != "\xff\x00\xc3\x28\x80" {
			t.Errorf("after a restart it is %q", got.Payload)
		}
	},
	"ParkedOnArrivalHasNoJob": func(t *testing.T, b Backend) {
		r := receipt("evt_1")
		r.Park, r.Type = "it can't be\nread", ""
		takeIn(t, b, r)
		wantEventJobs(t, b)
		e := event(t, b, r.ID)
		wantEvent(t, e, billing.Parked, r.Park, "")
		if want := []string{stamped(b, "received: over there"), stamped(b, "parked: it can't be read")}; !slices.Equal(e.History, want) {
			t.Errorf("history %q, want %q", e.History, want)
		}
		if isNew, err := b.TakeIn(t.Context(), receipt("evt_1")); isNew || err != nil {
			t.Errorf("a readable one of its id is new: %t, %v", isNew, err)
		}
		wantEventJobs(t, b)
	},
	"SecondOfAnIDIsADuplicate": func(t *testing.T, b Backend) {
		takeIn(t, b, receipt("evt_1"))
		first := event(t, b, "evt_1")
		b.Clock.Move(time.Hour)
		other := billing.Receipt{ID: "evt_1", Type: "charge.refunded", Payload: []byte("other"), Note: "again"}
		for range 2 {
			if isNew, err := b.TakeIn(t.Context(), other); isNew || err != nil {
				t.Errorf("again it is new: %t, %v", isNew, err)
			}
		}
		if diff := gocmp.Diff(first, event(t, b, "evt_1")); diff != "" {
			t.Errorf("it was changed (-was +is):\n%s", diff)
		}
		wantEventJobs(t, b, "evt_1")
		j := claimOne(t, b, jobs.StripeEvent)
		done(t, b.Done(t.Context(), j))
		if isNew, err := b.TakeIn(t.Context(), other); isNew || err != nil {
			t.Errorf("once its job is done it is new: %t, %v", isNew, err)
		}
		wantEventJobs(t, b)
	},
	"OfFiftyAtOnceOneIsNew": func(t *testing.T, b Backend) {
		var news [4]atomic.Int64
		atOnce(t, 200, fault.Internal, func(i int) error {
			isNew, err := b.TakeIn(t.Context(), receipt(fmt.Sprintf("evt_%d", i%4)))
			if isNew {
				news[i%4].Add(1)
			}
			return err
		})
		for i := range news {
			if n := news[i].Load(); n != 1 {
				t.Errorf("%d calls were told that evt_%d is new", n, i)
			}
		}
		wantEventJobs(t, b, "evt_0", "evt_1", "evt_2", "evt_3")
	},
	"UnknownEventIsNotFound": func(t *testing.T, b Backend) {
		_, err := b.Event(t.Context(), "evt_none")
		wantFault(t, err, fault.NotFound, "")
		_, err = b.Apply(t.Context(), billing.Change{EventID: "evt_none", State: billing.Done, ProPrices: []string{"price_1"}})
		wantFault(t, err, fault.NotFound, "")
		if known, _, err := b.ProPrices(t.Context(), []string{"price_1"}, ""); err != nil || len(known) > 0 {
			t.Errorf("an event that is not there made known %q, %v", known, err)
		}
	},
	"ItsJobSaysWhyItFails": func(t *testing.T, b Backend) {
		takeIn(t, b, receipt("evt_1"))
		done(t, b.Postpone(t.Context(), claimOne(t, b, jobs.StripeEvent), time.Minute, "Stripe is away", false))
		if e := event(t, b, "evt_1"); e.Reason != "Stripe is away" || e.Tries != 1 || e.Dead || e.State != billing.Received {
			t.Errorf("after a try: %+v", e)
		}
		b.Clock.Move(time.Minute)
		done(t, b.Bury(t.Context(), claimOne(t, b, jobs.StripeEvent), "it broke us"))
		if e := event(t, b, "evt_1"); e.Reason != "it broke us" || e.Tries != 2 || !e.Dead || e.State != billing.Received {
			t.Errorf("once it was given up: %+v", e)
		}
		for f, want := range map[billing.EventFilter]int{{}: 1, {Dead: true}: 1, {State: billing.Received}: 1, {Dead: true, State: billing.Done}: 0, {Dead: true, Type: "ping"}: 0} {
			if got := listEvents(t, b, f, 10); len(got) != want {
				t.Errorf("%+v lists %q, want %d", f, got, want)
			}
		}
	},
	"DecidedOnceAndNotAgain": func(t *testing.T, b Backend) {
		takeIn(t, b, receipt("evt_1"))
		b.Clock.Move(time.Second)
		first, err := b.Apply(t.Context(), billing.Change{EventID: "evt_1", By: "job 1", State: billing.Ignored, Reason: "it changes\nnothing"})
		done(t, err)
		wantEvent(t, first, billing.Ignored, "it changes\nnothing", "")
		if want := stamped(b, "ignored by job 1: it changes nothing"); first.DecidedAt != b.Clock.Now() || len(first.History) != 2 || first.History[1] != want {
			t.Errorf("decided at %v, history %q, want %q", first.DecidedAt, first.History, want)
		}
		b.Clock.Move(time.Second)
		again, err := b.Apply(t.Context(), billing.Change{EventID: "evt_1", By: "job 2", State: billing.Done, ProPrices: []string{"price_1"}})
		done(t, err)
		if diff := gocmp.Diff(first, again); diff != "" {
			t.Errorf("decided again (-first +then):\n%s", diff)
		}
		if known, _, err := b.ProPrices(t.Context(), []string{"price_1"}, ""); err != nil || len(known) > 0 {
			t.Errorf("the second decision made known %q, %v", known, err)
		}
	},
	"OnlyTheLastClaimDecides": func(t *testing.T, b Backend) {
		takeIn(t, b, receipt("evt_1"))
		late := claimOne(t, b, jobs.StripeEvent)
		if n, err := b.Replay(t.Context(), billing.EventFilter{ID: "evt_1"}); err != nil || n != 1 {
			t.Fatalf("replayed %d, %v", n, err)
		}
		last := claimOne(t, b, jobs.StripeEvent)
		for _, tt := range []struct {
			claim int64
			want  billing.EventState
		}{{late.Claim, billing.Received}, {last.Claim + 1, billing.Received}, {last.Claim, billing.Ignored}} {
			e, err := b.Apply(t.Context(), billing.Change{EventID: "evt_1", Claim: tt.claim, State: billing.Ignored, ProPrices: []string{"price_1"}})
			known, _, err2 := b.ProPrices(t.Context(), []string{"price_1"}, "")
			if err := errors.Join(err, err2); err != nil || e.State != tt.want || e.Claim != last.Claim || len(known) > 0 && tt.want == billing.Received {
				t.Errorf("by claim %d of %d: %+v, %v; known are %q", tt.claim, last.Claim, e, err, known)
			}
		}
	},
	"WithoutItsJobItIsDead": func(t *testing.T, b Backend) {
		for _, id := range []string{"evt_1", "evt_2"} {
			takeIn(t, b, receipt(id))
			if n, err := b.DropJobs(t.Context(), jobs.Filter{Kind: jobs.StripeEvent, Subject: id}); err != nil || n != 1 {
				t.Fatalf("dropped %d, %v", n, err)
			}
		}
		_, err := b.Apply(t.Context(), billing.Change{EventID: "evt_2", State: billing.Ignored})
		done(t, err)
		if first, second := event(t, b, "evt_1"), event(t, b, "evt_2"); !first.Dead || second.Dead {
			t.Errorf("an operator dropped the job of %+v; %+v needs none", first, second)
		}
		if got := listEvents(t, b, billing.EventFilter{Dead: true}, 10); !slices.Equal(got, []string{"evt_1"}) {
			t.Errorf("dead are %q", got)
		}
		if n, err := b.Replay(t.Context(), billing.EventFilter{Dead: true}); err != nil || n != 1 || event(t, b, "evt_1").Dead {
			t.Errorf("replayed %d, %v", n, err)
		}
		wantEventJobs(t, b, "evt_1")
	},
	"ReplayOfManyIsOfAll": func(t *testing.T, b Backend) {
		const events = 450 // more than one transaction's
		atOnce(t, events, fault.Internal, func(i int) error {
			_, err := b.TakeIn(t.Context(), receipt(fmt.Sprintf("evt_%03d", i)))
			return err
		})
		if n, err := b.DropJobs(t.Context(), jobs.Filter{Kind: jobs.StripeEvent, Subject: "evt_007"}); err != nil || n != 1 {
			t.Fatalf("dropped %d, %v", n, err)
		}
		if n, err := b.Replay(t.Context(), billing.EventFilter{State: billing.Received}); err != nil || n != events {
			t.Errorf("replayed %d, %v, want %d", n, err, events)
		}
		for _, id := range []string{"evt_000", "evt_007", "evt_449"} {
			if e := event(t, b, id); e.Dead || len(e.History) != 2 {
				t.Errorf("%+v", e)
			}
		}
	},
	"DecidedByManyAtOnceIsOnce": func(t *testing.T, b Backend) {
		o, _, _ := signUp(t, b, "ada@example.dev")
		const events = 6 // all of nobody, but for the first
		for i := range events {
			takeIn(t, b, receipt(fmt.Sprint("evt_", i)))
		}
		atOnce(t, 60, fault.Internal, func(i int) error {
			c := billing.Change{EventID: fmt.Sprint("evt_", i/10), By: fmt.Sprint("job ", i), State: billing.Done, Customer: billing.Party{CustomerID: o.ID}, Payment: &billing.Payment{ID: "in_1", Credits: 60, Source: billing.ProPayment}}
			if i >= 10 {
				c.Customer, c.Payment.ID = billing.Party{StripeID: "cus_2"}, "in_2"
			}
			return patiently(func() error {
				_, err := b.Apply(context.Background(), c)
				return err
			})
		})
		for i := range events {
			if e := event(t, b, fmt.Sprint("evt_", i)); len(e.History) != 2 {
				t.Errorf("history of %s: %q", e.ID, e.History)
			}
		}
		wantCredits(t, b, o.ID, 65, 0)
	},
	"ListedNewestFirstInPages": func(t *testing.T, b Backend) {
		var want []string
		for i := range 9 { // three came in the same moment
			r := receipt(fmt.Sprintf("evt_%d", 9-i))
			r.Type = []string{"a", "b"}[i%2]
			takeIn(t, b, r)
			want = append(want, r.ID)
			if i < 3 || i > 4 {
				b.Clock.Move(time.Second)
			}
			if i%3 == 0 {
				_, err := b.Apply(t.Context(), billing.Change{EventID: r.ID, State: billing.Ignored})
				done(t, err)
			}
		}
		slices.Reverse(want)
		slices.Sort(want[3:6])
		slices.Reverse(want[3:6])
		for limit := 1; limit <= 10; limit++ {
			if got := listEvents(t, b, billing.EventFilter{}, limit); !slices.Equal(got, want) {
				t.Errorf("in pages of %d: %q, want %q", limit, got, want)
			}
		}
		for _, tt := range []struct {
			f    billing.EventFilter
			want []string
		}{
			{billing.EventFilter{ID: "evt_3"}, []string{"evt_3"}},
			{billing.EventFilter{ID: "evt_0"}, nil},
			{billing.EventFilter{State: billing.Ignored}, []string{"evt_3", "evt_6", "evt_9"}},
			{billing.EventFilter{State: billing.Ignored, Type: "a"}, []string{"evt_3", "evt_9"}},
			{billing.EventFilter{State: billing.Parked}, nil},
			{billing.EventFilter{Dead: true}, nil},
			{billing.EventFilter{Type: "c"}, nil},
		} {
			if got := listEvents(t, b, tt.f, 2); !slices.Equal(got, tt.want) {
				t.Errorf("%+v: %q, want %q", tt.f, got, tt.want)
			}
		}
		_, err := b.Events(t.Context(), billing.EventFilter{}, "evt_none", 1)
		wantFault(t, err, fault.NotFound, "")
	},
	"ReplayQueuesWhatIsMeant": func(t *testing.T, b Backend) {
		who := billing.Party{CustomerID: someoneWith(t, b)}
		for id, state := range map[string]billing.EventState{"evt_1": billing.Done, "evt_2": billing.Ignored, "evt_3": billing.Parked, "evt_4": billing.Received, "evt_5": billing.Received} {
			takeIn(t, b, receipt(id))
			if state != billing.Received {
				j := claimSubject(t, b, id)
				_, err := b.Apply(t.Context(), billing.Change{EventID: id, State: state, Customer: who})
				done(t, err)
				done(t, b.Done(t.Context(), j))
			}
		}
		done(t, b.Bury(t.Context(), claimSubject(t, b, "evt_5"), "it broke us"))
		running := claimSubject(t, b, "evt_4")
		b.Clock.Move(time.Second)
		for _, tt := range []struct {
			f    billing.EventFilter
			want []string
		}{
			{billing.EventFilter{ID: "evt_none"}, nil},
			{billing.EventFilter{ID: "evt_1"}, []string{"evt_1"}},
			{billing.EventFilter{State: billing.Parked}, []string{"evt_3"}},
			{billing.EventFilter{Dead: true}, []string{"evt_5"}},
			{billing.EventFilter{ID: "evt_4"}, []string{"evt_4"}},
			{billing.EventFilter{State: billing.Ignored, Type: "invoice.paid"}, []string{"evt_2"}},
			{billing.EventFilter{}, []string{"evt_1", "evt_2", "evt_3", "evt_4", "evt_5"}},
		} {
			before := make(map[string]int)
			for _, id := range tt.want {
				before[id] = len(event(t, b, id).History)
			}
			if n, err := b.Replay(t.Context(), tt.f); err != nil || n != len(tt.want) {
				t.Errorf("%+v: replayed %d, %v, want %q", tt.f, n, err, tt.want)
			}
			for _, id := range tt.want {
				e := event(t, b, id)
				wantEvent(t, e, billing.Received, "", "")
				if e.Dead || e.Tries > 0 || len(e.History) != before[id]+1 || e.History[before[id]] != stamped(b, "queued again: replayed by an operator") {
					t.Errorf("replayed it is %+v", e)
				}
			}
		}
		wantEventJobs(t, b, "evt_1", "evt_2", "evt_3", "evt_4", "evt_5")
		done(t, b.Done(t.Context(), running)) // what it decided by is no longer so
		wantEventJobs(t, b, "evt_1", "evt_2", "evt_3", "evt_4", "evt_5")
		if again := claimSubject(t, b, "evt_4"); again.Claim <= running.Claim || again.Tries != 1 {
			t.Errorf("claimed %+v after %+v", again, running)
		}
	},
	"SweptAreThoseSettledLongAgo": func(t *testing.T, b Backend) {
		who := billing.Party{CustomerID: someoneWith(t, b)}
		for _, id := range []string{"done", "ignored", "parked", "received", "late", "waiting", "dead", "died", "dropped"} {
			takeIn(t, b, receipt(id))
		}
		unread := receipt("unread")
		unread.Park = "it is no JSON object"
		takeIn(t, b, unread)
		decide := func(id string, state billing.EventState) {
			_, err := b.Apply(t.Context(), billing.Change{EventID: id, State: state, Customer: who})
			done(t, err)
		}
		decide("done", billing.Done)
		decide("ignored", billing.Ignored)
		decide("parked", billing.Parked)
		done(t, park(t, b, "waiting", "price:p"))
		done(t, b.Bury(t.Context(), claimSubject(t, b, "dead"), "it broke us"))
		_, err := b.DropJobs(t.Context(), jobs.Filter{Kind: jobs.StripeEvent, Subject: "dropped"})
		done(t, err)
		sweep := func(limit, want int) {
			t.Helper()
			if n, err := b.SweepEvents(t.Context(), limit); err != nil || n != want {
				t.Errorf("swept %d, %v, want %d", n, err, want)
			}
		}
		b.Clock.Move(billing.EventLife)
		sweep(10, 0)
		decide("late", billing.Done) // which nobody could have known a moment ago
		done(t, b.Bury(t.Context(), claimSubject(t, b, "died"), "it broke us"))
		b.Clock.Move(time.Microsecond)
		sweep(1, 1)
		sweep(1, 1)
		sweep(10, 5)
		sweep(10, 0)
		if got := listEvents(t, b, billing.EventFilter{}, 10); !slices.Equal(got, []string{"received", "late", "died"}) {
			t.Errorf("left are %q", got)
		}
		if got := eventJobs(t, b); slices.Contains(got, "dead") || !slices.Contains(got, "died") {
			t.Errorf("left are the jobs of %q", got)
		}
		b.Clock.Move(billing.EventLife)
		sweep(10, 2)
		if got := listEvents(t, b, billing.EventFilter{}, 10); !slices.Equal(got, []string{"received"}) {
			t.Errorf("left are %q", got)
		}
	},
}

// claimSubject claims the job of one event, and gives the others back.
func claimSubject(t testing.TB, b Backend, id string) (found jobs.Job) {
	t.Helper()
	for _, j := range claim(t, b, jobs.StripeEvent, 100) {
		if j.Subject == id {
			found = j
		} else {
			done(t, b.Postpone(t.Context(), j, 0, "", true))
		}
	}
	if found.Subject != id {
		t.Fatalf("no job of %s is due", id)
	}
	return found
}
