package billing

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"gatehouse/internal/fault"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/jobs"
)

// FixState is how far a fix has come. It is stored.
type FixState string

// The states.
const (
	FixPending FixState = "pending" // a charge is under way, or its outcome unknown
	FixPaid    FixState = "done"
	FixFailed  FixState = "failed" // the charge was refused: no fix, and a later try is a new charge
	FixUntold  FixState = "untold" // likewise, but whoever asks next has to hear of it first
)

// What pays for a fix, on the wire.
const (
	ByCredit = "credit"
	ByCharge = "charge"
)

// Fix is a deployed fix, or one whose charge is not settled.
type Fix struct {
	ID           string // UUIDv7
	CustomerID   string
	ExternalID   string // the customer's name for it: one fix each
	Repository   string // "": not said
	PullRequest  string // "": not said
	State        FixState
	PaidBy       string
	Cents        int64 // 0 when paid by credit
	Currency     string
	BalanceAfter int64 // credits, once it was paid
	CreatedAt    time.Time
	// Of a charge: which attempt it is, since when, and who and what is charged.
	Attempt        int64
	BegunAt        time.Time
	StripeCustomer string
	Method         string
	Intent         string // "" until it is known
	Why            string // why the last charge was refused
}

// FixOrder is a request to record a fix.
type FixOrder struct {
	Fix
	KeyID string // the API key that asks
	// Cents are what a fix costs, by plan, for who has no credit; nil: nobody
	// can be charged.
	CentsByPlan map[Plan]int64
}

// FixResult is what became of an order.
type FixResult struct {
	Fix
	Existing bool // it was recorded before
	// Turn says that the caller is the one to charge now.
	Turn bool
}

// FixOutcome is what became of one attempt to charge.
type FixOutcome struct {
	FixID      string
	CustomerID string
	Attempt    int64
	Told       bool // somebody waits for it
	ChargeOutcome
}

// FixStore keeps fixes. keep is used where a result is final.
type FixStore interface {
	// BeginFix records a fix that a credit pays for, or begins its charge and
	// queues the job that sees it through. An external id that is known returns
	// what became of it, also that it was refused, if nobody was told; otherwise
	// a refused one begins anew. Without a credit and a way
	// to pay it is fault.Forbidden.
	BeginFix(ctx context.Context, o FixOrder, keep *idempotency.Once[FixResult]) (FixResult, error)
	// SettleFix writes what became of an attempt, unless it is known already,
	// and returns the fix as it is then.
	SettleFix(ctx context.Context, o FixOutcome, keep *idempotency.Once[FixResult]) (FixResult, error)
	// Fix returns a fix, or fault.NotFound.
	Fix(ctx context.Context, id string) (Fix, error)
	// FixesBetween counts a customer's fixes from start to before end.
	FixesBetween(ctx context.Context, customerID string, start, end time.Time) (int64, error)
}

const (
	// chargePatience is how long a request waits for its charge.
	chargePatience = 10 * time.Second
	// ChargeTurn is for how long an intent is its request's alone: longer than
	// the request takes. Then its job tries, or another request.
	ChargeTurn = 15 * time.Second
	// ChargeTrust is for how long after its begin a charge may be made. Later it is
	// only looked for: Stripe answers a repeated request with what it stored for its
	// key, for a day, also where that was a failure of its own.
	ChargeTrust = time.Hour
	// chargeDoubt is for how long after that one that is not there may still be
	// under way: it was begun just before, or by a node whose clock is behind.
	chargeDoubt = 5 * time.Minute
	// chargePoll is how often a request looks for the outcome of another's.
	chargePoll = 100 * time.Millisecond
	// unsettledRetry is when who asked for a fix should ask again.
	unsettledRetry = 5 * time.Second
)

// Bounds of a fix's texts, in characters.
const (
	maxExternalID  = 255
	maxRepository  = 255
	maxPullRequest = 255
)

// Fixes records deployed fixes and has them paid.
type Fixes struct {
	store     FixStore
	catalogue Catalogue
	provider  Provider // nil: nobody can be charged
	now       func() time.Time
}

// NewFixes returns the service. Without a provider credits alone pay.
func NewFixes(store FixStore, catalogue Catalogue, provider Provider, now func() time.Time) *Fixes {
	return &Fixes{store, catalogue, provider, now}
}

// FixRequest is what a customer says of a fix. Nil is left out.
type FixRequest struct{ ExternalID, Repository, PullRequest *string }

