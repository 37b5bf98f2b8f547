// Package health answers whether a node can serve.
//
// It asks the store, at most a few times a second however often it is asked
// itself, since health checks are never rate limited. It knows nothing of
// HTTP and of what the store is.
package health
