// Package storetest is what every store must do, as tests.
//
// A store's own tests call Run with a function that opens an empty database.
// Stores may differ only in what Backend declares; a bug found in one of them
// becomes a case here, for all.
package storetest
