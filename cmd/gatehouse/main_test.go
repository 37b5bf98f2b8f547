package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"gatehouse/internal/store/postgres/pgtest"
)

// The tests of this package are black-box: they run this very test binary
// under the name gatehouse, in processes of their own, on ports and databases
// of their own, and talk to it as an operator and a client would. So whatever
// the tests are built with, the race detector too, is in the program.
func TestMain(m *testing.M) {
	testscript.Main(tests{m}, map[string]func(){"gatehouse": main, onSmallDisk: mainOnSmallDisk, bounded: mainBounded})
}

// tests share a PostgreSQL server, which is closed when they have run.
type tests struct{ *testing.M }

// Run implements testscript.TestingM.
func (t tests) Run() int { return pgtest.Main(t.M) }

// bounded is a name of this binary under which it runs a command, and ends it
// when it hangs, for scripts: a node that starts where it should be refused
// would go on for ever.
const bounded = "bounded"

func mainBounded() {
	c := exec.Command(os.Args[1], os.Args[2:]...)
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	dieWithParent(c)
	err := c.Start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bounded:", err)
		os.Exit(126)
	}
	hangs := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	_ = c.Wait() // its state says more
	if !hangs.Stop() {
		fmt.Fprintln(os.Stderr, "bounded: it did not end")
		os.Exit(124)
	}
	os.Exit(c.ProcessState.ExitCode())
}

// onSmallDisk is a name of this binary under which it mounts a file system of
// some bytes on a folder, both told by its first arguments, and is gatehouse
// then.
const onSmallDisk = "gatehouse-on-small-disk"

func mainOnSmallDisk() {
	dir, size := os.Args[1], os.Args[2]
	bytes, err := strconv.Atoi(size)
	if err == nil {
		err = mountSmall(dir, bytes)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "mount a small disk:", err)
		os.Exit(exitUsage)
	}
	os.Args = append([]string{"gatehouse"}, os.Args[3:]...)
	main()
}

// self is the path of this binary. It is gatehouse when it is called so.
func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// gatehouse is a command line of the program, with none of our variables but
// those that the test adds.
func gatehouse(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(self(t), args...)
	c.Args[0] = "gatehouse"
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GATEHOUSE_") {
			c.Env = append(c.Env, v)
		}
	}
	c.Env = append(c.Env, "GORACE="+raceOptions)
	dieWithParent(c)
	return c
}

// raceOptions keep processes that were built with the race detector from
// waiting for a second at their end.
const raceOptions = "atexit_sleep_ms=0"

// begin starts a command, and returns a channel that is closed once it has
// ended.
func begin(t testing.TB, c *exec.Cmd) <-chan struct{} {
	t.Helper()
	if err := c.Start(); err != nil {
		t.Fatalf("start %v: %v", c.Args, err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Wait() // the tests look at the process's state
	}()
	return ended
}

// outcome is what a command came to that ended by itself.
type outcome struct {
	stdout, stderr string
	code           int
}

// finish runs a command to its end.
func finish(t testing.TB, c *exec.Cmd) outcome {
	t.Helper()
	var out, errOut strings.Builder
	c.Stdout, c.Stderr = &out, &errOut
	ended := begin(t, c)
	hangs := time.AfterFunc(patience, func() { _ = c.Process.Kill() })
	<-ended
	if !hangs.Stop() {
		t.Fatalf("%v did not end; it said %q and %q", c.Args, out.String(), errOut.String())
	}
	return outcome{out.String(), errOut.String(), c.ProcessState.ExitCode()}
}
