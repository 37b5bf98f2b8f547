// Command testgate judges a finished test run by what go test -json wrote of it.
//
// A green run says nothing of the tests that skipped themselves, and nothing
// at all where none ran. testgate names each skipped test with the reason it
// gave, and fails where no test ran or, with -strict, where any was skipped.
// It does not look at failures: go test's own exit status tells those.
package main
