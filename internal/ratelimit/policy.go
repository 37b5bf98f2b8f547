package ratelimit

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Name is a policy's name on the wire, in metrics and in settings.
type Name string

// The policies of the contract that this version enforces.
const (
	Onboarding         Name = "onboarding"          // sign-ups, per client address
	CredentialExchange Name = "credential_exchange" //nolint:gosec // G101: a policy's name; exchanges, per customer, over all its keys
	API                Name = "api"                 // every other authenticated call, per API key
	AuthFailure        Name = "auth_failure"        // answers 401, per client address
	// Webhooks: what Stripe signed, over all senders, and the rest, per address.
	StripeWebhook      Name = "stripe_webhook"
	WebhookUnauthentic Name = "webhook_unauthentic"
)

// Policy is a named limit as the operator configured it.
type Policy struct {
	Name Name
	Limit
	Off bool // no limit at all; said at start and shown in /health
	// what the message counts and per what, such as "onboarding requests"
	// and "per IP address"; scope is "" where it is over all.
	counted, scope string
}

// Defaults are the contract's limits.
func Defaults() []Policy {
	return []Policy{
		{Name: Onboarding, Limit: Limit{10, time.Minute}, counted: "onboarding requests", scope: "per IP address"},
		{Name: CredentialExchange, Limit: Limit{60, time.Minute}, counted: "credential requests", scope: "per customer"},
		{Name: API, Limit: Limit{500, time.Hour}, counted: "API requests", scope: "per API key"},
		{Name: AuthFailure, Limit: Limit{60, time.Minute}, counted: "failed authentications", scope: "per IP address"},
		{Name: StripeWebhook, Limit: Limit{1000, time.Minute}, counted: "webhook requests"},
		{Name: WebhookUnauthentic, Limit: Limit{60, time.Minute}, counted: "unauthentic webhook requests", scope: "per IP address"},
	}
}

// Message is what a refused client reads; it states the configured limit.
func (p Policy) Message() string {
	scope := ""
	if p.scope != "" {
		scope = " " + p.scope
	}
	return fmt.Sprintf("Rate limit exceeded. Maximum %d %s %s%s.", p.Count, p.counted, per(p.Window), scope)
}

func per(window time.Duration) string {
	switch window {
	case time.Minute:
		return "per minute"
	case time.Hour:
		return "per hour"
	}
	if window%time.Second != 0 {
		return "per " + strconv.FormatFloat(window.Seconds(), 'f', -1, 64) + " seconds"
	}
	return fmt.Sprintf("per %d seconds", window/time.Second)
}

// Bounds of a configurable limit. A window's stamps are read and written as
// one value of 8 bytes each, so the count is bounded by what one may write a
// thousand times a second; a window is whole milliseconds so that it reads
// well in headers, and a day at most so that keys do get swept.
const (
	MaxCount  = 10_000
	MinWindow = time.Millisecond
	MaxWindow = 24 * time.Hour
)

// ParseLimit reads "10/60s" or "off" into p, whose name and wording stay.
func (p Policy) ParseLimit(s string) (Policy, error) {
	if s == "off" {
		p.Off = true
		return p, nil
	}
	count, window, ok := strings.Cut(s, "/")
	n, err := strconv.ParseUint(count, 10, 32)
	if !ok || err != nil || n < 1 || n > MaxCount {
		return p, fmt.Errorf("%q: want a count from 1 to %d, a slash and a window, such as %d/%s, or off", s, MaxCount, p.Count, p.Limit.windowText())
	}
	w, err := time.ParseDuration(window)
	if err != nil || w < MinWindow || w > MaxWindow || w%time.Millisecond != 0 {
		return p, fmt.Errorf("%q: want a window of whole milliseconds from %s to %s, such as 60s", s, MinWindow, MaxWindow)
	}
	p.Limit, p.Off = Limit{int(n), w}, false
	return p, nil
}

// String is the form that ParseLimit reads.
func (p Policy) String() string {
	if p.Off {
		return "off"
	}
	return fmt.Sprintf("%d/%s", p.Count, p.Limit.windowText())
}

func (l Limit) windowText() string {
	if l.Window%time.Second == 0 {
		return fmt.Sprintf("%ds", l.Window/time.Second)
	}
	return l.Window.String()
}
