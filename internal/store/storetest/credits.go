package storetest

import (
	"fmt"
	"slices"
	"testing"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
)

// creditTests are about what events grant, counter and give back.
var creditTests = map[string]func(*testing.T, Backend){
	"InvoiceIsGrantedOnce": func(t *testing.T, b Backend) {
		in, id := newInbox(b), someoneWith(t, b)
		wantEvent(t, in.apply(t, invoice(id, "in_1", "pi_1", 60)), billing.Done, "+60 pro_subscription_payment (invoice:in_1)", "")
		wantEvent(t, in.apply(t, invoice(id, "in_1", "pi_1", 60)), billing.Done, "nothing is changed", "") // by the other of its two types
		done(t, park(t, b, in.takeIn(t, invoice(id, "in_1", "", 60)), ""))
		for range 2 {
			if _, err := b.Replay(t.Context(), billing.EventFilter{}); err != nil {
				t.Fatal(err)
			}
			in.work(t)
		}
		wantEntries(t, b, id, "+60 pro_subscription_payment invoice:in_1")
		in.apply(t, invoice(id, "in_2", "pi_2", 60))
		in.apply(t, invoice(id, "in_3", "pi_3", 0)) // it had no line of Pro
		in.apply(t, invoice(someoneWith(t, b), "in_1", "pi_1", 60))
		wantCredits(t, b, id, 125, 0)
	},
	"InvoiceAtOnceIsGrantedOnce": func(t *testing.T, b Backend) {
		id := someoneWith(t, b)
		changes := make([]billing.Change, 20)
		for i := range changes {
			changes[i] = invoice(id, fmt.Sprint("in_", i%2), "", 60)
			changes[i].EventID, changes[i].State = fmt.Sprint("evt_", i), billing.Done
			takeIn(t, b, receipt(changes[i].EventID))
		}
		atOnce(t, len(changes), fault.Internal, func(i int) error {
			_, err := b.Apply(t.Context(), changes[i])
			return err
		})
		wantCredits(t, b, id, 125, 0)
	},
	"FirstMethodEverIsRewarded": func(t *testing.T, b Backend) {
		in, id := newInbox(b), someoneWith(t, b)
		plan := func(want billing.Plan, attached ...string) {
			t.Helper()
			c, err := b.Customer(t.Context(), id)
			if got := methods(t, b, id); err != nil || c.Plan != want || !slices.Equal(got, attached) {
				t.Errorf("plan %s with %q, %v, want %s with %q", c.Plan, got, err, want, attached)
			}
		}
		plan(billing.Trial)
		e := in.apply(t, detached("pm_1", 2)) // before it is known whose it was
		wantEvent(t, e, billing.Done, "noted", "")
		plan(billing.Trial)
		in.apply(t, attached(id, "pm_1", 1))
		plan(billing.PayAsYouGo)
		wantEntries(t, b, id, "+5 payment_method_added payment_method:ME")
		in.apply(t, attached(id, "pm_2", 3))
		in.apply(t, attached(id, "pm_3", 4))
		plan(billing.PayAsYouGo, "pm_2", "pm_3")
		in.apply(t, detached("pm_2", 5))
		plan(billing.PayAsYouGo, "pm_3")
		in.apply(t, detached("pm_3", 6))
		plan(billing.PayAsYouGo)
		in.apply(t, attached(id, "pm_3", 7))
		plan(billing.PayAsYouGo, "pm_3")
		in.apply(t, attached(id, "pm_3", 4)) // late, and twice
		in.apply(t, detached("pm_3", 6))
		plan(billing.PayAsYouGo, "pm_3")
		in.apply(t, attached(id, "pm_4", 8))
		in.apply(t, detached("pm_4", 8)) // within one second
		plan(billing.PayAsYouGo, "pm_3")
		wantCredits(t, b, id, 10, 0)
		free := attached(someoneWith(t, b), "pm_5", 1)
		free.Method.Credits = 0
		in.apply(t, free)
		wantCredits(t, b, free.Customer.CustomerID, 5, 0)
	},
	"MoneyThatGoesBack": func(t *testing.T, b Backend) {
		for _, tt := range moneyTests {
			in, id := newInbox(b), someoneWith(t, b)
			for i, step := range tt.steps {
				c := step.change
				// Names of this test's own.
				c.Customer = billing.Party{CustomerID: id}
				if c.Payment != nil {
					own := *c.Payment
					own.ID, own.Intent = own.ID+id, own.Intent+id
					c.Payment = &own
				}
				if c.Reversal != nil {
					own := *c.Reversal
					own.Intent, own.Charge = own.Intent+id, own.Charge+id
					if own.Dispute != "" {
						own.Dispute += id
						c.Customer = billing.Party{} // it does not say whose it is
					}
					c.Reversal = &own
				}
				if step.spend != 0 {
					_, err := b.Adjust(t.Context(), id, -step.spend, fmt.Sprint(id, i))
					done(t, err)
				} else {
					in.apply(t, c)
				}
				balance, debt := credits(t, b, id)
				if balance != step.balance || debt != step.debt {
					t.Errorf("%s, step %d: balance %d, debt %d, want %d, %d", tt.name, i+1, balance, debt, step.balance, step.debt)
					break
				}
			}
		}
	},
	"DebtIsSettledFirst": func(t *testing.T, b Backend) {
		in, id := newInbox(b), someoneWith(t, b)
		in.apply(t, invoice(id, "in_1", "pi_1", 60))
		_, err := b.Adjust(t.Context(), id, -62, "spent")
		done(t, err)
		e := in.apply(t, refund(id, "pi_1", 0, 59900))
		wantEvent(t, e, billing.Done, "-3 refund (refund:ch_pi_1:59900), 57 more are owed", "")
		wantCredits(t, b, id, 0, 57)
		in.apply(t, attached(id, "pm_1", 1))
		wantCredits(t, b, id, 0, 52)
		e = in.apply(t, invoice(id, "in_2", "pi_2", 60))
		wantEvent(t, e, billing.Done, "+60 pro_subscription_payment (invoice:in_2), of which 52 settled debt", "")
		wantCredits(t, b, id, 8, 0)
		in.apply(t, dispute("dp_1", "pi_2", 59900, ""))
		wantCredits(t, b, id, 0, 52)
		in.apply(t, dispute("dp_1", "pi_2", 59900, "won"))
		wantCredits(t, b, id, 8, 0)
		wantEntries(t, b, id,
			"+60 pro_subscription_payment invoice:in_1",
			"-62 adjustment adjustment:spent",
			"-3 debt+57 refund refund:ch_pi_1:59900",
			"+5 payment_method_added payment_method:ME", "-5 debt-5 debt_settlement debt:payment_method:ME",
			"+60 pro_subscription_payment invoice:in_2", "-52 debt-52 debt_settlement debt:invoice:in_2",
			"-8 debt+52 dispute dispute:dp_1",
			"+60 dispute_won dispute_won:dp_1", "-52 debt-52 debt_settlement debt:dispute_won:dp_1")
	},
}

