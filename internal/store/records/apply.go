package records

import (
	"database/sql"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"gatehouse/internal/billing"
)

// Apply commits what an event comes to. Whoever it is about is locked before
// anything is looked at, so of two workers with one event the second finds it
// decided.
func Apply(t Tx, c billing.Change) (billing.StoredEvent, error) {
	owner, err := ownerOf(t, c)
	if err == nil && owner != "" {
		_, err = t.Lock(owner)
	}
	if err != nil {
		return billing.StoredEvent{}, err
	}
	e, err := Event(t, c.EventID)
	if err != nil || e.State != billing.Received || c.Claim != 0 && c.Claim != e.Claim { // or it was queued anew since
		return e, err
	}
	var did []string
	if c.State != billing.Parked {
		if did, err = effects(t, &c, owner); err != nil {
			return e, err
		}
	}
	if len(did) > 0 {
		c.Reason = strings.Trim(c.Reason+"; "+strings.Join(did, "; "), "; ")
	}
	if c.State == billing.Done && c.Reason == "" {
		c.Reason = "nothing is changed by it"
	}
	if err := decided(t, c, owner); err != nil {
		return e, err
	}
	return Event(t, c.EventID)
}

// ownerOf finds whom a change is about, or "".
func ownerOf(t Tx, c billing.Change) (string, error) {
	type look struct{ query, value string }
	var looks []look
	// Whose a subscription or a payment once was it stays.
	if len(c.Facts) > 0 {
		looks = append(looks, look{"SELECT max(customer_id) FROM subscription_facts WHERE subscription_id = $1", c.Facts[0].SubscriptionID})
	}
	if c.Payment != nil {
		looks = append(looks, look{"SELECT customer_id FROM payments WHERE id = $1", c.Payment.ID})
	}
	if r := c.Reversal; r != nil {
		looks = append(looks, look{"SELECT customer_id FROM payments WHERE id = $1", r.Payment}, look{"SELECT max(customer_id) FROM payments WHERE intent = $1 AND intent <> ''", r.Intent})
	}
	looks = append(looks,
		look{"SELECT id FROM customers WHERE stripe_customer_id = $1", c.Customer.StripeID},
		look{"SELECT id FROM customers WHERE id = $1", c.Customer.CustomerID})
	if c.Method != nil {
		looks = append(looks, look{"SELECT customer_id FROM payment_methods WHERE id = $1", c.Method.ID})
	}
	for _, l := range looks {
		if l.value == "" {
			continue
		}
		var id sql.NullString
		if err := t.Row(l.query, []any{l.value}, &id); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return "", err
		}
		if id.String != "" {
			return id.String, nil
		}
	}
	return "", nil
}

// effects writes what a change comes to for the customer it is about, and says
// what that was. Where somebody or something is missing it parks the event.
func effects(t Tx, c *billing.Change, owner string) (did []string, err error) {
	note := func(what string, e error) {
		err = errors.Join(err, e)
		if what != "" {
			did = append(did, what)
		}
	}
	for _, id := range c.ProPrices {
		note("", learnPrice(t, id))
	}
	switch {
	case err != nil:
		return nil, err
	case c.Payment != nil && c.Payment.Link:
		return nil, linkPayment(t, *c.Payment)
	case owner == "" && c.Method != nil && c.Customer == billing.Party{}:
		// Whose it was is not known yet; that it is gone must be, when it is.
		return []string{"noted for when it is known whose it is"}, noteMethod(t, "", *c.Method)
	case owner == "" && c.State == billing.Ignored && len(c.Facts) == 0:
		return nil, nil
	case owner == "" && c.Reversal != nil:
		c.State, c.Reason, c.WaitsFor = billing.Parked, "what was paid with it is not known", waitForPayment(*c.Reversal)
		return nil, nil
	case owner == "":
		c.State, c.Reason, c.WaitsFor = billing.Parked, "there is no such customer", c.Customer.WaitFor()
		return nil, nil
	}
	note(meet(t, owner, c.Customer))
	if err != nil {
		return nil, err
	}
	p, err := openPurse(t, owner)
	if err != nil {
		return nil, err
	}
	for _, f := range c.Facts {
		note("", insertFact(t, owner, f))
		if f.Pro {
			note("", wake(t, billing.WaitsForSubscription, f.SubscriptionID))
		}
	}
	if m := c.Method; m != nil && err == nil && !p.erased {
		note("", noteMethod(t, owner, *m))
		if !m.AttachedAt.IsZero() && m.Credits > 0 && err == nil {
			note(p.grant(m.Credits, billing.PaymentMethodAdded, "payment_method:"+owner))
		}
	}
	if c.Payment != nil && err == nil {
		note(pay(t, p, *c.Payment))
	}
	if (len(c.Facts) > 0 || c.Method != nil) && err == nil {
		note(stand(t, owner))
	}
	if c.Reversal != nil && err == nil {
		note(reverse(t, p, c))
	}
	return did, err
}

