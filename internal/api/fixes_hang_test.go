package api

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/internal/apikey"
	"gatehouse/internal/billing"
	"gatehouse/internal/health"
	"gatehouse/internal/idempotency"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/telemetry"
)

// pending is a store of fixes whose charges are never settled.
type pending struct {
	billing.FixStore
	turn bool // who asks may charge
}

func (p pending) BeginFix(_ context.Context, o billing.FixOrder, _ *idempotency.Once[billing.FixResult]) (billing.FixResult, error) {
	o.State, o.Attempt = billing.FixPending, 1
	return billing.FixResult{Fix: o.Fix, Turn: p.turn}, nil
}

func (pending) Fix(context.Context, string) (billing.Fix, error) {
	return billing.Fix{State: billing.FixPending, Attempt: 1}, nil
}

// hanging is a provider that answers nobody.
type hanging struct{ billing.Provider }

func (hanging) Charge(ctx context.Context, _ billing.Charge) (billing.ChargeOutcome, error) {
	<-ctx.Done()
	return billing.ChargeOutcome{}, ctx.Err()
}

// newStub returns an API without a database, whose limits are as given.
func newStub(store ratelimit.Store, change func(*Config)) *API {
	policies := make(map[ratelimit.Name]*ratelimit.Limiter)
	for _, p := range ratelimit.Defaults() {
		policies[p.Name] = ratelimit.New(p, store, func(ratelimit.Outcome) {})
	}
	c := Config{
		Door: apikey.NewDoor(nil, policies[ratelimit.API]), Onboarding: policies[ratelimit.Onboarding], AuthFailure: policies[ratelimit.AuthFailure],
		CredentialExchange: policies[ratelimit.CredentialExchange],
		StripeWebhook:      policies[ratelimit.StripeWebhook], WebhookUnauthentic: policies[ratelimit.WebhookUnauthentic],
		Health:  health.New(health.Facts{}, func(context.Context) error { return nil }),
		Metrics: telemetry.New(prometheus.NewRegistry(), "test"), Log: slog.New(slog.DiscardHandler),
	}
	change(&c)
	return New(c)
}

// A provider that does not answer costs ten seconds and no more, and so does a
// charge of another request's that does not end.
func TestHangingChargeIsGivenUp(t *testing.T) {
	for name, turn := range map[string]bool{"one's own": true, "another's": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newStub(full{}, func(c *Config) {
					c.Fixes = billing.NewFixes(pending{turn: turn}, billing.DefaultCatalogue(), hanging{}, time.Now)
				})
				w := httptest.NewRecorder()
				x := &exchange{ResponseWriter: w, raw: []byte(`{"external_id": "x"}`)}
				x.Request = httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/api/v1/fixes", strings.NewReader(""))
				start := time.Now()
				(&route{api: a, method: "POST", path: "/api/v1/fixes", handle: a.recordFix}).serve(x)
				if took := time.Since(start); took != 10*time.Second || w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "5" {
					t.Errorf("after %v the answer is %d %v", took, w.Code, w.Header())
				}
			})
		})
	}
}
