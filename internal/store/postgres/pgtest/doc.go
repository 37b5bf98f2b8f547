// Package pgtest is a PostgreSQL server for tests and benchmarks: a real one,
// private to the process that starts it, on a free port of loopback.
//
// A server can be stopped, killed, started again, followed by a standby and
// put behind a proxy that spoils its network (toxiproxy). It dies with the
// process that started it, also when that is killed. Tests that only need a
// database share one server (Need) and make databases of their own in it.
//
// It knows no schema, and installs nothing: where there is no PostgreSQL, tests
// skip and say what to run.
package pgtest
