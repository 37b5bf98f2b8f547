package records

import (
	"gatehouse/internal/billing"
)

const entryColumns = "number, id, amount, balance_after, source, reference, created_at"

// ScanEntry reads an entry, and other columns before its own.
func ScanEntry(scan Scan, before ...any) (e billing.Entry, err error) {
	var created int64
	err = scan(append(before, &e.Number, &e.ID, &e.Amount, &e.BalanceAfter, &e.Source, &e.Reference, &created)...)
	e.CreatedAt = Instant(created)
	return e, err
}

func scanOneEntry(scan Scan) (billing.Entry, error) { return ScanEntry(scan) }

// InsertEntry writes an entry's row.
func InsertEntry(t Tx, customerID string, e billing.Entry) error {
	_, err := t.Exec("INSERT INTO ledger_entries (customer_id, "+entryColumns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
		customerID, e.Number, e.ID, e.Amount, e.BalanceAfter, string(e.Source), e.Reference, e.CreatedAt.UnixMicro())
	return err
}

// Entries lists a customer's entries before a number, newest first.
func Entries(r Reader, customerID string, before int64, limit int) ([]billing.Entry, error) {
	return List(r, "SELECT "+entryColumns+" FROM ledger_entries WHERE customer_id = $1 AND ($2 = 0 OR number < $2) ORDER BY number DESC LIMIT $3",
		[]any{customerID, before, limit}, scanOneEntry)
}

// Ledgers asks for one customer's entries, or with "" everybody's, in the form
// that billing.Accounts reads: one statement is one moment.
const Ledgers = `SELECT c.id, c.credit_balance, coalesce(e.number, 0), coalesce(e.id, ''), coalesce(e.amount, 0),
	coalesce(e.balance_after, 0), coalesce(e.source, ''), coalesce(e.reference, ''), coalesce(e.created_at, 0)
	FROM customers c LEFT JOIN ledger_entries e ON e.customer_id = c.id WHERE $1 = '' OR c.id = $1 ORDER BY c.id, e.number`
