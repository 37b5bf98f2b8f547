package postgres_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/ratelimit"
	"gatehouse/internal/store/postgres"
)

// BenchmarkTake is how long a durable decision takes with 64 callers: on one
// key, where nearly all are refusals, and on so many, where all are admitted.
func BenchmarkTake(b *testing.B) {
	for _, keys := range []int64{1, 100, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			store := openStore(b, postgres.Options{URL: newDatabase(b), Serve: true})
			defer store.Close()
			limit := ratelimit.Limit{Count: 10, Window: time.Minute}
			var n atomic.Int64
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					key := fmt.Sprintf("127.%d", n.Add(1)*7919%keys)
					if _, err := store.Take(b.Context(), ratelimit.Onboarding, limit, key); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
