package account_test

import (
	"errors"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"gatehouse/internal/account"
	"gatehouse/internal/fault"
)

func given(s string) *string { return &s }

// reason is why an error refuses one field, or what else it is.
func reason(err error, field string) string {
	if err == nil {
		return ""
	}
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Invalid || len(f.Details) != 1 || f.Details[0].Field != field {
		return err.Error()
	}
	return f.Details[0].Reason
}

func TestTextIsALineOfAtMost255Characters(t *testing.T) {
	tests := []struct {
		name   string
		given  *string
		want   string
		reason string // where it is required
	}{
		{"left out", nil, "", fault.Required},
		{"empty", given(""), "", fault.Required},
		{"spaces", given(" \t\u00a0\u2003 "), "", fault.Required},
		{"line ends alone", given("\r\n\u2028\u2029\u0085"), "", fault.Required},
		{"a name", given("Jane Doe"), "Jane Doe", ""},
		{"spaces around it", given("  Jane\u00a0Doe\u3000\n"), "Jane\u00a0Doe", ""},
		{"one character", given("X"), "X", ""},
		{"any script", given("山田 太郎 נמל 😀 Zoë"), "山田 太郎 נמל 😀 Zoë", ""},
		{"what looks like code", given(`<script>'"--;%s{{.}}`), `<script>'"--;%s{{.}}`, ""},
		{"255 characters", given(strings.Repeat("x", 255)), strings.Repeat("x", 255), ""},
		{"255 of four bytes each", given(strings.Repeat("😀", 255)), strings.Repeat("😀", 255), ""},
		{"255 and spaces around them", given("  " + strings.Repeat("é", 255) + "  "), strings.Repeat("é", 255), ""},
		{"256 characters", given(strings.Repeat("x", 256)), "", fault.TooLong},
		{"256 of four bytes each", given(strings.Repeat("😀", 256)), "", fault.TooLong},
		{"a mebibyte", given(strings.Repeat("x", 1<<20)), "", fault.TooLong},
		{"a NUL", given("Jane\x00"), "", fault.MalformedValue},
		{"a NUL before it", given("\x00Jane"), "", fault.MalformedValue},
		{"a line end within", given("Jane\nBcc: all@acme.com"), "", fault.MalformedValue},
		{"a carriage return within", given("Jane\rDoe"), "", fault.MalformedValue},
		{"a tab within", given("Jane\tDoe"), "", fault.MalformedValue},
		{"an escape", given("Jane\x1b[31m"), "", fault.MalformedValue},
		{"a delete", given("Jane\x7f"), "", fault.MalformedValue},
		{"a control of Latin-1", given("Jane\u009bDoe"), "", fault.MalformedValue},
		{"a next line within", given("Jane\u0085Doe"), "", fault.MalformedValue},
		{"a line separator within", given("Jane\u2028Doe"), "", fault.MalformedValue},
		{"a paragraph separator within", given("Jane\u2029Doe"), "", fault.MalformedValue},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := account.Text("name", tt.given, true)
			if got != tt.want || reason(err, "name") != tt.reason {
				t.Errorf("Text = %q, %v, want %q and the reason %q", got, err, tt.want, tt.reason)
			}
			wanted := tt.reason
			if wanted == fault.Required { // then nothing is fine
				wanted = ""
			}
			if got, err := account.Text("company", tt.given, false); got != tt.want || reason(err, "company") != wanted {
				t.Errorf("where it is not required Text = %q, %v, want %q and the reason %q", got, err, tt.want, wanted)
			}
		})
	}
}

// textHolds checks what is true of any text.
func textHolds(t interface{ Errorf(string, ...any) }, s string) {
	got, err := account.Text("name", &s, true)
	trimmed := strings.TrimSpace(s)
	separates := func(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
	want := ""
	switch {
	case trimmed == "":
		want = fault.Required
	case utf8.RuneCountInString(trimmed) > 255:
		want = fault.TooLong
	case !utf8.ValidString(trimmed), strings.ContainsFunc(trimmed, separates):
		want = fault.MalformedValue
	}
	if reason(err, "name") != want {
		t.Errorf("Text(%q) = %v, want the reason %q", s, err, want)
	}
	if err != nil && got != "" || err == nil && got != trimmed {
		t.Errorf("Text(%q) = %q, %v", s, got, err)
	}
	if again, err := account.Text("name", &got, false); again != got || err != nil {
		t.Errorf("Text(%q) is not taken again: %q, %v", got, again, err)
	}
}

func TestTextHoldsForAll(t *testing.T) {
	pieces := rapid.OneOf(
		rapid.String(),
		rapid.StringOfN(rapid.SampledFrom([]rune("aé😀 \t\n\x00\u0085\u00a0\u2028\u2029")), 0, 300, -1),
		rapid.StringOfN(rapid.SampledFrom([]rune("aé😀")), 250, 260, -1),
	)
	rapid.Check(t, func(t *rapid.T) { textHolds(t, pieces.Draw(t, "text")) })
}

func FuzzText(f *testing.F) {
	f.Add("Jane Doe")
	f.Fuzz(func(t *testing.T, s string) { textHolds(t, s) })
}
