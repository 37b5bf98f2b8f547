package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/store"
	"gatehouse/internal/store/postgres"
)

// openAll has so many callers open accounts in stores, in turn, and returns how
// many a second.
func openAll(ctx context.Context, stores []store.Store, callers, n int) (float64, error) {
	rows, err := openings(n)
	if err != nil {
		return 0, err
	}
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for caller := range callers {
		wg.Go(func() {
			s := stores[caller%len(stores)]
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := s.Open(ctx, rows[i], nil); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	took := time.Since(start).Seconds()
	if f := failed.Load(); f > 0 {
		return 0, fmt.Errorf("%d sign-ups failed", f)
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
	clients, err := bestClients(ctx, o, c)
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
		one, err := openAll(ctx, stores[:1], signUpClients, turn)
		if err != nil {
			return err
		}
		stop := work(ctx, three[0])
		working, err := openAll(ctx, stores[:1], signUpClients, turn)
		stop()
		if err != nil {
			return err
		}
		all, err := openAll(ctx, stores, signUpClients, turn)
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
