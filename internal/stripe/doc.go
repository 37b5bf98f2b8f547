// Package stripe speaks with Stripe: it makes our customers known there, charges
// them, asks for what is there, and reads what its webhooks bring.
//
// It is an adapter, named for what it wraps. Requests are stripe-go's, which
// pins the version of the API; the connection, the reading and what a failure
// means are ours, since a job tries again and keeps the reason: no key and no
// address may be in one, and no answer is believed unread. Signatures are
// checked by our own policy, which takes none from a time to come. Events and
// answers are read by the same code, which knows the shapes of every version
// since 2022: an endpoint and an account may have any.
//
// The package keeps nothing and tries nothing twice (jobs does), and it does
// not know what a subscription means (billing does).
package stripe
