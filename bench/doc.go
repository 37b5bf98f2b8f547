// Command bench measures what Gatehouse promises as ratios: the server as
// built, driven over loopback, against a yardstick in the same run on the
// same cores. `make bench` runs it; docs/benchmarks.md keeps its figures.
//
// It is not a load tester: it knows this one server, sends as fast as it can
// or at one fixed pace, and does as little work a request as it can, since it
// shares the cores with what it measures.
package main
