package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"gatehouse/internal/nearest"
	"gatehouse/internal/vending"
)

func credentialsCommand() *cobra.Command {
	return group("credentials", "Show credentials for AI providers, and revoke them",
		adminCommandOn(&cobra.Command{Use: "list CUSTOMER", Short: "List a customer's credentials that have not expired, oldest first"}, listCredentials, []string{"CUSTOMER"}),
		adminCommandOn(&cobra.Command{
			Use: "revoke CREDENTIAL", Short: "Revoke a credential: within a second no node takes it",
		}, revokeCredential, []string{"CREDENTIAL"}),
	)
}

// credentialJSON is a credential as --json prints it.
type credentialJSON struct {
	ID        string     `json:"id"`
	Provider  string     `json:"provider"`
	KeyID     string     `json:"key_id"`
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt time.Time  `json:"expires_at"`
	RevokedAt *time.Time `json:"revoked_at"`
	Job       *string    `json:"github_job"`
	Run       *string    `json:"github_run"`

	Enforcement vending.Enforcement `json:"enforcement"`
	Revocation  *string             `json:"revocation"`
}

func credentialOut(d vending.Credential) credentialJSON {
	return credentialJSON{d.ID, string(d.Provider), d.KeyID, d.CreatedAt, d.ExpiresAt, optional(d.RevokedAt), optionalText(d.Job), optionalText(d.Run), d.Enforcement, optionalText(d.Revocation())}
}

func listCredentials(ctx context.Context, c *cobra.Command, a adminCall) error {
	customer, err := a.customer(ctx)
	if err != nil {
		return err
	}
	found, err := a.store.Credentials(ctx, customer.ID)
	if err != nil {
		return err
	}
	all := make([]credentialJSON, 0, len(found))
	t := table{header: []string{"CREDENTIAL", "PROVIDER", "KEY", "CREATED", "EXPIRES", "ENFORCED BY", "REVOKED", "REVOCATION", "JOB"}}
	for _, d := range found {
		all = append(all, credentialOut(d))
		t.add(d.ID, string(d.Provider), d.KeyID, when(d.CreatedAt), when(d.ExpiresAt), string(d.Enforcement), when(d.RevokedAt), d.Revocation(), d.Job)
	}
	t.json = all
	return t.print(c.OutOrStdout(), a.json)
}

func revokeCredential(ctx context.Context, c *cobra.Command, a adminCall) error {
	if err := a.store.RevokeAny(ctx, a.args[0]); err != nil {
		return err
	}
	t := table{json: map[string]string{"revoked": a.args[0]}}
	t.add("revoked", a.args[0])
	return t.print(c.OutOrStdout(), a.json)
}

// budgetCustomer is below admin customers.
func budgetCustomer() *cobra.Command {
	return adminCommandOn(&cobra.Command{
		Use: "budget CUSTOMER CENTS", Short: "Bound what a customer's credentials may spend in a day (UTC); 0: no bound",
		Long: `Bounds what a customer's credentials may spend in a day (UTC), in cents; 0 takes the
bound away. Keys of a provider's own are not counted by Gatehouse: a bound ends
those that the customer has, and from then on it gets the gateway's tokens.`,
	}, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		cents, err := strconv.ParseInt(a.args[1], 10, 64)
		if err != nil || cents < 0 || cents > vending.MaxCents {
			return usageError{fmt.Errorf("%q: want cents, from 0 to %d", a.args[1], vending.MaxCents)}
		}
		customer, err := a.customer(ctx)
		if err != nil {
			return err
		}
		if err := a.store.SetBudget(ctx, customer.ID, cents); err != nil {
			return err
		}
		t := table{json: map[string]int64{"cents_a_day": cents}}
		t.add("budget", budget(cents))
		return t.print(c.OutOrStdout(), a.json)
	}, []string{"CUSTOMER", "CENTS"})
}

func budget(cents int64) string {
	if cents == 0 {
		return "no bound"
	}
	return fmt.Sprintf("%d cents a day", cents)
}

