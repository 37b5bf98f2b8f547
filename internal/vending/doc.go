// Package vending hands out short-lived credentials for AI providers, and ends
// them.
//
// A CI job trades its API key for tokens ([Service.Exchange]). A token works at
// our own gateway alone, for one provider, until it expires or until it, its key
// or its customer is revoked: then it is dead on every node within a second,
// since nodes hold tokens in memory only while they know what was revoked
// ([Door]). What calls cost is booked as they end, and set aside before they
// begin where a budget bounds it ([Meter]).
//
// All credentials of one exchange are a grant: they are given together or not at
// all, and spend together. What was granted, refused, revoked and called is an
// audit trail that is only added to.
package vending
