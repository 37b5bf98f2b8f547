// Package machine says what machine this is: processor, memory, kernel.
//
// It exists because figures mean nothing without it: the reference system's
// load test left open why production was faster than staging. Both halves need
// it, the server to tell what it runs on and the load test to write down where
// the load came from. It reads and never guesses: what can't be read is empty.
package machine
