// Package app puts a node together and runs it.
//
// It is the only place that knows every part: it reads the settings, opens
// the store, hands domains to the API and stores to domains, and owns the
// life of the process from the first listener to the last commit. It decides
// nothing about sign-ups, limits or credits.
package app
