package load

import (
	"strings"
	"unicode"
)

// Clean keeps what a target says from steering a terminal, and short: at most so
// many characters.
func Clean(s string, most int) string {
	runes := []rune(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r): // of several lines one
			return ' '
		case !unicode.IsPrint(r):
			return '\uFFFD'
		}
		return r
	}, s))
	return string(runes[:min(len(runes), most)])
}
