package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"gatehouse/internal/account"
	"gatehouse/internal/billing"
	"gatehouse/internal/jobs"
	"gatehouse/internal/seal"
	"gatehouse/internal/store"
	"gatehouse/internal/store/postgres"
	"gatehouse/internal/store/sqlite"
)

const (
	// deliveryConns is how many deliveries may be under way at once.
	deliveryConns = 16
	payers        = 1000 // customers whose invoices are paid, in turn
)

// benchWebhookRate delivers events at the rate that the contract lets in, to a
// node on each database: 1,000 a minute. Latency counts from when each was due.
func benchWebhookRate(ctx context.Context, o options) error {
	return o.onBoth(ctx, "rate.db", func(b backend) error { return o.deliver(ctx, b, 16.6, 20*o.slice) })
}

// benchEffect delivers more than that, with the limit raised, for how long it
// takes from the acknowledgement of an event until it has its effect.
func benchEffect(ctx context.Context, o options) error {
	return o.onBoth(ctx, "effect.db", func(b backend) error {
		return o.deliver(ctx, b, 50, 20*o.slice/3, "--limit-stripe-webhook", "10000/60s")
	})
}

// backend is a database for a node, and how to look into it.
type backend struct {
	name, url string
	open      func() (store.Store, error)
}

// onBoth does something with a new SQLite and then with a new PostgreSQL.
func (o options) onBoth(ctx context.Context, file string, do func(backend) error) error {
	path := filepath.Join(o.dir, file)
	s, err := sqlite.Open(ctx, sqlite.Options{Path: path, Serve: true, Migrate: true})
	if err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	err = do(backend{"SQLite", "sqlite:" + path, func() (store.Store, error) { return sqlite.Open(ctx, sqlite.Options{Path: path}) }})
	if err != nil {
		return err
	}
	c, err := o.startPostgres()
	if err != nil {
		return err
	}
	url, err := c.database(ctx)
	if err == nil {
		err = do(backend{"PostgreSQL", url, func() (store.Store, error) { return postgres.Open(ctx, postgres.Options{URL: url}) }})
	}
	return errors.Join(err, c.Close())
}

// deliver has events arrive at a node at a pace, each that a customer's invoice
// was paid, and says how long their acknowledgements took, and how long after
// those the credits were in the ledgers. None may be refused, or be without its
// credits.
func (o options) deliver(ctx context.Context, b backend, pace float64, length time.Duration, args ...string) (err error) {
	s, err := b.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := openAll(ctx, []store.Store{s}, payers); err != nil {
		return err
	}
	customers, err := s.Customers(ctx, "", payers)
	if err != nil {
		return err
	}
	server, err := o.serveWebhooks(ctx, b.url, args...)
	if err != nil {
		return err
	}
	r, acknowledged, err := delivered(ctx, server.addr, customers, pace, length)
	if err == nil {
		err = settled(ctx, s)
	}
	if err := errors.Join(err, server.stop()); err != nil {
		return err
	}
	var lags []time.Duration
	for a, err := range s.Ledgers(ctx, "") {
		if err != nil {
			return err
		}
		for _, e := range a.Entries {
			if at, ok := acknowledged[e.Reference]; ok && e.Source == billing.ProPayment {
				lags = append(lags, e.CreatedAt.Sub(at))
			}
		}
	}
	if r.other > 0 || len(lags) != r.count {
		return fmt.Errorf("%d events were refused; of %d acknowledged %d have had their effect", r.other, r.count, len(lags))
	}
	slices.Sort(lags)
	effect := result{latency: lags}
	fmt.Printf("%s: %d events in %v (%.1f/s), none refused: acknowledged p50 %v, p95 %v, p99 %v; then the effect p50 %v, p99 %v, longest %v\n",
		b.name, r.count, r.took.Round(time.Second), r.rate(), r.percentile(.5), r.percentile(.95), r.percentile(.99),
		effect.percentile(.5), effect.percentile(.99), effect.percentile(1))
	return nil
}

// serveWebhooks starts the server with a secret for webhooks.
func (o options) serveWebhooks(ctx context.Context, database string, args ...string) (*process, error) {
	return startWith(ctx, []string{"GATEHOUSE_STRIPE_WEBHOOK_SECRETS=" + webhookSecret, "GATEHOUSE_MASTER_KEY=" + seal.NewKey(), "GATEHOUSE_DATABASE=" + database},
		o.binary, append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--drain-timeout", "2s", "--trusted-proxies", "127.0.0.0/8"}, args...)...)
}

// delivered sends events, and returns when each was acknowledged, by what its
// ledger entry will refer to.
func delivered(ctx context.Context, addr string, customers []account.Customer, pace float64, length time.Duration) (result, map[string]time.Time, error) {
	id := func(conn, n int) string { return fmt.Sprintf("1PgafyB7WZ01z%03d%08d", conn, n) }
	times := make([][]time.Time, deliveryConns)
	d := drive{
		addr: addr, conns: deliveryConns, want: "200", pace: pace,
		request: func(buf []byte, conn, n int) []byte {
			body := paid(id(conn, n), customers[(n*deliveryConns+conn)%len(customers)].ID)
			return appendWebhook(buf, body, sign(body), "")
		},
		done: func(conn int) { times[conn] = append(times[conn], time.Now()) },
	}
	r, err := d.run(ctx, length)
	acknowledged := make(map[string]time.Time)
	for conn, all := range times {
		for n, at := range all {
			acknowledged["invoice:in_"+id(conn, n)] = at
		}
	}
	return r, acknowledged, err
}

// settled waits until no event waits for its effect, for a minute at most.
func settled(ctx context.Context, s store.Store) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		stats, err := s.JobStats(ctx)
		if err != nil {
			return fmt.Errorf("wait for the effects: %w", err)
		}
		if !slices.ContainsFunc(stats, func(s jobs.Stat) bool { return s.Kind == jobs.StripeEvent && s.Queued > 0 }) {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
}