// auditJSON is a row of the audit trail as --json prints it, one a line.
type auditJSON struct {
	ID           string    `json:"id"`
	At           time.Time `json:"at"`
	Action       string    `json:"action"`
	CustomerID   string    `json:"customer_id"`
	KeyID        string    `json:"key_id,omitzero"`
	CredentialID string    `json:"credential_id,omitzero"`
	GrantID      string    `json:"grant_id,omitzero"`
	Provider     string    `json:"provider,omitzero"`
	Model        string    `json:"model,omitzero"`
	Requests     int64     `json:"requests,omitzero"`
	InputTokens  int64     `json:"input_tokens,omitzero"`
	OutputTokens int64     `json:"output_tokens,omitzero"`
	CostMicroUSD int64     `json:"cost_micro_usd,omitzero"`
	Estimated    bool      `json:"estimated,omitzero"`
	Outcome      string    `json:"outcome,omitzero"`
}

func auditOut(r vending.Audit) auditJSON {
	return auditJSON{r.ID, r.At, string(r.Action), r.CustomerID, r.KeyID, r.CredentialID, r.GrantID, string(r.Provider), r.Model, r.Requests, r.InputTokens, r.OutputTokens, r.Cost, r.Estimated, r.Outcome}
}

var auditActions = []string{string(vending.Granting), string(vending.Refusing), string(vending.Revoking), string(vending.Calling), string(vending.Reporting)}

func auditCommand() *cobra.Command {
	c := &cobra.Command{
		Use: "audit", Short: "Show the audit trail: grants, refusals, revocations, calls and reports",
		Long: `Shows the audit trail, oldest first, calls with a budget by when they began.
Refusals are those for want of money: what is malformed or over a rate limit leaves
no row. --json prints one JSON object a line, which is the form to export it in.`,
	}
	customer := c.Flags().String("customer", "", "only this customer's, by id or e-mail address")
	credential := c.Flags().String("credential", "", "only this credential's")
	action := c.Flags().String("action", "", "only "+strings.Join(auditActions, ", "))
	since := c.Flags().String("since", "", "only from this time on, such as 2026-11-27 or 2026-11-27T09:00:00Z")
	until := c.Flags().String("until", "", "only before this time")
	after := c.Flags().String("after", "", "only after this row, for the next page")
	limit := c.Flags().Int("limit", 1000, "at most so many rows; 0: all")
	var f vending.AuditFilter
	c.PreRunE = func(*cobra.Command, []string) (err error) {
		f = vending.AuditFilter{CredentialID: *credential, Action: vending.Action(*action)}
		if *action != "" && !slices.Contains(auditActions, *action) {
			return usageError{fmt.Errorf("unknown action %q (there are %s)%s", *action, strings.Join(auditActions, ", "), nearest.DidYouMean(*action, auditActions))}
		}
		if *limit < 0 {
			return usageError{errors.New("--limit: want 0 or more")}
		}
		if f.Since, err = readTime(*since); err == nil {
			f.Until, err = readTime(*until)
		}
		return err
	}
	return adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		if *customer != "" {
			found, err := findCustomer(ctx, a.store, *customer)
			if err != nil {
				return err
			}
			f.CustomerID = found.ID
		}
		const page = 500
		t := table{header: []string{"AT", "ACTION", "CUSTOMER", "CREDENTIAL", "PROVIDER", "MODEL", "IN", "OUT", "MICRO-USD", "OUTCOME"}}
		for from, left := *after, *limit; ; {
			some := page
			if *limit > 0 {
				some = min(page, left)
			}
			rows, err := a.store.AuditRows(ctx, f, from, some)
			if err != nil {
				return err
			}
			for _, r := range rows {
				from = r.ID
				if a.json {
					line, err := json.Marshal(auditOut(r))
					if err == nil {
						_, err = fmt.Fprintf(c.OutOrStdout(), "%s\n", line)
					}
					if err != nil {
						return err
					}
					continue
				}
				t.add(when(r.At), string(r.Action), r.CustomerID, r.CredentialID, string(r.Provider), r.Model,
					strconv.FormatInt(r.InputTokens, 10), strconv.FormatInt(r.OutputTokens, 10), strconv.FormatInt(r.Cost, 10), r.Outcome)
			}
			left -= len(rows)
			if len(rows) < some || *limit > 0 && left == 0 {
				if len(rows) == some && len(rows) > 0 {
					say(c, "there may be more: add --after %s", from)
				}
				break
			}
		}
		if a.json {
			return nil
		}
		return t.print(c.OutOrStdout(), false)
	}, nil)
}

// readTime reads a time or a day; "" is none.
func readTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("%q: want a time such as 2026-11-27 or 2026-11-27T09:00:00Z", s)}
}
