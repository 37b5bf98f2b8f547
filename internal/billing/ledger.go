package billing

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"time"

	"gatehouse/internal/fault"
)

// Source says why an entry moved the balance.
type Source string

// The sources. They are stored.
const (
	TrialSignUp        Source = "trial_signup"             // a new customer's first entry
	PaymentMethodAdded Source = "payment_method_added"     // the first payment method ever
	ProPayment         Source = "pro_subscription_payment" // a paid invoice
	BoughtFix          Source = "charge"                   // bought for one fix
	UsedForFix         Source = "fix"
	Refunded           Source = "refund"
	Disputed           Source = "dispute"
	DisputeWon         Source = "dispute_won"
	Adjustment         Source = "adjustment" // an operator's
	DebtSettlement     Source = "debt_settlement"
)

// Entry is one movement of a customer's credits, in whole fixes.
type Entry struct {
	ID           string // UUIDv7
	Number       int64  // 1, 2, 3 … for each customer, without gaps
	Amount       int64
	BalanceAfter int64
	Debt         int64 // by how much it moved the customer's debt
	Source       Source
	Reference    string // the business fact; unique over all customers
	CreatedAt    time.Time
}

// SignUpReference is the fact that a customer signed up.
func SignUpReference(customerID string) string { return "signup:" + customerID }

// MaxCredits bounds what a balance, a debt and one entry may be, in whole
// fixes, so that no sum leaves an int64.
const MaxCredits = 1 << 53

// Store reads ledgers.
type Store interface {
	// Entries returns at most limit of the customer's entries with numbers
	// below before, newest first; before 0 means from the newest on.
	Entries(ctx context.Context, customerID string, before int64, limit int) ([]Entry, error)
}

// Auditor reads whole ledgers, for Verify.
type Auditor interface {
	// Ledgers yields one customer's account, or with "" everybody's, with
	// entries oldest first, all as they were at one moment.
	Ledgers(ctx context.Context, customerID string) iter.Seq2[Account, error]
}

// Adjuster changes a balance by an operator's decision.
type Adjuster interface {
	// Adjust adds amount credits, of which a debt is settled first, or takes
	// some that are there, and returns the newest entry. A reference counts once:
	// again it is fault.Conflict, as is what would leave the bounds.
	Adjust(ctx context.Context, customerID string, amount int64, reference string) (Entry, error)
}

// Ledger shows customers their entries.
type Ledger struct{ store Store }

// NewLedger returns a ledger over store.
func NewLedger(store Store) *Ledger { return &Ledger{store} }

// Bounds of a page.
const (
	DefaultPage = 50
	MaxPage     = 200
)

// Page is some entries, newest first, and where the next older ones begin.
type Page struct {
	Entries []Entry
	Next    string // "" at the end
}

// Page returns at most limit entries, 1 to MaxPage. A cursor is what an
// earlier page gave as Next; since entries are only ever added before the
// newest, paging neither repeats nor leaves out any. A cursor says a position
// only and is read against the customer's own entries.
func (l *Ledger) Page(ctx context.Context, customerID, cursor string, limit int) (Page, error) {
	if limit < 1 || limit > MaxPage {
		return Page{}, fault.Field("limit", fault.MalformedValue, fmt.Sprintf("limit must be a number from 1 to %d", MaxPage))
	}
	var before int64
	if cursor != "" {
		var err error
		if before, err = parseCursor(cursor); err != nil {
			return Page{}, fault.Field("cursor", fault.MalformedValue, "cursor must be the next_cursor of an earlier page")
		}
	}
	entries, err := l.store.Entries(ctx, customerID, before, limit+1)
	if err != nil {
		return Page{}, fmt.Errorf("read ledger: %w", err)
	}
	page := Page{Entries: entries}
	if len(entries) > limit {
		page.Entries = entries[:limit]
		page.Next = formatCursor(entries[limit-1].Number)
	}
	return page, nil
}

func formatCursor(n int64) string {
	return base64.RawURLEncoding.EncodeToString([]byte("before:" + strconv.FormatInt(n, 10)))
}

func parseCursor(s string) (int64, error) {
	text, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return 0, err
	}
	const prefix = "before:"
	if len(text) < len(prefix) || string(text[:len(prefix)]) != prefix {
		return 0, errors.New("not a cursor")
	}
	n, err := strconv.ParseInt(string(text[len(prefix):]), 10, 64)
	if err == nil && (n < 1 || formatCursor(n) != s) {
		err = errors.New("not a position")
	}
	return n, err
}
