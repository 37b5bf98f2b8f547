//go:build !linux

package main

import (
	"errors"
	"os/exec"
	"testing"
)

const (
	limitFileSize = iota
	limitOpenFiles
)

func needLinux(t testing.TB) {
	t.Helper()
	t.Skip("needs Linux: run `make test PKG=./cmd/gatehouse` there, a container will do")
}

func setLimit(testing.TB, int, int, uint64) (restore func()) { panic("needs Linux") }
func descriptors(testing.TB, int) []int                      { panic("needs Linux") }
func hasOpen(testing.TB, int, string) bool                   { panic("needs Linux") }
func mountSmall(string, int) error                           { return errors.ErrUnsupported }
func dieWithParent(*exec.Cmd)                                {}
func unprivileged(*exec.Cmd)                                 {}
func ownMounts(*exec.Cmd)                                    {}
