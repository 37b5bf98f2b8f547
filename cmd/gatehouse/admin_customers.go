package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/account"
	"gatehouse/internal/account/email"
	"gatehouse/internal/app"
)

func customersCommand() *cobra.Command {
	return group("customers", "List, show, suspend, resume, export, erase and purge customers",
		budgetCustomer(),
		listCustomers(),
		onCustomer("show", "Show one customer, by id or e-mail address", show),
		onCustomer("suspend", "Refuse all of a customer's keys from the next request on, and end its credentials for good", suspend),
		onCustomer("resume", "Let a suspended customer's keys work again", resume),
		exportCustomer(),
		eraseCustomer(),
		purgeCustomers(),
	)
}

// customerJSON is a customer as --json prints it.
type customerJSON struct {
	ID            string     `json:"id"`
	Name          string     `json:"name"`
	Email         string     `json:"email"`
	Company       *string    `json:"company"`
	Source        string     `json:"source"`
	Plan          string     `json:"subscription_plan"`
	State         *string    `json:"subscription_state"`
	CreditBalance int64      `json:"credit_balance"`
	CreditDebt    int64      `json:"credit_debt"`
	CreatedAt     time.Time  `json:"created_at"`
	SuspendedAt   *time.Time `json:"suspended_at"`
	TrialLimit    int64      `json:"trial_fixes_limit"`
	TrialUsed     int64      `json:"trial_fixes_used"`
	StripeID      *string    `json:"stripe_customer_id"`
	ErasedAt      *time.Time `json:"erased_at"`
	PeriodStart   *time.Time `json:"period_start"` // of Pro
	PeriodEnd     *time.Time `json:"period_end"`
	CancelsAtEnd  bool       `json:"cancel_at_period_end"`
	DayBudget     *int64     `json:"budget_cents_a_day"`
}

func customerOut(c account.Customer) customerJSON {
	return customerJSON{
		ID: c.ID, Name: c.Name, Email: c.Email, Company: optionalText(c.Company), Source: c.Source, Plan: string(c.Plan), State: optionalText(c.State),
		CreditBalance: c.CreditBalance, CreditDebt: c.CreditDebt, CreatedAt: c.CreatedAt, SuspendedAt: optional(c.SuspendedAt),
		TrialLimit: c.TrialFixesLimit, TrialUsed: c.TrialFixesUsed, StripeID: optionalText(c.StripeCustomerID), ErasedAt: optional(c.ErasedAt),
		PeriodStart: optional(c.PeriodStart), PeriodEnd: optional(c.PeriodEnd), CancelsAtEnd: c.CancelsAtEnd, DayBudget: optionalNumber(c.DayBudget),
	}
}

func listCustomers() *cobra.Command {
	c := &cobra.Command{Use: "list", Short: "List customers in the order they signed up"}
	limit := c.Flags().Int("limit", 100, "at most so many, 1 to 10000")
	after := c.Flags().String("after", "", "only those after this customer's id, for the next page")
	c.PreRunE = func(*cobra.Command, []string) error {
		if *limit < 1 || *limit > 10_000 {
			return usageError{fmt.Errorf("--limit %d: want 1 to 10000", *limit)}
		}
		return nil
	}
	return adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		found, err := a.store.Customers(ctx, *after, *limit)
		if err != nil {
			return err
		}
		all := make([]customerJSON, 0, len(found))
		t := table{header: []string{"ID", "NAME", "EMAIL", "PLAN", "CREDITS", "CREATED", "SUSPENDED", "ERASED"}}
		for _, c := range found {
			all = append(all, customerOut(c))
			t.add(c.ID, c.Name, c.Email, string(c.Plan), strconv.FormatInt(c.CreditBalance, 10), when(c.CreatedAt), when(c.SuspendedAt), when(c.ErasedAt))
		}
		t.json = all
		if len(found) == *limit {
			fmt.Fprintf(c.ErrOrStderr(), "gatehouse: there may be more: add --after %s\n", found[len(found)-1].ID)
		}
		return t.print(c.OutOrStdout(), a.json)
	}, nil)
}

// customer finds the customer that the first argument names.
func (a adminCall) customer(ctx context.Context) (account.Customer, error) {
	return findCustomer(ctx, a.store, a.args[0])
}

// findCustomer finds a customer by id or e-mail address.
func findCustomer(ctx context.Context, s app.Store, name string) (account.Customer, error) {
	if !strings.Contains(name, "@") {
		return s.Customer(ctx, name)
	}
	address, err := email.Parse(name)
	if err != nil {
		return account.Customer{}, usageError{err}
	}
	return s.CustomerByEmail(ctx, address.Canonical)
}

// onCustomer is a command that finds one customer, does something to it, or
// nothing, and prints it as it is then.
func onCustomer(use, short string, do func(context.Context, app.Store, account.Customer) (account.Customer, error)) *cobra.Command {
	return adminCommandOn(&cobra.Command{Use: use + " CUSTOMER", Short: short}, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		found, err := a.customer(ctx)
		if err != nil {
			return err
		}
		if found, err = do(ctx, a.store, found); err != nil {
			return err
		}
		return printCustomer(c, a, found)
	}, []string{"CUSTOMER"})
}

func show(_ context.Context, _ app.Store, c account.Customer) (account.Customer, error) {
	return c, nil
}

func suspend(ctx context.Context, s app.Store, c account.Customer) (account.Customer, error) {
	return s.Suspend(ctx, c.ID, time.Now())
}

func resume(ctx context.Context, s app.Store, c account.Customer) (account.Customer, error) {
	return s.Resume(ctx, c.ID)
}

func printCustomer(c *cobra.Command, a adminCall, found account.Customer) error {
	t := table{json: customerOut(found)}
	t.add("id", found.ID)
	t.add("name", found.Name)
	t.add("email", found.Email)
	t.add("company", found.Company)
	t.add("source", found.Source)
	t.add("plan", string(found.Plan))
	t.add("state", found.State)
	t.add("credits", strconv.FormatInt(found.CreditBalance, 10))
	t.add("debt", strconv.FormatInt(found.CreditDebt, 10))
	t.add("budget", budget(found.DayBudget))
	t.add("created", when(found.CreatedAt))
	t.add("suspended", when(found.SuspendedAt))
	t.add("stripe", found.StripeCustomerID)
	t.add("erased", when(found.ErasedAt))
	return t.print(c.OutOrStdout(), a.json)
}
