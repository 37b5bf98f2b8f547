// Package gate decides what a run is worth: whether each gate of its plan held,
// and whether the run measured what it set out to measure.
//
// It exists because the reference system's load test "validated production"
// with refusals alone. So a verdict has three values here, evidence comes
// before percentiles and validity before the verdict: what was not measured is
// inconclusive, never a pass. It reads results and writes nothing.
package gate
