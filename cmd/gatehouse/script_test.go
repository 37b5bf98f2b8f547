package main

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScript runs testdata/script: the command line as an operator types it.
// Beside testscript's own commands the scripts have these:
//
//	exits CODE COMMAND…     runs a command that must exit with this code
//	serve [FLAGS]           serves gatehouse.db; URL, ADMIN_URL are set
//	drain, crash            stops the node with SIGTERM, or with SIGKILL
//	signup EMAIL            signs up; KEY and CUSTOMER are set
//	get STATUS PATH [KEY]   asks the node, with a key if given; the body is
//	                        the standard output
//	[!] sql FILE STATEMENT  changes or reads a database behind our back
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			e.Values[served{}] = &played{t: e.T().(testing.TB)}
			e.Setenv("GORACE", raceOptions)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": runExits, "serve": runServe, "drain": runDrain, "crash": runCrash,
			"signup": runSignUp, "get": runGet, "sql": runSQL,
		},
	})
}

// served is the key of a script's node.
type served struct{}

// played is what a script's commands know of each other.
type played struct {
	t testing.TB
	n *node // nil before it serves
}

func scriptOf(ts *testscript.TestScript) *played { return ts.Value(served{}).(*played) }

// node is the script's node.
func (s *played) node(ts *testscript.TestScript) *node {
	if s.n == nil {
		ts.Fatalf("nothing is served")
	}
	return s.n
}

func wantUsage(ts *testscript.TestScript, neg bool, ok bool, text string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func runExits(ts *testscript.TestScript, neg bool, args []string) {
	wantUsage(ts, neg, len(args) >= 2, "exits CODE COMMAND…")
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	code := 0
	if err := ts.Exec(bounded, args[1:]...); err != nil {
		e, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%v", err)
		}
		code = e.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, want %d", code, want)
	}
}

func runServe(ts *testscript.TestScript, neg bool, args []string) {
	wantUsage(ts, neg, true, "serve [FLAGS]")
	s := scriptOf(ts)
	c := gatehouse(s.t, append(serveArgs("gatehouse.db"), args...)...)
	c.Dir = ts.MkAbs(".")
	s.n = launch(s.t, c)
	ts.Defer(s.n.kill) // before the script's folder goes
	s.n.awaitServing()
	ts.Setenv("URL", s.n.url)
	ts.Setenv("ADMIN_URL", s.n.adminURL)
}

func runDrain(ts *testscript.TestScript, neg bool, args []string) {
	wantUsage(ts, neg, len(args) == 0, "drain")
	scriptOf(ts).node(ts).drain()
}

func runCrash(ts *testscript.TestScript, neg bool, args []string) {
	wantUsage(ts, neg, len(args) == 0, "crash")
	scriptOf(ts).node(ts).kill()
}

func runSignUp(ts *testscript.TestScript, neg bool, args []string) {
	wantUsage(ts, neg, len(args) == 1, "signup EMAIL")
	s := scriptOf(ts)
	n := s.node(ts)
	c := mustSignUp(s.t, n.client(""), n.url, args[0])
	ts.Setenv("KEY", c.key)
	ts.Setenv("CUSTOMER", c.customerID)
}

func runGet(ts *testscript.TestScript, neg bool, args []string) {
	wantUsage(ts, neg, len(args) == 2 || len(args) == 3, "get STATUS PATH [KEY]")
	n := scriptOf(ts).node(ts)
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	c := do(n.client(""), http.MethodGet, n.url+args[1], strings.Join(args[2:], ""), "")
	ts.Check(c.err)
	_, err = ts.Stdout().Write(c.body)
	ts.Check(err)
	if c.status != want {
		ts.Fatalf("GET %s: %d, want %d", args[1], c.status, want)
	}
}

func runSQL(ts *testscript.TestScript, neg bool, args []string) {
	wantUsage(ts, false, len(args) == 2, "[!] sql FILE STATEMENT")
	db := openSQL(scriptOf(ts).t, ts.MkAbs(args[0]))
	defer db.Close()
	lines, err := column(db, args[1])
	if neg {
		if err == nil {
			ts.Fatalf("it was done")
		}
		return
	}
	ts.Check(err)
	for _, line := range lines {
		_, err := fmt.Fprintln(ts.Stdout(), line)
		ts.Check(err)
	}
}
