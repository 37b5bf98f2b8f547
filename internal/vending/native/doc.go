// Package native makes providers' own keys, and deletes them: service-account keys
// at OpenAI, API keys at OpenRouter.
//
// It exists for operators who prefer that CI jobs talk to a provider directly. It
// implements vending.Maker over the providers' administrative APIs and decides
// nothing: when a key is made, granted and deleted is vending's business. The
// operator's administrative keys never leave it, nor does what a provider says in
// an error, which may quote anything.
package native
