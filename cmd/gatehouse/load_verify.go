package main

import (
	"errors"
	"fmt"
	"io"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"gatehouse/internal/account/email"
	"gatehouse/internal/load"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/verify"
	"gatehouse/internal/nearest"
)

// loadVerify is what the flags of load verify say.
type loadVerify struct {
	targets, policies []string
	keysFile, domain  string
	out, via          string
	windows           float64
	patience          time.Duration
	yes, json         bool
}

func loadVerifyCommand() *cobra.Command {
	var l loadVerify
	c := &cobra.Command{
		Use:   "verify",
		Short: "Prove rate limits from outside",
		Long: fmt.Sprintf(`Fills the windows of each policy, is refused, waits and comes back, over all
targets at once, and says of each property of the limit whether it is proved,
violated (with the requests that show it) or undecidable (with why). Limits and
windows are read from the target's answers. A policy takes at most five windows
and five seconds; all are verified at once.

The policies: %s.
api is left out unless it is named where its window is above two minutes. Any
other that is off, lacks its secret or has such a window is undecidable: to verify
fewer, name them. Events for stripe_webhook are signed with
GATEHOUSE_STRIPE_WEBHOOK_SECRETS.

Exit codes: 0 proved; 1 violated, or a report could not be written; 2 wrong
usage, nothing was sent; 3 undecidable; 130 interrupted.

Two nodes on this machine, and then the customers of it are removed:

  gatehouse load verify --target http://127.0.0.1:8080,http://127.0.0.1:8081
  gatehouse admin customers purge --domain %s`, strings.Join(policyNames(), ", "), loopbackDomain),
		Args: exactly(),
	}
	f := c.Flags()
	f.StringSliceVar(&l.targets, "target", []string{"http://127.0.0.1:8080"}, "URLs of the API, one a node")
	f.StringSliceVar(&l.policies, "policy", nil, "policies to verify (default: all, but api where its window is above two minutes)")
	f.StringVar(&l.keysFile, "keys-file", "", "API keys, one a line, for credential_exchange (the first, whose customer makes a second for the time of the run) and api (the last); needed for them off loopback without --clients-via forwarded (default otherwise: one of a customer who signs up for it)")
	f.StringVar(&l.domain, "email-domain", "", "domain of the customers who sign up; needed off loopback (default on loopback "+loopbackDomain+")")
	f.StringVar(&l.via, "clients-via", string(load.ViaNone), "how policies' clients are told apart but by their address: forwarded (X-Forwarded-For, for a target that trusts this machine as a proxy) or none")
	f.StringVar(&l.out, "out", "", "folder for the reports (default load-verify-TIME)")
	f.Float64Var(&l.windows, "windows", 5, "how many windows a policy may take, to be tried the more often; once over takes three")
	f.DurationVar(&l.patience, "patience", 0, "how long targets may be away and are asked again, as where they are killed on purpose (default: one that can't be reached is given up)")
	f.BoolVar(&l.yes, "yes", false, "use up limits of a target off loopback")
	f.BoolVar(&l.json, "json", false, "print the summary as JSON")
	c.RunE = func(c *cobra.Command, _ []string) error {
		o, err := l.options()
		if err == nil {
			err = report.Folder(l.out)
		}
		if err != nil {
			return usageError{err}
		}
		o.Progress = c.ErrOrStderr()
		signal.Ignore(syscall.SIGPIPE) // as load run
		s, err := verify.Run(c.Context(), o)
		if err != nil && c.Context().Err() != nil {
			return interrupted{errors.New("interrupted; nothing was sent")}
		}
		if err != nil {
			return usageError{err}
		}
		concluded := l.conclude(c.OutOrStdout(), s)
		if err := verify.Write(l.out, s); err != nil {
			return errors.Join(err, concluded)
		}
		return concluded
	}
	return c
}

func policyNames() (names []string) {
	for _, p := range verify.Policies() {
		names = append(names, p.Name)
	}
	return names
}

// options checks all that can be wrong before anything is sent.
func (l *loadVerify) options() (o verify.Options, err error) {
	o = verify.Options{Policies: l.policies, Windows: l.windows, Patience: l.patience, ToolVersion: version}
	if o.Targets, o.Loopback, err = readTargets(l.targets); err != nil {
		return o, err
	}
	switch {
	case o.Loopback && l.domain == "":
		l.domain = loopbackDomain
	case !o.Loopback && (!l.yes || l.domain == ""):
		return o, fmt.Errorf("%s is not on this machine: add --yes, which says that its limits may be used up, and --email-domain, a domain of yours that its GATEHOUSE_LOAD_TEST_DOMAINS has", o.Targets[0])
	}
	o.Domain = l.domain
	if _, err := email.ParseDomain(o.Domain); err != nil {
		return o, fmt.Errorf("--email-domain %w", err)
	}
	for _, name := range o.Policies {
		if !slices.Contains(policyNames(), name) {
			return o, fmt.Errorf("there is no policy %q%s; there are %s", name, nearest.DidYouMean(name, policyNames()), strings.Join(policyNames(), ", "))
		}
	}
	switch load.Via(l.via) {
	case "", load.ViaNone:
	case load.ViaForwarded:
		o.Via = load.ViaForwarded
	default:
		return o, fmt.Errorf("--clients-via %q: want forwarded or none%s", l.via, nearest.DidYouMean(l.via, []string{string(load.ViaForwarded), string(load.ViaNone)}))
	}
	if !(l.windows >= 1 && l.windows <= 100) {
		return o, fmt.Errorf("--windows %g: want 1 to 100", l.windows)
	}
	if l.patience < 0 || l.patience > 10*time.Minute {
		return o, fmt.Errorf("--patience %v: want 0 to 10m", l.patience)
	}
	if o.Keys, err = readKeys(l.keysFile); err != nil {
		return o, err
	}
	o.Secret = webhookSecret()
	if l.out == "" {
		l.out = "load-verify-" + time.Now().UTC().Format("20060102T150405Z")
	}
	return o, nil
}

// conclude prints the result and turns it into an exit code. What can't be
// printed is in the reports.
func (l *loadVerify) conclude(out io.Writer, s *verify.Summary) error {
	if l.json {
		if text, err := report.JSON(s); err == nil {
			_, _ = out.Write(text)
		}
	} else {
		fmt.Fprintln(out, s.Headline())
		t := table{header: []string{"POLICY", "LIMIT", "PROPERTY", "VERDICT", "WHAT WAS SEEN"}}
		for _, p := range s.Policies {
			limit := fmt.Sprintf("%d/%gs", p.Limit, p.Window)
			if p.Why != "" {
				t.add(p.Policy, "", "", "NOT VERIFIED", p.Why)
			}
			if p.Note != "" {
				t.add(p.Policy, limit, "", "note", p.Note)
			}
			if p.Ended != "" {
				t.add(p.Policy, limit, "", string(p.Verdict), "it ended early: "+p.Ended)
			}
			for _, f := range p.Findings {
				t.add(p.Policy, limit, f.Property, string(f.Verdict), f.Why)
			}
		}
		for _, p := range s.NotVerified {
			t.add(p.Policy, "", "", "NOT VERIFIED", p.Why)
		}
		_ = t.print(out, false)
		fmt.Fprintf(out, "reports: %s\n", filepath.Join(l.out, "report.html"))
	}
	switch {
	case s.Interrupted:
		return interrupted{errors.New("interrupted; the reports cover what was seen")}
	case s.Verdict == verify.Violated:
		return errors.New("a rate limit is violated")
	case s.Verdict == verify.Undecidable:
		return inconclusive{errors.New("not all could be decided")}
	}
	return nil
}
