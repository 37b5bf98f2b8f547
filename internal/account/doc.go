// Package account signs customers up and knows who they are.
//
// A sign-up is one decision (are these a name and an address we accept?) and
// one write: the customer, the hash of a first API key and the trial's
// credits are committed together or not at all. That an address is new is
// the store's to say, inside that write, since only there nobody can come
// between the check and the act.
//
// The package knows nothing of HTTP and of databases; which addresses are
// acceptable is account/email's.
package account