// step is a change, or so many credits spent, and what is there afterwards.
type step struct {
	change        billing.Change
	spend         int64
	balance, debt int64
}

func then(c billing.Change, balance, debt int64) step {
	return step{change: c, balance: balance, debt: debt}
}

func spends(n, balance, debt int64) step { return step{spend: n, balance: balance, debt: debt} }

var moneyTests = []struct {
	name  string
	steps []step
}{
	{"all is refunded, twice", []step{then(bought, 65, 0), then(back(0, 59900), 5, 0), then(back(0, 59900), 5, 0)}},
	{"refunded in parts", []step{then(bought, 65, 0), then(back(0, 29950), 35, 0), then(back(29950, 59900), 5, 0)}},
	{"refunded in parts, told in the other order", []step{then(bought, 65, 0), then(back(29950, 59900), 35, 0), then(back(0, 29950), 5, 0)}},
	{"parts round down, but for the whole", []step{then(bought, 65, 0), then(back(0, 1), 65, 0), then(back(1, 19967), 45, 0), then(back(19967, 59899), 6, 0), then(back(59899, 59900), 5, 0)}},
	{"refunded before the payment is known", []step{then(back(0, 29950), 5, 0), then(back(29950, 59900), 5, 0), then(bought, 5, 0)}},
	{"refunded after all was spent", []step{then(bought, 65, 0), spends(65, 0, 0), then(back(0, 59900), 0, 60), then(back(0, 59900), 0, 60)}},
	{"a payment that bought nothing", []step{then(paid(0), 5, 0), then(back(0, 59900), 5, 0), then(disputed("dp", 59900, "lost"), 5, 0)}},
	{"nothing goes back", []step{then(bought, 65, 0), then(back(0, 0), 65, 0), then(back(100, 100), 65, 0), then(back(100, 50), 65, 0)}},
	{"more than was paid", []step{then(bought, 65, 0), then(back(0, 99999999), 5, 0)}},
	{"disputed, and lost", []step{then(bought, 65, 0), then(disputed("dp", 59900, ""), 5, 0), then(disputed("dp", 59900, "lost"), 5, 0), then(disputed("dp", 59900, "lost"), 5, 0)}},
	{"disputed, and won", []step{then(bought, 65, 0), then(disputed("dp", 59900, ""), 5, 0), then(disputed("dp", 59900, "won"), 65, 0), then(disputed("dp", 59900, "won"), 65, 0), then(disputed("dp", 59900, ""), 65, 0)}},
	{"disputed, won, and then refunded", []step{then(bought, 65, 0), then(disputed("dp", 59900, ""), 5, 0), then(disputed("dp", 59900, "won"), 65, 0), then(back(0, 59900), 5, 0)}},
	{"won about more than it was disputed", []step{then(bought, 65, 0), then(disputed("dp", 29950, ""), 35, 0), then(disputed("dp", 59900, "won"), 65, 0), then(back(0, 59900), 5, 0)}},
	{"one of two is won about more", []step{then(bought, 65, 0), then(disputed("dp1", 29950, ""), 35, 0), then(disputed("dp2", 29950, ""), 5, 0), then(disputed("dp1", 59900, "won"), 35, 0), then(disputed("dp2", 29950, "won"), 65, 0)}},
	{"won, as is told twice, refunded, and disputed again", []step{then(bought, 65, 0), then(disputed("dp1", 59900, ""), 5, 0), then(disputed("dp1", 59900, "won"), 65, 0), then(disputed("dp1", 59900, "won"), 65, 0), then(back(0, 59900), 5, 0), then(disputed("dp2", 59900, ""), 5, 0)}},
	{"lost, told before it was disputed", []step{then(bought, 65, 0), then(disputed("dp", 59900, "lost"), 5, 0), then(disputed("dp", 59900, ""), 5, 0)}},
	{"won, told before it was disputed", []step{then(bought, 65, 0), then(disputed("dp", 59900, "won"), 65, 0), then(disputed("dp", 59900, ""), 65, 0)}},
	{"a part is disputed", []step{then(bought, 65, 0), then(disputed("dp", 29950, ""), 35, 0), then(disputed("dp", 29950, "won"), 65, 0)}},
	{"disputed before the payment is known", []step{then(disputed("dp", 59900, ""), 5, 0), then(disputed("dp", 59900, "won"), 5, 0), then(bought, 65, 0)}},
	{"disputed once it was refunded", []step{then(bought, 65, 0), then(back(0, 59900), 5, 0), then(disputed("dp", 59900, ""), 5, 0), then(disputed("dp", 59900, "won"), 5, 0)}},
	{"refunded in part, then all is disputed", []step{then(bought, 65, 0), then(back(0, 29950), 35, 0), then(disputed("dp", 59900, ""), 5, 0), then(disputed("dp", 59900, "won"), 35, 0)}},
	{"refunded instead of disputed further", []step{then(bought, 65, 0), then(disputed("dp", 59900, ""), 5, 0), then(back(0, 59900), 5, 0), then(disputed("dp", 59900, "lost"), 5, 0)}},
	{"two disputes of one payment", []step{then(bought, 65, 0), then(disputed("dp1", 29950, ""), 35, 0), then(disputed("dp2", 59900, ""), 5, 0), then(disputed("dp2", 59900, "won"), 35, 0), then(disputed("dp1", 29950, "won"), 65, 0)}},
	{"two disputes of one payment, both about all, won in the order in which they came", []step{then(bought, 65, 0), then(disputed("dp1", 59900, ""), 5, 0), then(disputed("dp2", 59900, ""), 5, 0), then(disputed("dp1", 59900, "won"), 5, 0), then(disputed("dp2", 59900, "won"), 65, 0)}},
	{"two disputes of one payment, the smaller won first", []step{then(bought, 65, 0), then(disputed("dp1", 29950, ""), 35, 0), then(disputed("dp2", 59900, ""), 5, 0), then(disputed("dp1", 29950, "won"), 5, 0), then(disputed("dp2", 59900, "won"), 65, 0)}},
	{"won about less than it was disputed", []step{then(bought, 65, 0), then(disputed("dp", 59900, ""), 5, 0), then(disputed("dp", 29950, "won"), 65, 0), then(back(0, 59900), 5, 0)}},
	{"lost about more than it was disputed", []step{then(bought, 65, 0), then(disputed("dp", 29950, ""), 35, 0), then(disputed("dp", 59900, "lost"), 5, 0), then(disputed("dp", 29950, ""), 5, 0)}},
	{"one of two payments of it is refunded", []step{then(bought, 65, 0), then(charged(back(0, 9984), 9984), 55, 0), then(charged(back(0, 49916), 49916), 6, 0)}},
	{"what was won settles what it made", []step{then(bought, 65, 0), spends(60, 5, 0), then(disputed("dp", 59900, ""), 0, 55), then(disputed("dp", 59900, "won"), 5, 0)}},
}

var bought = paid(60)

func paid(credits int64) billing.Change { return invoice("", "in", "pi", credits) }

func back(from, to int64) billing.Change { return refund("", "pi", from, to) }

// charged is a refund of a charge of so many cents.
func charged(c billing.Change, cents int64) billing.Change {
	r := *c.Reversal
	r.Charge, r.Cents = fmt.Sprint(r.Charge, cents), cents
	c.Reversal = &r
	return c
}

func disputed(id string, cents int64, result string) billing.Change {
	return dispute(id, "pi", cents, result)
}
