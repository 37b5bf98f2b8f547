package ratelimit

import (
	"testing"
	"time"
)

func TestMessageStatesTheConfiguredLimit(t *testing.T) {
	tests := []struct{ limit, want string }{
		{"10/60s", "Rate limit exceeded. Maximum 10 onboarding requests per minute per IP address."},
		{"7/30s", "Rate limit exceeded. Maximum 7 onboarding requests per 30 seconds per IP address."},
		{"1/1h", "Rate limit exceeded. Maximum 1 onboarding requests per hour per IP address."},
		{"1/1s", "Rate limit exceeded. Maximum 1 onboarding requests per 1 seconds per IP address."},
		{"1/24h", "Rate limit exceeded. Maximum 1 onboarding requests per 86400 seconds per IP address."},
		{"3/1500ms", "Rate limit exceeded. Maximum 3 onboarding requests per 1.5 seconds per IP address."},
	}
	for _, tt := range tests {
		p, err := Defaults()[0].ParseLimit(tt.limit)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Message(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.limit, got, tt.want)
		}
	}
}

func TestDefaultsAreTheContracts(t *testing.T) {
	want := []struct {
		name           Name
		limit, message string
	}{
		{"onboarding", "10/60s", "Rate limit exceeded. Maximum 10 onboarding requests per minute per IP address."},
		{"credential_exchange", "60/60s", "Rate limit exceeded. Maximum 60 credential requests per minute per customer."},
		{"api", "500/3600s", "Rate limit exceeded. Maximum 500 API requests per hour per API key."},
		{"auth_failure", "60/60s", "Rate limit exceeded. Maximum 60 failed authentications per minute per IP address."},
		{"stripe_webhook", "1000/60s", "Rate limit exceeded. Maximum 1000 webhook requests per minute."},
		{"webhook_unauthentic", "60/60s", "Rate limit exceeded. Maximum 60 unauthentic webhook requests per minute per IP address."},
	}
	all := Defaults()
	if len(all) != len(want) {
		t.Fatalf("there are %d policies, want %d", len(all), len(want))
	}
	for i, p := range all {
		if p.Off || p.Name != want[i].name || p.String() != want[i].limit || p.Message() != want[i].message {
			t.Errorf("%s is %s: %s", p.Name, p, p.Message())
		}
	}
}

// Where a limit is over all, the message ends with the window.
func TestMessageOfAPolicyOverAll(t *testing.T) {
	for limit, want := range map[string]string{
		"7/30s": "Rate limit exceeded. Maximum 7 webhook requests per 30 seconds.",
		"1/1h":  "Rate limit exceeded. Maximum 1 webhook requests per hour.",
	} {
		p, err := Defaults()[4].ParseLimit(limit)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Message(); got != want {
			t.Errorf("%s: %q, want %q", limit, got, want)
		}
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, s := range []string{"10/60s", "off", "", "/", "0/60s", "10/0s", "1e9/1s", "-1/1m", "10000/24h", "10/60", "1/1ns"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := Defaults()[0].ParseLimit(s)
		if err != nil {
			return
		}
		if !p.Off && (p.Count < 1 || p.Count > MaxCount || p.Window < MinWindow || p.Window > MaxWindow || p.Window%time.Millisecond != 0) {
			t.Fatalf("%q is taken as %+v", s, p)
		}
		if again, err := p.ParseLimit(p.String()); err != nil || again != p {
			t.Fatalf("%q reads %v, and its own %q reads %v, %v", s, p, p.String(), again, err)
		}
	})
}
