package script

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/stripe"
)

var began = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)

func aLife(n int) life { return life{run: "abc", owner: fmt.Sprint("owner-", n), n: n, began: began} }

// TestExpected holds the model against a table written by hand from the
// contract's, and against one that reads the events.
func TestExpected(t *testing.T) {
	// From the first event on, two rounds. A customer who has left and comes back
	// gets no credits for another card.
	table := []standing{
		{"trial", "", 5, 0, 0},
		{"pay_as_you_go", "", 10, 1, 0},          // attached
		{"pro", "active", 10, 1, 0},              // subscribed
		{"pro", "active", 70, 1, 1},              // succeeded1
		{"pro", "active", 70, 1, 1},              // paid1, of the same invoice
		{"pro", "active", 70, 1, 1},              // renewed1
		{"pro", "active", 10, 1, 1},              // disputed1
		{"pro", "active", 70, 1, 1},              // won1
		{"pro", "past_due", 70, 1, 1},            // failed2
		{"pro", "past_due", 70, 1, 1},            // pastDue2
		{"pro", "active", 130, 1, 2},             // paid2
		{"pro", "active", 130, 1, 2},             // renewed2
		{"pro", "active", 190, 1, 3},             // succeeded3
		{"pro", "active", 190, 1, 3},             // paid3
		{"pro", "active", 190, 1, 3},             // renewed3
		{"pro", "active", 130, 1, 3},             // refunded3
		{"pro", "active", 130, 1, 3},             // leaving
		{"pay_as_you_go", "canceled", 130, 1, 3}, // canceled
		{"pay_as_you_go", "canceled", 130, 1, 3}, // detached
		{"pay_as_you_go", "canceled", 130, 1, 3}, // another card
		{"pro", "active", 130, 1, 3},
		{"pro", "active", 190, 1, 4},
		{"pro", "active", 190, 1, 4},
		{"pro", "active", 190, 1, 4},
		{"pro", "active", 130, 1, 4},
		{"pro", "active", 190, 1, 4},
		{"pro", "past_due", 190, 1, 4},
		{"pro", "past_due", 190, 1, 4},
		{"pro", "active", 250, 1, 5},
		{"pro", "active", 250, 1, 5},
		{"pro", "active", 310, 1, 6},
		{"pro", "active", 310, 1, 6},
		{"pro", "active", 310, 1, 6},
		{"pro", "active", 250, 1, 6},
		{"pro", "active", 250, 1, 6},
		{"pay_as_you_go", "canceled", 250, 1, 6},
		{"pay_as_you_go", "canceled", 250, 1, 6},
	}
	for n, want := range table {
		if got := expected(n); got != want {
			t.Errorf("after %d events %+v, want %+v", n, got, want)
		}
	}
	var came []occurrence
	for n := range 5 * lifeLength {
		if got, _ := stands(came); got != expected(n) {
			t.Errorf("the first %d events read as %+v, and %+v is expected", n, got, expected(n))
		}
		came = append(came, occurrence{told: read(t, aLife(0).event(n))})
	}
}

func read(t *testing.T, event string) (e stripeEvent) {
	t.Helper()
	if err := json.Unmarshal([]byte(event), &e); err != nil {
		t.Fatalf("%v: %s", err, event)
	}
	return e
}

// TestEventsAreStripes asks the server's own reader.
func TestEventsAreStripes(t *testing.T) {
	ids := make(map[string]bool)
	types := make(map[string]bool)
	for n := range 3 {
		l := aLife(n)
		last := time.Time{}
		for i := range 3 * lifeLength {
			e, err := stripe.ParseEvent([]byte(l.event(i)))
			if err != nil {
				t.Fatalf("event %d: %v: %s", i, err, l.event(i))
			}
			if ids[e.ID] || e.ID != l.id(i) || !e.Created.After(last) || !stripe.HasEffect(e.Type) {
				t.Errorf("event %d: id %s (twice: %t), type %s, of %v after %v", i, e.ID, ids[e.ID], e.Type, e.Created, last)
			}
			if e.Party.CustomerID != l.owner || e.Party.StripeID == "" {
				t.Errorf("event %d is of %+v, want %s", i, e.Party, l.owner)
			}
			if e.Invoice != nil && (e.Invoice.Prices[0].LookupKey != "pro_monthly" || e.Invoice.Subscription != l.of("sub", i/lifeLength, 0)) ||
				e.Subscription != nil && (e.Subscription.Prices[0].LookupKey != "pro_monthly" || e.Subscription.ID != l.of("sub", i/lifeLength, 0)) {
				t.Errorf("event %d is not of the round's subscription, or without Pro: %s", i, l.event(i))
			}
			ids[e.ID], types[e.Type], last = true, true, e.Created
		}
	}
	if len(types) != 11 {
		t.Errorf("the types are %v, want the eleven that matter", types)
	}
}

// TestTurnsCoverEachEventOnce has two lives told: one forwards, one in blocks.
func TestTurnsCoverEachEventOnce(t *testing.T) {
	w := &webhooks{s: new(Script)}
	for n := range 2 {
		w.lives = append(w.lives, &told{life: aLife(n)})
	}
	const rounds = 3
	orders := make([][]int, 2)
	for range 2 * rounds * block {
		turn := newTurn()
		w.deliver(turn)
		of := w.sent[len(w.sent)-1]
		if turn.Values[event] != of.of.event(of.i) || turn.ID != of.of.id(of.i) || !strings.HasPrefix(turn.Values[signature], "t=") {
			t.Fatalf("the turn is %+v, of event %d", turn, of.i)
		}
		orders[of.of.n] = append(orders[of.of.n], of.i)
	}
	var ascending, blocks []int
	for i := range rounds * block {
		ascending = append(ascending, i)
	}
	for part := range slices.Chunk(ascending, block) {
		part = slices.Clone(part)
		slices.Reverse(part)
		blocks = append(blocks, part...)
	}
	if diff := gocmp.Diff([][]int{ascending, blocks}, orders); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestDisorderShows sees that who applies events as they come ends otherwise,
// wherever a run ends, nearly always.
func TestDisorderShows(t *testing.T) {
	w := &webhooks{s: new(Script), lives: []*told{{life: aLife(1)}}}
	same, of := 0, 10*block
	for range of {
		w.deliver(newTurn())
		var came []occurrence
		brought := make(map[int]bool)
		for _, s := range w.sent {
			came = append(came, occurrence{told: read(t, s.of.event(s.i))})
			brought[s.i] = true
		}
		for i := range w.lives[0].taken { // as settle would
			if !brought[i] {
				came = append(came, occurrence{told: read(t, w.lives[0].event(i))})
			}
		}
		if got, _ := stands(came); got == expected(len(came)) {
			same++
		}
	}
	if same > of/5 {
		t.Errorf("in %d of %d runs the order of arrival makes no difference", same, of)
	}
}
