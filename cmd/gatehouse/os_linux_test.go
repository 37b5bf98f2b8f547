package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The limits of a process that tests change while it runs.
const (
	limitFileSize  = unix.RLIMIT_FSIZE  // no file may be written beyond so many bytes
	limitOpenFiles = unix.RLIMIT_NOFILE // no descriptor may have a higher number
)

// needLinux is for tests that call from all of 127.0.0.0/8 or change the
// limits of a running process.
func needLinux(testing.TB) {}

// dieWithParent keeps a node from outliving a test run that is killed.
func dieWithParent(c *exec.Cmd) {
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// setLimit sets a limit of a running process, and returns a function that
// sets it back. Only the soft limit moves, which needs no privilege.
func setLimit(t testing.TB, pid, resource int, most uint64) (restore func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Prlimit(pid, resource, nil, &old); err != nil {
		t.Fatalf("read a limit of the node: %v", err)
	}
	if err := unix.Prlimit(pid, resource, &unix.Rlimit{Cur: most, Max: old.Max}, nil); err != nil {
		t.Fatalf("set a limit of the node: %v", err)
	}
	return func() {
		t.Helper()
		if err := unix.Prlimit(pid, resource, &old, nil); err != nil {
			t.Fatalf("set a limit of the node back: %v", err)
		}
	}
}

// descriptors are the numbers of a process's open files.
func descriptors(t testing.TB, pid int) (numbers []int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, n)
	}
	return numbers
}

// hasOpen says whether a process has a file open.
func hasOpen(t testing.TB, pid int, path string) bool {
	t.Helper()
	for _, d := range descriptors(t, pid) {
		// It may have been closed meanwhile.
		if target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, d)); err == nil && target == path {
			return true
		}
	}
	return false
}

// unprivileged makes the command run as somebody who may not write whatever
// he likes: as nobody, if we are root.
func unprivileged(c *exec.Cmd) {
	if os.Geteuid() == 0 {
		const nobody = 65534
		c.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
	}
}

// ownMounts makes the command see mounts of its own and be free to add some:
// as root, or as the root of a user namespace of its own.
func ownMounts(c *exec.Cmd) {
	c.SysProcAttr.Cloneflags = unix.CLONE_NEWNS
	if id := os.Geteuid(); id != 0 {
		c.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: id, Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
}

// mountSmall mounts a file system of so many bytes, seen by this process and
// its children alone.
func mountSmall(dir string, bytes int) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("small", dir, "tmpfs", 0, "size="+strconv.Itoa(bytes))
}
