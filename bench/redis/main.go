package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
)

func main() {
	log.SetFlags(0)
	addr := flag.String("addr", "127.0.0.1:6379", "the Redis server")
	callers := flag.Int("callers", 64, "how many ask at once")
	keys := flag.Int64("keys", 1_000_000, "how many keys there are")
	limit := flag.Int("limit", 10, "requests a minute and key")
	length := flag.Duration("length", 3*time.Second, "for how long")
	flag.Parse()
	client := redis.NewClient(&redis.Options{Addr: *addr, PoolSize: *callers})
	limiter := redis_rate.NewLimiter(client)
	ctx, cancel := context.WithTimeout(context.Background(), *length)
	defer cancel()
	var n, admitted atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range *callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				r, err := limiter.Allow(context.Background(), fmt.Sprintf("k%d", n.Add(1)*7919%*keys), redis_rate.PerMinute(*limit))
				if err != nil {
					log.Fatal(err)
				}
				admitted.Add(int64(r.Allowed))
			}
		})
	}
	wg.Wait()
	fmt.Printf("%f %d\n", float64(n.Load())/time.Since(start).Seconds(), admitted.Load())
}
