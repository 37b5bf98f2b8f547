package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/billing"
)

func ledgerCommand() *cobra.Command {
	return group("ledger", "Show ledgers, and check that they add up",
		adminCommandOn(&cobra.Command{Use: "show CUSTOMER", Short: "Show a customer's entries, oldest first"}, showLedger, []string{"CUSTOMER"}),
		adminCommandOn(&cobra.Command{
			Use: "verify", Short: "Check every customer's ledger; exit 1 if one is wrong",
			Long: "Checks that every customer's entries are numbered without gap, that each balance\nis the one before it plus the amount, that no fact counts twice, and that the\ncustomer's balance is the sum. Exits 1 if one is wrong.",
		}, verifyLedgers, nil),
		adjustLedger(),
	)
}

// adjustLedger lets an operator add or take credits. Its amount is a flag: one
// that begins with a minus would be taken for a flag.
func adjustLedger() *cobra.Command {
	c := &cobra.Command{
		Use: "adjust CUSTOMER --credits N --reference TEXT", Short: "Add credits to a customer's balance, or take some that are there",
		Long: "Adds an entry of the source adjustment. A reference counts once over all customers, so\nthat running it again changes nothing. A debt is settled first.",
	}
	credits := c.Flags().Int64("credits", 0, "how many, less than zero to take some")
	reference := c.Flags().String("reference", "", "what it is for, such as a ticket's number; counts once")
	c.PreRunE = func(*cobra.Command, []string) error {
		switch {
		case *credits == 0 || *credits < -billing.MaxCredits || *credits > billing.MaxCredits:
			return usageError{errors.New("--credits: want a number other than 0, such as 10 or -10")}
		case *reference == "" || len(*reference) > 200 || printable(*reference) != *reference:
			return usageError{errors.New("--reference: want 1 to 200 printable characters, such as ticket-4711")}
		}
		return nil
	}
	return adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		customer, err := a.customer(ctx)
		if err != nil {
			return err
		}
		e, err := a.store.Adjust(ctx, customer.ID, *credits, *reference)
		if err != nil {
			return err
		}
		t := table{json: entryOut(e)}
		t.add("balance", strconv.FormatInt(e.BalanceAfter, 10))
		return t.print(c.OutOrStdout(), a.json)
	}, []string{"CUSTOMER"})
}

// entryJSON is a ledger entry as --json prints it.
type entryJSON struct {
	Number       int64     `json:"number"`
	ID           string    `json:"id"`
	Amount       int64     `json:"amount"`
	BalanceAfter int64     `json:"balance_after"`
	Debt         int64     `json:"debt"` // by how much it moved the customer's debt
	Source       string    `json:"source"`
	Reference    string    `json:"reference"`
	CreatedAt    time.Time `json:"created_at"`
}

func entryOut(e billing.Entry) entryJSON {
	return entryJSON{e.Number, e.ID, e.Amount, e.BalanceAfter, e.Debt, string(e.Source), e.Reference, e.CreatedAt}
}

func showLedger(ctx context.Context, c *cobra.Command, a adminCall) error {
	customer, err := a.customer(ctx)
	if err != nil {
		return err
	}
	all := []entryJSON{}
	t := table{header: []string{"NUMBER", "AMOUNT", "BALANCE", "SOURCE", "REFERENCE", "CREATED"}}
	for ledger, err := range a.store.Ledgers(ctx, customer.ID) {
		if err != nil {
			return err
		}
		for _, e := range ledger.Entries {
			all = append(all, entryOut(e))
			t.add(strconv.FormatInt(e.Number, 10), fmt.Sprintf("%+d", e.Amount), strconv.FormatInt(e.BalanceAfter, 10), string(e.Source), e.Reference, when(e.CreatedAt))
		}
	}
	t.json = all
	return t.print(c.OutOrStdout(), a.json)
}

func verifyLedgers(ctx context.Context, c *cobra.Command, a adminCall) error {
	report, err := billing.Verify(a.store.Ledgers(ctx, ""))
	if err != nil {
		return err
	}
	t := table{json: report, header: []string{"CUSTOMER", "ENTRY", "PROBLEM"}}
	for _, f := range report.Findings {
		t.add(f.CustomerID, strconv.FormatInt(f.Number, 10), f.Problem)
	}
	if len(report.Findings) == 0 {
		t.header = nil
		t.add(fmt.Sprintf("%d customers with %d entries: all add up", report.Customers, report.Entries))
	}
	if err := t.print(c.OutOrStdout(), a.json); err != nil {
		return err
	}
	if n := len(report.Findings); n > 0 {
		return errors.New(strconv.Itoa(n) + " finding(s): a ledger was changed from outside, or there is a bug")
	}
	return nil
}
