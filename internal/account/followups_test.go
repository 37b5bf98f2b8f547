package account_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/account"
	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
)

// customers is a store of some, by id, and of who they are at Stripe.
type customers struct {
	account.Store
	all      map[string]account.Customer
	read     error
	set      error
	atStripe map[string]string
	steps    []string // what QueueStripeCustomers says: the last id of each step
	asked    []string
	when     []time.Time
	limits   []int
	end      error // after those steps
}

func (c *customers) Customer(_ context.Context, id string) (account.Customer, error) {
	found, ok := c.all[id]
	switch {
	case c.read != nil:
		return account.Customer{}, c.read
	case !ok:
		return account.Customer{}, fault.Missing("There is no such customer.")
	}
	return found, nil
}

func (c *customers) SetStripeCustomer(_ context.Context, id, stripeID string) error {
	if c.set == nil {
		c.atStripe[id] = stripeID
	}
	return c.set
}

// QueueStripeCustomers takes a second, and queues 10 in each step.
func (c *customers) QueueStripeCustomers(_ context.Context, after string, limit int) (string, int, error) {
	c.asked, c.when, c.limits = append(c.asked, after), append(c.when, time.Now()), append(c.limits, limit)
	<-time.After(time.Second)
	if len(c.steps) == 0 {
		return "", 0, c.end
	}
	last := c.steps[0]
	c.steps = c.steps[1:]
	return last, 10, nil
}

// outside is the mail server, and Stripe.
type outside struct {
	err     error
	mailed  []string
	ensured []string
}

func (o *outside) Welcome(_ context.Context, c account.Customer) error {
	o.mailed = append(o.mailed, c.ID+" "+c.Email)
	return o.err
}

func (o *outside) EnsureCustomer(_ context.Context, c account.Customer, look bool) (string, error) {
	asked := c.ID
	if look {
		asked += " looked for"
	}
	o.ensured = append(o.ensured, asked)
	return "cus_" + c.ID, o.err
}

func newCustomers() *customers {
	return &customers{
		atStripe: make(map[string]string),
		all: map[string]account.Customer{
			"ada":    {ID: "ada", Email: "ada@example.dev", CreatedAt: created},
			"known":  {ID: "known", Email: "known@example.dev", CreatedAt: created, StripeCustomerID: "cus_1"},
			"erased": {ID: "erased", CreatedAt: created, ErasedAt: created.Add(time.Hour)},
		},
	}
}

func subject(id string) jobs.Job { return jobs.Job{Subject: id} }

// handlers are both, after a while since the sign-ups.
func handlers(s account.Store, o *outside, since time.Duration) map[string]jobs.Handler {
	return map[string]jobs.Handler{
		"mail":   account.WelcomeMail(s, o),
		"stripe": account.StripeCustomer(s, o, func() time.Time { return created.Add(since) }),
	}
}

func TestFollowUpsReachWhoSignedUp(t *testing.T) {
	s, o := newCustomers(), &outside{}
	for name, h := range handlers(s, o, time.Minute) {
		for _, id := range []string{"ada", "known"} {
			if err := h(t.Context(), subject(id)); err != nil {
				t.Errorf("%s to %s: %v", name, id, err)
			}
		}
	}
	if want := []string{"ada ada@example.dev", "known known@example.dev"}; !cmp.Equal(o.mailed, want) {
		t.Errorf("mailed %q, want %q", o.mailed, want)
	}
	if want := []string{"ada"}; !cmp.Equal(o.ensured, want) || !cmp.Equal(s.atStripe, map[string]string{"ada": "cus_ada"}) {
		t.Errorf("asked for %q, noted %v", o.ensured, s.atStripe)
	}
}

func TestFollowUpsOfWhoIsGoneAreDone(t *testing.T) {
	s, o := newCustomers(), &outside{err: errors.New("unreachable")}
	for name, h := range handlers(s, o, time.Minute) {
		for _, id := range []string{"erased", "unknown"} {
			if err := h(t.Context(), subject(id)); err != nil {
				t.Errorf("%s to %s: %v", name, id, err)
			}
		}
	}
	if len(o.mailed)+len(o.ensured)+len(s.atStripe) > 0 {
		t.Errorf("mailed %q, asked for %q, noted %v", o.mailed, o.ensured, s.atStripe)
	}
}

func TestStripeIsLookedThroughWhenItsMemoryMayHaveEnded(t *testing.T) {
	for since, want := range map[time.Duration]string{
		-time.Hour: "ada", 0: "ada", 20 * time.Hour: "ada", 20*time.Hour + 1: "ada looked for", 1000 * time.Hour: "ada looked for",
	} {
		o := &outside{}
		if err := handlers(newCustomers(), o, since)["stripe"](t.Context(), subject("ada")); err != nil || !cmp.Equal(o.ensured, []string{want}) {
			t.Errorf("after %s: %v, asked for %q, want %q", since, err, o.ensured, want)
		}
	}
}

