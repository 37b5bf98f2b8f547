// Package resources reads what a target uses while it is under load: processor,
// memory, goroutines, open files, connections to its database, jobs that wait.
//
// It exists because a latency says that something is short and not what. It
// reads a target's /metrics or a process of this machine, seldom and aside from
// the load. What is not told stays unknown, and nothing here decides anything.
package resources
