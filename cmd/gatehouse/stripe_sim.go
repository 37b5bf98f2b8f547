package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/stripe/sim"
)

const (
	secretsVariable = "GATEHOUSE_STRIPE_WEBHOOK_SECRETS"
	signsWith       = "whsec_sim" // without any
)

// stripeSim is what the flags of stripe-sim say.
type stripeSim struct {
	listen, apiVersion string
	webhooks           []string
	seed               uint64
	quiet              bool
}

func stripeSimCommand() *cobra.Command {
	var s stripeSim
	c := &cobra.Command{
		Use:   "stripe-sim",
		Short: "Run a stand-in for Stripe on this machine",
		Long: `Runs a stand-in for Stripe until SIGTERM or SIGINT: customers, test cards,
payments, subscriptions, invoices, refunds, disputes, test clocks, and the events
of all that, signed and delivered as Stripe does. It remembers until it ends, and
listens and delivers on this machine only.

Deliveries are signed with the first secret of ` + secretsVariable + `
(default ` + signsWith + `). It has the prices price_pro, which is Pro's, and price_other.

A subscription's life by a test clock, with gatehouse serve beside it. The customer
signed up at load.gatehouse.internal, say: at other addresses Gatehouse makes a
Stripe customer of its own, which has no clock.

  S=http://127.0.0.1:12111 K='-u sk_test_sim:'
  curl $K $S/v1/test_helpers/test_clocks -d frozen_time=$(date +%s)
  curl $K $S/v1/customers -d email=jane@load.gatehouse.internal -d test_clock=clock_… \
    -d 'metadata[gatehouse_customer_id]=…'
  curl $K $S/v1/payment_methods/pm_card_visa/attach -d customer=cus_…
  curl $K $S/v1/customers/cus_… -d 'invoice_settings[default_payment_method]=pm_…'
  curl $K $S/v1/subscriptions -d customer=cus_… -d 'items[0][price]=price_pro' \
    -d 'metadata[gatehouse_customer_id]=…'
  # a month later a new invoice is made, an hour later it is paid
  curl $K $S/v1/test_helpers/test_clocks/clock_…/advance -d frozen_time=$(date +%s -d '32 days')
  curl $K $S/v1/subscriptions/sub_… -d cancel_at_period_end=true
  curl $K $S/v1/test_helpers/test_clocks/clock_…/advance -d frozen_time=$(date +%s -d '63 days')
  curl $K "$S/v1/events?limit=100"

Other cards are pm_card_chargeDeclined, pm_card_authenticationRequired,
pm_card_visa_chargeDeclinedInsufficientFunds and pm_card_createDispute.

What Stripe has no call for, and faults:

  curl $S/_sim/disputes -d charge=ch_…             # then /_sim/disputes/dp_…/close -d status=won
  curl $S/_sim/events/evt_…/deliver -X POST        # once more
  curl $S/_sim/faults                              # all that there are
  curl $S/_sim/faults -d fault=lost -d every=3     # every third answer is lost
  curl $S/_sim/faults -d decline=2                 # the next two charges are declined
  curl $S/_sim/faults -d duplicate=2 -d reorder=5  # of deliveries
  curl $S/_sim/faults -X DELETE                    # none any more
  curl $S/_sim/reset -X POST                       # all is forgotten`,
		Args: exactly(),
	}
	f := c.Flags()
	f.StringVar(&s.listen, "listen", "127.0.0.1:12111", "loopback address of the API")
	f.StringArrayVar(&s.webhooks, "webhook-url", []string{"http://127.0.0.1:8080/api/webhooks/stripe"},
		"loopback URL that events go to; several are taken in turn, as a balancer would")
	f.Uint64Var(&s.seed, "seed", 0, "decides which events the faults drop and how they shuffle")
	f.StringVar(&s.apiVersion, "api-version", sim.Version, "API version of the events, such as 2022-11-15")
	f.BoolVar(&s.quiet, "quiet", false, "print no line for each delivery")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := s.check(); err != nil {
			return usageError{err}
		}
		// It must not die of a reader that has left.
		signal.Ignore(syscall.SIGPIPE)
		var printing sync.Mutex
		say := func(format string, args ...any) {
			printing.Lock()
			defer printing.Unlock()
			fmt.Fprintf(c.ErrOrStderr(), format+"\n", args...)
		}
		o := sim.Options{Listen: s.listen, Webhooks: s.webhooks, Seed: s.seed, APIVersion: s.apiVersion}
		for secret := range strings.SplitSeq(os.Getenv(secretsVariable), ",") {
			if secret = strings.TrimSpace(secret); secret != "" {
				o.Secrets = append(o.Secrets, secret)
			}
		}
		if !s.quiet {
			o.Delivered = func(d sim.Delivery) { say("%s", deliveryLine(d)) }
		}
		shown := "as it is set here"
		if len(o.Secrets) == 0 {
			o.Secrets, shown = []string{signsWith}, signsWith
		}
		server, err := sim.New(o)
		if err != nil {
			return err
		}
		defer server.Close()
		say("A stand-in for Stripe listens on %s and sends events to %s.", server.URL(), strings.Join(s.webhooks, ", "))
		say("For gatehouse serve set\n  GATEHOUSE_STRIPE_API_BASE=%s\n  GATEHOUSE_STRIPE_API_KEY=sk_test_sim\n  %s=%s", server.URL(), secretsVariable, shown)
		<-c.Context().Done()
		return nil
	}
	return c
}

// check finds what would leave this machine: the stand-in takes any key, and
// its events may look like a live Stripe's.
func (s *stripeSim) check() error {
	host, port, err := net.SplitHostPort(s.listen)
	if err != nil || !onLoopback(host) {
		return fmt.Errorf("--listen %q: want an address on loopback, such as 127.0.0.1:12111", s.listen)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("--listen %q: want a port of at most 65535; 0 is a free one", s.listen)
	}
	if !sim.IsVersion(s.apiVersion) {
		return fmt.Errorf("--api-version %q: want one such as %s or 2022-11-15", s.apiVersion, sim.Version)
	}
	for _, text := range s.webhooks {
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil:
			return errors.New("--webhook-url: want http://127.0.0.1:PORT/PATH, without a user")
		case !onLoopback(u.Hostname()):
			return fmt.Errorf("--webhook-url %s is not on this machine: want a host on loopback, such as http://127.0.0.1:8080/api/webhooks/stripe", text)
		}
	}
	return nil
}

func onLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// deliveryLine tells of one try of a delivery.
func deliveryLine(d sim.Delivery) string {
	outcome := strconv.Itoa(d.Status)
	if d.Err != nil {
		outcome = d.Err.Error()
	}
	line := fmt.Sprintf("%s %s %s in %s", d.Event, d.Type, printable(outcome), d.Took.Round(time.Millisecond/10))
	if d.Try > 1 {
		line += fmt.Sprintf(", try %d", d.Try)
	}
	return line
}