// Record records a fix and has it paid: by a credit, or else by a charge. It is
// fault.PaymentRequired where the charge was refused, and fault.Unavailable
// where its outcome is unknown; the same external id asked for later tells it.
func (f *Fixes) Record(ctx context.Context, customerID, keyID string, r FixRequest, keep *idempotency.Once[FixResult]) (FixResult, error) {
	o := FixOrder{KeyID: keyID}
	var err error
	if o.Fix, err = checkFix(r); err != nil {
		return FixResult{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return FixResult{}, fmt.Errorf("make fix id: %w", err)
	}
	o.ID, o.CustomerID, o.Currency = id.String(), customerID, f.catalogue.Currency
	if f.provider != nil {
		o.CentsByPlan = make(map[Plan]int64)
		for _, plan := range []Plan{Trial, PayAsYouGo, Pro} {
			o.CentsByPlan[plan] = f.catalogue.FixCents(plan)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, chargePatience)
	defer cancel()
	result, err := f.store.BeginFix(ctx, o, keep)
	if err == nil && result.State == FixPending {
		if result.Turn && f.provider != nil {
			result, err = f.charge(ctx, result.Fix, result.Existing, true, keep)
		} else {
			result, err = f.await(ctx, result, keep)
		}
	}
	if err != nil {
		return FixResult{}, fmt.Errorf("record fix: %w", err)
	}
	switch result.State {
	case FixFailed:
		return FixResult{}, Refusal(result.Fix)
	case FixPending: // its attempt failed, and somebody began another one since
		return FixResult{}, fmt.Errorf("record fix: %w", unsettled(errors.New("another charge is under way")))
	}
	return result, nil
}

func checkFix(r FixRequest) (f Fix, err error) {
	var wrong []fault.Detail
	for _, field := range []struct {
		name     string
		given    *string
		into     *string
		most     int
		required bool
	}{
		{"external_id", r.ExternalID, &f.ExternalID, maxExternalID, true},
		{"repository", r.Repository, &f.Repository, maxRepository, false},
		{"pull_request", r.PullRequest, &f.PullRequest, maxPullRequest, false},
	} {
		if field.given != nil {
			*field.into = strings.TrimSpace(*field.given)
		}
		switch text := *field.into; {
		case text == "" && field.required:
			wrong = append(wrong, fault.Detail{Field: field.name, Reason: fault.Required, Message: field.name + " is required"})
		case utf8.RuneCountInString(text) > field.most:
			wrong = append(wrong, fault.Detail{Field: field.name, Reason: fault.TooLong, Message: fmt.Sprintf("%s must be at most %d characters", field.name, field.most)})
		case strings.ContainsFunc(text, breaksLine):
			wrong = append(wrong, fault.Detail{Field: field.name, Reason: fault.MalformedValue, Message: field.name + " must not contain control characters"})
		}
	}
	if len(wrong) > 0 {
		return f, fault.Fields(wrong)
	}
	return f, nil
}

// breaksLine is true of what could pretend to be more than a line of a table.
func breaksLine(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }

// Refusal is what a customer is told whose charge was refused.
func Refusal(f Fix) *fault.Error {
	message := "The payment was refused"
	if f.Why != "" {
		message += " (" + f.Why + ")"
	}
	return &fault.Error{
		Kind: fault.PaymentRequired, Code: "PAYMENT_FAILED",
		Message: message + ": no fix was recorded. Check the payment method, then ask again for a new charge.",
	}
}

// charge makes one attempt, or finds out what became of it.
func (f *Fixes) charge(ctx context.Context, x Fix, again, told bool, keep *idempotency.Once[FixResult]) (FixResult, error) {
	age := f.now().Sub(x.BegunAt)
	outcome, err := f.provider.Charge(ctx, Charge{
		FixID: x.ID, Attempt: x.Attempt, Customer: x.StripeCustomer, Method: x.Method, Cents: x.Cents, Currency: x.Currency,
		Again: again, Late: age > ChargeTrust, Final: age > ChargeTrust+chargeDoubt,
	})
	if err != nil {
		return FixResult{}, unsettled(err)
	}
	// It is known now: the caller's patience must not lose it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), chargePatience)
	defer cancel()
	return f.store.SettleFix(ctx, FixOutcome{FixID: x.ID, CustomerID: x.CustomerID, Attempt: x.Attempt, Told: told, ChargeOutcome: outcome}, keep)
}

// await waits for what another request, or a job, finds out.
func (f *Fixes) await(ctx context.Context, r FixResult, keep *idempotency.Once[FixResult]) (FixResult, error) {
	tick := time.NewTicker(chargePoll)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
		x, err := f.store.Fix(ctx, r.ID)
		switch {
		case ctx.Err() != nil:
			return r, unsettled(errors.New("its charge is under way"))
		case err != nil:
			return r, err
		case x.State != FixPending || x.Attempt != r.Attempt:
			// It is settled: what is written is that this request was told.
			return f.store.SettleFix(ctx, FixOutcome{FixID: r.ID, CustomerID: r.CustomerID, Attempt: r.Attempt, Told: true}, keep)
		}
	}
}

func unsettled(cause error) *fault.Error {
	return &fault.Error{
		Kind: fault.Unavailable, Code: "UNAVAILABLE", RetryAfter: unsettledRetry, Err: cause,
		Message: "Whether the charge came through is not known yet. Ask again with the same external_id: nothing is charged twice.",
	}
}

// ChargeJob is the handler of jobs.FixCharge: it sees a charge through whose
// request ended without an outcome.
func (f *Fixes) ChargeJob(ctx context.Context, j jobs.Job) error {
	x, err := f.store.Fix(ctx, j.Subject)
	if isMissing(err) || err == nil && x.State != FixPending {
		return nil
	}
	if err == nil {
		_, err = f.charge(ctx, x, true, false, nil)
	}
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Err != nil {
		return e.Err // what is kept says why, not what the customer is told
	}
	return err
}

func isMissing(err error) bool {
	e, ok := errors.AsType[*fault.Error](err)
	return ok && e.Kind == fault.NotFound
}
