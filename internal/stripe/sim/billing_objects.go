package sim

// Subscription is a price that comes again.
type Subscription struct {
	Base
	BillingCycleAnchor Stamp `json:"billing_cycle_anchor"`
	BillingMode        struct {
		Type string `json:"type"`
	} `json:"billing_mode"`
	CancelAt            Stamp `json:"cancel_at"`
	CancelAtPeriodEnd   bool  `json:"cancel_at_period_end"`
	CanceledAt          Stamp `json:"canceled_at"`
	CancellationDetails struct {
		Reason string `json:"reason"`
	} `json:"cancellation_details"`
	CollectionMethod     string                  `json:"collection_method"` // "charge_automatically"
	Currency             string                  `json:"currency"`
	Customer             string                  `json:"customer"`
	DefaultPaymentMethod string                  `json:"default_payment_method"`
	Description          string                  `json:"description"`
	EndedAt              Stamp                   `json:"ended_at"`
	Items                list[*SubscriptionItem] `json:"items"`
	LatestInvoice        string                  `json:"latest_invoice"`
	Metadata             map[string]string       `json:"metadata"`
	StartDate            Stamp                   `json:"start_date"`
	Status               string                  `json:"status"`
	TestClock            string                  `json:"test_clock"`
	TrialEnd             Stamp                   `json:"trial_end"`
	TrialStart           Stamp                   `json:"trial_start"`
}

// SubscriptionItem is one price of a subscription; all of them have the same period here.
type SubscriptionItem struct {
	ID                 string            `json:"id"`
	Object             string            `json:"object"` // "subscription_item"
	Created            Stamp             `json:"created"`
	CurrentPeriodEnd   Stamp             `json:"current_period_end"`
	CurrentPeriodStart Stamp             `json:"current_period_start"`
	Metadata           map[string]string `json:"metadata"`
	Price              *Price            `json:"price"`
	Quantity           int64             `json:"quantity"`
	Subscription       string            `json:"subscription"`
}

// Invoice is what a subscription costs for a period.
type Invoice struct {
	Base
	AmountDue                int64                    `json:"amount_due"`
	AmountOverpaid           int64                    `json:"amount_overpaid"`
	AmountPaid               int64                    `json:"amount_paid"`
	AmountRemaining          int64                    `json:"amount_remaining"`
	AttemptCount             int64                    `json:"attempt_count"`
	Attempted                bool                     `json:"attempted"`
	AutoAdvance              bool                     `json:"auto_advance"`
	AutomaticallyFinalizesAt Stamp                    `json:"automatically_finalizes_at"`
	BillingReason            string                   `json:"billing_reason"`
	CollectionMethod         string                   `json:"collection_method"` // "charge_automatically"
	Currency                 string                   `json:"currency"`
	Customer                 string                   `json:"customer"`
	CustomerEmail            string                   `json:"customer_email"`
	CustomerName             string                   `json:"customer_name"`
	EffectiveAt              Stamp                    `json:"effective_at"`
	Lines                    list[*InvoiceLine]       `json:"lines"`
	Metadata                 map[string]string        `json:"metadata"`
	NextPaymentAttempt       Stamp                    `json:"next_payment_attempt"`
	Number                   string                   `json:"number"`
	Parent                   InvoiceParent            `json:"parent"`
	PeriodEnd                Stamp                    `json:"period_end"`
	PeriodStart              Stamp                    `json:"period_start"`
	Status                   string                   `json:"status"`
	StatusTransitions        InvoiceStatusTransitions `json:"status_transitions"`
	Subtotal                 int64                    `json:"subtotal"`
	TestClock                string                   `json:"test_clock"`
	Total                    int64                    `json:"total"`

	outOfBand bool
	payment   *InvoicePayment // nil: there is nothing to pay
}

// InvoiceParent is what an invoice is for.
type InvoiceParent struct {
	QuoteDetails        *struct{} `json:"quote_details"`
	SubscriptionDetails struct {
		Metadata     map[string]string `json:"metadata"`
		Subscription string            `json:"subscription"`
	} `json:"subscription_details"`
	Type string `json:"type"` // "subscription_details"
}

// InvoiceStatusTransitions is when an invoice became what it is.
type InvoiceStatusTransitions struct {
	FinalizedAt           Stamp `json:"finalized_at"`
	MarkedUncollectibleAt Stamp `json:"marked_uncollectible_at"`
	PaidAt                Stamp `json:"paid_at"`
	VoidedAt              Stamp `json:"voided_at"`
}

// InvoiceLine is one line of an invoice. It names its price and no more of it.
type InvoiceLine struct {
	ID          string            `json:"id"`
	Object      string            `json:"object"` // "line_item"
	Amount      int64             `json:"amount"`
	Currency    string            `json:"currency"`
	Description string            `json:"description"`
	Invoice     string            `json:"invoice"`
	Livemode    bool              `json:"livemode"`
	Metadata    map[string]string `json:"metadata"`
	Parent      LineParent        `json:"parent"`
	Period      struct {
		End   Stamp `json:"end"`
		Start Stamp `json:"start"`
	} `json:"period"`
	Pricing struct {
		PriceDetails struct {
			Price   string `json:"price"`
			Product string `json:"product"`
		} `json:"price_details"`
		Type              string `json:"type"` // "price_details"
		UnitAmountDecimal string `json:"unit_amount_decimal"`
	} `json:"pricing"`
	Quantity        int64  `json:"quantity"`
	QuantityDecimal string `json:"quantity_decimal"`
	Subtotal        int64  `json:"subtotal"`
}

// LineParent is what a line comes from.
type LineParent struct {
	InvoiceItemDetails      *struct{} `json:"invoice_item_details"`
	SubscriptionItemDetails struct {
		Proration        bool   `json:"proration"`
		Subscription     string `json:"subscription"`
		SubscriptionItem string `json:"subscription_item"`
	} `json:"subscription_item_details"`
	Type string `json:"type"` // "subscription_item_details"
}

// InvoicePayment joins an invoice to the payment that is to pay it.
type InvoicePayment struct {
	Base
	AmountPaid      int64  `json:"amount_paid"`
	AmountRequested int64  `json:"amount_requested"`
	Currency        string `json:"currency"`
	Invoice         string `json:"invoice"`
	IsDefault       bool   `json:"is_default"`
	Payment         struct {
		PaymentIntent string `json:"payment_intent"`
		Type          string `json:"type"` // "payment_intent"
	} `json:"payment"`
	Status            string `json:"status"` // open, paid or canceled
	StatusTransitions struct {
		CanceledAt Stamp `json:"canceled_at"`
		PaidAt     Stamp `json:"paid_at"`
	} `json:"status_transitions"`
}
