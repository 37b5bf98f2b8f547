// Package billing keeps credits: what was granted, what was used, and why.
//
// Credits are a ledger. Entries are added and never changed; each carries its
// number and the balance after it, so that a gap, a change or a wrong sum can
// be found afterwards ([Verify]). The key of an entry is the business fact it
// stands for, which is what makes a second grant for one fact impossible. The
// balance on the customer is the sum of the entries and moves in their
// transaction.
//
// Plans, prices and Stripe come with later versions.
package billing
