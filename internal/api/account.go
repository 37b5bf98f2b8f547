package api

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"gatehouse/internal/billing"
	"gatehouse/internal/fault"
)

func (a *API) account(x *exchange) error {
	c, u, err := a.Accounts.Get(x.context(), x.who.CustomerID)
	if err != nil {
		return err
	}
	used, err := a.Usage.UsedBetween(x.context(), c.ID, u.Start, u.End)
	if err != nil {
		return fmt.Errorf("sum up calls: %w", err)
	}
	type calls struct {
		Requests     int64 `json:"requests"`
		InputTokens  int64 `json:"input_tokens"`
		OutputTokens int64 `json:"output_tokens"`
	}
	providers := make(map[string]calls)
	for provider, n := range used {
		providers[string(provider)] = calls(n)
	}
	type full struct {
		customer
		StripeCustomerID *string `json:"stripe_customer_id"`
		CreditDebt       int64   `json:"credit_debt"`
	}
	type usage struct {
		Start     time.Time        `json:"period_start"`
		End       time.Time        `json:"period_end"`
		Fixes     int64            `json:"fixes"`
		Providers map[string]calls `json:"providers"` // those with calls
	}
	return x.reply(http.StatusOK, struct {
		Customer full  `json:"customer"`
		Usage    usage `json:"usage"`
	}{
		full{customerOf(c), optional(c.StripeCustomerID), c.CreditDebt},
		usage{u.Start, u.End, u.Fixes, providers},
	})
}

func (a *API) ledger(x *exchange) error {
	q := x.Request.URL.Query()
	limit := billing.DefaultPage
	if s := q.Get("limit"); s != "" {
		var err error
		if limit, err = strconv.Atoi(s); err != nil {
			limit = 0 // which the ledger refuses in its own words
		}
	}
	page, err := a.Ledger.Page(x.context(), x.who.CustomerID, q.Get("cursor"), limit)
	if err != nil {
		return err
	}
	type entry struct {
		ID           string    `json:"id"`
		Amount       int64     `json:"amount"`
		BalanceAfter int64     `json:"balance_after"`
		Source       string    `json:"source"`
		Reference    string    `json:"reference"`
		CreatedAt    time.Time `json:"created_at"`
	}
	entries := make([]entry, 0, len(page.Entries))
	for _, e := range page.Entries {
		entries = append(entries, entry{e.ID, e.Amount, e.BalanceAfter, string(e.Source), e.Reference, e.CreatedAt})
	}
	return x.reply(http.StatusOK, struct {
		Entries []entry `json:"entries"`
		Next    *string `json:"next_cursor"`
	}{entries, optional(page.Next)})
}

// pathID is the {id} of the path, or fault.NotFound where it can't be one of
// what is meant.
func (x *exchange) pathID(what string) (string, error) {
	id := x.Request.PathValue("id")
	if len(id) > 64 || !printable(id) {
		return "", fault.Missing("There is no such " + what + ".")
	}
	return id, nil
}
