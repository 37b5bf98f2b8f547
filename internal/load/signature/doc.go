// Package signature signs webhooks as Stripe does. It exists since both load
// tests and proofs of limits bring events, and may import none of the server.
package signature
