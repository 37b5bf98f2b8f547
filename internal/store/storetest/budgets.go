package storetest

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"gatehouse/internal/apikey"
	"gatehouse/internal/fault"
	"gatehouse/internal/vending"
)

// capped is a lease whose grant may spend so much; 0: no bound.
func capped(t testing.TB, b Backend, by apikey.Principal, most int64) vending.Lease {
	t.Helper()
	o := order(t, by, vending.OpenAI)
	o.Cap = most
	grant(t, b, o)
	return leaseOf(t, b, o.Issues[0])
}

func leaseOf(t testing.TB, b Backend, i vending.Issue) vending.Lease {
	t.Helper()
	l, err := b.Lease(t.Context(), i.Presented)
	done(t, err)
	return l
}

func hold(t testing.TB, l vending.Lease, micro int64) vending.Hold {
	t.Helper()
	return vending.Hold{ID: newID(t), CustomerID: l.CustomerID, KeyID: l.KeyID, CredentialID: l.CredentialID, GrantID: l.GrantID, Provider: l.Provider, Model: "gpt-5", Micro: micro}
}

// spending is a call under a lease, that ends now.
func spending(t testing.TB, b Backend, l vending.Lease, cost int64, reservation string) vending.Spending {
	t.Helper()
	return vending.Spending{Reservation: reservation, Audit: vending.Audit{
		ID: cmp.Or(reservation, newID(t)), At: b.Clock.Now(), CustomerID: l.CustomerID, KeyID: l.KeyID, CredentialID: l.CredentialID, GrantID: l.GrantID,
		Action: vending.Calling, Provider: l.Provider, Model: "gpt-5", Requests: 1, InputTokens: 20, OutputTokens: 3, Cost: cost, Estimated: true, Outcome: "done",
	}}
}

// wantRoom checks that exactly so much can still be held, and holds none of it.
func wantRoom(t testing.TB, b Backend, l vending.Lease, micro int64) {
	t.Helper()
	wantOver(t, b.Hold(t.Context(), hold(t, l, micro+1), time.Minute))
	if micro == 0 {
		return
	}
	h := hold(t, l, micro)
	done(t, b.Hold(t.Context(), h, time.Minute))
	done(t, b.Settle(t.Context(), []vending.Spending{spending(t, b, l, 0, h.ID)}))
}

func wantOver(t testing.TB, err error) {
	t.Helper()
	wantFault(t, err, fault.PaymentRequired, "")
	if f, _ := errors.AsType[*fault.Error](err); f.Code != "BUDGET_EXCEEDED" || f.RetryAfter != 0 {
		t.Errorf("refused as %+v", f)
	}
}

func wantBudget(t testing.TB, b Backend, customerID string, cents int64) {
	t.Helper()
	c, err := b.Customer(t.Context(), customerID)
	done(t, err)
	if c.DayBudget != cents {
		t.Errorf("the customer's day has %d cents, want %d", c.DayBudget, cents)
	}
}

