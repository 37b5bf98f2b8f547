package sim

import (
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Objects are in the form of [Version]; older ones are made from it. What there
// is not is "" or 0 here and null on the wire.

// Stamp is a time in seconds since 1970; 0 is none.
type Stamp int64

// MarshalJSONTo writes no time as null.
func (t Stamp) MarshalJSONTo(e *jsontext.Encoder) error {
	if t == 0 {
		return e.WriteToken(jsontext.Null)
	}
	return e.WriteToken(jsontext.Int(int64(t)))
}

func (t Stamp) time() time.Time { return time.Unix(int64(t), 0).UTC() }

// Base is what every object has.
type Base struct {
	ID       string `json:"id"`
	Object   string `json:"object"` // its kind
	Created  Stamp  `json:"created"`
	Livemode bool   `json:"livemode"`
}

func (b *Base) base() *Base { return b }

// identified is a pointer to any of the objects.
type identified interface{ base() *Base }

// Customer is a customer.
type Customer struct {
	Base
	Email           string            `json:"email"`
	Metadata        map[string]string `json:"metadata"`
	Name            string            `json:"name"`
	InvoiceSettings struct {
		DefaultPaymentMethod string `json:"default_payment_method"`
	} `json:"invoice_settings"`
	TestClock string `json:"test_clock"`
	// Asked is how often it was asked for: 1, and each replay of its answer.
	Asked int `json:"-"`
}

// Product is what a price is for.
type Product struct {
	Base
	Active   bool              `json:"active"`
	Metadata map[string]string `json:"metadata"`
	Name     string            `json:"name"`
}

// Price is a price a month, or what else Recurring says; without it, once.
type Price struct {
	Base
	Active            bool              `json:"active"`
	BillingScheme     string            `json:"billing_scheme"` // "per_unit"
	Currency          string            `json:"currency"`
	LookupKey         string            `json:"lookup_key"`
	Metadata          map[string]string `json:"metadata"`
	Product           string            `json:"product"`
	Recurring         *Recurring        `json:"recurring"`
	Type              string            `json:"type"`        // recurring or one_time
	UnitAmount        int64             `json:"unit_amount"` // cents
	UnitAmountDecimal string            `json:"unit_amount_decimal"`
}

// Recurring is how often a price is due.
type Recurring struct {
	Interval      string `json:"interval"` // day, week, month or year
	IntervalCount int64  `json:"interval_count"`
	UsageType     string `json:"usage_type"` // "licensed"
}

// PaymentMethod is a card.
type PaymentMethod struct {
	Base
	BillingDetails struct {
		Email string `json:"email"`
		Name  string `json:"name"`
	} `json:"billing_details"`
	Card     Card              `json:"card"`
	Customer string            `json:"customer"`
	Metadata map[string]string `json:"metadata"`
	Type     string            `json:"type"` // "card"

	does outcome
	used bool // it was attached once, and may not be again
}

// Card is what is shown of a card.
type Card struct {
	Brand       string `json:"brand"`
	Country     string `json:"country"`
	ExpMonth    int64  `json:"exp_month"`
	ExpYear     int64  `json:"exp_year"`
	Fingerprint string `json:"fingerprint"`
	Funding     string `json:"funding"`
	Last4       string `json:"last4"`
}

// PaymentIntent is a payment, tried once or more.
type PaymentIntent struct {
	Base
	Amount             int64             `json:"amount"`
	AmountReceived     int64             `json:"amount_received"`
	CaptureMethod      string            `json:"capture_method"` // "automatic"
	ClientSecret       string            `json:"client_secret"`
	Currency           string            `json:"currency"`
	Customer           string            `json:"customer"`
	Description        string            `json:"description"`
	LastPaymentError   *Failure          `json:"last_payment_error"`
	LatestCharge       string            `json:"latest_charge"`
	Metadata           map[string]string `json:"metadata"`
	NextAction         *NextAction       `json:"next_action"`
	PaymentMethod      string            `json:"payment_method"`
	PaymentMethodTypes []string          `json:"payment_method_types"`
	Status             string            `json:"status"`

	invoice string // that it pays
}

// NextAction is what a payment waits for.
type NextAction struct {
	Type string `json:"type"` // "use_stripe_sdk"
}

// Charge is one try of a payment.
type Charge struct {
	Base
	Amount               int64             `json:"amount"`
	AmountCaptured       int64             `json:"amount_captured"`
	AmountRefunded       int64             `json:"amount_refunded"`
	Captured             bool              `json:"captured"`
	Currency             string            `json:"currency"`
	Customer             string            `json:"customer"`
	Description          string            `json:"description"`
	Disputed             bool              `json:"disputed"`
	FailureCode          string            `json:"failure_code"`
	FailureMessage       string            `json:"failure_message"`
	Metadata             map[string]string `json:"metadata"`
	Paid                 bool              `json:"paid"`
	PaymentIntent        string            `json:"payment_intent"`
	PaymentMethod        string            `json:"payment_method"`
	PaymentMethodDetails struct {
		Card Card   `json:"card"`
		Type string `json:"type"`
	} `json:"payment_method_details"`
	Refunded bool   `json:"refunded"` // in full
	Status   string `json:"status"`
}

// Refund gives back a part of a charge, or all.
type Refund struct {
	ID            string            `json:"id"`
	Object        string            `json:"object"` // "refund"; it has no livemode
	Created       Stamp             `json:"created"`
	Amount        int64             `json:"amount"`
	Charge        string            `json:"charge"`
	Currency      string            `json:"currency"`
	Metadata      map[string]string `json:"metadata"`
	PaymentIntent string            `json:"payment_intent"`
	Reason        string            `json:"reason"`
	Status        string            `json:"status"`
}

func (r *Refund) base() *Base { return &Base{ID: r.ID, Object: r.Object, Created: r.Created} }

// Dispute is a cardholder's complaint to the bank.
type Dispute struct {
	Base
	Amount          int64  `json:"amount"`
	Charge          string `json:"charge"`
	Currency        string `json:"currency"`
	EvidenceDetails struct {
		DueBy           Stamp `json:"due_by"`
		HasEvidence     bool  `json:"has_evidence"`
		PastDue         bool  `json:"past_due"`
		SubmissionCount int64 `json:"submission_count"`
	} `json:"evidence_details"`
	IsChargeRefundable bool              `json:"is_charge_refundable"`
	Metadata           map[string]string `json:"metadata"`
	PaymentIntent      string            `json:"payment_intent"`
	Reason             string            `json:"reason"`
	Status             string            `json:"status"`
}

// TestClock is the time of its customers.
type TestClock struct {
	Base
	DeletesAfter Stamp  `json:"deletes_after"`
	FrozenTime   Stamp  `json:"frozen_time"`
	Name         string `json:"name"`
	Status       string `json:"status"`
}

// Event is what has happened.
type Event struct {
	Base
	APIVersion      string       `json:"api_version"`
	Data            EventData    `json:"data"`
	PendingWebhooks int          `json:"pending_webhooks"` // 1 until it is delivered
	Request         EventRequest `json:"request"`
	Type            string       `json:"type"`

	born    int64 // by the clock of the stand-in, which events are kept by
	subject Base  // of the object
}

// EventData is an object as it was, and what its fields were before.
type EventData struct {
	Object             jsontext.Value `json:"object"`
	PreviousAttributes jsontext.Value `json:"previous_attributes,omitzero"`
}

// EventRequest is the call that led to an event, if it was one.
type EventRequest struct {
	ID             string `json:"id"`
	IdempotencyKey string `json:"idempotency_key"`
}
