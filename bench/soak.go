package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	soakRate  = 2000 // requests a second
	soakEvery = 30 * time.Second
)

// benchSoak looks at the load engine's memory while it drives a bare server for
// ten minutes: it must not grow with the run.
func benchSoak(ctx context.Context, o options) error {
	bare, err := serveCreated(ctx, o.dir)
	if err != nil {
		return err
	}
	plan := filepath.Join(o.dir, "soak.yaml")
	if err := os.WriteFile(plan, fmt.Appendf(nil, `name: soak
stages: [{duration: 1ms, rate: %[1]d}, {duration: %[2]s, rate: %[1]d}]
clients: {count: 1000, via: source}
requests:
  - name: onboard
    method: POST
    path: /api/v1/customers/onboard
    headers: {Content-Type: application/json}
    body: '{"name": "Load {{seq}}", "email": "load-{{uuid}}@{{domain}}"}'
`, soakRate, o.soak), 0o600); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, o.binary, "load", "run", plan, "--target", "http://"+bare.addr, "--target-admin", "none", "--out", filepath.Join(o.dir, "soak"))
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	look := time.NewTicker(soakEvery)
	defer look.Stop()
	for began := time.Now(); ; {
		select {
		case <-look.C:
			now, highest, err := p.memory()
			if err != nil {
				return err
			}
			fmt.Printf("  after %v: %.1f MiB, %.1f at its highest\n", time.Since(began).Round(time.Second), now, highest)
		case err := <-ended:
			fmt.Printf("%d/s for %v from 1,000 addresses: the run ended with %s\n", soakRate, o.soak, cmd.ProcessState)
			if err != nil {
				fmt.Printf("  %v\n", err) // its verdict is another matter
			}
			return bare.cmd.Process.Kill()
		}
	}
}