func waitForPayment(r billing.Reversal) string {
	if r.Payment != "" {
		return billing.WaitsForPayment + r.Payment
	}
	return billing.WaitsForPayment + r.Intent
}

// meet notes who a customer is at Stripe, where its object's metadata alone told
// whose it is.
func meet(t Tx, owner string, p billing.Party) (string, error) {
	if p.StripeID == "" {
		return "", nil
	}
	n, err := t.Exec(`UPDATE customers SET stripe_customer_id = $2 WHERE id = $1 AND stripe_customer_id IS NULL
		AND NOT EXISTS (SELECT 1 FROM customers WHERE stripe_customer_id = $2)`, owner, p.StripeID)
	if err != nil || n == 0 {
		return "", err
	}
	return "the customer is " + p.StripeID + " at Stripe", wake(t, billing.WaitsForStripeCustomer, p.StripeID)
}

func learnPrice(t Tx, id string) error {
	n, err := t.Exec("INSERT INTO pro_prices (id) VALUES ($1) ON CONFLICT DO NOTHING", id)
	if err != nil || n == 0 {
		return err
	}
	// All that wait for any price: one of several that an event named is enough.
	return wakeAll(t, billing.WaitsForPrice)
}

// insertFact keeps what an event told of a subscription: of two tries the newer.
func insertFact(t Tx, owner string, f billing.Fact) error {
	_, err := t.Exec(`INSERT INTO subscription_facts (subscription_id, event_id, customer_id, kind, at, seen, status, was, pro, cancels_at_end, started, period_start, period_end)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (subscription_id, event_id) DO UPDATE SET kind = excluded.kind, at = excluded.at, seen = excluded.seen, status = excluded.status, was = excluded.was, pro = excluded.pro,
			cancels_at_end = excluded.cancels_at_end, started = excluded.started, period_start = excluded.period_start, period_end = excluded.period_end
		WHERE excluded.seen >= subscription_facts.seen`,
		f.SubscriptionID, f.EventID, owner, string(f.Kind), microsOf(f.At), microsOf(f.Seen), f.Status, f.Was, f.Pro, f.CancelsAtEnd, microsOf(f.Started), microsOf(f.PeriodStart), microsOf(f.PeriodEnd))
	return err
}

func facts(r Reader, owner string) ([]billing.Fact, error) {
	return List(r, "SELECT subscription_id, event_id, kind, at, seen, status, was, pro, cancels_at_end, started, period_start, period_end FROM subscription_facts WHERE customer_id = $1",
		[]any{owner}, func(scan Scan) (f billing.Fact, err error) {
			var at, seen, started, start, end int64
			err = scan(&f.SubscriptionID, &f.EventID, &f.Kind, &at, &seen, &f.Status, &f.Was, &f.Pro, &f.CancelsAtEnd, &started, &start, &end)
			f.At, f.Seen, f.Started, f.PeriodStart, f.PeriodEnd = moment(at), moment(seen), moment(started), moment(start), moment(end)
			return f, err
		})
}

