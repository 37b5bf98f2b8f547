// Package load drives an HTTP API at a planned rate and measures what came back.
//
// It exists because most load tests answer a question nobody asked: a closed
// loop of virtual users slows down when its target does, and so never sees what
// a client would have. Here arrival k is due at a time computed from the plan
// alone, whether or not earlier requests have been answered. Each request has
// three times: latency (due to done), which is what a client would have waited;
// service (sent to done); and lag (due to sent), which is the generator's own
// fault and voids a run when it is large.
//
// Nothing is retried, corrected, or left out: what was due was either sent and
// has an outcome, or is counted as unsent. The same counts are the target's.
//
// It knows nothing of Gatehouse's server, of plan files, gates or reports:
// those are load/plan, load/gate and load/report; load/verify proves limits, and
// load/capacity finds the highest rate that holds.
package load
