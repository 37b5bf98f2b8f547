package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// slowClients is how many connections dawdle at once.
const slowClients = 2000

// benchSlow compares sign-ups at a steady pace alone with the same beside
// 2,000 clients of which half send a byte of their head a second and half a
// byte of their body. Those are cut off by the server and come back.
func benchSlow(ctx context.Context, o options) error {
	server, err := o.serveGatehouse(ctx, "slow.db")
	if err != nil {
		return err
	}
	length := max(20*time.Second, 3*o.slice)
	steady := func(tag string) (result, float64, error) {
		d := signUps(server.addr, tag)
		d.conns, d.pace = 16, 200
		r, err := d.run(ctx, length)
		if err != nil {
			return r, 0, err
		}
		now, _, err := server.memory()
		return r, now, err
	}
	if _, _, err := steady("warm"); err != nil {
		return err
	}
	alone, before, err := steady("alone")
	if err != nil {
		return err
	}
	slowCtx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for i := range slowClients {
		wg.Go(func() { dawdle(slowCtx, server.addr, i) })
	}
	beside, after, err := steady("beside")
	stop()
	wg.Wait()
	if err != nil {
		return err
	}
	fmt.Printf("sign-ups at 200/s alone: p50 %v p99 %v; beside %d slow clients: p50 %v p99 %v; p99 ratio %.2f\n",
		alone.percentile(.5), alone.percentile(.99), slowClients, beside.percentile(.5), beside.percentile(.99),
		float64(beside.percentile(.99))/float64(alone.percentile(.99)))
	fmt.Printf("resident: %.1f MiB alone, %.1f MiB beside them: %.1f KiB a connection\n", before, after, (after-before)*1024/slowClients)
	return server.stop()
}

// dawdle sends a byte a second, on a new connection whenever it is cut off.
func dawdle(ctx context.Context, addr string, i int) {
	text := "POST /api/v1/customers/onboard HTTP/1.1\r\nHost: slow\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	if i%2 == 1 {
		text = "POST /api/v1/customers/onboard HTTP/1.1\r\nHost: slow\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n" +
			fmt.Sprintf("X-Forwarded-For: 10.200.%d.%d\r\n\r\n", i>>8, i&255) + `{"name": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa`
	}
	select { // each at a moment of its own, not all in one burst
	case <-ctx.Done():
		return
	case <-time.After(time.Duration(i) * time.Second / slowClients):
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return
		}
		sent := len(text) - 30
		if _, err = conn.Write([]byte(text[:sent])); err != nil {
			_ = conn.Close()
			continue
		}
		for err == nil && ctx.Err() == nil {
			select {
			case <-ctx.Done():
			case <-tick.C:
				_, err = conn.Write([]byte(text[len(text)-1:]))
			}
		}
		_ = conn.Close()
	}
}
