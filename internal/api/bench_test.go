package api

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/internal/apikey"
	"gatehouse/internal/health"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/telemetry"
)

// full is a store whose windows have no place left.
type full struct{}

func (full) Take(context.Context, ratelimit.Name, ratelimit.Limit, string) (ratelimit.Decision, error) {
	return ratelimit.Decision{Wait: time.Hour}, nil
}

// nowhere is a writer that keeps headers, as net/http's does, and no body.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(int)             { n.header = n.header.Clone() }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkDenied is our part of a refused sign-up: what is left of it
// without net/http. bench/ measures the whole against a bare handler.
func BenchmarkDenied(b *testing.B) {
	policies := make(map[ratelimit.Name]*ratelimit.Limiter)
	for _, p := range ratelimit.Defaults() {
		policies[p.Name] = ratelimit.New(p, full{}, func(ratelimit.Outcome) {})
	}
	a := New(Config{
		Door: apikey.NewDoor(nil, policies[ratelimit.API]), Onboarding: policies[ratelimit.Onboarding], AuthFailure: policies[ratelimit.AuthFailure],
		Health:  health.New(health.Facts{}, func(context.Context) error { return nil }),
		Metrics: telemetry.New(prometheus.NewRegistry(), "bench"), Log: slog.New(slog.DiscardHandler),
	})
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/api/v1/customers/onboard", io.NopCloser(nil))
	if err != nil {
		b.Fatal(err)
	}
	r.RemoteAddr = "127.0.0.1:12345"
	b.ReportAllocs()
	for b.Loop() {
		a.ServeHTTP(&nowhere{make(http.Header)}, r)
	}
}
