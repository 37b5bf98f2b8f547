package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/store/sqlite"
)

// benchStore lets 64 goroutines sign up in the store, without HTTP, and
// inserts the same rows raw, in turns, while workers run its jobs, which do
// nothing. Making the rows is not counted.
func benchStore(ctx context.Context, o options) error {
	store, err := sqlite.Open(ctx, sqlite.Options{Path: filepath.Join(o.dir, "store.db"), Serve: true, Migrate: true})
	if err != nil {
		return err
	}
	raw, err := newRawInserts(ctx, filepath.Join(o.dir, "raw.db"))
	if err != nil {
		return err
	}
	const turn = 128 * signUpClients
	var ratios, storeRates, rawRates, jobRates []float64
	for range 2 * o.rounds { // turns are short
		rows, err := openings(2 * turn)
		if err != nil {
			return err
		}
		start := time.Now()
		for i := 0; i < turn; i += signUpClients {
			if err := raw.insert(rows[i : i+signUpClients]); err != nil {
				return err
			}
		}
		rawRate := turn / time.Since(start).Seconds()

		stop := work(ctx, store)
		start = time.Now()
		var next atomic.Int64
		var failed atomic.Int64
		var wg sync.WaitGroup
		for range signUpClients {
			wg.Go(func() {
				for i := next.Add(1) - 1; i < turn; i = next.Add(1) - 1 {
					if err := store.Open(ctx, rows[turn+i], nil); err != nil {
						failed.Add(1)
					}
				}
			})
		}
		wg.Wait()
		took := time.Since(start).Seconds()
		storeRate := turn / took
		jobRates = append(jobRates, float64(stop())/took)
		if n := failed.Load(); n > 0 {
			return fmt.Errorf("%d sign-ups failed", n)
		}
		storeRates, rawRates = append(storeRates, storeRate), append(rawRates, rawRate)
		ratios = append(ratios, storeRate/rawRate)
	}
	fmt.Printf("sign-ups a second: store %s, raw %s, ratio %s; jobs done a second meanwhile %s\n",
		spread("%.0f", storeRates), spread("%.0f", rawRates), spread("%.2f", ratios), spread("%.0f", jobRates))
	return errors.Join(store.Close(), raw.db.Close())
}
