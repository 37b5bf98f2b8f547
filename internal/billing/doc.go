// Package billing keeps credits: what was granted, what was used, and why.
//
// Credits are a ledger. Entries are added and never changed; each carries its
// number and the balance after it, so that a gap, a change or a wrong sum can
// be found afterwards ([Verify]). The key of an entry is the business fact it
// stands for, which is what makes a second grant for one fact impossible. The
// balance on the customer is the sum of the entries and moves in their
// transaction.
//
// What moves credits comes from Stripe's events ([Processor]), which are kept
// and applied once in whatever order they come, and from fixes ([Fixes]), which
// a credit or a charge pays for. What is sold is the [Catalogue]. The package
// knows no form of Stripe's and no database: those are behind [Provider],
// [Inbox] and [FixStore].
package billing
