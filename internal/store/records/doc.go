// Package records holds what is the same on every store: the statements of
// operations that happen seldom, and what they decide.
//
// Such an operation is one transaction. It locks the customer whose records it
// changes, reads the clock, looks, and then writes or refuses; what differs
// between databases is behind Tx. Its SQL is what both of them understand, with
// $1, $2 … for arguments. Calls are the stores' methods that come of it, which a
// store embeds. What happens thousands of times a second (places in
// windows, sign-ups, claims of jobs) is each store's own.
package records
