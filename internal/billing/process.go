package billing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"gatehouse/internal/fault"
	"gatehouse/internal/jobs"
)

// Processor applies events.
type Processor struct {
	inbox     Inbox
	read      func(payload []byte) (Event, error)
	catalogue Catalogue
	provider  Provider // nil: events are settled from what they say alone
	now       func() time.Time
	log       *slog.Logger
	observe   func(kind string, state EventState)
}

// NewProcessor returns a processor. read reads an event; observe is told what
// became of each.
func NewProcessor(inbox Inbox, read func([]byte) (Event, error), c Catalogue, p Provider, now func() time.Time, log *slog.Logger, observe func(kind string, state EventState)) *Processor {
	return &Processor{inbox, read, c, p, now, log, observe}
}

// Handle is the handler of jobs.StripeEvent. An event that makes it panic is
// given up at once: it would again.
func (p *Processor) Handle(ctx context.Context, j jobs.Job) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = jobs.Permanent(fault.Panicked(r))
		}
		if jobs.IsPermanent(err) {
			p.log.ErrorContext(ctx, "an event of Stripe's can't be applied: see gatehouse admin webhooks explain", "event", j.Subject, "err", err)
		}
	}()
	stored, err := p.inbox.Event(ctx, j.Subject)
	if isMissing(err) || err == nil && stored.State != Received {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read event: %w", err)
	}
	change, err := p.decide(ctx, stored)
	if err != nil {
		return err
	}
	change.EventID, change.Claim, change.By = stored.ID, j.Claim, fmt.Sprintf("job %s/%s, claim %d, try %d", j.Kind, j.Subject, j.Claim, j.Tries)
	stored, err = p.inbox.Apply(ctx, change)
	if err != nil {
		return fmt.Errorf("apply event: %w", err)
	}
	p.observe(stored.Type, stored.State)
	if stored.State == Parked {
		level := slog.LevelError // somebody has to look
		if stored.WaitsFor != "" {
			level = slog.LevelWarn
		}
		p.log.Log(ctx, level, "an event of Stripe's is parked", "event", stored.ID, "type", stored.Type, "reason", stored.Reason, "waits_for", stored.WaitsFor)
	}
	return nil
}

// decide reads an event and says what it comes to. It asks the provider, and
// changes nothing.
func (p *Processor) decide(ctx context.Context, stored StoredEvent) (Change, error) {
	e, err := p.read(stored.Payload)
	switch {
	case err != nil:
		return parked("it can't be understood: " + err.Error()), nil //nolint:nilerr // trying again won't mend it
	case e.Account != "":
		return parkedOf(e, "it is of the connected account "+e.Account+", not of ours"), nil
	case p.provider != nil && e.Live != p.provider.Live():
		return parkedOf(e, fmt.Sprintf("its livemode is %t, and the API key's is %t", e.Live, p.provider.Live())), nil
	}
	c, err := p.effect(ctx, e)
	if c.Customer == (Party{}) {
		c.Customer = e.Party
	}
	return c, err
}

func parked(reason string) Change { return Change{State: Parked, Reason: reason} }

// parkedOf parks an event of which it is known whose it is, so that it goes with
// the customer.
func parkedOf(e Event, reason string) Change {
	c := parked(reason)
	c.Customer = e.Party
	return c
}

func ignored(reason string) Change { return Change{State: Ignored, Reason: reason} }

func (p *Processor) effect(ctx context.Context, e Event) (Change, error) {
	switch {
	case e.Subscription != nil:
		return p.subscription(ctx, e)
	case e.Invoice != nil:
		return p.invoice(ctx, e)
	case e.Method != nil:
		return p.method(ctx, e)
	case e.Charge != nil || e.Dispute != nil:
		return p.reversal(ctx, e)
	case e.InvoicePayment != nil && e.InvoicePayment.Intent != "":
		return Change{State: Done, Reason: "noted which intent paid the invoice", Payment: &Payment{ID: e.InvoicePayment.Invoice, Intent: e.InvoicePayment.Intent, Link: true}}, nil
	}
	return ignored("it changes nothing here"), nil
}

