// Package sqlite is the store of a single node: one file, no server.
//
// All writes go through one goroutine, the writer, which commits what has
// queued as a group: one fsync serves many requests, each of which still gets
// its own outcome, and no request waits for another's lock. Since nobody else
// writes in between, an operation mostly looks before it writes, and refuses
// without having written; where it has, its group is undone and each of it runs
// alone. Reads have connections of their own and see the last commit (WAL). An
// acknowledged write is on disk (synchronous=FULL).
//
// A file serves one node: Open locks it. The operator's
// commands open the same file without that lock; SQLite's own locking keeps
// their short transactions apart from the node's.
//
// The clock of rate windows is the process's: the wall clock as it was at the
// start, moved on by the monotonic one, so that it never steps while the
// process lives. Over restarts each window's newest stamp holds it: see
// ratelimit.Admit. Whether a key has ended is decided by that clock or the
// wall clock, whichever is ahead: a key must not outlive its end.
package sqlite
