// Package postgres is the store of a cluster: many nodes on one PostgreSQL, and
// nothing else.
//
// What happens thousands of times a second goes through lanes: what queues
// while a call to the database is under way goes in the next one, as one
// statement over all of it, and each caller gets its own outcome. Statements
// that touch many rows lock them in the order of their keys, so that nodes wait
// for each other and never in a circle; a key that is locked for long gets a
// lane of its own, so that it holds up only itself. What happens seldom is one
// transaction each, which locks the customer's row first.
//
// The clock is the database's, read after the lock (the function now_us of the
// schema). A call whose outcome can't be known fails with fault.Unavailable and
// is not tried again here. No API key is cached: a key is checked in the
// statement that takes its place in the window, so that a revoked one is
// refused by every request that starts afterwards.
//
// Connections insist on synchronous_commit and on a server that can be written.
// Behind a pooler they need its session mode.
package postgres
