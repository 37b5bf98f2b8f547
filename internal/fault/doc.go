// Package fault is the vocabulary of failure that domains and the API share.
//
// A domain says what went wrong as a *Error of one Kind; the API, and nobody
// else, turns the kind into a status. The package exists so that this happens
// in one place, and so that what a client may read (Code, Message, Details)
// can't be confused with what only the log may see (Err). It imports nothing
// of ours and knows nothing of HTTP.
package fault
