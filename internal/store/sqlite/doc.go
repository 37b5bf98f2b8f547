// Package sqlite is the store of a single node: one file, no server.
//
// All writes go through one goroutine, the writer, which commits what has
// queued as a group: one fsync serves many requests, each of which still gets
// its own outcome, and nothing ever waits for another writer's lock. Since
// nobody else writes in between, an operation looks before it writes, and
// refuses without having written. Reads have connections of their own and see
// the last commit (WAL). An acknowledged write is on disk (synchronous=FULL).
//
// A file serves one node: Open takes a lock beside it. The operator's
// commands open the same file without that lock; SQLite's own locking keeps
// their short transactions apart from the node's.
//
// The clock is the process's: the wall clock as it was at the start, moved on
// by the monotonic one, so that it never steps while the process lives. Over
// restarts the rate windows hold it: see ratelimit.Admit.
package sqlite
