// Package store is the sum of what the domains ask of a database.
//
// Each domain declares the part that it needs; a store implements all of
// them, app hands them out, and storetest checks them. The package exists so
// that this list is written once. It holds no code: the stores lie below it, and
// so does what they have in common (records).
package store
