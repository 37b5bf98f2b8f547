package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/seal"
	"gatehouse/internal/store"
	"gatehouse/internal/store/postgres"
)

// openAll has 64 callers open accounts in stores, in turn, and returns how many a
// second.
func openAll(ctx context.Context, stores []store.Store, n int) (float64, error) {
	rows, err := openings(n)
	if err != nil {
		return 0, err
	}
	return together(n, func(caller, i int) error { return stores[caller%len(stores)].Open(ctx, rows[i], nil) })
}

// together has 64 callers do so many things, each once, and returns how many a
// second.
func together(n int, do func(caller, i int) error) (float64, error) {
	var next, failed atomic.Int64
	var why atomic.Pointer[error] // one of them
	var wg sync.WaitGroup
	start := time.Now()
	for caller := range signUpClients {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < n; i = int(next.Add(1) - 1) {
				if err := do(caller, i); err != nil {
					failed.Add(1)
					why.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start).Seconds()
	if f := failed.Load(); f > 0 {
		return 0, fmt.Errorf("%d of %d failed, one with %w", f, n, *why.Load())
	}
	return float64(n) / took, nil
}

func asStores(all []*postgres.Store) (stores []store.Store) {
	for _, s := range all {
		stores = append(stores, s)
	}
	return stores
}

// benchPGStore lets 64 goroutines sign up in the store on PostgreSQL, and
// pgbench insert the same rows, one statement a sign-up, at its best client
// count, in turns. Then three nodes at once do what one did.
func benchPGStore(ctx context.Context, o options) error {
	c, err := o.startPostgres()
	if err != nil {
		return err
	}
	err = pgStore(ctx, o, c)
	return errors.Join(err, c.Close())
}

func pgStore(ctx context.Context, o options, c cluster) error {
	clients, err := bestClients(ctx, o, c.database, signUpScript)
	if err != nil {
		return err
	}
	const turn = 256 * signUpClients
	var ratios, withWork, storeRates, workRates, benchRates, threeRates, threeRatios []float64
	for range o.rounds {
		url, err := c.database(ctx)
		if err != nil {
			return err
		}
		yardstick, err := pgbench(ctx, o.dir, url, signUpScript, clients, o.slice)
		if err != nil {
			return err
		}
		if url, err = c.database(ctx); err != nil {
			return err
		}
		three, err := nodes(ctx, url, 3)
		if err != nil {
			return err
		}
		stores := asStores(three)
		one, err := openAll(ctx, stores[:1], turn)
		if err != nil {
			return err
		}
		stop := work(ctx, three[0])
		working, err := openAll(ctx, stores[:1], turn)
		stop()
		if err != nil {
			return err
		}
		all, err := openAll(ctx, stores, turn)
		if err := errors.Join(err, closeAll(three)); err != nil {
			return err
		}
		fmt.Printf("  pgbench %6.0f/s   store %6.0f/s   workers running %6.0f/s   three nodes %6.0f/s\n", yardstick, one, working, all)
		benchRates, storeRates, workRates, threeRates = append(benchRates, yardstick), append(storeRates, one), append(workRates, working), append(threeRates, all)
		ratios, withWork, threeRatios = append(ratios, one/yardstick), append(withWork, working/yardstick), append(threeRatios, all/one)
	}
	fmt.Printf("sign-ups a second: pgbench, %d clients, %s; store %s, ratio %s; with workers running %s, ratio %s; three nodes %s, by one %s\n",
		clients, spread("%.0f", benchRates), spread("%.0f", storeRates), spread("%.2f", ratios),
		spread("%.0f", workRates), spread("%.2f", withWork), spread("%.0f", threeRates), spread("%.2f", threeRatios))
	return nil
}

// benchPGHTTP lets 64 clients sign up over HTTP with one node and with three, on
// PostgreSQL, and pgbench insert the same rows, in turns.
func benchPGHTTP(ctx context.Context, o options) error {
	c, err := o.startPostgres()
	if err != nil {
		return err
	}
	return errors.Join(pgHTTP(ctx, o, c), c.Close())
}

func pgHTTP(ctx context.Context, o options, c cluster) error {
	clients, err := bestClients(ctx, o, c.database, signUpScript)
	if err != nil {
		return err
	}
	var yardsticks, ones, ratios, threes, threeRatios []float64
	for range o.rounds {
		url, err := c.database(ctx)
		if err != nil {
			return err
		}
		yardstick, err := pgbench(ctx, o.dir, url, signUpScript, clients, o.slice)
		if err != nil {
			return err
		}
		one, err := c.signUpOver(ctx, o, 1)
		if err != nil {
			return err
		}
		three, err := c.signUpOver(ctx, o, 3)
		if err != nil {
			return err
		}
		yardsticks, ones, threes = append(yardsticks, yardstick), append(ones, one), append(threes, three)
		ratios, threeRatios = append(ratios, one/yardstick), append(threeRatios, three/one)
		fmt.Printf("  pgbench %6.0f/s   one node %6.0f/s   three nodes %6.0f/s\n", yardstick, one, three)
	}
	fmt.Printf("sign-ups a second: pgbench %s; one node over HTTP %s, ratio %s; three %s, by one %s\n", spread("%.0f", yardsticks),
		spread("%.0f", ones), spread("%.2f", ratios), spread("%.0f", threes), spread("%.2f", threeRatios))
	return nil
}

// signUpOver has 64 clients sign up with so many nodes on a new database, with
// mail and Stripe configured and nobody there, so that each queues two jobs as
// pgbench's do, and returns the sign-ups a second of all together.
func (c cluster) signUpOver(ctx context.Context, o options, n int) (total float64, err error) {
	url, err := c.database(ctx)
	if err != nil {
		return 0, err
	}
	variables := map[string]string{
		"GATEHOUSE_MASTER_KEY": seal.NewKey(), "GATEHOUSE_DATABASE": url, "GATEHOUSE_SMTP_URL": "smtp://127.0.0.1:9", "GATEHOUSE_MAIL_FROM": "bench@gatehouse.dev",
		"GATEHOUSE_STRIPE_API_BASE": "http://127.0.0.1:9", "GATEHOUSE_STRIPE_API_KEY": "sk_test_bench",
	}
	for name, value := range variables {
		if err := os.Setenv(name, value); err != nil {
			return 0, err
		}
		defer func() { err = errors.Join(err, os.Unsetenv(name)) }() //nolint:gocritic // a few, and to the end
	}
	var all []*process
	for range n {
		p, err := start(ctx, o.binary, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--drain-timeout", "2s", "--trusted-proxies", "127.0.0.0/8")
		if err != nil {
			return 0, err
		}
		all = append(all, p)
	}
	results, errs := make([]result, n), make([]error, n)
	var wg sync.WaitGroup
	for i, p := range all {
		wg.Go(func() {
			d := signUps(p.addr, fmt.Sprintf("node%d", i))
			d.conns = signUpClients / n
			request := d.request
			d.request = func(buf []byte, conn, k int) []byte { return request(buf, i*d.conns+conn, k) } // addresses of its own
			results[i], errs[i] = d.run(ctx, o.slice)
		})
	}
	wg.Wait()
	for i, p := range all {
		if results[i].other > 0 {
			errs[i] = errors.Join(errs[i], fmt.Errorf("%d sign-ups were refused", results[i].other))
		}
		total += results[i].rate()
		errs[i] = errors.Join(errs[i], p.stop())
	}
	return total, errors.Join(errs...)
}
