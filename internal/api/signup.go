package api

import (
	"net/http"
	"time"

	"gatehouse/internal/account"
)

// customer is a customer on the wire.
type customer struct {
	ID              string    `json:"id"`
	Name            string    `json:"name"`
	Email           string    `json:"email"`
	Company         *string   `json:"company"`
	Plan            string    `json:"subscription_plan"`
	State           *string   `json:"subscription_state"`
	TrialFixesLimit int64     `json:"trial_fixes_limit"`
	TrialFixesUsed  int64     `json:"trial_fixes_used"`
	CreditBalance   int64     `json:"credit_balance"`
	CreatedAt       time.Time `json:"created_at"`
}

func customerOf(c account.Customer) customer {
	return customer{
		ID: c.ID, Name: c.Name, Email: c.Email, Company: optional(c.Company),
		Plan: string(c.Plan), State: optional(c.State),
		TrialFixesLimit: c.TrialFixesLimit, TrialFixesUsed: c.TrialFixesUsed,
		CreditBalance: c.CreditBalance, CreatedAt: c.CreatedAt,
	}
}

// optional writes null for what there is not.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func (a *API) signUp(x *exchange) error {
	var in struct {
		Name    *string `json:"name"`
		Email   *string `json:"email"`
		Company *string `json:"company"`
		Source  *string `json:"source"`
	}
	if err := x.decode(&in); err != nil {
		return err
	}
	opened, err := a.Accounts.SignUp(x.context(), account.Application{Name: in.Name, Email: in.Email, Company: in.Company, Source: in.Source},
		keep(x, http.StatusCreated, openedOf))
	if err != nil {
		return err
	}
	return x.reply(http.StatusCreated, openedOf(opened))
}

// openedOf is a new customer on the one answer that has its key.
func openedOf(o account.Opened) any {
	return struct {
		Customer customer `json:"customer"`
		APIKey   string   `json:"api_key"`
	}{customerOf(o.Customer), o.Key.Reveal()}
}
