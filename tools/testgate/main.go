package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-json-experiment/json"
)

func main() {
	strict := flag.Bool("strict", false, "fail where a test was skipped")
	flag.Usage = func() { fmt.Fprintln(os.Stderr, "usage: testgate [-strict] FILE") }
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *strict, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "testgate:", err)
		os.Exit(1)
	}
}

func run(path string, strict bool, out io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read: nothing can be lost
	v, err := read(f)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return v.judge(strict, out)
}

// A verdict is what a run's events say of it.
type verdict struct {
	ran     int // tests and subtests begun, skipped ones included
	skipped []skip
}

// A skip is one test that skipped itself.
type skip struct {
	test
	reason []string // lines: what t.Skip was given
}

type test struct{ pkg, name string }

// event is the part of a test2json event that matters here.
type event struct {
	Action  string `json:"Action"`
	Package string `json:"Package"`
	Test    string `json:"Test"` // empty: the event is the package's
	Output  string `json:"Output"`
}

// read takes in the events, one JSON object a line. Lines that are no object
// are output of the build and are passed over.
func read(r io.Reader) (*verdict, error) {
	v := &verdict{}
	said := map[test][]string{} // lines of tests that have not ended
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxEvent)
	for in.Scan() {
		line := in.Bytes()
		if len(line) == 0 || line[0] != '{' {
			continue
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("event %q: %w", line, err)
		}
		v.take(e, said)
	}
	return v, in.Err()
}

// An event carries at most one line of a test's output; a test that prints a
// longer one has gone wrong.
const maxEvent = 16 << 20 // bytes

func (v *verdict) take(e event, said map[test][]string) {
	if e.Test == "" { // a package without tests is "skipped" too
		return
	}
	t := test{e.Package, e.Test}
	switch e.Action {
	case "run":
		v.ran++
	case "output":
		line := strings.TrimSpace(e.Output)
		// Frames such as "=== RUN" and "--- SKIP" are go test's own words.
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said[t] = append(said[t], line)
		}
	case "skip":
		v.skipped = append(v.skipped, skip{t, said[t]})
		delete(said, t)
	case "pass", "fail":
		delete(said, t)
	}
}

// judge names what was skipped and says whether the run counts.
func (v *verdict) judge(strict bool, out io.Writer) error {
	if v.ran == 0 {
		return errors.New("no test ran")
	}
	if len(v.skipped) == 0 {
		return nil
	}
	fmt.Fprintf(out, "\nSKIPPED: %d of %d tests did not run, and this result says nothing of what they check.\n", len(v.skipped), v.ran)
	for _, s := range v.skipped {
		fmt.Fprintf(out, "  %s %s\n", s.pkg, s.name)
		for _, line := range s.reason {
			fmt.Fprintf(out, "      %s\n", line)
		}
	}
	fmt.Fprintln(out)
	if strict {
		return errors.New("tests were skipped, which CI does not accept")
	}
	return nil
}
