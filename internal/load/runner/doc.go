// Package runner takes a plan from its first look at the target to the reports.
//
// It exists because a run is more than the load: what the target is must be
// written down before, whether it is still the same process afterwards, and all
// the while somebody wants to see how it goes. It puts load, load/gate and
// load/report together, and asks a target about itself over HTTP alone.
package runner