func TestFollowUpsThatFailAreTriedAgain(t *testing.T) {
	unreachable := errors.New("unreachable")
	rejected := jobs.Permanent(errors.New("550 no such mailbox"))
	for name, tt := range map[string]struct {
		s    customers
		o    outside
		want error
	}{
		"the store can't be read":    {s: customers{read: errAway}, want: errAway},
		"the store can't be written": {s: customers{set: errAway}, want: errAway},
		"the store has a bug":        {s: customers{read: errors.ErrUnsupported, set: errors.ErrUnsupported}, want: errors.ErrUnsupported},
		"they can't be reached":      {o: outside{err: unreachable}, want: unreachable},
		"they refuse for good":       {o: outside{err: rejected}, want: rejected},
	} {
		s := newCustomers()
		s.read, s.set = tt.s.read, tt.s.set
		for job, h := range handlers(s, &tt.o, time.Minute) {
			if job == "mail" && s.set != nil && s.read == nil {
				continue // it writes nothing
			}
			err := h(t.Context(), subject("ada"))
			if !errors.Is(err, tt.want) || jobs.IsPermanent(err) != jobs.IsPermanent(tt.want) {
				t.Errorf("%s, %s: %v", job, name, err)
			}
		}
		if len(s.atStripe) > 0 {
			t.Errorf("%s: noted %v", name, s.atStripe)
		}
	}
}

func TestWhatCannotBeNotedOfStripeIsForAnOperator(t *testing.T) {
	for _, refusal := range []error{
		fault.Refused("The customer is cus_1 at Stripe already."), fault.Missing("There is no such customer."),
	} {
		s := newCustomers()
		s.set = refusal
		err := handlers(s, &outside{}, time.Minute)["stripe"](t.Context(), subject("ada"))
		f, _ := errors.AsType[*fault.Error](refusal)
		if !jobs.IsPermanent(err) || !strings.Contains(err.Error(), "cus_ada") || !strings.Contains(err.Error(), f.Message) {
			t.Errorf("after %v: %v", refusal, err)
		}
	}
}

func nobodyWaits(context.Context) (int, error) { return 0, nil }

func TestCatchUpWaitsUntilTheLastOnesAreDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, begun, looks := &customers{steps: []string{"a"}}, time.Now(), 0
		n, err := account.CatchUp(t.Context(), s, func(context.Context) (int, error) {
			looks++
			return 1000 - 100*looks, nil
		})
		if err != nil || n != 10 || len(s.asked) != 2 || s.when[0].Sub(begun) < 7*time.Second {
			t.Errorf("queued %d in %d steps, %v; the first after %s", n, len(s.asked), err, s.when[0].Sub(begun))
		}
		if n, err := account.CatchUp(t.Context(), s, func(context.Context) (int, error) { return 0, errAway }); n != 0 || !errors.Is(err, errAway) {
			t.Errorf("queued %d, %v, not knowing how many wait", n, err)
		}
	})
}

func TestCatchUpGoesInStepsAndRestsBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &customers{steps: []string{"a", "b", "c"}}
		n, err := account.CatchUp(t.Context(), s, nobodyWaits)
		if err != nil || n != 30 {
			t.Errorf("queued %d, %v", n, err)
		}
		if want := []string{"", "a", "b", "c"}; !cmp.Equal(s.asked, want) {
			t.Errorf("asked after %q, want %q", s.asked, want)
		}
		for i, limit := range s.limits {
			if limit < 1 || limit > 1000 {
				t.Errorf("a step of %d", limit)
			}
			if i == 0 {
				continue
			}
			if apart := s.when[i].Sub(s.when[i-1]); apart != 2*time.Second {
				t.Errorf("step %d began %s after the one before: a node's writes had no turn", i, apart)
			}
		}
	})
}

func TestCatchUpThatEndsEarlySaysHowFarItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &customers{steps: []string{"a", "b"}, end: errAway}
		if n, err := account.CatchUp(t.Context(), s, nobodyWaits); n != 20 || !errors.Is(err, errAway) {
			t.Errorf("queued %d, %v", n, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // within the first rest
		defer cancel()
		s = &customers{steps: []string{"a", "b"}}
		if n, err := account.CatchUp(ctx, s, nobodyWaits); n != 10 || !errors.Is(err, context.DeadlineExceeded) || len(s.asked) != 1 {
			t.Errorf("interrupted: queued %d, %v, in %d steps", n, err, len(s.asked))
		}
	})
}
