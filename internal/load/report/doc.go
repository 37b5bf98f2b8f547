// Package report writes down what a run measured: summary.json for programs,
// report.md and report.html for people, junit.xml for CI, samples.csv and
// windows.csv for whoever wants to look further.
//
// It exists so that a decision about a release can be read, and checked, by
// someone who was not there: the verdict first, in plain words, with every
// number behind it. It decides nothing (load/gate does) and measures nothing.
package report
