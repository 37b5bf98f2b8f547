package stripe

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/google/uuid"

	"gatehouse/internal/billing"
)

// Metadata of a payment intent, by which it is found again.
const (
	fixField     = "gatehouse_fix_id"
	attemptField = "gatehouse_attempt"
)

// clockDoubt is how far a clock here may differ from Stripe's: charges that are
// older than their fix by less are looked at too.
const clockDoubt = 24 * time.Hour

// Charge makes a payment intent that is confirmed at once, while its customer is
// away. Its Idempotency-Key is of the fix and the attempt, so that Stripe answers
// the same again for 24 hours at least.
//
// What it returns without an error is certain. A refusal is certain where Stripe
// says that the card was declined, or that the request is invalid: that also
// comes of a payment method that was detached meanwhile. All else is an error,
// with which the charge may have come through: ask again, with Again.
func (c *Client) Charge(ctx context.Context, ch billing.Charge) (billing.ChargeOutcome, error) {
	if ch.Again || ch.Late || ch.Final {
		found, err := c.findCharge(ctx, ch)
		if err != nil {
			return billing.ChargeOutcome{}, fmt.Errorf("look for a charge at Stripe: %w", err)
		}
		switch {
		case found.ID == "" && ch.Final:
			return billing.ChargeOutcome{Why: "not_charged"}, nil
		case found.ID != "" && (found.settled() || ch.Final):
			return found.outcome()
		case ch.Late:
			return billing.ChargeOutcome{}, errors.New("look for a charge at Stripe: it may be under way, and may not be made any more")
		}
	}
	answer, err := c.post(ctx, "/v1/payment_intents", fmt.Sprintf("fix:%s:charge:%d", ch.FixID, ch.Attempt), url.Values{
		"amount":         {strconv.FormatInt(ch.Cents, 10)},
		"currency":       {ch.Currency},
		"customer":       {ch.Customer},
		"payment_method": {ch.Method},
		"off_session":    {"true"},
		// Without it an account's other methods might ask for the customer.
		"payment_method_types[]": {"card"},
		"confirm":                {"true"},

		"metadata[" + fixField + "]":     {ch.FixID},
		"metadata[" + attemptField + "]": {strconv.FormatInt(ch.Attempt, 10)},
	})
	var made intent
	if err == nil {
		err = decodeObject(inAnswer, "payment_intent", answer, &made)
	}
	if err == nil && made.Metadata != (metadata{}) && !made.isOf(ch) {
		err = errors.New("the answer's payment intent is another one's")
	}
	var o billing.ChargeOutcome
	if e, ok := errors.AsType[*refusalError](err); ok && e.isRefused() {
		return e.outcome(), nil
	}
	if err == nil {
		o, err = made.outcome()
	}
	if err != nil {
		return billing.ChargeOutcome{}, fmt.Errorf("charge at Stripe: %w", err)
	}
	return o, nil
}

// intent is a payment intent.
type intent struct {
	owned
	Created unix `json:"created"`
	Status  word `json:"status"`
	Error   struct {
		Code    string `json:"code"`
		Decline string `json:"decline_code"`
	} `json:"last_payment_error"`
}

func (i intent) isOf(ch billing.Charge) bool {
	return string(i.Metadata.Fix) == ch.FixID && string(i.Metadata.Attempt) == strconv.FormatInt(ch.Attempt, 10)
}

// settled says whether its status is no step on the way of a request that is
// still answered.
func (i intent) settled() bool {
	return i.Status != "requires_confirmation" && (i.Status != "requires_payment_method" || i.Error.Code != "" || i.Error.Decline != "")
}

// outcome says what became of a charge, as far as that is certain. Nobody is
// there to go on with one that asks for something.
func (i intent) outcome() (billing.ChargeOutcome, error) {
	o := billing.ChargeOutcome{Intent: string(i.ID)}
	switch i.Status {
	case "succeeded":
		o.Paid = true
	case "requires_payment_method", "requires_confirmation", "requires_action", "requires_capture", "canceled":
		o.Why = firstWord(i.Error.Decline, i.Error.Code, string(i.Status))
	default:
		return billing.ChargeOutcome{}, fmt.Errorf("the payment intent's status is %q", i.Status)
	}
	return o, nil
}

// isRefused says whether Stripe refused a charge for certain.
func (e *refusalError) isRefused() bool {
	switch {
	case e.intentStatus == "succeeded" || e.intentStatus == "processing":
		return false
	case e.status == http.StatusPaymentRequired:
		return e.kind == "card_error" || e.kind == "invalid_request_error"
	case e.status == http.StatusNotFound:
		return e.isMissing() // the customer, or the payment method
	}
	return e.status == http.StatusBadRequest && e.kind == "invalid_request_error"
}

func (e *refusalError) outcome() billing.ChargeOutcome {
	o := billing.ChargeOutcome{Why: firstWord(e.decline, e.code, e.kind)}
	if isID(e.intent) {
		o.Intent = e.intent
	}
	return o
}

// findCharge looks for an attempt among what its customer was charged since
// there was its fix, and prefers one that came through. None has no id.
func (c *Client) findCharge(ctx context.Context, ch billing.Charge) (intent, error) {
	var found intent
	var oldest time.Time
	if id, err := uuid.Parse(ch.FixID); err == nil && id.Version() == 7 {
		oldest = time.Unix(id.Time().UnixTime()).Add(-clockDoubt)
	}
	newest := pages(ctx, c, "/v1/payment_intents", url.Values{"customer": {ch.Customer}}, func(i intent) ident { return i.ID })
	for i, err := range newest {
		if err != nil {
			return intent{}, err
		}
		if i.Created.Before(oldest) && !i.Created.IsZero() {
			break
		}
		if i.isOf(ch) && (found.ID == "" || i.Status == "succeeded") {
			found = i
		}
		if found.Status == "succeeded" {
			break
		}
	}
	return found, nil
}

// firstWord is the first that can be shown for a code of Stripe's.
func firstWord(all ...string) string {
	for _, s := range all {
		if s != "" && isWord(s) {
			return s
		}
	}
	return ""
}
