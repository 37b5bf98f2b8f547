// Package idempotency makes a client's retry safe.
//
// A request with an Idempotency-Key that succeeded, or whose charge was refused,
// is not carried out again: its answer is given again, for a day. That answer is written in the effect's
// own transaction, so there is no moment in which one is there without the
// other, whatever is killed when. It is sealed, since it may hold a key that
// exists nowhere else.
//
// Two requests under one key at once are told apart in memory where they meet
// on one node, and otherwise by the transaction, which finds the other's
// outcome there and writes nothing.
//
// The package knows no endpoint: the API says what a request is and how its
// answer looks, a store writes it.
package idempotency
