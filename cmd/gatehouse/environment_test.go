package main

import (
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestEnvironmentSaysWhatFiguresHoldFor(t *testing.T) {
	t.Parallel()
	needLinux(t)
	before := time.Now().Add(-time.Second)
	n := startNode(t, newDatabase(t), "--mode=test", "--limit-onboarding=7/30s", "--limit-auth-failure=off")
	c := do(n.client(""), http.MethodGet, n.adminURL+"/environment", "", "")
	var got struct {
		Node, Version, Mode, Go, CPU, Kernel, OS, Arch string
		GOMAXPROCS, Cores, Nodes                       int
		MemoryBytes                                    int64     `json:"memory_bytes"`
		StartedAt                                      time.Time `json:"started_at"`
		Database                                       struct {
			Driver, Version string
			Settings        map[string]string
		}
		Limits map[string]string
	}
	if err := c.decode(&got); err != nil || c.status != http.StatusOK || c.header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d, %v, %v: %s", c.status, c.header, err, c.body)
	}
	if got.Version != "dev" || got.Mode != "test" || got.Go != runtime.Version() || got.OS != runtime.GOOS || got.Arch != runtime.GOARCH {
		t.Errorf("the program is %s", c.body)
	}
	if got.Node == "" || got.Kernel == "" || got.GOMAXPROCS < 1 || got.Cores < 1 || got.MemoryBytes < 1<<20 || got.Nodes != 1 {
		t.Errorf("the machine is %s", c.body)
	}
	if got.StartedAt.Before(before) || got.StartedAt.After(time.Now()) || got.StartedAt.Location() != time.UTC {
		t.Errorf("started at %s", got.StartedAt)
	}
	if d := got.Database; d.Driver != "sqlite" || d.Version == "" || d.Settings["journal_mode"] != "wal" || d.Settings["synchronous"] != "full" {
		t.Errorf("the database is %+v", d)
	}
	if l := got.Limits; l["onboarding"] != "7/30s" || l["api"] != "500/3600s" || l["auth_failure"] != "off" || l["stripe_webhook"] != "1000/60s" || l["webhook_unauthentic"] != "60/60s" || l["credential_exchange"] != "60/60s" || len(l) != 6 {
		t.Errorf("the limits are %v", l)
	}
	if strings.Contains(string(c.body), n.database) {
		t.Errorf("a path is told: %s", c.body)
	}
	if c := do(n.client(""), http.MethodGet, n.url+"/environment", "", ""); c.status != http.StatusNotFound {
		t.Errorf("the public API answers it with %d", c.status)
	}
	n.drain()
}
