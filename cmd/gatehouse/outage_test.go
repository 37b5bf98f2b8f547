package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/mail/mailtest"
	"gatehouse/internal/seal"
	"gatehouse/internal/stripe/sim"
)

// workedOff bounds the wait for jobs that were held up: they wait for their
// next try, and a kind that failed again and again rests.
const workedOff = 3 * time.Minute

// awaitDone waits until no job is left but the dead.
func (n *node) awaitDone() {
	n.t.Helper()
	left := jobsIn(n.t, n.database)
	n.within(workedOff, "no job is left", func() bool { return left() == 0 })
}

// TestOutageOfMailAndStripe signs customers up while nothing outside works:
// they get in, and when it works again what they were owed.
func TestOutageOfMailAndStripe(t *testing.T) {
	t.Parallel()
	needLinux(t)
	tests := []struct {
		name        string
		begin, end  func(*outside)
		waitForHung bool
		customers   int // 0: few, so that neither kind of job rests after so many failures
	}{
		{
			name: "they refuse connections", customers: 40,
			begin: func(o *outside) { o.toMail.close(); o.toStripe.close() },
			end:   func(o *outside) { o.toMail.open(); o.toStripe.open() },
		},
		{
			name:        "they hang",
			begin:       func(o *outside) { o.trouble(mailtest.Hang, sim.Trouble{Fault: sim.Hang}) },
			end:         func(o *outside) { o.trouble(mailtest.None, sim.Trouble{}); o.toMail.cut(); o.toStripe.cut() },
			waitForHung: true,
		},
		{
			name:  "they answer garbage",
			begin: func(o *outside) { o.trouble(mailtest.Garbage, sim.Trouble{Fault: sim.Garbage}) },
			end:   func(o *outside) { o.trouble(mailtest.None, sim.Trouble{}) },
		},
		{
			name:  "they say that they are away",
			begin: func(o *outside) { o.trouble(mailtest.Busy, sim.Trouble{Fault: sim.Unavailable}) },
			end:   func(o *outside) { o.trouble(mailtest.None, sim.Trouble{}) },
		},
		{
			name:  "they do it, and no answer comes; or they fail, and say so until it is forgotten",
			begin: func(o *outside) { o.trouble(mailtest.Drop, sim.Trouble{Fault: sim.Failed}) },
			end:   func(o *outside) { o.trouble(mailtest.None, sim.Trouble{}); o.stripe.Forget() },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			o := newOutside(t)
			test.begin(o)
			n := startNodeWith(t, o.use(), newDatabase(t))
			customers := cmp.Or(test.customers, 6)
			for i := range customers {
				mustSignUp(t, n.client(loopback(i/5)), n.url, fmt.Sprintf("outage-%d@customers.dev", i))
			}
			if test.waitForHung { // each fails only when its time is over
				n.until("Stripe hangs", func() bool { return o.stripe.Hanging() > 0 })
			} else {
				for _, kind := range []string{"welcome_mail", "stripe_customer"} {
					n.until("a job has failed: "+kind, func() bool {
						failed, _ := n.log.with("job failed and will be tried again")
						return slices.ContainsFunc(failed, func(l logLine) bool { return strings.Contains(l.raw, kind) })
					})
				}
			}
			mustSignUp(t, n.client(loopback(50)), n.url, "outage-last@customers.dev") // no less then
			test.end(o)
			n.awaitDone()
			n.drain()
			v := o.judge(t, n.database)
			v.fail(t)
			if v.customers != customers+1 {
				t.Errorf("%d customers, want %d", v.customers, customers+1)
			}
		})
	}
}

// TestWorkerDies kills the node while it waits for Stripe: the next one does
// the job, with one effect.
func TestWorkerDies(t *testing.T) {
	t.Parallel()
	needLinux(t)
	o := newOutside(t)
	o.stripe.Set(sim.Trouble{Fault: sim.Hang, Path: "/v1/customers"})
	n := startNodeWith(t, o.use(), newDatabase(t))
	mustSignUp(t, n.client(""), n.url, "held@customers.dev")
	n.until("Stripe hangs", func() bool { return o.stripe.Hanging() == 1 })
	n.kill()
	o.stripe.Set(sim.Trouble{})
	n = startNodeWith(t, o.use(), n.database)
	n.awaitDone()
	n.drain()
	o.judge(t, n.database).fail(t)
}

// TestDrainGivesJobsBack stops a node while Stripe and the mail server hang.
func TestDrainGivesJobsBack(t *testing.T) {
	t.Parallel()
	needLinux(t)
	o := newOutside(t)
	o.trouble(mailtest.Hang, sim.Trouble{Fault: sim.Hang, Path: "/v1/customers"})
	n := startNodeWith(t, o.use(), newDatabase(t))
	mustSignUp(t, n.client(""), n.url, "held@customers.dev")
	running := openSQL(t, n.database)
	n.until("both jobs run", func() bool {
		found, err := column(running, "SELECT kind FROM jobs WHERE running AND kind <> 'stripe_reconcile'")
		return err == nil && len(found) == 2 && o.stripe.Hanging() == 1
	})
	n.drain()                                                                                                                                 // wants exit code 0
	jobs, err := column(running, "SELECT kind || ' ' || tries || running || reason FROM jobs WHERE kind <> 'stripe_reconcile' ORDER BY kind") // which comes and goes
	if want := "stripe_customer 00, welcome_mail 00"; err != nil || strings.Join(jobs, ", ") != want {
		t.Errorf("jobs with tries, running and reason after the drain: %q, %v; want %s", jobs, err, want)
	}
	o.trouble(mailtest.None, sim.Trouble{})
	n = startNodeWith(t, o.use(), n.database)
	n.awaitDone()
	n.drain()
	o.judge(t, n.database).fail(t)
}

