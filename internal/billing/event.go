package billing

import "time"

// Event is what an event of Stripe's says, whatever its version's shape. Of
// the objects at most one is there.
type Event struct {
	ID, Type string
	Created  time.Time
	Live     bool
	Account  string // of a connected account; "" for our own
	Party    Party

	Subscription   *SubscriptionObject
	Invoice        *InvoiceObject
	Method         *MethodObject
	Charge         *ChargeObject
	Dispute        *DisputeObject
	InvoicePayment *InvoicePaymentObject
}

// SubscriptionObject is a subscription as Stripe has it.
type SubscriptionObject struct {
	ID, Status   string
	Was          string // before the update that an event tells; "": not said
	Party        Party
	Prices       []Price
	CancelsAtEnd bool
	Started      time.Time
	PeriodStart  time.Time
	PeriodEnd    time.Time
}

// InvoiceObject is an invoice.
type InvoiceObject struct {
	ID           string
	Subscription string  // "": it is not for one
	Intent       string  // payment intent; "": newer versions leave it out
	Cents        int64   // paid
	Prices       []Price // of lines that are no credit for something else
	MoreLines    bool    // there are lines that the event leaves out
	OnlyCredits  bool    // each line is a credit for something else, as for what is left of a month
}

// MethodObject is a payment method.
type MethodObject struct {
	ID       string
	Attached bool // to a customer, just now
}

// ChargeObject is a charge that money went back of.
type ChargeObject struct {
	ID, Intent     string
	Invoice        string // "": not said, or none
	FixID          string // the fix it was for; "": none
	NoInvoice      bool   // certainly none: the version tells, and there is none
	Cents          int64
	Refunded       int64 // in all
	RefundedBefore int64
}

// DisputeObject is a dispute about a charge.
type DisputeObject struct {
	ID, Charge, Intent string
	Cents              int64
	Status             string
}

// InvoicePaymentObject tells which intent paid an invoice.
type InvoicePaymentObject struct{ Invoice, Intent string }
