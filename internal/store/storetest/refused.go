package storetest

import (
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/vending"
)

// mixed is an order for a token and for a key that OpenAI has made.
func mixed(t testing.TB, b Backend, o vending.Order) vending.Order {
	t.Helper()
	intents, err := b.BeginKeys(t.Context(), o, makers)
	if err != nil || len(intents) != 1 {
		t.Fatalf("begun %+v, %v", intents, err)
	}
	i := slices.IndexFunc(o.Issues, func(i vending.Issue) bool { return i.ID == intents[0].ID })
	o.Issues[i].Key = &vending.Key{ID: "key_" + intents[0].ID, Enforcement: vending.ByExpiry, ExpiresAt: intents[0].ExpiresAt}
	return o
}

// wantNothingOf fails unless an order is refused, however it is asked for, and
// has changed nothing.
func wantNothingOf(t testing.TB, b Backend, o vending.Order) {
	t.Helper()
	r := request(o.ID)
	before, rows := export(t, b, o.By.CustomerID), trail(t, b, vending.AuditFilter{})
	for _, once := range []*idempotency.Once[vending.Granted]{nil, keep(r, func(vending.Granted) string { return "granted" })} {
		_, err := b.Grant(t.Context(), o, once)
		wantFault(t, err, fault.Unavailable, "")
		if diff := gocmp.Diff(before, export(t, b, o.By.CustomerID)); diff != "" {
			t.Errorf("the customer (-before +after):\n%s", diff)
		}
		if diff := gocmp.Diff(rows, trail(t, b, vending.AuditFilter{})); diff != "" {
			t.Errorf("the trail (-before +after):\n%s", diff)
		}
		wantLives(t, b, false, o.Issues...)
		of := vending.Hold{ID: newID(t), GrantID: o.ID, CustomerID: o.By.CustomerID, Micro: 1}
		wantFault(t, b.Hold(t.Context(), of, time.Minute), fault.NotFound, "")
	}
	wantOutcome(t, b, r, "")
}

// wantLetGo lets go of an order's keys, and checks that they are deleted.
func wantLetGo(t testing.TB, b Backend, o vending.Order) {
	t.Helper()
	for _, i := range o.Issues {
		if i.Key == nil {
			continue
		}
		done(t, b.AbandonKeys(t.Context(), []vending.Leftover{{ID: i.ID, Provider: vending.OpenAI, KeyID: i.Key.ID}}))
		if due := queued(t, b); !slices.Contains(due, i.ID) {
			t.Errorf("%v are to be deleted, want %s too", due, i.ID)
		}
		wantKeyOf(t, b, i.ID, i.Key.ID, true)
	}
}

// A grant may be refused when much of it is written: its last key's turn comes
// last.
var refusedTests = map[string]func(*testing.T, Backend){
	"GrantWhenABudgetWasSetMeanwhile": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		granted(t, b, by)
		gone, stays := mixed(t, b, order(t, by, vending.Anthropic, vending.OpenAI)), mixed(t, b, order(t, by, vending.Anthropic, vending.OpenAI))
		done(t, b.SetBudget(t.Context(), by.CustomerID, 100))
		wantNothingOf(t, b, gone)
		wantNothingOf(t, b, stays)
		wantLetGo(t, b, gone)
		b.Clock.Move(vending.KeyPatience) // whoever asked for it died
		wantKeyOf(t, b, stays.Issues[1].ID, "", true)
	},
	"GrantThatComesTooLate": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		o := mixed(t, b, order(t, by, vending.Anthropic, vending.OpenAI))
		b.Clock.Move(vending.KeyPatience)
		if _, _, doomed, err := b.DoomKey(t.Context(), o.Issues[1].ID); err != nil || !doomed {
			t.Fatalf("doomed %v, %v", doomed, err)
		}
		wantNothingOf(t, b, o)
		wantLetGo(t, b, o)
	},
	"RefreshThatComesTooLate": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		old := owned(t, b, by)
		b.Clock.Move(56 * time.Minute)
		o := mixed(t, b, refresh(t, by, old.ID))
		b.Clock.Move(vending.KeyPatience)
		if _, _, doomed, err := b.DoomKey(t.Context(), o.Issues[0].ID); err != nil || !doomed {
			t.Fatalf("doomed %v, %v", doomed, err)
		}
		wantNothingOf(t, b, o)
		wantKeyOf(t, b, old.ID, "", false)
		wantLetGo(t, b, o)
		again := mixed(t, b, refresh(t, by, old.ID)) // which the refusal did not take from it
		grant(t, b, again)
		wantKeyOf(t, b, old.ID, "key_"+old.ID, true)
	},
	"BesideOthersThatAreGranted": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, _, eve := signUp(t, b, "eve@example.dev")
		orders := make([]vending.Order, 40)
		for i := range orders {
			switch i % 4 {
			case 0:
				orders[i] = mixed(t, b, order(t, by, vending.Anthropic, vending.OpenAI))
			case 1:
				orders[i] = order(t, by, vending.Anthropic)
			default:
				orders[i] = order(t, eve, vending.Anthropic, vending.Ollama)
			}
		}
		done(t, b.SetBudget(t.Context(), by.CustomerID, 100))
		won := atOnce(t, len(orders), fault.Unavailable, func(i int) error {
			ask := func() error {
				_, err := b.Grant(t.Context(), orders[i], nil)
				return err
			}
			if i%4 == 0 {
				return ask()
			}
			return patiently(ask)
		})
		if rows := trail(t, b, vending.AuditFilter{Action: vending.Granting}); won != 30 || len(rows) != 10+2*20 {
			t.Errorf("%d are granted, with %d rows in the trail", won, len(rows))
		}
		for i, o := range orders {
			wantLives(t, b, i%4 != 0, o.Issues...)
		}
	},
}
