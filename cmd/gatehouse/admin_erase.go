package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"gatehouse/internal/billing"
)

// exportJSON is all that is stored of a customer.
type exportJSON struct {
	Customer struct {
		customerJSON
		CanonicalEmail string `json:"email_canonical"`
		LoadTest       bool   `json:"load_test"`
	} `json:"customer"`
	Keys           []exportedKey    `json:"keys"`
	Ledger         []entryJSON      `json:"ledger"`
	Jobs           []jobJSON        `json:"jobs"`
	Fixes          []exportedFix    `json:"fixes"`
	PaymentMethods []string         `json:"payment_methods"`
	StripeEvents   []exportedEvent  `json:"stripe_events"`
	Credentials    []credentialJSON `json:"credentials"`
	Audit          []auditJSON      `json:"audit"`
}

type exportedKey struct {
	keyJSON
	RevokedAt *time.Time `json:"revoked_at"`
}

type exportedFix struct {
	ID             string    `json:"id"`
	ExternalID     string    `json:"external_id"`
	Repository     *string   `json:"repository"`
	PullRequest    *string   `json:"pull_request"`
	State          string    `json:"state"`
	PaidBy         string    `json:"paid_by"`
	AmountCents    int64     `json:"amount_cents"`
	Currency       string    `json:"currency"`
	PaymentMethod  *string   `json:"payment_method"`
	PaymentIntent  *string   `json:"payment_intent"`
	WhyNotCharged  *string   `json:"why_not_charged"`
	CreditsAfter   int64     `json:"balance_after"`
	CreatedAt      time.Time `json:"created_at"`
	StripeCustomer *string   `json:"stripe_customer_id"`
}

func exportFix(f billing.Fix) exportedFix {
	return exportedFix{
		f.ID, f.ExternalID, optionalText(f.Repository), optionalText(f.PullRequest), string(f.State), f.PaidBy, f.Cents, f.Currency,
		optionalText(f.Method), optionalText(f.Intent), optionalText(f.Why), f.BalanceAfter, f.CreatedAt, optionalText(f.StripeCustomer),
	}
}

type exportedEvent struct {
	eventJSON
	Payload any `json:"payload"` // the JSON that came; other bytes in base64
}

func exportEvent(e billing.StoredEvent) exportedEvent {
	out := exportedEvent{eventJSON: eventOut(e)}
	switch v := jsontext.Value(e.Payload); {
	case v.IsValid():
		out.Payload = v
	case len(v) > 0:
		out.Payload = e.Payload
	}
	return out
}

func exportCustomer() *cobra.Command {
	c := &cobra.Command{
		Use: "export CUSTOMER", Short: "Print all that is stored of a customer as JSON",
		Long: `Prints all that is stored of a customer, as it is at one moment, as JSON: revoked
keys too, but no key's or token's hash, and no kept answers, which are sealed.`,
	}
	return adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		found, err := a.customer(ctx)
		if err != nil {
			return err
		}
		d, err := a.store.Export(ctx, found.ID)
		if err != nil {
			return err
		}
		out := exportJSON{Keys: []exportedKey{}, Ledger: []entryJSON{}, Jobs: []jobJSON{}, Fixes: []exportedFix{}, PaymentMethods: slices.Concat([]string{}, d.Methods), StripeEvents: []exportedEvent{}, Credentials: []credentialJSON{}, Audit: []auditJSON{}}
		out.Customer.customerJSON, out.Customer.CanonicalEmail, out.Customer.LoadTest = customerOut(d.Customer), d.CanonicalEmail, d.LoadTest
		for _, k := range d.Keys {
			out.Keys = append(out.Keys, exportedKey{keyOut(d.ID, k.Record), optional(k.RevokedAt)})
		}
		for _, e := range d.Entries {
			out.Ledger = append(out.Ledger, entryOut(e))
		}
		for _, j := range d.Jobs {
			out.Jobs = append(out.Jobs, jobOut(j))
		}
		for _, d := range d.Credentials {
			out.Credentials = append(out.Credentials, credentialOut(d))
		}
		for _, row := range d.Audit {
			out.Audit = append(out.Audit, auditOut(row))
		}
		for _, f := range d.Fixes {
			out.Fixes = append(out.Fixes, exportFix(f))
		}
		for _, e := range d.Events {
			out.StripeEvents = append(out.StripeEvents, exportEvent(e))
		}
		t := table{json: out}
		return t.print(c.OutOrStdout(), true)
	}, []string{"CUSTOMER"})
}

func eraseCustomer() *cobra.Command {
	c := &cobra.Command{
		Use: "erase CUSTOMER", Short: "Remove a customer's personal data and keys for ever, and keep the ledger",
		Long: `Removes a customer's name, e-mail address, company, API keys, kept answers,
jobs, payment methods, the contents of Stripe's events and what fixes were for,
from the database's files too; a node may serve meanwhile. Credits and ledger
stay as they are, and so do the source and the id at Stripe: Stripe's own
record must be deleted there. Backups made before still hold it all, and so may
the disk's own snapshots.`,
	}
	yes := c.Flags().Bool("yes", false, "really do it")
	return adminCommandOn(c, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		found, err := a.customer(ctx)
		if err != nil {
			return err
		}
		if !*yes && found.ErasedAt.IsZero() {
			if err := printCustomer(c, a, found); err != nil {
				return err
			}
			return usageError{fmt.Errorf("this removes name, e-mail address, company, API keys, kept answers and jobs of %s for ever: say --yes to do it", found.ID)}
		}
		done, err := a.store.Erase(ctx, found.ID, time.Now())
		if err != nil {
			return err
		}
		if done.Already {
			say(c, "the customer was erased already: this only looked for traces")
		}
		if id := done.Customer.StripeCustomerID; id != "" && !done.Already {
			say(c, "Stripe still knows the customer: delete %s there", id)
		}
		if done.Running > 0 {
			say(c, "%d of the customer's jobs were under way: in a minute look whether a mail was sent, and at Stripe whether the customer is there", done.Running)
		}
		switch {
		case done.Logged && a.config.Database.URL != "":
			say(c, "PostgreSQL's log, its archives and free places of its files hold the data until they are recycled or overwritten: see to those by your own rules")
		case done.Logged:
			say(c, "the database's log still holds the data, since somebody reads it, such as a backup: run this again when that has ended")
		}
		return printCustomer(c, a, done.Customer)
	}, []string{"CUSTOMER"})
}
