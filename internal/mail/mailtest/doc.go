// Package mailtest is a mail server for tests: it keeps what it is given and
// can be told to fail in the ways that a real one does only when it must not.
//
// It speaks as much SMTP as a client needs to hand over a message, on loopback
// and without TLS, and takes every user and password. It checks no message and
// delivers none. Tests of real mail, TLS and passwords run against mailpit.
package mailtest
