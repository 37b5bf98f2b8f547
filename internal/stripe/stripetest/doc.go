// Package stripetest starts stripe-mock for tests: what Gatehouse asks of
// Stripe and what stripe-sim answers are held against the same description.
package stripetest