// stand brings a customer's plan and state in line with all that is known.
func stand(t Tx, owner string) (did string, err error) {
	known, err := facts(t, owner)
	if err != nil {
		return "", err
	}
	var had bool
	if err := t.Row("SELECT EXISTS (SELECT 1 FROM payment_methods WHERE customer_id = $1 AND attached_at > 0)", []any{owner}, &had); err != nil {
		return "", err
	}
	s := billing.Stand(known, had)
	n, err := t.Exec(`UPDATE customers SET subscription_plan = $2, subscription_state = $3, cancels_at_end = $4, period_start = $5, period_end = $6
		WHERE id = $1 AND (subscription_plan <> $2 OR subscription_state <> $3)`,
		owner, string(s.Plan), s.State, s.CancelsAtEnd, Micros(s.PeriodStart), Micros(s.PeriodEnd))
	if err != nil || n > 0 {
		return fmt.Sprintf("plan %s, state %s", s.Plan, orNone(s.State)), err
	}
	n, err = t.Exec("UPDATE customers SET cancels_at_end = $2 WHERE id = $1 AND cancels_at_end <> $2", owner, s.CancelsAtEnd)
	if err == nil && n > 0 {
		did = fmt.Sprintf("cancels at the period's end: %t", s.CancelsAtEnd)
	}
	if err == nil {
		_, err = t.Exec("UPDATE customers SET period_start = $2, period_end = $3 WHERE id = $1", owner, Micros(s.PeriodStart), Micros(s.PeriodEnd))
	}
	return did, err
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// noteMethod keeps what was said last of a payment method.
func noteMethod(t Tx, owner string, m billing.Method) error {
	_, err := t.Exec(`INSERT INTO payment_methods (id, customer_id, attached_at, detached_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (id) DO UPDATE SET
			customer_id = CASE WHEN excluded.customer_id <> '' THEN excluded.customer_id ELSE payment_methods.customer_id END,
			attached_at = CASE WHEN excluded.attached_at > payment_methods.attached_at THEN excluded.attached_at ELSE payment_methods.attached_at END,
			detached_at = CASE WHEN excluded.detached_at > payment_methods.detached_at THEN excluded.detached_at ELSE payment_methods.detached_at END`,
		m.ID, owner, microsOf(m.AttachedAt), microsOf(m.DetachedAt))
	return err
}

// methodOf returns the payment method that a customer attached last and has
// still, or "". What was attached and detached in one second is detached: Stripe
// lets nobody attach it again.
func methodOf(r Reader, owner string) (id string, err error) {
	err = r.Row("SELECT id FROM payment_methods WHERE customer_id = $1 AND attached_at > detached_at ORDER BY attached_at DESC, id DESC LIMIT 1", []any{owner}, &id)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return id, err
}

// linkPayment notes which intent paid an invoice, which may not be known yet.
func linkPayment(t Tx, p billing.Payment) error {
	n, err := t.Exec(`INSERT INTO payments (id, customer_id, intent, cents, credits, refunded, disputed) VALUES ($1, '', $2, 0, 0, 0, 0)
		ON CONFLICT (id) DO UPDATE SET intent = excluded.intent WHERE payments.intent = ''`, p.ID, p.Intent)
	if err != nil || n == 0 {
		return err
	}
	return wake(t, billing.WaitsForPayment, p.Intent)
}

// pay keeps a payment and grants what it bought.
func pay(t Tx, p *purse, x billing.Payment) (did string, err error) {
	_, err = t.Exec(`INSERT INTO payments (id, customer_id, intent, cents, credits, refunded, disputed) VALUES ($1, $2, $3, $4, $5, 0, 0)
		ON CONFLICT (id) DO UPDATE SET customer_id = excluded.customer_id, cents = excluded.cents,
			credits = CASE WHEN excluded.credits > payments.credits THEN excluded.credits ELSE payments.credits END,
			intent = CASE WHEN payments.intent = '' THEN excluded.intent ELSE payments.intent END`,
		x.ID, p.customerID, x.Intent, x.Cents, x.Credits)
	if err == nil && x.Credits > 0 && x.Source == billing.ProPayment {
		did, err = p.grant(x.Credits, x.Source, "invoice:"+x.ID)
	}
	if err != nil {
		return did, err
	}
	var intent string
	if err := t.Row("SELECT intent FROM payments WHERE id = $1", []any{x.ID}, &intent); err != nil {
		return did, err
	}
	return did, errors.Join(wake(t, billing.WaitsForPayment, x.ID), wake(t, billing.WaitsForPayment, intent))
}

// reverse counters the credits that a payment bought, or gives them back. It
// parks an event about a payment that is not known.
func reverse(t Tx, p *purse, c *billing.Change) (string, error) {
	r := *c.Reversal
	var id string
	var cents, credits, refunded, disputed int64
	err := t.Row(`SELECT id, cents, credits, refunded, disputed FROM payments WHERE customer_id = $1 AND (id = $2 OR intent = $3 AND intent <> '') ORDER BY id LIMIT 1`,
		[]any{p.customerID, r.Payment, r.Intent}, &id, &cents, &credits, &refunded, &disputed)
	if errors.Is(err, sql.ErrNoRows) {
		c.State, c.Reason, c.WaitsFor = billing.Parked, "what was paid with it is not known", waitForPayment(r)
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if credits == 0 {
		return "what was paid bought no credits", nil
	}
	cents = max(cents, r.Cents) // a charge may be one of several that paid it
	// What went back and what is claimed back may be the same money: of a payment
	// no more is countered than it bought.
	owed := func(disputed int64) int64 { return min(credits, refunded+disputed) }
	if r.Dispute != "" {
		did, now, err := dispute(t, p, r, id, share(credits, r.DisputeCents, cents), disputed, owed)
		if err == nil && now != disputed {
			_, err = t.Exec("UPDATE payments SET disputed = $2 WHERE id = $1", id, now)
		}
		return did, err
	}
	part := share(credits, r.To, cents) - share(credits, r.From, cents)
	if part <= 0 {
		return "", nil
	}
	before := owed(disputed)
	refunded += part
	did, err := p.take(owed(disputed)-before, billing.Refunded, fmt.Sprintf("refund:%s:%d", r.Charge, r.To))
	if err != nil || did == "" {
		return did, err
	}
	_, err = t.Exec("UPDATE payments SET refunded = $2 WHERE id = $1", id, refunded)
	return did, err
}

// dispute counters so many credits as a dispute is about, or gives them back once
// it is won. It counts for the most that it was ever said to be about, however its
// events come, and what is countered is always what all disputes of the payment
// come to. It returns how many credits they are about now.
func dispute(t Tx, p *purse, r billing.Reversal, payment string, about, disputed int64, owed func(disputed int64) int64) (did string, now int64, err error) {
	var was int64
	var won bool
	err = t.Row("SELECT credits, won FROM disputes WHERE id = $1", []any{r.Dispute}, &was, &won)
	known := err == nil
	if err != nil && !errors.Is(err, sql.ErrNoRows) || won || about == 0 && !known {
		return "", disputed, err
	}
	most, others, reference := max(was, about), max(disputed-was, 0), "dispute:"+r.Dispute
	if known {
		reference = fmt.Sprintf("%s:%d", reference, most)
	}
	now = disputed
	if !known || most > was {
		if did, err = p.take(owed(others+most)-owed(disputed), billing.Disputed, reference); did == "" && err == nil {
			others = max(disputed-most, 0) // it was booked before there were rows of disputes
		} else {
			now = others + most
		}
	}
	if err == nil && r.Won { // which may be heard before that it was opened
		var back string
		if back, err = p.grant(owed(now)-owed(others), billing.DisputeWon, "dispute_won:"+r.Dispute); back != "" {
			now = others
		}
		did = strings.Trim(did+"; "+back, "; ")
	}
	if err == nil {
		_, err = t.Exec(`INSERT INTO disputes (id, customer_id, payment_id, credits, won) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (id) DO UPDATE SET credits = excluded.credits, won = excluded.won`, r.Dispute, p.customerID, payment, most, r.Won)
	}
	return did, now, err
}

// share is how many of some credits a part of their price is, rounded down
// but for the whole.
func share(credits, part, price int64) int64 {
	switch {
	case part <= 0:
		return 0
	case price <= 0 || part >= price:
		return credits
	}
	high, low := bits.Mul64(uint64(credits), uint64(part))
	n, _ := bits.Div64(high, low, uint64(price)) // part < price, so it is less than credits
	return int64(n)
}
