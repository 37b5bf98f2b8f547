package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/account"
	"gatehouse/internal/apikey"
)

func keysCommand() *cobra.Command {
	return group("keys", "List, create and revoke API keys",
		adminCommandOn(&cobra.Command{Use: "list CUSTOMER", Short: "List a customer's unrevoked keys, by id or e-mail address"}, listKeys, []string{"CUSTOMER"}),
		createKey(),
		adminCommandOn(&cobra.Command{Use: "revoke KEY", Short: "Revoke a key, the last one too, by its id or its prefix (gk_live_…)"}, revokeKey, []string{"KEY"}),
	)
}

// keyJSON is a key as --json prints it.
type keyJSON struct {
	ID         string     `json:"id"`
	CustomerID string     `json:"customer_id"`
	Name       *string    `json:"name"`
	Prefix     string     `json:"prefix"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	ExpiresAt  *time.Time `json:"expires_at"`
	APIKey     string     `json:"api_key,omitzero"`
}

func keyOut(customerID string, r apikey.Record) keyJSON {
	return keyJSON{r.ID, customerID, optionalText(r.Name), r.Prefix, r.CreatedAt, optional(r.LastUsedAt), optional(r.ExpiresAt), ""}
}

func listKeys(ctx context.Context, c *cobra.Command, a adminCall) error {
	customer, err := a.customer(ctx)
	if err != nil {
		return err
	}
	records, err := a.store.Keys(ctx, customer.ID)
	if err != nil {
		return err
	}
	all := make([]keyJSON, 0, len(records))
	t := table{header: []string{"ID", "NAME", "PREFIX", "CREATED", "LAST USED", "EXPIRES"}}
	for _, r := range records {
		all = append(all, keyOut(customer.ID, r))
		t.add(r.ID, r.Name, r.Prefix, when(r.CreatedAt), when(r.LastUsedAt), when(r.ExpiresAt))
	}
	t.json = all
	return t.print(c.OutOrStdout(), a.json)
}

func createKey() *cobra.Command {
	c := &cobra.Command{Use: "create CUSTOMER", Short: "Create a key for a customer, and print it this once"}
	name := c.Flags().String("name", "", "what the key is for")
	expires := c.Flags().String("expires", "", "when it ends: an RFC 3339 time, or a duration from now such as 720h")
	var label string
	var end time.Time
	c.PreRunE = func(*cobra.Command, []string) (err error) {
		if label, err = account.Text("name", name, false); err != nil {
			return usageError{err}
		}
		if end, err = expiry(*expires); err != nil {
			return usageError{err}
		}
		return nil
	}
	return adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		customer, err := a.customer(ctx)
		if err != nil {
			return err
		}
		keys := apikey.NewService(a.store, a.config.Mode.KeyKind(), time.Now)
		issued, err := keys.Create(ctx, apikey.Principal{CustomerID: customer.ID}, label, end, nil)
		if err != nil {
			return err
		}
		out := keyOut(customer.ID, issued.Record)
		out.APIKey = issued.Secret.Reveal()
		t := table{json: out}
		t.add("id", issued.ID)
		t.add("expires", when(issued.ExpiresAt))
		t.add("key", out.APIKey)
		return t.print(c.OutOrStdout(), a.json)
	}, []string{"CUSTOMER"})
}

func expiry(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(d).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, fmt.Errorf("--expires %q: want an RFC 3339 time such as 2030-01-31T12:00:00Z, or a duration such as 720h", s)
	}
	return t.UTC(), nil
}

func revokeKey(ctx context.Context, c *cobra.Command, a adminCall) error {
	customerID, id, err := a.store.KeyOwner(ctx, a.args[0])
	if err != nil {
		return err
	}
	if err := a.store.RevokeKey(ctx, apikey.Principal{CustomerID: customerID}, id); err != nil {
		return err
	}
	t := table{json: map[string]string{"customer_id": customerID, "id": id, "status": "revoked"}}
	t.add("revoked", id)
	return t.print(c.OutOrStdout(), a.json)
}
