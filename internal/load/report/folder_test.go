package report

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
)

// seconds are those of the fixture.
func seconds() (all []*load.Sample) {
	for second := range 60 {
		all = append(all, fixtureSecond(second))
	}
	return all
}

// leave writes all that a run leaves in its folder.
func leave(t testing.TB, r *Run, seconds []*load.Sample) (dir string) {
	t.Helper()
	dir = t.TempDir()
	var samples, windows bytes.Buffer
	s, w := NewSamples(&samples, []load.Outcome{{Name: "created", Status: 201, Kind: load.Success}}), NewWindows(&windows)
	for _, x := range seconds {
		if err := errors.Join(s.Add(x), w.Add(x)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, SamplesFile), samples.Bytes(), 0o600), os.WriteFile(filepath.Join(dir, WindowsFile), windows.Bytes(), 0o600), Write(dir, r, HTML),
	); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files are what is in a folder, by name.
func files(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

// folder writes a run's files.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestReadFolder(t *testing.T) {
	const summary = `{"schema": "gatehouse.load/1", "outcomes": {}, "by_request": {
		"onboard": {"201": {"kind": "success", "count": 7}}, "one, \"two\"": {"error:timeout": {"kind": "failure", "count": 1}}}}`
	text := string(windowsText(t))
	lines := strings.SplitAfter(text, "\n")
	for _, tt := range []struct {
		name  string
		files map[string]string
		rows  int
		want  string
	}{
		{"whole", map[string]string{"summary.json": summary, "windows.csv": text}, 3, ""},
		{"without windows", map[string]string{"summary.json": summary}, -1, ""},
		{"stopped half-way", map[string]string{"windows.csv": text}, -1, "no run ended there"},
		{"a summary cut", map[string]string{"summary.json": summary[:90], "windows.csv": text}, -1, "read the summary"},
		{"windows cut at a row", map[string]string{"summary.json": summary, "windows.csv": strings.Join(lines[:3], "")}, -1, "it was cut, or is of another run"},
		{"windows cut within a row", map[string]string{"summary.json": summary, "windows.csv": text[:len(text)-2]}, -1, "windows.csv"},
		{"windows of another", map[string]string{"summary.json": summary, "windows.csv": text + "3,other,200,5\n"}, -1, `knows nothing of its "other" "200"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, windows, err := ReadFolder(folder(t, tt.files))
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %q", err, tt.want)
				}
				return
			}
			if err != nil || s == nil || (windows == nil) != (tt.rows < 0) || len(windows) != max(tt.rows, 0) {
				t.Errorf("%v, %d windows, %v", s, len(windows), err)
			}
		})
	}
}

// TestARunRenderedAgain: it is the same to the byte, and the rest of its folder
// is untouched.
func TestARunRenderedAgain(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Run) []*load.Sample
	}{
		{"a run", func(*Run) []*load.Sample { return seconds() }},
		{"compared with nothing", func(r *Run) []*load.Sample {
			r.Baseline, r.Notes, r.Gates = nil, nil, 0
			return seconds()
		}},
		{"what is no UTF-8", func(r *Run) []*load.Sample {
			r.Result.Series[1].Example, r.Environment.Target.Policies = "a\xffb\xc3", []string{"\xfe"}
			return seconds()
		}},
		{"interrupted half-way", func(r *Run) []*load.Sample {
			r.Result.Interrupted, r.Result.Elapsed = true, 30*time.Second+123456789
			r.Result.Scheduled, r.Result.Sent, r.Result.Answered, r.Result.Errors = 600, 600, 600, 0
			created, over, limited := *r.Result.Series[0], *r.Result.Series[2], *r.Result.Series[3]
			created.Latency, limited.Latency = spread(540, time.Millisecond, time.Second), spread(40, time.Millisecond, time.Second)
			r.Result.Series = []*load.Series{&created, &over, &limited}
			r.Seconds = Seconds{}
			for _, x := range seconds()[:30] {
				r.Seconds.Add(x)
			}
			return seconds()[:30]
		}},
		{"in which nothing happened", func(r *Run) []*load.Sample { *r = *nothing(); return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := fixture()
			dir := leave(t, run, tt.change(run))
			before, other := files(t, dir), t.TempDir()
			again, err := Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{markdownFile, htmlFile, junitFile} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("old"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := errors.Join(Render(dir, again, HTML), Render(other, again, HTML)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, files(t, dir)); diff != "" {
				t.Error(diff)
			}
			maps.DeleteFunc(before, func(name, _ string) bool { return name != markdownFile && name != htmlFile && name != junitFile })
			if diff := cmp.Diff(before, files(t, other)); diff != "" || len(before) != 3 {
				t.Errorf("elsewhere: %s", diff)
			}
		})
	}
}

// TestARunOfAnEarlierVersionRenderedAgain: what its summary lacks is not known.
func TestARunOfAnEarlierVersionRenderedAgain(t *testing.T) {
	dir := leave(t, fixture(), seconds())
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.TimeoutSeconds, s.SuccessP95, s.Comparison, s.Connections.Handshakes = 0, nil, nil, 0
	if err := Render(dir, s, HTML); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"of 1,200 requests 1,099 succeeded, 100", "| time-out | – |"} {
		if text := files(t, dir)[markdownFile]; !strings.Contains(text, want) || strings.Contains(text, "Beside") {
			t.Errorf("it lacks %q, or has a comparison:\n%s", want, text)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	whole := files(t, leave(t, fixture(), seconds()))
	cut := func(name string, lines int) func(map[string]string) {
		return func(m map[string]string) { m[name] = strings.Join(strings.SplitAfter(m[name], "\n")[:lines], "") }
	}
	replace := func(name, old, text string) func(map[string]string) {
		return func(m map[string]string) {
			if !strings.Contains(m[name], old) {
				t.Fatalf("%s has no %q", name, old)
			}
			m[name] = strings.Replace(m[name], old, text, 1)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(map[string]string)
		want   string
	}{
		{"no summary", func(m map[string]string) { delete(m, summaryFile) }, "has no summary.json: no run ended there"},
		{"no windows", func(m map[string]string) { delete(m, WindowsFile) }, "has no windows.csv: an earlier version wrote none"},
		{"no samples", func(m map[string]string) { delete(m, SamplesFile) }, "samples.csv: no such file"},
		{"a later version's", replace(summaryFile, "load/1", "load/2"), "another version of gatehouse wrote it"},
		{"a verification", func(m map[string]string) { m[summaryFile] = `{"schema": "gatehouse.verify/1", "stages": "other"}` }, "it is of load verify, not of load run"},
		{"windows cut", cut(WindowsFile, 40), "windows.csv: it has"},
		{"samples cut at a row", cut(SamplesFile, 40), "samples.csv: it has 780 requests that were sent and 780 "},
		{"samples cut within", func(m map[string]string) { m[SamplesFile] = m[SamplesFile][:len(m[SamplesFile])-30] }, "samples.csv: row 60: "},
		{"samples of another", replace(SamplesFile, "\n9,0,20,20,20,20,", "\n9,0,20,20,20,19,"), "1198 that were answered"},
		{"samples without a second", replace(SamplesFile, "\n9,", "\n8,"), `its second is "8", want 9`},
		{"a count that is none", replace(SamplesFile, "\n9,0,20,20,", "\n9,0,20,-1,"), `"-1" is no count`},
		{"another table", replace(SamplesFile, "second,stage", "second,state"), "does not begin with second,stage,rate,due"},
		{"a second too many", func(m map[string]string) { m[WindowsFile] = strings.ReplaceAll(m[WindowsFile], "\n59,", "\n60,") }, "windows.csv has the second 60"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := maps.Clone(whole)
			tt.change(m)
			if _, err := Open(folder(t, m)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
	if _, err := Open(folder(t, whole)); err != nil {
		t.Errorf("whole: %v", err)
	}
}

// FuzzSamples: whatever is read can be drawn.
func FuzzSamples(f *testing.F) {
	var b bytes.Buffer
	s := NewSamples(&b, nil)
	for _, x := range seconds()[:3] {
		if err := s.Add(x); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(b.String())
	f.Fuzz(func(t *testing.T, text string) {
		all, err := readSamples(strings.NewReader(text))
		if err != nil {
			return
		}
		r := &Report{Summary: &Summary{}}
		for i, x := range all {
			if x.Second != i || min(x.Due, x.Sent, x.Answered, x.Errors) < 0 {
				t.Errorf("row %d is %+v", i, x)
			}
			r.Seconds.Add(x)
		}
		if page := rendered(t, r); strings.Contains(page, "NaN") {
			t.Error("it divides by zero")
		}
	})
}
