package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// commandLines lists every command of the program, itself first.
func commandLines() (lines [][]string) {
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		lines = append(lines, strings.Fields(c.CommandPath())[1:])
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(newRoot(io.Discard, io.Discard))
	return lines
}

// Each command has help, on standard output, that says what it does and how to
// write it; and each refuses a flag that it doesn't know by naming the nearest
// that it does.
func TestHelpEverywhere(t *testing.T) {
	t.Parallel()
	lines := commandLines()
	if len(lines) < 15 {
		t.Fatalf("only %d commands were found: %q", len(lines), lines)
	}
	for _, line := range lines {
		t.Run(strings.Join(append([]string{"gatehouse"}, line...), " "), func(t *testing.T) {
			for _, flag := range []string{"--help", "-h"} {
				o := finish(t, gatehouse(t, append(slices.Clone(line), flag)...))
				if o.code != exitOK || o.stderr != "" || !strings.Contains(o.stdout, "Usage:\n  gatehouse "+strings.Join(line, " ")) {
					t.Errorf("%s: exit code %d, standard error %q, standard output %q; want 0 and its usage", flag, o.code, o.stderr, o.stdout)
				}
			}
			o := finish(t, gatehouse(t, append(slices.Clone(line), "--hepl")...))
			if o.code != exitUsage || o.stdout != "" || !strings.Contains(o.stderr, `unknown flag: --hepl; did you mean "--help"?`) {
				t.Errorf("--hepl: exit code %d, standard error %q, standard output %q; want 2 and a hint at --help", o.code, o.stderr, o.stdout)
			}
		})
	}
}
