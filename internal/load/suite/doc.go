// Package suite makes one report of many runs: all plans, and the limits
// verified, with the sections that the reference system's report had.
//
// It exists because that report ran one of three tests and concluded for all.
// Here what was not run fails the suite: a part that is missing can't be outdone
// by others that passed. It runs nothing itself; what it says is made of the
// parts' own summaries, so that a suite's folder can be rendered again.
package suite