// subscription is the effect of an event about a subscription.
func (p *Processor) subscription(ctx context.Context, e Event) (Change, error) {
	object := *e.Subscription
	kind := FactUpdated
	if e.Type == "customer.subscription.created" {
		kind = FactCreated
	}
	fact := factOf(e, kind, object)
	fetched, now, err := p.fetch(ctx, e, object.ID)
	if err != nil {
		return Change{}, err
	}
	if now != nil {
		for _, price := range object.Prices { // what was Pro's is, also where that is heard late
			if !slices.ContainsFunc(now.Prices, func(p Price) bool { return p.ID == price.ID }) {
				now.Prices = append(now.Prices, price)
			}
		}
		object = *now
		if !hasEnded(fact.Status) || hasEnded(fetched.Status) { // an end that was told is one
			fact = fetched
		}
	}
	if !KnownStatus(fact.Status) {
		return parked(fmt.Sprintf("the subscription's status %q is not known", fact.Status)), nil
	}
	pro, unknown, err := p.pro(ctx, object.Prices, object.ID)
	if err != nil {
		return Change{}, err
	}
	fact.Pro = len(pro) > 0
	_, already, err := p.inbox.ProPrices(ctx, nil, object.ID)
	switch {
	case err != nil:
		return Change{}, fmt.Errorf("look up subscription: %w", err)
	case fact.Pro || already:
		return Change{State: Done, Customer: object.Party, Facts: []Fact{fact}, ProPrices: pro}, nil
	case unknown != "":
		return unknownPrice(unknown), nil
	}
	// It may become Pro's, and then what it was counts.
	return Change{State: Ignored, Reason: "the subscription has no line of Pro", Customer: object.Party, Facts: []Fact{fact}}, nil
}

func unknownPrice(id string) Change {
	c := parked("whether the price " + id + " is Pro's is not known: name it in the catalogue, or set stripe-api-key, and replay the event")
	c.WaitsFor = WaitsForPrice + id
	return c
}

// fetch asks for a subscription as it is now. It returns none where nobody can
// be asked, or Stripe has none.
func (p *Processor) fetch(ctx context.Context, e Event, id string) (Fact, *SubscriptionObject, error) {
	if p.provider == nil || id == "" {
		return Fact{}, nil, nil
	}
	// What Stripe answers is as new as the question, or newer.
	asked := p.now()
	object, err := p.provider.Subscription(ctx, id)
	if errors.Is(err, ErrGone) {
		return Fact{}, nil, nil
	}
	if err != nil {
		return Fact{}, nil, fmt.Errorf("ask for subscription: %w", err)
	}
	fact := factOf(e, FactFetched, object)
	fact.Was, fact.Seen, fact.At = "", asked, latest(asked, e.Created)
	return fact, &object, nil
}

func factOf(e Event, kind FactKind, o SubscriptionObject) Fact {
	return Fact{
		SubscriptionID: o.ID, EventID: e.ID, Kind: kind, At: e.Created, Status: o.Status, Was: o.Was,
		CancelsAtEnd: o.CancelsAtEnd, Started: o.Started, PeriodStart: o.PeriodStart, PeriodEnd: o.PeriodEnd,
	}
}

// pro finds the Pro prices among some, and one of which that isn't known.
func (p *Processor) pro(ctx context.Context, prices []Price, subscription string) (pro []string, unknown string, err error) {
	var ask []string
	for _, price := range prices {
		switch {
		case p.catalogue.IsPro(price):
			pro = append(pro, price.ID)
		case price.ID != "":
			ask = append(ask, price.ID)
		}
	}
	if len(ask) == 0 {
		return pro, "", nil
	}
	// A price that was Pro's stays so: its lookup key may have been moved on.
	known, _, err := p.inbox.ProPrices(ctx, ask, subscription)
	if err != nil {
		return nil, "", fmt.Errorf("look up prices: %w", err)
	}
	pro = append(pro, known...)
	for _, price := range prices {
		if !price.Partial || slices.Contains(pro, price.ID) {
			continue
		}
		if p.provider == nil {
			unknown = price.ID
			continue
		}
		full, err := p.provider.Price(ctx, price.ID)
		switch {
		case errors.Is(err, ErrGone):
			unknown = price.ID
		case err != nil:
			return nil, "", fmt.Errorf("ask for price: %w", err)
		case p.catalogue.IsPro(full):
			pro = append(pro, price.ID)
		}
	}
	return pro, unknown, nil
}

