package verify

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/load/report"
)

var pages = []string{"report.md", "report.html", "junit.xml"}

// verification is one with a bit of all: violations, an answer that is none,
// what was left out.
func verification(t *testing.T) *Summary {
	t.Helper()
	_, e, err := try(t, 1, 10, 10*time.Second, func(f *fake) { f.oneMore = true })
	if err != nil {
		t.Fatal(err)
	}
	e.Stopped = "it was interrupted"
	trial := newTrial("onboarding", true, e, nil)
	trial.Findings[0].Witness[0].Err = "timeout <&|`"
	out := newTrial("api", true, nil, &UntriedError{Why: "its window is 1h0m0s", TooLong: true})
	s := &Summary{Schema: Schema, ToolVersion: "v1", Targets: []string{"http://one"}, StartedAt: time.Now().UTC(), Policies: []*Trial{}, NotVerified: []*Trial{}, Reasons: []string{}}
	s.conclude(t.Context(), []*Trial{trial, newTrial("stripe_webhook", false, nil, errors.New("refused")), out})
	s.Seconds = 41.0005
	return s
}

// One policy that is not verified keeps the whole from being proved, whatever
// the reason. Only api is left out where its window is long.
func TestNotVerified(t *testing.T) {
	t.Parallel()
	_, _, off := try(t, 1, 10, 10*time.Second, func(f *fake) { f.off = true })
	unsigned := newClient(&Options{}, Policies()[2], nil)
	long := &UntriedError{Why: "its window is 1h0m0s", TooLong: true}
	for _, tt := range []struct {
		policy string
		err    error
		want   Verdict
	}{
		{"credential_exchange", off, Undecidable},
		{"stripe_webhook", unsigned.prepare(&Options{}, access{}), Undecidable},
		{"auth_failure", long, Undecidable},
		{"api", off, Undecidable},
		{"api", long, Proved},
	} {
		s := &Summary{Policies: []*Trial{}, NotVerified: []*Trial{}, Reasons: []string{}}
		s.conclude(t.Context(), []*Trial{{Policy: "onboarding", Verdict: Proved}, newTrial(tt.policy, true, nil, tt.err)})
		reasons, left := 0, tt.want == Proved
		if !left {
			reasons = 1
		}
		if s.Verdict != tt.want || len(s.Reasons) != reasons || (len(s.NotVerified) == 1) != left || !strings.Contains(s.Headline(), "NOT verified: "+tt.policy) {
			t.Errorf("%s, %v: %s, %q, %s; want %s", tt.policy, tt.err, s.Verdict, s.Reasons, s.Headline(), tt.want)
		}
		var text strings.Builder
		if err := junit(&text, &page{Summary: s}); err != nil || strings.Contains(text.String(), `classname="gatehouse.verify.`+tt.policy) == left {
			t.Errorf("%s, %v: %v; want a test case of it unless it is left out:\n%s", tt.policy, tt.err, err, text.String())
		}
	}
}

// Pages made again are those made at first, to the byte, and the summary stays.
func TestRender(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := verification(t)
	if err := Write(dir, s); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := map[string]string{}
	for _, name := range pages {
		first[name] = read(name)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	written := read("summary.json")
	if !strings.Contains(first["report.md"], "answered") || !strings.Contains(first["report.html"], "timeout &lt;&amp;") {
		t.Fatalf("the pages show no witness:\n%s", first["report.md"])
	}
	if err := Render(dir); err != nil {
		t.Fatal(err)
	}
	for _, name := range pages {
		if again := read(name); again != first[name] {
			t.Errorf("%s was\n%s\nand is\n%s", name, first[name], again)
		}
	}
	again, err := Read(dir)
	if err != nil || !again.NotVerified[0].TooLong {
		t.Fatalf("%+v, %v", again, err)
	}
	if text, err := report.JSON(again); err != nil || string(text) != written || read("summary.json") != written {
		t.Errorf("%v; the summary was\n%s\nand is\n%s", err, written, text)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), "no verification ended there") {
		t.Errorf("an empty folder: %v", err)
	}
	for name, tt := range map[string]struct{ text, want string }{
		"a run":           {`{"schema": "gatehouse.load/1", "policies": 1}`, `its schema is "gatehouse.load/1", want "gatehouse.verify/1"`},
		"null":            {`null`, `its schema is ""`},
		"half":            {`{"schema": "gatehouse.verify/1", "verdict"`, "unexpected EOF"},
		"a null policy":   {`{"schema": "gatehouse.verify/1", "verdict": "proved", "policies": [null]}`, "a policy in it is null"},
		"a null left":     {`{"schema": "gatehouse.verify/1", "verdict": "proved", "not_verified": [null]}`, "a policy in it is null"},
		"a null finding":  {`{"schema": "gatehouse.verify/1", "verdict": "proved", "policies": [{"verdict": "proved", "findings": [null]}]}`, `a verdict in it is ""`},
		"a null witness":  {`{"schema": "gatehouse.verify/1", "verdict": "proved", "policies": [{"verdict": "proved", "findings": [{"property": "p", "verdict": "proved", "witness": [null]}]}]}`, "a witness of \"p\" is null"},
		"an endless time": {`{"schema": "gatehouse.verify/1", "verdict": "proved", "policies": [{"verdict": "proved", "findings": [{"verdict": "proved", "witness": [{"sent_ms": 1e300}]}]}]}`, "no such time"},
		"another verdict": {`{"schema": "gatehouse.verify/1", "verdict": "pass"}`, `a verdict in it is "pass"`},
		"too long":        {strings.Repeat(" ", maxSummary+1), "longer than"},
	} {
		if err := os.WriteFile(filepath.Join(dir, "summary.json"), []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(dir); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want %q", name, err, tt.want)
		}
	}
}

// Whatever is read can be rendered.
func FuzzSummary(f *testing.F) {
	f.Add([]byte(`{"schema": "gatehouse.verify/1", "verdict": "proved", "targets": null, "requests": null, "policies": null, "reasons": null}`))
	f.Add([]byte(`{"schema": "gatehouse.verify/1", "verdict": "violated", "duration_seconds": 1e300, "policies": [{"policy": "api", "verdict": "violated", "window_seconds": -1e300, "findings": [{"verdict": "violated", "witness": [{"request": -1, "sent_ms": -5, "target": -1}]}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := &Summary{}
		if s.parse(text) != nil {
			return
		}
		if err := errors.Join(markdownTemplate.Execute(io.Discard, &page{Summary: s}), pageTemplate.Execute(io.Discard, &page{Summary: s}), junit(io.Discard, &page{Summary: s})); err != nil {
			t.Error(err)
		}
	})
}
