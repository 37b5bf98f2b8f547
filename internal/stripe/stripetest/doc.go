// Package stripetest is a small stand-in for Stripe's API: customers, made and
// listed, which it remembers.
//
// stripe-mock knows Stripe's whole schema and forgets every request; this is
// for what takes a memory: whether trying again makes one customer or two. It
// treats an Idempotency-Key as Stripe does, and each kind of failure can be
// switched on while it runs.
//
// It checks little of what is sent, and it is no part of the server's binary.
package stripetest
