package nearest_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatehouse/internal/nearest"
)

// distance is Levenshtein's with neighbours that swap (the optimal string
// alignment), by its definition.
func distance(a, b string) int {
	if a == "" || b == "" {
		return len(a) + len(b)
	}
	table := make([][]int, len(a)+1)
	for i := range table {
		table[i] = make([]int, len(b)+1)
		table[i][0] = i
	}
	for j := range b {
		table[0][j+1] = j + 1
	}
	for i := range len(a) {
		for j := range len(b) {
			change := 1
			if a[i] == b[j] {
				change = 0
			}
			table[i+1][j+1] = min(table[i][j]+change, table[i][j+1]+1, table[i+1][j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				table[i+1][j+1] = min(table[i+1][j+1], table[i-1][j-1]+1)
			}
		}
	}
	return table[len(a)][len(b)]
}

func hint(name string) string { return fmt.Sprintf("; did you mean %q?", name) }

// hinted takes a hint apart.
func hinted(t interface{ Fatalf(string, ...any) }, text string, known []string) string {
	for _, k := range known {
		if text == hint(k) {
			return k
		}
	}
	if text != "" {
		t.Fatalf("the hint %q is none of %q", text, known)
	}
	return ""
}

func TestDidYouMeanHintsAtTheNearest(t *testing.T) {
	known := []string{"listen", "admin-listen", "mode", "log-level", "log-format"}
	tests := []struct{ name, want string }{
		{"listn", hint("listen")},
		{"lsiten", hint("listen")},
		{"admin_listen", hint("admin-listen")},
		{"adminlisten", hint("admin-listen")},
		{"mod", hint("mode")},
		{"modes", hint("mode")},
		{"log-lvel", hint("log-level")},
		{"logformat", hint("log-format")},
		{"database", ""},
		{"", ""},
		{"x", ""},
		{"ab", ""},
		{"oge", ""}, // half of mode would have to change
		{"not-near-to-any-of-them", ""},
		{strings.Repeat("mode", 100), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := nearest.DidYouMean(tt.name, known); got != tt.want {
				t.Errorf("DidYouMean(%q) = %q, want %q", tt.name, got, tt.want)
			}
		})
	}
	if got := nearest.DidYouMean("listen", nil); got != "" {
		t.Errorf("where nothing is known it says %q", got)
	}
}

var letters = rapid.StringOfN(rapid.SampledFrom([]rune("abcde-")), 0, 14, -1)

func TestDidYouMeanNeverHintsAtWhatIsFar(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := letters.Draw(t, "name")
		known := rapid.SliceOfN(letters, 0, 8).Draw(t, "known")
		got := hinted(t, nearest.DidYouMean(name, known), known)
		if got == "" {
			return
		}
		d := distance(name, got)
		if longer := max(len(name), len(got)); 3*d > longer {
			t.Fatalf("for %q it hints at %q: %d of %d letters differ, more than a third", name, got, d, longer)
		}
		for _, k := range known {
			if distance(name, k) < d {
				t.Fatalf("for %q it hints at %q, and %q is nearer", name, got, k)
			}
		}
	})
}

func TestDidYouMeanSeesThroughOneSlip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		known := rapid.SliceOfN(letters.Filter(func(s string) bool { return len(s) > 3 }), 1, 8).Draw(t, "known")
		meant := rapid.SampledFrom(known).Draw(t, "meant")
		at := rapid.IntRange(0, len(meant)-1).Draw(t, "at")
		name := rapid.SampledFrom([]string{
			meant[:at] + meant[at+1:], meant[:at] + "x" + meant[at+1:], meant[:at] + "x" + meant[at:],
		}).Draw(t, "slip")
		got := hinted(t, nearest.DidYouMean(name, known), known)
		if got == "" || distance(name, got) > 1 {
			t.Fatalf("for %q it hints at %q, and %q was meant", name, got, meant)
		}
	})
}
