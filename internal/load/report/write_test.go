package report

import (
	"bytes"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

func TestJUnit(t *testing.T) {
	r := fixture()
	observed := 120.0
	r.Verdict, r.Reasons = gate.Fail, []string{"created latency p95 is 120.00 ms"}
	r.Checks = []gate.Check{
		{Name: "created latency p95", Expression: "created.latency.p95 < 100ms", Unit: gate.Milliseconds, Observed: &observed, Verdict: gate.Fail},
		{Name: "created latency p99", Expression: "created.latency.p99 < 1s", Unit: gate.Milliseconds, Verdict: gate.Inconclusive, Why: "needs 368, had 99"},
		{Name: "limited count", Expression: "limited.count > 0", Unit: gate.Count, Observed: &observed, Verdict: gate.Pass},
	}
	golden(t, "junit.xml", written(t, func(b *bytes.Buffer) error { return JUnit(b, Summarize(r)) }))
}

func TestJUnitIsXMLWhateverIsInIt(t *testing.T) {
	const evil = "]]></failure>\x00\xff\ufffe\"'<&\n\u202e"
	r := nothing()
	r.Plan, r.Target, r.Reasons = evil, evil, []string{evil}
	r.Checks = []gate.Check{{Name: evil, Expression: evil, Why: evil, Unit: gate.Count, Verdict: gate.Inconclusive}, {Name: evil, Verdict: gate.Fail}}
	var got junitSuites
	if err := xml.Unmarshal(written(t, func(b *bytes.Buffer) error { return JUnit(b, Summarize(r)) }), &got); err != nil {
		t.Fatal(err)
	}
	s := got.Suite
	if s.Tests != 3 || s.Failures != 1 || s.Errors != 2 || len(s.Cases) != 3 || s.Cases[0].Error.Type != "inconclusive" {
		t.Errorf("%+v", s)
	}
	if want := "why: ]]></failure>\ufffd\ufffd\ufffd\"'<&\n\u202e\n"; !strings.Contains(s.Cases[1].Error.Body, want) {
		t.Errorf("%q lacks %q", s.Cases[1].Error.Body, want)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	var before []string
	html := func(w io.Writer, _ *Report) error {
		before = names(t, dir)
		_, err := io.WriteString(w, "<p>page</p>")
		return err
	}
	if err := Write(dir, fixture(), html); err != nil {
		t.Fatal(err)
	}
	if slices.Contains(before, summaryFile) || !slices.Contains(before, markdownFile) {
		t.Errorf("when the page was written there were %q", before)
	}
	if diff := cmp.Diff([]string{"junit.xml", "report.html", "report.md", "summary.json"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
	data, err := os.ReadFile(filepath.Join(dir, summaryFile))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSummary(data); err != nil {
		t.Error(err)
	}
}

func TestWriteGoesOnAfterAFailure(t *testing.T) {
	dir := t.TempDir()
	full := errors.New("no space left")
	if err := os.Mkdir(filepath.Join(dir, junitFile), 0o700); err != nil { // can't be renamed over
		t.Fatal(err)
	}
	err := Write(dir, fixture(), func(io.Writer, *Report) error { return full })
	if !errors.Is(err, full) || !strings.Contains(err.Error(), "write report.html") || !strings.Contains(err.Error(), "write junit.xml") {
		t.Errorf("Write = %v, want both failures", err)
	}
	if diff := cmp.Diff([]string{"junit.xml", "report.md", "summary.json"}, names(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestSamples(t *testing.T) {
	var b bytes.Buffer
	s := NewSamples(&b, []load.Outcome{{Name: "created", Status: 201, Kind: load.Success}, {Name: "limited", Status: 429, Kind: load.Expected}})
	for second := 9; second < 12; second++ {
		if err := s.Add(fixtureSecond(second)); err != nil {
			t.Fatal(err)
		}
	}
	odd := &load.Sample{Second: 12, Stage: 1, Rate: 20.12345, Due: 9, Sent: 8, Answered: 7, Errors: 1, InFlight: 2, Waiting: 1, LagP99: time.Microsecond, LagMax: time.Millisecond, Opened: 3}
	for _, n := range []int64{71, 72, 367, 368} {
		window := load.Window{Key: "429", Name: "limited", Kind: load.Expected, Count: n, P50: time.Millisecond, P95: 2 * time.Millisecond, P99: 3 * time.Millisecond, Max: time.Second}
		if err := s.Add(&load.Sample{Windows: []load.Window{window}}); err != nil {
			t.Fatal(err)
		}
	}
	for key, n := range map[string]int64{"error:reset": 2, "500": 3} {
		odd.Windows = append(odd.Windows, load.Window{Key: key, Name: key, Kind: load.Failure, Count: n, P50: 1, P95: 1, P99: 1, Max: time.Duration(n) * time.Second})
	}
	odd.Windows = append(odd.Windows, load.Window{Key: "200", Name: "200", Kind: load.Success, Count: 2, P50: time.Millisecond, P95: time.Millisecond, P99: time.Millisecond, Max: time.Millisecond})
	if err := s.Add(odd); err != nil {
		t.Fatal(err)
	}
	if rows, err := csv.NewReader(bytes.NewReader(b.Bytes())).ReadAll(); err != nil || len(rows) != 9 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	golden(t, "samples.csv", b.Bytes())
}

// full fails from some write on.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	if f.left--; f.left < 0 {
		return 0, errors.New("no space left")
	}
	return len(p), nil
}

func TestSamplesTellOfAFullDisk(t *testing.T) {
	if err := NewSamples(&full{}, nil).Add(&load.Sample{}); err == nil {
		t.Error("the head could not be written, and nobody said so")
	}
	s := NewSamples(&full{left: 2}, nil)
	if err := s.Add(&load.Sample{}); err != nil {
		t.Fatal(err)
	}
	if err := s.Add(&load.Sample{}); err == nil {
		t.Error("a row could not be written, and nobody said so")
	}
}
