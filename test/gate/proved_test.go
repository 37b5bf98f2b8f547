package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load/verify"
)

func TestProved(t *testing.T) {
	const over, nodes, waits = "never more than the limit in any window", "one limit over all targets", "Retry-After is true"
	judged := verify.Judge(&verify.Evidence{Targets: []string{"http://a", "http://b"}, Dead: make([]string, 2), Limit: 1})
	for _, property := range []string{over, nodes, waits} {
		if !slices.ContainsFunc(judged, func(f verify.Finding) bool { return f.Property == property }) {
			t.Errorf("load verify does not judge %q", property)
		}
	}
	for name, tt := range map[string]struct {
		change func(*verify.Summary)
		want   string
	}{
		"all":                        {func(*verify.Summary) {}, ""},
		"undecidable waits":          {func(s *verify.Summary) { s.Policies[1].Findings[2].Verdict = verify.Undecidable }, ""},
		"undecidable over-admission": {func(s *verify.Summary) { s.Policies[1].Findings[0].Verdict = verify.Undecidable }, `b: "` + over + `" is undecidable: seen`},
		"undecidable over all nodes": {func(s *verify.Summary) { s.Policies[0].Findings[1].Verdict = verify.Undecidable }, `a: "` + nodes + `" is undecidable: seen`},
		"over-admission":             {func(s *verify.Summary) { s.Policies[0].Findings[0].Verdict = verify.Violated }, `a: "` + over + `" is violated`},
		"it was never judged":        {func(s *verify.Summary) { s.Policies[0].Findings = s.Policies[0].Findings[:1] }, `a: "` + nodes + `" is not judged`},
		"one node has none over all": {func(s *verify.Summary) {
			s.Targets = s.Targets[:1]
			for _, p := range s.Policies {
				p.Findings = p.Findings[:1]
			}
		}, ""},
		"nobody let in":     {func(s *verify.Summary) { s.Policies[1].Admitted = 0 }, "b: 0 were admitted and 3 denied"},
		"nobody refused":    {func(s *verify.Summary) { s.Policies[1].Denied = 0 }, "b: 3 were admitted and 0 denied"},
		"a policy too few":  {func(s *verify.Summary) { s.Policies = s.Policies[:1] }, "b was not verified"},
		"no verification's": {func(s *verify.Summary) { s.Schema = "gatehouse.load/1" }, "its schema is"},
	} {
		s := &verify.Summary{Schema: verify.Schema, Targets: []string{"http://a", "http://b"}, Verdict: verify.Proved}
		for _, policy := range []string{"a", "b"} {
			p := &verify.Trial{Policy: policy, Admitted: 3, Denied: 3, Verdict: verify.Proved}
			for _, property := range []string{over, nodes, waits} {
				p.Findings = append(p.Findings, verify.Finding{Property: property, Verdict: verify.Proved, Why: "seen"})
			}
			s.Policies = append(s.Policies, p)
		}
		tt.change(s)
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "summary.json"), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := proved(dir, "a,b"); (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
