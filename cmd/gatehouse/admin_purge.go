package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"gatehouse/internal/account"
	"gatehouse/internal/account/email"
	"gatehouse/internal/app"
)

// purgeNews is how many customers a purge removes between two lines about it,
// of which the first is after its first step.
const purgeNews = 5_000

func purgeCustomers() *cobra.Command {
	c := &cobra.Command{
		Use: "purge", Short: "Remove all load-test customers at a domain, with keys and ledgers",
		Long: `Removes all customers who signed up at a load-test domain while it was one, with
their keys and ledgers, and says how many. A node may serve meanwhile. It goes
in steps, each of which is whole whatever ends it: run it again to do the rest.
All others at the domain are kept, and so are those that have an id at Stripe
which no load test made up.`,
	}
	given := c.Flags().String("domain", "", "one of load-test-domains (its subdomains are others); required")
	known := func(config app.Config) string { return cmp.Or(strings.Join(config.PurgeDomains, ", "), "none") }
	var domain string
	check := func(config app.Config) (err error) {
		if *given == "" {
			return usageError{fmt.Errorf("--domain is required: one of load-test-domains (those are: %s)", known(config))}
		}
		if domain, err = email.ParseDomain(*given); err != nil {
			return usageError{fmt.Errorf("--domain %w", err)}
		}
		if !slices.Contains(config.PurgeDomains, domain) {
			return usageError{fmt.Errorf("%s is no load-test domain (those are: %s); its load-test customers can be removed only once it is in GATEHOUSE_LOAD_TEST_DOMAINS, or in load-test-domains of the file that --config names",
				domain, known(config))}
		}
		return nil
	}
	return adminCommandChecked(c, check, func(ctx context.Context, c *cobra.Command, a adminCall) error {
		news := 1
		done, err := account.Purge(ctx, a.store, domain, func(p account.Purged) {
			if p.Removed >= news && p.Next != "" {
				news = p.Removed + purgeNews
				fmt.Fprintf(c.ErrOrStderr(), "gatehouse: %d customers removed\n", p.Removed)
			}
		})
		if err != nil {
			return err
		}
		t := table{json: struct {
			Domain  string `json:"domain"`
			Removed int    `json:"removed"`
			Kept    int    `json:"kept"`
		}{domain, done.Removed, done.Kept}}
		t.add("domain", domain)
		t.add("removed", strconv.Itoa(done.Removed))
		t.add("kept", strconv.Itoa(done.Kept))
		return t.print(c.OutOrStdout(), a.json)
	})
}
