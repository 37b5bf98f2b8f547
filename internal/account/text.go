package account

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"gatehouse/internal/fault"
)

// maxText is the longest name or company, in characters.
const maxText = 255

// Text reads a name, trimmed: a line of any script, of at most 255 characters.
// Control characters and line separators are refused: what a customer writes
// ends up in mail headers and terminals. Its error is fault.Invalid.
func Text(field string, given *string, required bool) (string, error) {
	var s string
	if given != nil {
		s = strings.TrimSpace(*given)
	}
	switch {
	case s == "" && required:
		return "", fault.Field(field, fault.Required, field+" is required")
	case len(s) > maxText && utf8.RuneCountInString(s) > maxText:
		return "", fault.Field(field, fault.TooLong, fmt.Sprintf("%s must be at most %d characters", field, maxText))
	case !utf8.ValidString(s):
		return "", fault.Field(field, fault.MalformedValue, field+" must be valid UTF-8")
	case strings.ContainsFunc(s, breaksLine):
		return "", fault.Field(field, fault.MalformedValue, field+" must not contain control characters")
	}
	return s, nil
}

func breaksLine(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
}

// origins are the values of source; the first is the default.
var origins = []string{"direct", "github_marketplace", "early_access", "api"}

func origin(given *string) (string, error) {
	if given == nil {
		return origins[0], nil
	}
	if !slices.Contains(origins, *given) {
		return "", fault.Field("source", fault.NotAllowed, "source must be one of "+strings.Join(origins, ", "))
	}
	return *given, nil
}
