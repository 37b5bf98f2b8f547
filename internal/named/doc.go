// Package named gives files inside the binary by their names.
//
// It exists because plans and baselines are both asked for by name on the
// command line, and must lie in folders of their own to be embedded. It knows
// nothing of what the files hold.
package named
