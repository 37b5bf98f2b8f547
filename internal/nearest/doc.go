// Package nearest finds the known name that a mistyped one was meant to be.
//
// It exists because every unknown flag, command, setting and plan key must name
// the nearest valid one, and these are read by packages that may not import
// each other. It knows names alone, not what they are names of.
package nearest
