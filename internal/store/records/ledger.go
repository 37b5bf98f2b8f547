package records

import (
	"fmt"

	"github.com/google/uuid"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
)

const entryColumns = "number, id, amount, balance_after, debt, source, reference, created_at"

// ScanEntry reads an entry, and other columns before its own.
func ScanEntry(scan Scan, before ...any) (e billing.Entry, err error) {
	var created int64
	err = scan(append(before, &e.Number, &e.ID, &e.Amount, &e.BalanceAfter, &e.Debt, &e.Source, &e.Reference, &created)...)
	e.CreatedAt = Instant(created)
	return e, err
}

func scanOneEntry(scan Scan) (billing.Entry, error) { return ScanEntry(scan) }

// InsertEntry writes an entry's row.
func InsertEntry(t Tx, customerID string, e billing.Entry) error {
	_, err := t.Exec("INSERT INTO ledger_entries (customer_id, "+entryColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		customerID, e.Number, e.ID, e.Amount, e.BalanceAfter, e.Debt, string(e.Source), e.Reference, e.CreatedAt.UnixMicro())
	return err
}

// Entries lists a customer's entries before a number, newest first.
func Entries(r Reader, customerID string, before int64, limit int) ([]billing.Entry, error) {
	return List(r, "SELECT "+entryColumns+" FROM ledger_entries WHERE customer_id = $1 AND ($2 = 0 OR number < $2) ORDER BY number DESC LIMIT $3",
		[]any{customerID, before, limit}, scanOneEntry)
}

// Ledgers asks for one customer's entries, or with "" everybody's, in the form
// that billing.Accounts reads: one statement is one moment.
const Ledgers = `SELECT c.id, c.credit_balance, c.credit_debt, coalesce(e.number, 0), coalesce(e.id, ''), coalesce(e.amount, 0),
	coalesce(e.balance_after, 0), coalesce(e.debt, 0), coalesce(e.source, ''), coalesce(e.reference, ''), coalesce(e.created_at, 0)
	FROM customers c LEFT JOIN ledger_entries e ON e.customer_id = c.id WHERE $1 = '' OR c.id = $1 ORDER BY c.id, e.number`

// purse is a locked customer's credits.
type purse struct {
	t                     Tx
	customerID            string
	balance, debt, number int64
	erased                bool
}

// openPurse reads the credits of a customer who is locked.
func openPurse(t Tx, customerID string) (*purse, error) {
	p := &purse{t: t, customerID: customerID}
	err := t.Row("SELECT credit_balance, credit_debt, (SELECT coalesce(max(number), 0) FROM ledger_entries WHERE customer_id = $1), erased_at IS NOT NULL FROM customers WHERE id = $1",
		[]any{customerID}, &p.balance, &p.debt, &p.number, &p.erased)
	return p, missingCustomer(err)
}

// has says whether a fact has its entry already.
func (p *purse) has(reference string) (there bool, err error) {
	err = p.t.Row("SELECT EXISTS (SELECT 1 FROM ledger_entries WHERE reference = $1)", []any{reference}, &there)
	return there, err
}

// post adds an entry and moves the balance and the debt with it.
func (p *purse) post(amount, debt int64, source billing.Source, reference string) error {
	if p.balance+amount > billing.MaxCredits || p.debt+debt > billing.MaxCredits {
		return errTooMany
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("make entry id: %w", err)
	}
	now, err := p.t.Now()
	if err != nil {
		return err
	}
	p.balance, p.debt, p.number = p.balance+amount, p.debt+debt, p.number+1
	err = InsertEntry(p.t, p.customerID, billing.Entry{
		ID: id.String(), Number: p.number, Amount: amount, BalanceAfter: p.balance, Debt: debt, Source: source, Reference: reference, CreatedAt: Instant(now),
	})
	if err == nil {
		_, err = p.t.Exec("UPDATE customers SET credit_balance = $2, credit_debt = $3 WHERE id = $1", p.customerID, p.balance, p.debt)
	}
	return err
}

// errTooMany is no refusal: what went before it in the transaction is undone.
var errTooMany = fmt.Errorf("no balance or debt may exceed %d credits", int64(billing.MaxCredits))

// grant adds credits for a fact, once, of which a debt is settled first. It
// returns what it did, "" if nothing.
func (p *purse) grant(amount int64, source billing.Source, reference string) (did string, err error) {
	if there, err := p.has(reference); err != nil || there {
		return "", err
	}
	settled := min(p.debt, amount)
	if err = p.post(amount, 0, source, reference); err == nil && settled > 0 {
		err = p.post(-settled, -settled, billing.DebtSettlement, "debt:"+reference)
	}
	did = fmt.Sprintf("%+d %s (%s)", amount, source, reference)
	if settled > 0 {
		did += fmt.Sprintf(", of which %d settled debt", settled)
	}
	return did, err
}

// take removes credits for a fact, once; what is not there becomes debt.
func (p *purse) take(amount int64, source billing.Source, reference string) (did string, err error) {
	if there, err := p.has(reference); err != nil || there {
		return "", err
	}
	taken := min(p.balance, amount)
	did = fmt.Sprintf("%+d %s (%s)", -taken, source, reference)
	if owed := amount - taken; owed > 0 {
		did += fmt.Sprintf(", %d more are owed", owed)
	}
	return did, p.post(-taken, amount-taken, source, reference)
}

// Adjust adds an operator's entry; a reference counts once.
func Adjust(t Tx, customerID string, amount int64, reference string) (billing.Entry, error) {
	if _, err := t.Lock(customerID); err != nil {
		return billing.Entry{}, err
	}
	p, err := openPurse(t, customerID)
	if err != nil {
		return billing.Entry{}, err
	}
	reference = "adjustment:" + reference
	there, err := p.has(reference)
	switch {
	case err != nil:
		return billing.Entry{}, err
	case there:
		return billing.Entry{}, fault.Refused("There is an adjustment of that reference already.")
	case amount < -p.balance:
		return billing.Entry{}, fault.Refused(fmt.Sprintf("The balance is %d: no more can be taken.", p.balance))
	case amount > billing.MaxCredits-p.balance:
		return billing.Entry{}, fault.Refused(fmt.Sprintf("No balance may exceed %d credits.", int64(billing.MaxCredits)))
	case amount > 0:
		_, err = p.grant(amount, billing.Adjustment, reference)
	default:
		_, err = p.take(-amount, billing.Adjustment, reference)
	}
	if err != nil {
		return billing.Entry{}, err
	}
	newest, err := Entries(t, customerID, 0, 1)
	if err != nil {
		return billing.Entry{}, err
	}
	return newest[0], nil
}
