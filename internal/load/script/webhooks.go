package script

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	stripe "gatehouse/internal/load/signature" // signature is a place here
)

const (
	webhookPath = "/api/webhooks/stripe"
	// Events come in any order: those of every other customer in blocks, backwards.
	// A block is half a life: who applies events as they come then ends otherwise
	// nearly wherever the run ends.
	block  = lifeLength / 2
	tooOld = 10 * time.Minute // of a signature
)

// webhooks is the part of a script that plays Stripe.
type webhooks struct {
	s     *Script
	rng   *rand.Rand // of the pacer
	lives []*told

	mu   sync.Mutex
	next int
	sent []sending
}

// told is a life, and what of it was brought to the target.
type told struct {
	life
	key   string
	turns int
	// Guarded by webhooks.mu.
	taken []bool // by event
	fresh []int  // answers that said it was no duplicate
}

type sending struct {
	of *told
	i  int
}

func newWebhooks(ctx context.Context, s *Script) (*webhooks, error) {
	w := &webhooks{s: s, rng: rand.New(rand.NewPCG(rand.Uint64(), 0))}
	began := time.Now().AddDate(-1, 0, 0).Truncate(time.Second)
	for i, c := range s.customers[:min(len(s.customers), s.manyLives())] {
		w.lives = append(w.lives, &told{life: life{run: s.run, owner: c.id, n: i, began: began}, key: c.key})
	}
	// One of a type that has no effect shows that the secret is the target's.
	body := fmt.Sprintf(`{"id":"evt_load%s","object":"event","type":"gatehouse.load","created":1,"livemode":false,"data":{"object":{}}}`, s.run)
	a := s.call(ctx, http.MethodPost, webhookPath, header("Stripe-Signature", w.sign(body, 0, s.o.Secret)), body)
	switch {
	case a.err != nil:
		return nil, fmt.Errorf("an event: %w", a.err)
	case a.status == http.StatusUnauthorized:
		return nil, fmt.Errorf("the target refuses our signature (401): is GATEHOUSE_STRIPE_WEBHOOK_SECRETS the same there and here?")
	case a.status == http.StatusServiceUnavailable:
		return nil, fmt.Errorf("the target takes no events (503): it has no GATEHOUSE_STRIPE_WEBHOOK_SECRETS")
	case a.status == http.StatusTooManyRequests:
		s.notes = append(s.notes, "Events were limited before the run began: others use up stripe_webhook, or another run did.")
	case a.status != http.StatusOK:
		return nil, fmt.Errorf("an event was answered %d, %s", a.status, load.Clean(string(a.body), 200))
	}
	takes := policy(a.header)
	s.noteOthers(takes, "events")
	peak, _ := s.offered()
	if most := peak * s.share(func(r role) bool { return r.webhooks != nil }) * takes.window.Seconds(); takes.quota > 0 && most > float64(takes.quota) {
		s.notes = append(s.notes, fmt.Sprintf("The plan brings up to %.0f events in %v, and the target takes %d: the others are refused, and brought again after the run.", most, takes.window, takes.quota))
	}
	if a.status == http.StatusOK {
		s.o.Wrote(&load.Arrival{ID: "evt_load" + s.run}, http.MethodPost, webhookPath, a.status)
	}
	return w, nil
}

// sign is Stripe's signature of a body, as of so long ago.
func (w *webhooks) sign(body string, age time.Duration, secret string) string {
	return stripe.Sign(secret, time.Now().Add(w.s.ahead-age), body)
}

// deliver brings a new event, of each customer in turn.
func (w *webhooks) deliver(t *turn) bool {
	of := w.lives[w.next%len(w.lives)]
	w.next++
	i := of.turns
	of.turns++
	if of.n%2 == 1 { // 6 5 4 3 2 1 0, 13 12 11 …
		i = i/block*block + block - 1 - i%block
	}
	w.mu.Lock()
	for len(of.taken) <= i {
		of.taken, of.fresh = append(of.taken, false), append(of.fresh, 0)
	}
	w.sent = append(w.sent, sending{of, i})
	w.mu.Unlock()
	return w.bring(t, of, i)
}

// redeliver brings an event again that was sent before.
func (w *webhooks) redeliver(t *turn) bool {
	if len(w.sent) == 0 {
		return false
	}
	again := w.sent[w.rng.IntN(len(w.sent))]
	return w.bring(t, again.of, again.i)
}

func (w *webhooks) bring(t *turn, of *told, i int) bool {
	body := of.event(i)
	t.set(event, body)
	t.set(signature, w.sign(body, 0, w.s.o.Secret))
	t.ID = of.id(i)
	t.ended = func(_ *load.Arrival, status int, body []byte) { w.answered(of, i, status, body) }
	return true
}

func (w *webhooks) answered(of *told, i, status int, body []byte) {
	if status != http.StatusOK {
		return
	}
	var in struct {
		Received, Duplicate *bool
	}
	if json.Unmarshal(body, &in, json.MatchCaseInsensitiveNames(true)) != nil || in.Received == nil || in.Duplicate == nil {
		w.s.violate("event %s was answered 200 without saying whether it is a duplicate", of.id(i))
		return
	}
	w.mu.Lock()
	of.taken[i] = true
	if !*in.Duplicate {
		of.fresh[i]++
	}
	twice := of.fresh[i] == 2
	w.mu.Unlock()
	if twice {
		w.s.violate("event %s was new twice", of.id(i))
	}
}

