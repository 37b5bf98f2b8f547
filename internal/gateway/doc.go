// Package gateway lends out the providers' APIs without lending out their keys.
//
// A client calls /gateway/{provider}/… with a token of Gatehouse's. The package
// sends the call on with the operator's key, hands the answer through as it
// comes, byte for byte, and tells what was used. It exists so that a credential
// can really end: a token dies within a second, with its open streams, while
// a provider's own key would live on in whatever CI job it was handed to.
//
// A request goes: path and method (one table, in routes.go), token ([Door]), body,
// money ([Meter]), upstream, and back. Only listed headers pass, in either
// direction. When a client leaves, its call is read on to the usage that
// stands at its end, for a bounded time; what stays unknown is estimated and
// marked, never zero.
//
// The package knows no database, no prices and no API of ours: it says what it
// needs as interfaces. It makes no decision about who may spend what.
package gateway
