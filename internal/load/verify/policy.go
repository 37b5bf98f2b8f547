package verify

import (
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Policy is a rate limit of the contract, and a request that it counts.
type Policy struct {
	Name   string
	Status int // of an answer to a request that was let in
	// What the message counts and per what, such as "onboarding requests" and
	// "per IP address".
	counted, scope string
	path, body     string
	NeedsKey       bool
	customer       bool // over all keys of a customer
	signed         bool // as Stripe does
	passes         bool // a valid key is let in all the same
	Shared         bool // over all clients, so that nobody has it for himself
}

// webhooks is where both policies of webhooks are.
const webhooks = "/api/webhooks/stripe"

// Policies are the contract's, in its order. What their requests leave behind
// is as little as possible: a limit counts before the body is read, so a body
// that is refused proves as much.
func Policies() []Policy {
	return []Policy{
		{
			Name: "onboarding", Status: http.StatusCreated, counted: "onboarding requests", scope: " per IP address",
			path: "/api/v1/customers/onboard",
		},
		{
			Name: "credential_exchange", Status: http.StatusUnprocessableEntity, counted: "credential requests", scope: " per customer",
			path: "/api/v1/credentials/exchange", body: `{"providers": []}`, NeedsKey: true, customer: true,
		},
		{
			Name: "stripe_webhook", Status: http.StatusOK, counted: "webhook requests",
			path: webhooks, signed: true, Shared: true,
		},
		{
			Name: "webhook_unauthentic", Status: http.StatusUnauthorized, counted: "unauthentic webhook requests", scope: " per IP address",
			path: webhooks, body: `{}`,
		},
		{
			Name: "api", Status: http.StatusUnprocessableEntity, counted: "API requests", scope: " per API key",
			path: "/api/v1/usage/report", body: `{}`, NeedsKey: true,
		},
		{
			Name: "auth_failure", Status: http.StatusUnauthorized, counted: "failed authentications", scope: " per IP address",
			path: "/api/v1/credentials/exchange", body: `{}`, passes: true,
		},
	}
}

// message is what the contract has a refused client read.
func (p *Policy) message(limit int, window time.Duration) string {
	per := "per " + strconv.FormatFloat(window.Seconds(), 'f', -1, 64) + " seconds"
	switch window {
	case time.Minute:
		per = "per minute"
	case time.Hour:
		per = "per hour"
	}
	return fmt.Sprintf("Rate limit exceeded. Maximum %d %s %s%s.", limit, p.counted, per, p.scope)
}
