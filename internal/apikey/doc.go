// Package apikey makes, reads and checks API keys, and keeps a customer's.
//
// A key carries a checksum, so that a mistyped or made-up one costs no look-up
// and secret scanners know a real one when they see it. Only its SHA-256 is
// ever stored: 256 random bits need no slow hash. A key is checked in the
// same store call that takes its place in its rate window ([Door]), so no key
// is cached anywhere and a revoked one is refused from the next request on.
//
// The package knows nothing of HTTP headers and of databases.
package apikey