// invoice is the effect of an event about an invoice that was paid, or not.
func (p *Processor) invoice(ctx context.Context, e Event) (Change, error) {
	invoice := *e.Invoice
	if p.provider != nil && invoice.MoreLines {
		full, err := p.provider.Invoice(ctx, invoice.ID)
		switch {
		case err == nil:
			invoice.Prices, invoice.MoreLines, invoice.OnlyCredits = full.Prices, false, full.OnlyCredits
			invoice.Subscription = full.Subscription
		case !errors.Is(err, ErrGone):
			return Change{}, fmt.Errorf("ask for invoice: %w", err)
		}
	}
	pro, unknown, err := p.pro(ctx, invoice.Prices, invoice.Subscription)
	if err != nil {
		return Change{}, err
	}
	_, known, err := p.inbox.ProPrices(ctx, nil, invoice.Subscription)
	if err != nil {
		return Change{}, fmt.Errorf("look up subscription: %w", err)
	}
	// Lines that the event leaves out are taken for the subscription's own.
	leftOut := len(invoice.Prices) == 0 && !invoice.OnlyCredits || invoice.MoreLines
	isPro := len(pro) > 0 || known && leftOut
	switch {
	case isPro:
	case unknown != "":
		return unknownPrice(unknown), nil
	case leftOut && invoice.Subscription != "":
		c := parked("what the invoice is for is not known: it leaves its lines out, and of its subscription nothing was heard yet")
		c.WaitsFor = WaitsForSubscription + invoice.Subscription
		return c, nil
	}
	c := Change{State: Done, ProPrices: pro}
	if invoice.Subscription != "" {
		// It counts once the subscription is known to be Pro's, if that is later.
		fact := Fact{SubscriptionID: invoice.Subscription, EventID: e.ID, Kind: FactPaid, At: e.Created}
		if e.Type == "invoice.payment_failed" {
			fact.Kind = FactFailed
		}
		if isPro || known {
			fetched, object, err := p.fetch(ctx, e, invoice.Subscription)
			if err != nil {
				return Change{}, err
			}
			if object != nil && KnownStatus(fetched.Status) {
				fact = fetched
			}
		}
		fact.Pro = isPro
		c.Facts = []Fact{fact}
	}
	if e.Type != "invoice.payment_failed" {
		c.Payment = &Payment{ID: invoice.ID, Intent: invoice.Intent, Cents: invoice.Cents, Source: ProPayment}
		if isPro {
			c.Payment.Credits = p.catalogue.Pro.Credits
		}
	}
	if !isPro && !known {
		c.State, c.Reason = Ignored, "the invoice has no line of Pro"
	}
	return c, nil
}

// method is the effect of an event about a payment method.
func (p *Processor) method(ctx context.Context, e Event) (Change, error) {
	m := Method{ID: e.Method.ID, Credits: p.catalogue.PaymentMethod.Credits}
	if e.Method.Attached {
		m.AttachedAt = e.Created
	} else {
		m.DetachedAt = e.Created
	}
	if p.provider != nil && e.Method.Attached {
		asked := p.now()
		now, err := p.provider.Method(ctx, m.ID)
		switch {
		case errors.Is(err, ErrGone):
		case err != nil:
			return Change{}, fmt.Errorf("ask for payment method: %w", err)
		case !now.Attached: // it was, and has been detached since
			m.DetachedAt = latest(asked, e.Created)
		}
	}
	return Change{State: Done, Method: &m}, nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// reversal is the effect of a refund or a dispute.
func (p *Processor) reversal(ctx context.Context, e Event) (Change, error) {
	r := Reversal{}
	none, fix := false, ""
	if c := e.Charge; c != nil {
		r = Reversal{Intent: c.Intent, Payment: c.Invoice, Charge: c.ID, Cents: c.Cents, From: c.RefundedBefore, To: c.Refunded}
		none, fix = c.NoInvoice, c.FixID
	} else {
		d := e.Dispute
		r = Reversal{Intent: d.Intent, Charge: d.Charge, Dispute: d.ID, DisputeCents: d.Cents, Closed: e.Type == "charge.dispute.closed"}
		r.Won = r.Closed && (d.Status == "won" || d.Status == "warning_closed")
	}
	if r.Intent == "" {
		r.Intent = r.Charge
	}
	if r.Payment == "" && !none && fix == "" && p.provider != nil {
		invoice, err := p.provider.InvoiceOf(ctx, r.Intent)
		if err != nil && !errors.Is(err, ErrGone) {
			return Change{}, fmt.Errorf("ask for the invoice of a payment: %w", err)
		}
		r.Payment = invoice
		none = err == nil && invoice == "" && e.Charge != nil // a dispute does not say whether it is of a fix
	}
	if none && fix == "" {
		return ignored("the charge paid for nothing here"), nil
	}
	return Change{State: Done, Reversal: &r}, nil
}
