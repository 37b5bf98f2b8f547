package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"gatehouse/internal/jobs"
	"gatehouse/internal/mail/mailtest"
	"gatehouse/internal/store/sqlite"
	"gatehouse/internal/stripe/sim"
)

// signUpPace is the reference's rate of sign-ups, of which each queues two jobs.
const signUpPace = 350

// means are stand-ins for what jobs need, in this process.
type means struct {
	smtp   *mailtest.Server
	stripe *sim.Server
}

func newMeans() means { return means{mailtest.Start(), sim.Start()} }

func (m means) close() {
	m.smtp.Close()
	m.stripe.Close()
}

// serve starts the server with jobs: at m, or, where that is nil, at addresses
// where nothing listens.
func (o options) serveWithJobs(ctx context.Context, database string, m *means) (*process, error) {
	smtp, base := "smtp://127.0.0.1:9", "http://127.0.0.1:9"
	if m != nil {
		smtp, base = m.smtp.URL(), m.stripe.URL()
	}
	variables := map[string]string{
		"SMTP_URL": smtp, "MAIL_FROM": "bench@gatehouse.dev", "STRIPE_API_BASE": base, "STRIPE_API_KEY": "sk_test_bench",
	}
	var errs []error
	for name, value := range variables { // the server's, and no other's after it
		errs = append(errs, os.Setenv("GATEHOUSE_"+name, value))
	}
	server, err := o.serveGatehouse(ctx, database)
	for name := range variables {
		errs = append(errs, os.Unsetenv("GATEHOUSE_"+name))
	}
	return server, errors.Join(append(errs, err)...)
}

// queued is how many jobs there are in a database, from outside.
func queued(ctx context.Context, path string) (n int, err error) {
	s, err := sqlite.Open(ctx, sqlite.Options{Path: path})
	if err != nil {
		return 0, err
	}
	stats, err := s.JobStats(ctx)
	for _, stat := range stats {
		n += stat.Queued
	}
	return n, errors.Join(err, s.Close())
}

// benchJobs lets 350 customers a second sign up, each with a mail and a Stripe
// customer, and counts what is worked off meanwhile, with the stand-ins in
// this process.
func benchJobs(ctx context.Context, o options) error {
	m := newMeans()
	defer m.close()
	server, err := o.serveWithJobs(ctx, "jobs.db", &m)
	if err != nil {
		return err
	}
	d := signUps(server.addr, "jobs")
	d.pace = signUpPace
	r, err := d.run(ctx, max(20*time.Second, 3*o.slice))
	if err != nil {
		return err
	}
	left, err := queued(ctx, filepath.Join(o.dir, "jobs.db"))
	if err != nil {
		return err
	}
	done := len(m.smtp.Messages()) + len(m.stripe.Customers())
	fmt.Printf("%d sign-ups in %v (%.0f/s, %d refused), p50 %v, p99 %v; %d jobs done meanwhile (%.0f/s), %d left\n",
		r.count, r.took.Round(time.Second), r.rate(), r.other, r.percentile(.5), r.percentile(.99), done, float64(done)/r.took.Seconds(), left)
	return server.stop()
}

// troubles are what may be wrong with what jobs need, all the time.
var troubles = []struct {
	name  string
	away  bool // nothing listens
	smtp  mailtest.Fault
	trick sim.Fault
	queue int // jobs that wait when it begins
}{
	{name: "none"},
	{name: "refused connections", away: true},
	{name: "hanging", smtp: mailtest.Hang, trick: sim.Hang},
	{name: "garbage", smtp: mailtest.Garbage, trick: sim.Garbage},
	{name: "10,000 jobs queued", queue: 10_000},
}

// benchOutage compares the latency of sign-ups, 350 a second, where mail and
// Stripe are in trouble with that where they work, in turns.
func benchOutage(ctx context.Context, o options) error {
	p50, p99 := make(map[string][]float64), make(map[string][]float64)
	for round := range o.rounds {
		var plain result
		for i, t := range troubles {
			database := fmt.Sprintf("outage-%d-%d.db", round, i)
			r, err := o.inTrouble(ctx, database, t.queue, t.away, func(m means) {
				m.smtp.Fault(t.smtp)
				m.stripe.Set(sim.Trouble{Fault: t.trick})
			})
			if err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
			if r.other > 0 {
				return fmt.Errorf("%s: %d sign-ups were refused", t.name, r.other)
			}
			if i == 0 {
				plain = r
			}
			p50[t.name] = append(p50[t.name], float64(r.percentile(.5))/float64(plain.percentile(.5)))
			p99[t.name] = append(p99[t.name], float64(r.percentile(.99))/float64(plain.percentile(.99)))
			fmt.Printf("  %-20s p50 %8v p99 %8v\n", t.name, r.percentile(.5), r.percentile(.99))
		}
	}
	for _, t := range troubles[1:] {
		fmt.Printf("%s, of none: p50 %s, p99 %s\n", t.name, spread("%.2f", p50[t.name]), spread("%.2f", p99[t.name]))
	}
	return nil
}

func (o options) inTrouble(ctx context.Context, database string, queue int, away bool, spoil func(means)) (r result, err error) {
	if queue > 0 {
		if err := fill(ctx, filepath.Join(o.dir, database), queue/2); err != nil {
			return r, err
		}
	}
	m := newMeans()
	defer m.close()
	spoil(m)
	at := &m
	if away {
		at = nil
	}
	server, err := o.serveWithJobs(ctx, database, at)
	if err != nil {
		return r, err
	}
	d := signUps(server.addr, strings.TrimSuffix(database, ".db"))
	d.pace, d.fromSend = signUpPace, true
	if r, err = d.run(ctx, max(o.slice, 6*time.Second)); err != nil {
		return r, err
	}
	return r, server.stop()
}

// followUps are the jobs of a sign-up where all is configured.
var followUps = []jobs.Kind{jobs.StripeCustomer, jobs.WelcomeMail}

// idle handlers say at once that the job is done.
func idleHandlers() map[jobs.Kind]jobs.Handler {
	handlers := make(map[jobs.Kind]jobs.Handler)
	for _, kind := range followUps {
		handlers[kind] = func(context.Context, jobs.Job) error { return nil }
	}
	return handlers
}

// work runs idle jobs of a store until stop is called, which returns how many
// it were.
func work(ctx context.Context, store jobs.Queue) (stop func() int) {
	var done atomic.Int64
	runner := jobs.NewRunner(store, idleHandlers(), slog.New(slog.DiscardHandler), jobs.Observer{
		Tried:   func(jobs.Kind, jobs.Outcome, time.Duration) { done.Add(1) },
		Counted: func(jobs.Stat) {},
	})
	ctx, cancel := context.WithCancel(ctx)
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		runner.Run(ctx, context.WithoutCancel(ctx))
	}()
	return func() int {
		cancel()
		<-finished
		return int(done.Load())
	}
}
