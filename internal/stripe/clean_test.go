package stripe

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestWordsStayApart(t *testing.T) {
	if got, want := clean(" No\n\tsuch\u2028customer\x00s: a@b  c", maxMessage), "No such customers: … c"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzClean holds what a stranger says, however it is said, to one short line
// without an address or a key.
func FuzzClean(f *testing.F) {
	for _, s := range []string{
		"", "Invalid email address: jane@example.test", "jane%40example.test", "a\nb\u2028c\x00d\x1b[31m", "\xff@", "ja\x00ne\x01@\x02x",
		"Invalid API Key provided: sk_test_****1234", "SK_LIVE_x (rk_\x00test_x) whsec_1", strings.Repeat("ü", 500), strings.Repeat("a", maxMessage+1), "jane＠example.test",
		strings.Repeat(" ", 500) + "@",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := clean(s, maxMessage)
		if len(got) > maxMessage || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("clean(%q) = %q: long, or no line", s, got)
		}
		low := strings.ToLower(got)
		for _, private := range []string{"@", "＠", "%40", "sk_", "rk_", "whsec_"} {
			if strings.Contains(low, private) {
				t.Errorf("clean(%q) = %q: has %s", s, got, private)
			}
		}
		if clean(got, maxMessage) != got {
			t.Errorf("clean(%q) is not clean(%q)", got, s)
		}
	})
}
