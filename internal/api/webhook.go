package api

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
)

// maxEvent is the longest body of a webhook, in bytes.
const maxEvent = 1 << 20

// errUnauthentic is the answer to all that Stripe did not sign. Why is for the
// log: it would help a forger.
var errUnauthentic = &fault.Error{
	Kind: fault.Unauthentic, Code: "INVALID_SIGNATURE",
	Message: "The Stripe-Signature header is missing, or it is not a recent signature of this body.",
}

// webhook returns the handler of what Stripe sends. What is not authentic and
// what is count apart, so that neither uses up the other's places. A body that
// is too long, or was cut off, can't be either: it is refused without counting.
func (a *API) webhook() func(*exchange) error {
	if a.Webhook == nil {
		return func(*exchange) error {
			return &fault.Error{
				Kind: fault.Unavailable, Code: "UNAVAILABLE", Message: "Webhooks are not set up here: there is no secret to check them with.",
				RetryAfter: time.Minute, // an operator must set them up
			}
		}
	}
	unauthentic := a.byAddress(a.WebhookUnauthentic)
	authentic := a.by(a.StripeWebhook, func(*exchange) string { return "all" })
	return func(x *exchange) error {
		r, err := a.receive(x)
		if errors.Is(err, errUnauthentic) {
			if refusal := unauthentic(x); refusal != nil {
				return refusal
			}
		}
		if err != nil {
			return err
		}
		if err := authentic(x); err != nil {
			return err
		}
		isNew, err := a.Inbox.TakeIn(x.context(), r)
		if err != nil {
			return a.notTakenIn(x, err)
		}
		return x.reply(http.StatusOK, struct {
			Received  bool `json:"received"`
			Duplicate bool `json:"duplicate"`
		}{true, !isNew})
	}
}

// eventBodies are buffers for bodies. What is forged leaves nothing behind but
// a buffer that is used again.
var eventBodies = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// receive reads an event and makes sure that it is one of Stripe's.
func (a *API) receive(x *exchange) (billing.Receipt, error) {
	body := eventBodies.Get().(*bytes.Buffer)
	defer eventBodies.Put(body)
	body.Reset()
	if err := x.read(body, maxEvent); err != nil {
		return billing.Receipt{}, err
	}
	r, err := a.Webhook(x.Request.Header["Stripe-Signature"], body.Bytes())
	if err != nil {
		a.tellForged(x, err)
		return billing.Receipt{}, errUnauthentic
	}
	r.Payload = bytes.Clone(r.Payload) // a store may go on with it after its caller left
	return r, nil
}

// forgedNews is how often it is said that webhooks are refused: a secret that is
// not Stripe's must be seen, and a storm must not fill the log.
const forgedNews = time.Minute

func (a *API) tellForged(x *exchange, err error) {
	now, last := time.Now().UnixNano(), a.forgedAt.Load()
	if now-last > int64(forgedNews) && a.forgedAt.CompareAndSwap(last, now) {
		a.Log.WarnContext(x.context(), "webhooks are refused: they are forged, or stripe-webhook-secrets is not what Stripe signs with", "request_id", x.id, "err", err)
	} else if a.Log.Enabled(x.context(), slog.LevelDebug) { // or the arguments alone would cost something
		a.Log.DebugContext(x.context(), "webhook is not authentic", "request_id", x.id, "err", err)
	}
}

// notTakenIn makes Stripe send the event again, whatever it was: it is not
// stored.
func (a *API) notTakenIn(x *exchange, err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Kind == fault.Unavailable {
		return err
	}
	a.Log.ErrorContext(x.context(), "event can't be stored", "request_id", x.id, "err", err)
	return fault.Away(err)
}
