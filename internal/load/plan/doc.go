// Package plan reads plans: YAML files that say what a load run sends, what an
// answer means and what must hold.
//
// It exists because a plan that is read generously measures something else than
// its author meant: a mistyped key, a zero or a missing name must end before
// anything is sent. So everything is checked, in every profile, and all that is
// wrong is told at once, each with its line, its column and what to write
// instead. It sends nothing, reads no file, and asks the environment only for
// what the plan names.
package plan
