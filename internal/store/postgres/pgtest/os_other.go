//go:build !linux

package pgtest

import "os/exec"

// dieWithParent can't be had here: a server outlives a test that is killed.
func dieWithParent(*exec.Cmd) {}

// owner is who runs the server: here always us, so that root is refused by
// PostgreSQL itself.
type owner struct{}

func findOwner() (*owner, error) { return &owner{}, nil }

func (*owner) own(string) error { return nil }

func (*owner) run(*exec.Cmd) {}
