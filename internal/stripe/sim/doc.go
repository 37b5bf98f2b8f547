// Package sim is a stand-in for Stripe that remembers: customers, cards,
// payments, subscriptions with their invoices and clocks, refunds, disputes,
// and the events of all that, which it signs and delivers.
//
// stripe-mock knows Stripe's whole schema, forgets every request and sends no
// events; this is for what takes a memory or a webhook, on a laptop (gatehouse
// stripe-sim), in tests and in tests of failure: each way in which Stripe, the
// network or a thief disturbs a customer of Stripe's can be switched on while
// it runs. It imports nothing else of ours, so that it proves something about
// the code that it stands opposite.
//
// It knows the parameters that are listed at its handlers and refuses others.
// It has no prorations, taxes, discounts, trials without end, 3-D Secure or
// money; what it answers are Stripe's objects without the fields that would
// always be null.
package sim
