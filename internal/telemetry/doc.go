// Package telemetry makes the logger and names every metric.
//
// Metrics are defined in one place so that docs/metrics.md can be generated
// from them and no two parts invent two names for one thing. Domains don't
// import it: the app hands them small functions that count. Nothing here
// knows what the counted things mean.
package telemetry
