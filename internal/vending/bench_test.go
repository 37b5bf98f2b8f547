package vending_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"gatehouse/internal/vending"
)

// BenchmarkEnter checks tokens that are in memory: one after the other, and many
// at once.
func BenchmarkEnter(b *testing.B) {
	s := newShelf()
	d := vending.NewDoor(s, time.Now, quiet())
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { d.Run(ctx) })
	b.Cleanup(func() { stop(); running.Wait() })
	tokens := make([]string, 1000)
	for i := range tokens {
		tokens[i], _ = s.issue(vending.OpenAI, time.Hour)
		for _, err := d.Enter(ctx, tokens[i], "openai"); err != nil; _, err = d.Enter(ctx, tokens[i], "openai") {
			select { // the first poll is yet to be answered
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				b.Fatal(err)
			}
		}
	}
	check := func(i int) {
		if _, err := d.Enter(ctx, tokens[i%len(tokens)], "openai"); err != nil {
			b.Error(err)
		}
	}
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			check(i)
		}
	})
	b.Run("many", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(p *testing.PB) {
			for i := 0; p.Next(); i++ {
				check(i)
			}
		})
	})
}
