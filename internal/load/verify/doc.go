// Package verify proves from outside that rate limits are what they say.
//
// It exists because a limiter is only as exact as somebody else can show it to
// be: on the nodes that serve, with the clocks that they have. It asks like any
// client, fills windows, is refused, waits, comes back, and judges the answers.
//
// Nobody outside knows when a limiter decided, only that it was between a
// request's sending and its answer. So each [Attempt] is an interval on this
// machine's monotonic clock, and nothing is called violated that some choice of
// moments in the intervals would excuse: more than the limit were admitted only
// where all of them fit into less than a window from the first sending to the
// last answer. What can be told neither way is undecidable, and says why. The
// target's clock decides nothing; of its answers only what is relative counts.
//
// [Judge] is pure. A scenario sends through a function, so that tests run it on
// limiters that lie. The package knows the contract's policies and nothing of
// the server.
package verify
