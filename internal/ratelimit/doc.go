// Package ratelimit decides how many requests a key may make, exactly.
//
// A limit is a sliding window: over any interval shorter than the window at
// most so many requests are admitted, whatever their timing and however many
// nodes admit them. Approximations (fixed windows, GCRA, weighted counters)
// admit up to twice as many or refuse some that had a right; docs/adr/0003
// says why they were not chosen.
//
// [Admit] is the whole decision, as a pure function over the times of the
// requests admitted so far. A store runs it inside the transaction that writes
// the outcome, on the store's own clock. Since a refusal changes nothing, a
// node may remember "refused until then" and answer from memory until then:
// [Limiter] does. That is what lets one be exact and quick in a storm.
//
// The package knows nothing of HTTP, of headers and of databases.
package ratelimit
