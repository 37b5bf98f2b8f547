package api_test

import (
	"bytes"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/api"
	"gatehouse/internal/health"
)

func TestHealth(t *testing.T) {
	s := newServer(t)
	for _, path := range []string{"/health", "/api/health"} {
		got := decode[map[string]any](t, s.send(t, "GET", path).want(t, http.StatusOK))
		if _, ok := got["database"].(map[string]any)["latency_ms"].(float64); !ok {
			t.Errorf("%s: no latency", path)
		}
		got["database"].(map[string]any)["latency_ms"], got["uptime_seconds"] = "MS", "S"
		want := map[string]any{
			"status": "ok", "version": "v0.0.0-test", "mode": "live", "node": "node-1", "uptime_seconds": "S",
			"clustering":   map[string]any{"enabled": false, "status": "healthy", "node_count": 1.0, "current_node": "node-1", "connected_nodes": []any{}},
			"database":     map[string]any{"status": "ok", "driver": "sqlite", "latency_ms": "MS"},
			"rate_limiter": map[string]any{"status": "ok", "running": true, "backend": "sqlite", "off": []any{}, "differing": []any{}},
			"jobs":         map[string]any{"status": "ok", "queued": 0.0, "oldest_seconds": 0.0},
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", path, diff)
		}
	}
}

func TestHealthSaysWhatIsOff(t *testing.T) {
	s := newServer(t, limit("api", "off"), limit("onboarding", "off"), func(_ testing.TB, s *setup) { s.mode = "dev" })
	got := decode[struct {
		Mode    string
		Limiter struct{ Off []string } `json:"rate_limiter"`
	}](t, s.send(t, "GET", "/health").want(t, http.StatusOK))
	if diff := cmp.Diff([]string{"onboarding", "api"}, got.Limiter.Off); diff != "" || got.Mode != "dev" {
		t.Errorf("mode %q, off (- want, + got):\n%s", got.Mode, diff)
	}
}

// A node that is degraded serves, and says so with 200.
func TestHealthOfACluster(t *testing.T) {
	seen := health.Cluster{Node: "node-1", Others: []string{"node-2", "node-3"}, Differing: []string{"api"}, Fresh: true}
	s := newServer(t, func(_ testing.TB, s *setup) { s.cluster = func() health.Cluster { return seen } })
	got := decode[map[string]any](t, s.send(t, "GET", "/health").want(t, http.StatusOK))
	want := map[string]any{
		"status":       "degraded",
		"clustering":   map[string]any{"enabled": true, "status": "degraded", "node_count": 3.0, "current_node": "node-1", "connected_nodes": []any{"node-2", "node-3"}},
		"rate_limiter": map[string]any{"status": "degraded", "running": true, "backend": "sqlite", "off": []any{}, "differing": []any{"api"}},
	}
	for part, want := range want {
		if diff := cmp.Diff(want, got[part]); diff != "" {
			t.Errorf("%s (- want, + got):\n%s", part, diff)
		}
	}
	s.send(t, "GET", "/readyz").want(t, http.StatusOK)
}

func TestHealthWithoutTheStore(t *testing.T) {
	gone := newServer(t)
	if err := gone.database.close(); err != nil {
		t.Fatal(err)
	}
	s := newServer(t, beside(gone)) // which has not asked the store yet
	for _, path := range []string{"/health", "/api/health"} {
		got := decode[map[string]any](t, s.send(t, "GET", path).want(t, http.StatusServiceUnavailable))
		if got["status"] != "unavailable" {
			t.Errorf("%s: status is %v", path, got["status"])
		}
		for _, part := range []string{"database", "rate_limiter", "jobs"} {
			if status := got[part].(map[string]any)["status"]; status != "unavailable" {
				t.Errorf("%s: %s is %v", path, part, status)
			}
		}
	}
	s.send(t, "GET", "/readyz").want(t, http.StatusServiceUnavailable)
	s.send(t, "GET", "/livez").want(t, http.StatusOK) // the process is alive
}

// A node that drains says so at once, and serves what still comes.
func TestDraining(t *testing.T) {
	s := newServer(t)
	_, mine := s.signUp(t)
	s.send(t, "GET", "/readyz").want(t, http.StatusOK)
	s.health.Draining()
	if got := s.send(t, "GET", "/readyz").want(t, http.StatusServiceUnavailable); !bytes.Contains(got.body, []byte("draining")) {
		t.Errorf("readyz says %s", got.body)
	}
	s.send(t, "GET", "/livez").want(t, http.StatusOK)
	s.send(t, "GET", "/health").want(t, http.StatusOK)
	for _, got := range []answer{s.send(t, "GET", "/api/v1/account", key(mine)).want(t, http.StatusOK), s.send(t, "GET", "/api/v1/account").want(t, http.StatusUnauthorized)} {
		if !got.close {
			t.Errorf("%d keeps a connection to a node that drains", got.status)
		}
	}
}

// Health is never limited, and needs no key.
func TestHealthIsNotLimited(t *testing.T) {
	s := newServer(t, at(newClock()), limit("onboarding", "1/60s"), limit("api", "1/60s"), limit("auth_failure", "1/60s"))
	for range 3 {
		s.send(t, "POST", onboard)
		s.send(t, "GET", "/api/v1/account")
	}
	for _, path := range []string{"/health", "/api/health", "/livez", "/readyz", "/openapi.json"} {
		for range 70 {
			s.send(t, "GET", path, key("wrong")).want(t, http.StatusOK).unlimited(t)
		}
	}
}

func TestOpenAPI(t *testing.T) {
	s := newServer(t)
	want, err := api.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	if got := s.send(t, "GET", "/openapi.json").want(t, http.StatusOK); !bytes.Equal(got.body, want) {
		t.Error("/openapi.json is not what OpenAPI returns")
	}
}
