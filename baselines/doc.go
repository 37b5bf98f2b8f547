// Package baselines holds summaries of earlier load runs, inside the binary, so
// that a plan can name one to be compared with.
//
// It exists because the reference system's two measured runs are what ours are
// put beside. They are summaries of refusals alone, without distributions, and
// their notes say so. It only hands the files out: reading them is for
// internal/load/report.
package baselines
