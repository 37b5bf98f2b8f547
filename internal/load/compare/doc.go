// Package compare says what a run's latencies are worth beside an earlier
// run's: each percentile's ratio with a 95 % interval, whether it stays below a
// limit, and whether anything changed at all.
//
// It exists because two runs of the same software differ, often by more than
// what is looked for. The requests of one second are alike, so what varies is
// drawn from whole seconds (a block bootstrap), never from single requests; and
// where a run left nothing but a summary, its figures are compared and the
// answer says that no more is known. It reads what runs left and sends nothing.
//
// It can't see what would differ had the whole run been repeated: two runs each
// way, taken in turns, show that.
package compare
