package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

const signUpClients = 64

// signUps sends ever new addresses from ever new clients, ten each, as a
// proxy would pass them on: all are within their limits.
func signUps(addr, tag string) drive {
	return drive{
		addr: addr, conns: signUpClients, want: "201",
		request: func(buf []byte, conn, n int) []byte {
			return appendSignUp(buf, fmt.Sprintf("%s-%d-%d@bench.example.dev", tag, conn, n),
				fmt.Sprintf("10.%d.%d.%d", conn, n/10>>8&255, n/10&255))
		},
	}
}

// benchSignUps lets 64 clients sign up over HTTP as fast as they can, and
// inserts the same rows raw on the same disk, in turns. The driver shares the
// cores with the server.
func benchSignUps(ctx context.Context, o options) error {
	var ratios, httpRates, rawRates []float64
	for i := range o.rounds {
		raw, err := insertFor(ctx, filepath.Join(o.dir, fmt.Sprintf("raw%d.db", i)), signUpClients, o.slice)
		if err != nil {
			return err
		}
		server, err := o.serveGatehouse(ctx, fmt.Sprintf("http%d.db", i))
		if err != nil {
			return err
		}
		r, err := signUps(server.addr, "signup").run(ctx, o.slice)
		if err != nil {
			return err
		}
		if r.other > 0 {
			return fmt.Errorf("%d sign-ups were refused", r.other)
		}
		if err := server.stop(); err != nil {
			return err
		}
		httpRates, rawRates = append(httpRates, r.rate()), append(rawRates, raw)
		ratios = append(ratios, r.rate()/raw)
		fmt.Printf("  HTTP %6.0f/s p50 %v p99 %v   raw %6.0f/s\n", r.rate(), r.percentile(.5), r.percentile(.99), raw)
	}
	fmt.Printf("sign-ups a second: HTTP %s, raw %s, ratio %s\n", spread("%.0f", httpRates), spread("%.0f", rawRates), spread("%.2f", ratios))
	return nil
}

// benchMemory drives 350 sign-ups a second at a fixed pace.
func benchMemory(ctx context.Context, o options) error {
	server, err := o.serveGatehouse(ctx, "memory.db")
	if err != nil {
		return err
	}
	d := signUps(server.addr, "memory")
	d.pace = 350
	length := max(20*time.Second, 3*o.slice)
	r, err := d.run(ctx, length)
	if err != nil {
		return err
	}
	now, highest, err := server.memory()
	if err != nil {
		return err
	}
	fmt.Printf("%d sign-ups in %v (%.0f/s, %d refused), p50 %v, p95 %v, p99 %v: resident %.1f MiB, highest %.1f MiB\n",
		r.count, r.took.Round(time.Second), r.rate(), r.other, r.percentile(.5), r.percentile(.95), r.percentile(.99), now, highest)
	return server.stop()
}
