// Package archtest holds the tree to the rules of the house that neither the
// compiler nor the linter can see: that each package says what it is for, that
// decisions are written down in one form, that generated documents are what
// the code would generate today.
//
// It has tests only. A rule is a function over a file system, so that each is
// tried on a tree that keeps it and on one that breaks it before it is believed
// about ours. It does not check the direction of imports: depguard does, in
// .golangci.yml.
package archtest
