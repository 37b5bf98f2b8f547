package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"time"
)

// benchReady starts the server on a database of 100,000 customers and asks
// until it is ready.
func benchReady(ctx context.Context, o options) error {
	const customers = 100_000
	if err := fill(ctx, filepath.Join(o.dir, "ready.db"), customers); err != nil {
		return err
	}
	var took []float64
	for range o.rounds {
		begin := time.Now()
		server, err := o.serveGatehouse(ctx, "ready.db")
		if err != nil {
			return err
		}
		res, err := http.Get("http://" + server.addr + "/readyz")
		if err != nil {
			return err
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("readyz is %s", res.Status)
		}
		took = append(took, float64(time.Since(begin).Microseconds())/1000)
		if err := server.stop(); err != nil {
			return err
		}
	}
	fmt.Printf("ready after %s ms\n", spread("%.0f", took))
	return nil
}
