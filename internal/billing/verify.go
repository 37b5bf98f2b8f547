package billing

import (
	"fmt"
	"iter"
)

// Account is what one customer's ledger must add up to.
type Account struct {
	CustomerID string
	Balance    int64 // as kept on the customer
	Debt       int64 // likewise
	Entries    []Entry
}

// Rows are what a database answers.
type Rows interface {
	Next() bool
	Scan(into ...any) error
	Err() error
}

// Accounts puts accounts together from rows of an account's id, its balance, its
// debt and one of its entries, in this order; a zero entry stands for none.
func Accounts(rows Rows, scanEntry func(scan func(...any) error, before ...any) (Entry, error)) iter.Seq2[Account, error] {
	return func(yield func(Account, error) bool) {
		var current Account
		for rows.Next() {
			var next Account
			e, err := scanEntry(rows.Scan, &next.CustomerID, &next.Balance, &next.Debt)
			if err != nil {
				yield(Account{}, err)
				return
			}
			if next.CustomerID != current.CustomerID {
				if current.CustomerID != "" && !yield(current, nil) {
					return
				}
				current = next
			}
			if e.Number != 0 {
				current.Entries = append(current.Entries, e)
			}
		}
		if err := rows.Err(); err != nil {
			yield(Account{}, err)
		} else if current.CustomerID != "" {
			yield(current, nil)
		}
	}
}

// Finding is something wrong with a ledger.
type Finding struct {
	CustomerID string `json:"customer_id"`
	Number     int64  `json:"number,omitzero"` // the entry, 0: the whole ledger
	Problem    string `json:"problem"`
}

// Report is what a check of ledgers found.
type Report struct {
	Customers int       `json:"customers"`
	Entries   int       `json:"entries"`
	Findings  []Finding `json:"findings"`
}

// Verify checks each account: its entries are numbered 1, 2, 3 … without gap
// or repetition, each balance is the one before plus the amount, neither it nor
// the debt is ever below zero, the first is the sign-up's grant, no fact counts
// twice, and the customer's balance and debt are the sums. Accounts come with
// their entries oldest first. An error of the sequence ends the check.
func Verify(accounts iter.Seq2[Account, error]) (Report, error) {
	report := Report{Findings: []Finding{}}
	for account, err := range accounts {
		if err != nil {
			return report, fmt.Errorf("read ledgers: %w", err)
		}
		report.Customers++
		report.Entries += len(account.Entries)
		report.Findings = append(report.Findings, verifyOne(account)...)
	}
	return report, nil
}

func verifyOne(a Account) (found []Finding) {
	say := func(number int64, format string, args ...any) {
		found = append(found, Finding{a.CustomerID, number, fmt.Sprintf(format, args...)})
	}
	facts := make(map[string]int64, len(a.Entries))
	var sum, last, debt int64
	// off is by how much balances differ from the sum of the amounts without
	// that being news. After a difference that is, either it was in that one
	// balance, and the next are as before, or in the amount, and they differ
	// by as much: so that one wrong entry is one finding.
	var off, maybe int64
	for _, e := range a.Entries {
		if e.Number != last+1 {
			say(e.Number, "follows entry %d: entries are missing or doubled", last)
		}
		last = e.Number
		sum += e.Amount
		debt += e.Debt
		switch e.BalanceAfter - sum {
		case off:
			maybe = off
		case maybe:
			off = maybe
		default:
			say(e.Number, "says the balance after it is %d; the entries add up to %d", e.BalanceAfter, sum+off)
			maybe = e.BalanceAfter - sum
		}
		if e.BalanceAfter < 0 {
			say(e.Number, "takes the balance to %d, below zero", e.BalanceAfter)
		}
		if first, twice := facts[e.Reference]; twice {
			say(e.Number, "counts %s again, after entry %d", e.Reference, first)
		}
		if debt < 0 && e.Debt < 0 {
			say(e.Number, "takes the debt to %d, below zero", debt)
		}
		facts[e.Reference] = e.Number
	}
	if len(a.Entries) == 0 {
		say(0, "has no entry: a customer starts with a sign-up grant")
	} else if e := a.Entries[0]; e.Source != TrialSignUp || e.Reference != SignUpReference(a.CustomerID) {
		say(e.Number, "is no sign-up grant")
	}
	if end := a.Balance - sum; end != off && end != maybe {
		say(0, "customer's balance is %d; the ledger ends at %d", a.Balance, sum+off)
	}
	if a.Debt != debt {
		say(0, "customer's debt is %d; the entries add up to %d", a.Debt, debt)
	}
	return found
}