// TestStripeConfiguredLater catches up on those who signed up before, and on
// nobody twice.
func TestStripeConfiguredLater(t *testing.T) {
	t.Parallel()
	needLinux(t)
	o := newOutside(t)
	n := startNodeWith(t, o.useMail(), newDatabase(t))
	for i := range 7 {
		mustSignUp(t, n.client(""), n.url, fmt.Sprintf("early-%d@customers.dev", i))
	}
	mustSignUp(t, n.client(""), n.url, "early@load.gatehouse.internal")
	if found, err := column(openSQL(t, n.database), "SELECT kind FROM jobs WHERE kind <> 'welcome_mail'"); err != nil || len(found) > 0 {
		t.Errorf("without Stripe there are jobs %q, %v", found, err)
	}
	n.awaitDone()
	n.drain()
	for i := range 3 {
		n = startNodeWith(t, o.use(), n.database)
		if i == 0 {
			n.awaitLog("customers without a Stripe customer will get one")
		}
		mustSignUp(t, n.client(loopback(i)), n.url, fmt.Sprintf("late-%d@customers.dev", i))
		mustSignUp(t, n.client(loopback(i)), n.url, fmt.Sprintf("late-%d@load.gatehouse.internal", i))
		n.awaitDone()
		n.drain()
		v := o.judge(t, n.database)
		v.fail(t)
		if v.atStripe != 8+i || v.mails != 8+i || o.stripe.RequestsTo("/v1/customers") != 8+i {
			t.Errorf("%d mails, %d Stripe customers by %d requests; want %d", v.mails, v.atStripe, o.stripe.RequestsTo("/v1/customers"), 8+i)
		}
	}
}

// TestNothingConfigured queues nothing, and says once what does not happen.
func TestNothingConfigured(t *testing.T) {
	t.Parallel()
	n := startNode(t, newDatabase(t))
	mustSignUp(t, n.client(""), n.url, "plain@customers.dev")
	if found, err := column(openSQL(t, n.database), "SELECT kind FROM jobs"); err != nil || len(found) > 0 {
		t.Errorf("jobs %q, %v", found, err)
	}
	n.drain()
	for _, text := range []string{"smtp-url is not set", "stripe-api-key is not set"} {
		if got := strings.Count(n.log.text(), text); got != 1 {
			t.Errorf("%q is in the log %d times, want once:\n%s", text, got, n.log.text())
		}
	}
}

// TestMasterKey keeps an answer, and serves the database with other keys.
func TestMasterKey(t *testing.T) {
	t.Parallel()
	database := newDatabase(t)
	keyFile := database + ".key"
	n := startNode(t, database)
	const once, email = "a-key-of-a-client-0", "sealed@customers.dev"
	first := signUpOnce(n.client(""), n.url, email, once)
	if first.status != http.StatusCreated {
		t.Fatalf("sign-up: %d %s", first.status, first.body)
	}
	n.drain()
	info, err := os.Stat(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != 0o600 {
		t.Errorf("the master key's file has mode %v, want that only its owner reads it", info.Mode())
	}
	text, err := os.ReadFile(keyFile)
	if err != nil {
		t.Fatal(err)
	}
	old, other := strings.TrimSpace(string(text)), seal.NewKey()
	tests := []struct {
		name, set string // GATEHOUSE_MASTER_KEY
		beside    bool   // the file is there
		replays   bool
		keeps     int // the status of another sign-up with an Idempotency-Key
	}{
		{name: "the file", beside: true, replays: true, keeps: 201},
		{name: "another key", set: other, keeps: 201},
		{name: "no key", keeps: 503},
		{name: "another key and the file", set: other, beside: true, replays: true, keeps: 201},
		{name: "a new key before the old one", set: seal.NewKey() + "," + other + "," + old, replays: true, keeps: 201},
	}
	for i, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := os.WriteFile(keyFile, text, 0o600)
			if !test.beside {
				err = os.Remove(keyFile)
			}
			if err != nil {
				t.Fatal(err)
			}
			var env []string
			if test.set != "" {
				env = []string{"GATEHOUSE_MASTER_KEY=" + test.set}
			}
			n := startNodeWith(t, env, database, "--limit-onboarding=100/60s") // all are one client's
			n.faulty = !test.replays
			again := signUpOnce(n.client(""), n.url, email, once)
			if test.replays && (again.status != http.StatusCreated || !bytes.Equal(again.body, first.body)) {
				t.Errorf("the sign-up again: %d %s, want the first answer", again.status, again.body)
			}
			if !test.replays && (again.status != http.StatusServiceUnavailable || again.header.Get("Retry-After") == "") {
				t.Errorf("the sign-up again: %d %s, want 503 and Retry-After", again.status, again.body)
			}
			client := n.client("")
			if c := signUpOnce(client, n.url, fmt.Sprintf("keyed-%d@customers.dev", i), fmt.Sprintf("a-key-of-a-client-%d", i+1)); c.status != test.keeps {
				t.Errorf("another sign-up with a key: %d %s, want %d", c.status, c.body, test.keeps)
			}
			mustSignUp(t, client, n.url, fmt.Sprintf("plain-%d@customers.dev", i))
			n.drain()
			if _, err := os.Stat(keyFile); !test.beside && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("a master key was made where one is missing: %v", err)
			}
			log := n.log.text()
			if says := strings.Contains(log, "add it to GATEHOUSE_MASTER_KEY"); says != n.faulty {
				t.Errorf("the log says what to do about a missing key: %v, want %v:\n%s", says, n.faulty, log)
			}
			for _, secret := range []string{old, other, first.key} {
				if strings.Contains(log, secret) {
					t.Error("the log has a secret")
				}
			}
		})
	}
}