// stale brings an event whose signature is right and too old.
func (w *webhooks) stale(t *turn) bool { return w.refused(t, "stale", tooOld, w.s.o.Secret) }

// forged brings one that somebody else signed.
func (w *webhooks) forged(t *turn) bool { return w.refused(t, "forged", 0, "whsec_"+w.s.run) }

// refused brings an event that would give a customer credits, were it taken.
func (w *webhooks) refused(t *turn, what string, age time.Duration, secret string) bool {
	of := w.lives[w.rng.IntN(len(w.lives))].life
	of.run += "x" + what + strconv.FormatUint(t.Seq, 36) // another event and another invoice than any that is due
	body := of.event(paid2)
	t.set(event, body)
	t.set(signature, w.sign(body, age, secret))
	t.ID = of.id(paid2)
	t.ended = func(a *load.Arrival, status int, _ []byte) {
		if status >= 200 && status < 300 {
			w.s.violate("the %s event %s was taken", what, a.ID)
		}
	}
	return true
}

// checks brings what is missing, and compares each customer with what its
// events come to.
func (w *webhooks) checks(ctx context.Context) []gate.Check {
	missing := w.settle(ctx)
	ctx, cancel := context.WithTimeout(ctx, w.s.waits.answers)
	defer cancel()
	var wrong []string
	seen := 0
	blind := ""
	over := time.Now().Add(w.s.waits.applying)
	for _, of := range w.lives {
		if len(of.taken) == 0 || missing[of] {
			continue
		}
		want := expected(len(of.taken))
		var got standing
		var err error
		w.s.eventually(ctx, max(time.Until(over), w.s.waits.again), func() bool {
			got, err = w.standing(ctx, of)
			return err == nil && got == want
		})
		switch {
		case err != nil:
			blind = err.Error()
			continue
		case got != want:
			wrong = append(wrong, fmt.Sprintf("customer %s after %d events: %+v, want %+v", of.owner, len(of.taken), got, want))
		}
		seen++
	}
	const name, expression = "effects of events", "each customer's plan, state and credits are what its events come to in order, each once"
	switch {
	case len(wrong) > 0:
		return []gate.Check{check(name, expression, gate.Fail, fmt.Sprintf("%d of %d customers differ: %s", len(wrong), seen, strings.Join(wrong[:min(len(wrong), maxViolations)], "; ")))}
	case blind != "":
		return []gate.Check{check(name, expression, gate.Inconclusive, blind)}
	case len(missing) > 0:
		return []gate.Check{check(name, expression, gate.Inconclusive, fmt.Sprintf("of %d customers events were still refused %v after the run", len(missing), w.s.waits.settling))}
	case seen == 0:
		return []gate.Check{check(name, expression, gate.Inconclusive, "no event was brought")}
	}
	w.s.notes = append(w.s.notes, fmt.Sprintf("After the run %d customers had the plan, state and credits of their events.", seen))
	return []gate.Check{check(name, expression, gate.Pass, "")}
}

// settle brings what was refused or left out of a block, as Stripe would, and
// returns whose events are still missing.
func (w *webhooks) settle(ctx context.Context) map[*told]bool {
	ctx, cancel := context.WithTimeout(ctx, w.s.waits.settling)
	defer cancel()
	var left []sending
	for _, of := range w.lives {
		for i, taken := range of.taken {
			if !taken {
				left = append(left, sending{of, i})
			}
		}
	}
	if len(left) > 0 {
		w.s.say("bringing %d events that were refused or not yet sent", len(left))
	}
	for len(left) > 0 && ctx.Err() == nil {
		one := left[0]
		body := one.of.event(one.i)
		a := w.s.call(ctx, http.MethodPost, webhookPath, header("Stripe-Signature", w.sign(body, 0, w.s.o.Secret)), body)
		w.s.o.Wrote(&load.Arrival{ID: one.of.id(one.i)}, http.MethodPost, webhookPath, a.status)
		w.answered(one.of, one.i, a.status, a.body)
		if a.status == http.StatusOK {
			left = left[1:]
			continue
		}
		wait, err := strconv.Atoi(a.header.Get("Retry-After"))
		if err != nil || wait < 1 {
			wait = 1
		}
		select {
		case <-time.After(time.Duration(wait) * w.s.waits.second):
		case <-ctx.Done():
		}
	}
	missing := make(map[*told]bool)
	for _, l := range left {
		missing[l.of] = true
	}
	return missing
}

// standing reads what a customer stands at: its account and its ledger.
func (w *webhooks) standing(ctx context.Context, of *told) (s standing, err error) {
	var a account
	if _, err := w.s.get(ctx, of.key, accountPath, &a); err != nil {
		return s, err
	}
	s.plan, s.credits = a.Customer.Plan, a.Customer.CreditBalance
	if a.Customer.State != nil {
		s.state = *a.Customer.State
	}
	for cursor := ""; ; {
		var page struct {
			Entries []struct {
				Amount int64  `json:"amount"`
				Source string `json:"source"`
			} `json:"entries"`
			Next *string `json:"next_cursor"`
		}
		if _, err := w.s.get(ctx, of.key, accountPath+"/ledger?limit=100"+cursor, &page); err != nil {
			return s, err
		}
		for _, e := range page.Entries {
			switch e.Source {
			case "payment_method_added":
				s.cards++
			case "pro_subscription_payment":
				s.paid++
			}
		}
		if page.Next == nil || *page.Next == "" {
			return s, nil
		}
		cursor = "&cursor=" + *page.Next
	}
}