var budgetTests = map[string]func(*testing.T, Backend){
	"OfAGrantAreSharedByItsCredentials": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		o := order(t, by, vending.Anthropic, vending.OpenAI)
		o.Cap = 100
		grant(t, b, o)
		first, second := leaseOf(t, b, o.Issues[0]), leaseOf(t, b, o.Issues[1])
		if !first.Capped || !second.Capped {
			t.Errorf("leases are %+v and %+v", first, second)
		}
		h := hold(t, first, 60)
		done(t, b.Hold(t.Context(), h, time.Minute))
		wantRoom(t, b, second, 40)
		call := spending(t, b, first, 25, h.ID)
		for range 2 { // twice books once
			done(t, b.Settle(t.Context(), []vending.Spending{call}))
			wantRoom(t, b, second, 75)
		}
		over := hold(t, second, 75)
		done(t, b.Hold(t.Context(), over, time.Minute))
		done(t, b.Settle(t.Context(), []vending.Spending{spending(t, b, second, 80, over.ID)})) // dearer than it could be
		wantRoom(t, b, first, 0)
		free := capped(t, b, by, 0)
		if free.Capped {
			t.Error("a grant without a bound is capped")
		}
		done(t, b.Hold(t.Context(), hold(t, free, 1_000_000), time.Minute))
		_, _, eve := signUp(t, b, "eve@example.dev")
		stolen := first
		stolen.CustomerID = eve.CustomerID
		wantFault(t, b.Hold(t.Context(), hold(t, stolen, 1), time.Minute), fault.NotFound, "")
	},
	"OfADayAreOfTheCustomer": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		first, second := capped(t, b, by, 0), capped(t, b, by, 30_000)
		done(t, b.SetBudget(t.Context(), by.CustomerID, 2))
		if l := capped(t, b, by, 0); !l.Capped {
			t.Error("it is not capped by the day")
		}
		wantRoom(t, b, first, 20_000)
		done(t, b.Settle(t.Context(), []vending.Spending{spending(t, b, first, 5_000, "")}))
		h := hold(t, second, 10_000)
		done(t, b.Hold(t.Context(), h, 24*time.Hour))
		wantRoom(t, b, first, 5_000)
		b.Clock.Move(11*time.Hour + 59*time.Minute + 59*time.Second) // the day's last second
		wantRoom(t, b, first, 5_000)
		b.Clock.Move(time.Second) // what is held is spent when it ends
		wantRoom(t, b, first, 10_000)
		done(t, b.Settle(t.Context(), []vending.Spending{spending(t, b, second, 1_000, h.ID)}))
		wantRoom(t, b, first, 19_000)
		wantRoom(t, b, second, 19_000)
		wantBudget(t, b, by.CustomerID, 2)
		done(t, b.SetBudget(t.Context(), by.CustomerID, 0))
		wantBudget(t, b, by.CustomerID, 0)
		done(t, b.Hold(t.Context(), hold(t, first, 1_000_000), time.Minute))
		wantRoom(t, b, second, 29_000)
		wantFault(t, b.SetBudget(t.Context(), newID(t), 1), fault.NotFound, "")
	},
	"ARefusalSaysWhatFits": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		l, day := capped(t, b, by, 30_000), capped(t, b, by, 0)
		done(t, b.SetBudget(t.Context(), by.CustomerID, 7))
		done(t, b.Hold(t.Context(), hold(t, l, 11_000), time.Minute))
		for _, test := range []struct {
			l     vending.Lease
			micro int64
			want  string
		}{
			{l, 19_001, "The budget of this credential's exchange does not allow this call: it may cost up to 2 cents, and 1 are left. "},
			{day, 1_000_000, "The budget of your account for today does not allow this call: it may cost up to 100 cents, and 5 are left. "},
		} {
			err := b.Hold(t.Context(), hold(t, test.l, test.micro), time.Minute)
			wantOver(t, err)
			const help = "With a lower max_tokens (or max_completion_tokens, max_output_tokens) it may cost less."
			if f, _ := errors.AsType[*fault.Error](err); f.Message != test.want+help {
				t.Errorf("refused as %q, want %q", f.Message, test.want+help)
			}
		}
		done(t, b.Settle(t.Context(), []vending.Spending{spending(t, b, l, 90_000, "")})) // dearer than it could be: nothing is left
		err := b.Hold(t.Context(), hold(t, day, 1), time.Minute)
		if f, _ := errors.AsType[*fault.Error](err); f == nil || !strings.Contains(f.Message, "up to 1 cents, and 0 are left.") {
			t.Errorf("refused as %v", err)
		}
	},
	"AreHeldOnce": func(t *testing.T, b Backend) { // by who tries again, since nobody said what became of the first
		_, _, by := signUp(t, b, "ada@example.dev")
		l := capped(t, b, by, 100)
		h := hold(t, l, 60)
		done(t, b.Hold(t.Context(), h, time.Minute))
		done(t, b.Hold(t.Context(), h, time.Minute))
		wantRoom(t, b, l, 40)
	},
	"AreNeverExceededByTwoHundredAtOnce": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		l := capped(t, b, by, 1000)
		day := capped(t, b, by, 0)
		for _, race := range []struct {
			lease vending.Lease
			each  int64
			want  int
		}{{l, 27, 37}, {day, 54, 166}} { // the day's is 10,000, of which 37 of 27 are held by then
			holds := make([]vending.Hold, 200)
			for i := range holds {
				holds[i] = hold(t, race.lease, race.each)
			}
			if n := atOnce(t, len(holds), fault.PaymentRequired, func(i int) error {
				return patiently(func() error { return b.Hold(t.Context(), holds[i], time.Hour) })
			}); n != race.want {
				t.Errorf("%d were let through, want %d", n, race.want)
			}
			done(t, b.SetBudget(t.Context(), by.CustomerID, 1))
		}
	},
	"HeldAndSettledAtOnce": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		l := capped(t, b, by, 1000)
		ctx := t.Context()
		holds, calls := make([]vending.Hold, 60), make([]vending.Spending, 60)
		for i := range holds {
			holds[i] = hold(t, l, 100)
			calls[i] = spending(t, b, l, 40, holds[i].ID)
		}
		n := atOnce(t, len(holds), fault.PaymentRequired, func(i int) error {
			return patiently(func() error {
				if err := b.Hold(ctx, holds[i], time.Hour); err != nil {
					return err
				}
				return patiently(func() error { return b.Settle(context.WithoutCancel(ctx), calls[i:i+1]) })
			})
		})
		if n < 10 || n > 25 {
			t.Errorf("%d calls of 40, of which 100 were held, in 1000", n)
		}
		wantRoom(t, b, l, 1000-40*int64(n))
	},
	"AreSettledInGroups": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, _, eve := signUp(t, b, "eve@example.dev")
		hers, theirs := capped(t, b, by, 1000), capped(t, b, eve, 1000)
		var calls []vending.Spending
		for range 50 {
			calls = append(calls, spending(t, b, hers, 2, ""), spending(t, b, theirs, 3, ""))
		}
		backwards := make([]vending.Spending, 0, len(calls))
		for i := range calls {
			backwards = append(backwards, calls[len(calls)-1-i])
		}
		if n := atOnce(t, 8, fault.Unavailable, func(i int) error {
			return patiently(func() error { return b.Settle(t.Context(), [][]vending.Spending{calls, backwards}[i%2]) })
		}); n != 8 {
			t.Errorf("%d of 8 succeeded", n)
		}
		wantRoom(t, b, hers, 900)
		wantRoom(t, b, theirs, 850)
	},
	"UsedBetweenSumsUpCalls": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, _, eve := signUp(t, b, "eve@example.dev")
		l, theirs := capped(t, b, by, 0), capped(t, b, eve, 0)
		start := b.Clock.Now()
		refusal := spending(t, b, l, 0, "")
		refusal.Action = vending.Refusing
		other := spending(t, b, l, 9, "")
		other.Provider = vending.Anthropic
		calls := []vending.Spending{spending(t, b, l, 5, ""), spending(t, b, l, 6, ""), other, refusal, spending(t, b, theirs, 7, "")}
		for _, at := range []time.Duration{-time.Microsecond, time.Hour} { // before it, and at its end
			c := spending(t, b, l, 1, "")
			c.At = start.Add(at)
			calls = append(calls, c)
		}
		done(t, b.Settle(t.Context(), calls))
		used, err := b.UsedBetween(t.Context(), by.CustomerID, start, start.Add(time.Hour))
		want := map[vending.Provider]vending.Used{vending.OpenAI: {Requests: 2, InputTokens: 40, OutputTokens: 6}, vending.Anthropic: {Requests: 1, InputTokens: 20, OutputTokens: 3}}
		if diff := gocmp.Diff(want, used); err != nil || diff != "" {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	},
	"TheTrailIsFilteredAndPaged": func(t *testing.T, b Backend) {
		_, _, by := signUp(t, b, "ada@example.dev")
		_, _, eve := signUp(t, b, "eve@example.dev")
		l, theirs := capped(t, b, by, 0), capped(t, b, eve, 0)
		call := spending(t, b, l, 5, "")
		timeless := spending(t, b, theirs, 1, "")
		timeless.At = time.Time{} // the database's
		b.Clock.Move(time.Minute)
		done(t, b.Settle(t.Context(), []vending.Spending{call, timeless}))
		all := trail(t, b, vending.AuditFilter{})
		if len(all) != 4 || all[2] != call.Audit || !all[3].At.Equal(b.Clock.Now()) {
			t.Fatalf("the trail is %+v", all)
		}
		for _, test := range []struct {
			name string
			f    vending.AuditFilter
			want []vending.Audit
		}{
			{"a customer's", vending.AuditFilter{CustomerID: eve.CustomerID}, []vending.Audit{all[1], all[3]}},
			{"a credential's", vending.AuditFilter{CredentialID: l.CredentialID}, []vending.Audit{all[0], all[2]}},
			{"calls", vending.AuditFilter{Action: vending.Calling}, all[2:]},
			{"since", vending.AuditFilter{Since: b.Clock.Now()}, all[3:]},
			{"until", vending.AuditFilter{Until: b.Clock.Now()}, all[:3]},
			{"a customer's calls", vending.AuditFilter{CustomerID: by.CustomerID, Action: vending.Calling}, all[2:3]},
			{"nobody's", vending.AuditFilter{CustomerID: newID(t)}, nil},
		} {
			if diff := gocmp.Diff(test.want, trail(t, b, test.f)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.name, diff)
			}
		}
		after := ""
		for i := range all {
			page, err := b.AuditRows(t.Context(), vending.AuditFilter{}, after, 1)
			if err != nil || len(page) != 1 || page[0] != all[i] {
				t.Fatalf("page %d is %+v, %v", i, page, err)
			}
			after = page[0].ID
		}
	},
}
