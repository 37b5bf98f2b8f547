// Package stripe speaks with Stripe's API: it makes our customers known there.
//
// It is an adapter, named for what it wraps. Requests and answers are
// stripe-go's, which pins the version of the API; the connection and what a
// failure means are ours, since a job tries again and keeps the reason: no key
// and no address may be in one, and no answer is believed unread.
//
// The package keeps nothing and tries nothing twice (jobs does), and it does
// not know what a subscription means (billing does).
package stripe
