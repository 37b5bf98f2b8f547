package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	passed = `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:1: chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0}
{"Action":"pass","Package":"p","Elapsed":0.1}
`
	skipped = `{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"run","Package":"p","Test":"TestB/deep"}
{"Action":"output","Package":"p","Test":"TestB/deep","Output":"=== RUN   TestB/deep\n"}
{"Action":"output","Package":"p","Test":"TestB/deep","Output":"    b_test.go:9: no database: run \"X=1 make test\"\n"}
{"Action":"output","Package":"p","Test":"TestB/deep","Output":"    --- SKIP: TestB/deep (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestB/deep","Elapsed":0}
{"Action":"pass","Package":"p","Test":"TestB","Elapsed":0}
`
	testless = `{"Action":"output","Package":"q","Output":"?   \tq\t[no test files]\n"}
{"Action":"skip","Package":"q","Elapsed":0}
`
)

func TestRun(t *testing.T) {
	tests := []struct {
		name, events string
		strict       bool
		err          string   // part of the error; empty: none
		says         []string // parts of what is printed; none: nothing is
	}{
		{name: "a pass is a pass", events: passed, strict: true},
		{name: "a package without tests is no skip", events: passed + testless, strict: true},
		{
			name: "a skip is named with its reason", events: passed + skipped,
			says: []string{"1 of 3 tests", "p TestB/deep\n", `b_test.go:9: no database: run "X=1 make test"`},
		},
		{name: "strict refuses a skip", events: passed + skipped, strict: true, err: "skipped", says: []string{"p TestB/deep"}},
		{name: "an empty run is refused", err: "no test ran"},
		{name: "a run of testless packages is refused", events: testless, err: "no test ran"},
		{name: "output of the build is passed over", events: "# p\n" + passed},
		{name: "a last line without an end counts", events: strings.TrimSuffix(skipped+`{"Action":"run","Package":"p","Test":"TestC"}`, "\n"), says: []string{"1 of 3"}},
		{name: "a broken event is an error", events: passed + `{"Action":`, err: "event"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "events")
			if err := os.WriteFile(path, []byte(tt.events), 0o600); err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			err := run(path, tt.strict, &out)
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("run: %v", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("run = %v, want an error with %q", err, tt.err)
			}
			for _, want := range tt.says {
				if !strings.Contains(out.String(), want) {
					t.Errorf("it printed\n%s\nwithout %q", out.String(), want)
				}
			}
			if len(tt.says) == 0 && out.Len() > 0 {
				t.Errorf("it printed %q, want nothing", out.String())
			}
			if strings.Contains(out.String(), "chatter") || strings.Contains(out.String(), "---") {
				t.Errorf("it printed what is no reason:\n%s", out.String())
			}
		})
	}
}
