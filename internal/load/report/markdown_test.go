package report

import (
	"bytes"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (written anew with -update):\n%s", path, diff)
	}
}

func written(t *testing.T, write func(*bytes.Buffer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestMarkdown(t *testing.T) {
	golden(t, "report.md", written(t, func(b *bytes.Buffer) error { return Markdown(b, pages(fixture())) }))
}

func TestMarkdownOfNothing(t *testing.T) {
	text := string(written(t, func(b *bytes.Buffer) error { return Markdown(b, pages(nothing())) }))
	for _, want := range []string{
		"**INCONCLUSIVE: of 0 requests none succeeded and 0 failed.**", "- too few successes: none of 0 requests succeeded",
		"The plan has no gates.", "Nothing was refused as expected.", "Nothing failed.", "The target told nothing of itself.", "What the target used is not known.",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q", want)
		}
	}
	if strings.Contains(text, "NaN") || strings.Contains(text, "Inf") {
		t.Error("it divides by zero")
	}
}

// TestMarkdownKeepsHostileTextText: what a plan or a target says stays in its
// cell, and is no markup.
func TestMarkdownKeepsHostileTextText(t *testing.T) {
	const evil = "a|b\n# c\r\n<script>`x`</script> [l](javascript:1) **bold** \u202e\x00\\"
	const kept = `a\|b \# c  \<script\>\` + "`x\\`" + `\</script\> \[l\](javascript:1) \*\*bold\*\*  \\`
	r := fixture()
	r.Plan, r.Profile, r.Clients, r.Target = evil, evil, evil, evil
	r.Reasons, r.Notes = []string{evil}, []string{evil}
	r.Checks = []gate.Check{{Name: evil, Expression: evil, Unit: gate.Count, Verdict: gate.Inconclusive, Why: evil}}
	r.Resources.Source, r.Resources.Why = evil, evil
	r.Baseline.Name, r.Baseline.Notes = evil, []string{evil}
	r.Environment.Target.Policies = []string{evil}
	for _, s := range r.Result.Series {
		s.Name, s.Example, s.Kind = evil, evil, load.Failure
	}
	text := string(written(t, func(b *bytes.Buffer) error { return Markdown(b, pages(r)) }))
	if n := strings.Count(text, kept); n < 15 {
		t.Errorf("the text is there %d times as it should be:\n%s", n, text)
	}
	width := 0
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "|") {
			width = 0
			continue
		}
		cells := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|")
		if width > 0 && cells != width {
			t.Errorf("a row of %d cells in a table of %d: %s", cells, width, line)
		}
		width = cells
	}
	const span = "`a\\|b # c  <script>x</script> [l](javascript:1) **bold**  \\`"
	if n := strings.Count(text, span); n != 3 {
		t.Errorf("%d outcomes have the example as code:\n%s", n, text)
	}
	text = strings.ReplaceAll(strings.ReplaceAll(text, span, ""), `\<`, "")
	for _, bad := range []string{"<", "\x00", "\u202e", "\r", "\n# c"} {
		if strings.Contains(text, bad) {
			t.Errorf("it has %q", bad)
		}
	}
}

func TestCodeStaysInItsCell(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "`": "", "a`` b": "`a b`", `{"a": "\"*"}`: "`{\"a\": \"\\\"*\"}`", "a|b": "`a\\|b`", `a\|b`: "`a\\ \\|b`", "a\\`\u202e|b": "`a\\ \\|b`", `a\\|`: "`a\\\\ \\|`",
	} {
		if got := code(text); got != want {
			t.Errorf("code(%q) = %s, want %s", text, got, want)
		}
	}
}

// TestInterruptedTellsNoRate: no rate is told by a duration that the run did not have.
func TestInterruptedTellsNoRate(t *testing.T) {
	r := fixture()
	r.Result.Interrupted, r.Result.Elapsed, r.Checks = true, 30*time.Second, nil
	for _, write := range []func(io.Writer, *Report) error{Markdown, HTML} {
		text := string(written(t, func(b *bytes.Buffer) error { return write(b, pages(r)) }))
		if strings.Count(text, "1,200 in 30s") != 2 || strings.Contains(text, "ffered, achieved") || strings.Contains(text, ", achieved ") || strings.Contains(text, "18.32/s") {
			t.Error("it tells a rate, or not how many were sent in what time")
		}
	}
}

// TestNoGates: a check that comes unasked makes no gate.
func TestNoGates(t *testing.T) {
	r := fixture()
	r.Gates, r.Checks = 0, r.Checks[:1]
	for _, write := range []func(io.Writer, *Report) error{Markdown, HTML} {
		text := string(written(t, func(b *bytes.Buffer) error { return write(b, pages(r)) }))
		if !strings.Contains(text, "The plan has no gates.") || !strings.Contains(text, "created latency p95") {
			t.Error("it lacks the check, or that there are no gates")
		}
	}
}

func TestHeadline(t *testing.T) {
	tests := []struct {
		name   string
		change func(*Run)
		want   string
	}{
		{"passed", func(*Run) {}, "PASS: of 1,200 requests 1,099 succeeded (p95 7.87 ms), 100 were refused as expected and 1 failed."},
		{"without gates", func(r *Run) { r.Gates = 0 }, "PASS without gates: of 1,200 requests 1,099 succeeded"},
		{"failed", func(r *Run) { r.Verdict = gate.Fail }, "FAIL: of 1,200"},
		{"unsent", func(r *Run) { r.Result.Unsent = 5000 }, ", 1 failed and 5,000 were never sent."},
		{"interrupted", func(r *Run) { r.Verdict, r.Result.Interrupted = gate.Inconclusive, true }, "and 1 failed; the run was interrupted."},
		{"cut off", func(r *Run) { r.Result.Series[1].Key = load.Interrupted }, "expected, 0 failed and 1 were cut off."},
		{"refusals alone", func(r *Run) { r.Result.Series = r.Result.Series[3:] }, "requests none succeeded, 100 were refused as expected and 0 failed."},
		{"too few for a percentile", func(r *Run) { r.Result.Series = r.Result.Series[2:3] }, "requests 20 succeeded and 0 failed."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := fixture()
			tt.change(r)
			if got := Headline(Summarize(r)); !strings.Contains(got, tt.want) {
				t.Errorf("%q lacks %q", got, tt.want)
			}
		})
	}
}

func TestMostFailures(t *testing.T) {
	s := &Summary{Outcomes: map[string]Outcome{"200": {Name: "200", Kind: load.Success, Count: 9}, load.Interrupted: {Kind: load.Failure, Count: 5}}}
	if got := MostFailures(s); got != "" {
		t.Errorf("of none: %q", got)
	}
	s.Outcomes["404"] = Outcome{Name: "404", Kind: load.Failure, Count: 2, Example: "<p>\n  not here\x1b[0m</p>"}
	s.Outcomes["500"] = Outcome{Name: "500", Kind: load.Failure, Count: 1}
	if got, want := MostFailures(s), "of 3 failures 2 were 404, such as <p> not here\ufffd[0m</p>"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
