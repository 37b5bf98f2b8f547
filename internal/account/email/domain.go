package email

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"golang.org/x/net/idna"
)

const (
	maxDomain = 253 // bytes as A-labels: RFC 1035's 255 less the length byte of the first label and the root's
	maxLabel  = 63  // bytes as an A-label, RFC 1035 section 2.3.4
)

var (
	errDomain     = errors.New("not a valid domain name")
	errDomainLong = errors.New("a domain name longer than 253 bytes, or with a label longer than 63")
)

// profile maps like a browser (case, width and composition fold; ß and the
// joiners stay), then checks hyphens, ASCII, joiners and direction. What it
// lets through is UTS 46, which is wider than IDNA2008: see validLabel.
var profile = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.BidiRule())

// ParseDomain returns the one spelling of a domain that addresses can be at: a
// name of two or more labels, as lower-case A-labels, like Address.Domain.
func ParseDomain(s string) (string, error) {
	domain, err := domainASCII(strings.TrimSpace(s))
	if err == nil && !strings.Contains(domain, ".") {
		err = errDomain
	}
	if err != nil {
		return "", fmt.Errorf("%q: %w", s, err)
	}
	return domain, nil
}

// domainASCII returns the one spelling of a domain name, as lower-case
// A-labels. One label is enough for it, and a trailing dot is refused.
func domainASCII(domain string) (string, error) {
	// UTS 46 drops these silently, so a name that holds one would look the
	// same as another, and not be it, wherever it is shown.
	if strings.ContainsFunc(domain, hidden) {
		return "", errDomain
	}
	mapped, err := profile.ToUnicode(domain)
	if err != nil {
		return "", errDomain
	}
	for label := range strings.SplitSeq(mapped, ".") {
		if !validLabel(label) {
			return "", errDomain
		}
	}
	// Encoding what was decoded and checked makes an A-label round-trip.
	ascii, err := profile.ToASCII(mapped)
	if err != nil {
		return "", errDomain
	}
	if len(ascii) > maxDomain {
		return "", errDomainLong
	}
	last := ""
	for label := range strings.SplitSeq(ascii, ".") {
		if len(label) > maxLabel {
			return "", errDomainLong
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" { // an IPv4 address, not a name (RFC 3696 section 2)
		return "", errDomain
	}
	return ascii, nil
}

// hidden reports whether r is shown as nothing: a control or format character
// or another default ignorable one. The joiners are not among them, because
// some scripts need them; where they may stand is checked by profile.
func hidden(r rune) bool {
	const zwnj, zwj = '\u200c', '\u200d'
	return r != zwnj && r != zwj &&
		unicode.In(r, unicode.Cc, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector)
}

// validLabel reports whether IDNA2008 permits a label that profile has mapped:
// it has at least one code point, and each is PVALID by RFC 5892 section 3, or
// CONTEXTJ or CONTEXTO in a context that its appendix A allows. The rule
// "Unstable" (section 2.2) needs no check, since mapping made the label stable.
func validLabel(label string) bool {
	runes := []rune(label)
	for i, r := range runes {
		switch {
		case r < 0x80:
			if !('a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-') {
				return false
			}
		case r == '\u200c' || r == '\u200d': // CONTEXTJ: profile has checked it
		case r == '·': // U+00B7, as in Catalan: between two l
			if i == 0 || i == len(runes)-1 || runes[i-1] != 'l' || runes[i+1] != 'l' {
				return false
			}
		case r == '\u0375': // GREEK LOWER NUMERAL SIGN: before Greek
			if i == len(runes)-1 || !unicode.Is(unicode.Greek, runes[i+1]) {
				return false
			}
		case r == '\u05f3' || r == '\u05f4': // HEBREW GERESH, GERSHAYIM: after Hebrew
			if i == 0 || !unicode.Is(unicode.Hebrew, runes[i-1]) {
				return false
			}
		case r == '\u30fb': // KATAKANA MIDDLE DOT: with Japanese
			if !strings.ContainsFunc(label, japanese) {
				return false
			}
		case '\u0660' <= r && r <= '\u0669': // ARABIC-INDIC DIGITS: not with the extended ones
			if strings.ContainsFunc(label, func(r rune) bool { return '\u06f0' <= r && r <= '\u06f9' }) {
				return false
			}
		case unicode.Is(permitted, r):
		case unicode.Is(disallowed, r) || hidden(r) || !unicode.In(r, letterDigits...):
			return false
		}
	}
	return len(runes) > 0
}

func japanese(r rune) bool {
	return unicode.In(r, unicode.Hiragana, unicode.Katakana, unicode.Han)
}

// letterDigits is category A of RFC 5892 without Lu, which mapping folds.
var letterDigits = []*unicode.RangeTable{unicode.Ll, unicode.Lo, unicode.Lm, unicode.Mn, unicode.Mc, unicode.Nd}

// permitted are the PVALID exceptions (RFC 5892 section 2.6) that are no
// letters or digits.
var permitted = &unicode.RangeTable{R16: []unicode.Range16{
	{Lo: 0x06fd, Hi: 0x06fe, Stride: 1}, // ARABIC SIGN SINDHI AMPERSAND, POSTPOSITION MEN
	{Lo: 0x0f0b, Hi: 0x0f0b, Stride: 1}, // TIBETAN MARK INTERSYLLABIC TSHEG
	{Lo: 0x3007, Hi: 0x3007, Stride: 1}, // IDEOGRAPHIC NUMBER ZERO
}}

// disallowed are the letters, digits and marks that RFC 5892 excludes: the
// exceptions (section 2.6), the ignorable blocks (2.4) and old Hangul (2.9).
var disallowed = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x0640, Hi: 0x0640, Stride: 1}, // ARABIC TATWEEL
		{Lo: 0x07fa, Hi: 0x07fa, Stride: 1}, // NKO LAJANYALAN
		{Lo: 0x1100, Hi: 0x11ff, Stride: 1}, // Hangul Jamo
		{Lo: 0x20d0, Hi: 0x20ff, Stride: 1}, // Combining Diacritical Marks for Symbols
		{Lo: 0x302e, Hi: 0x302f, Stride: 1}, // HANGUL SINGLE and DOUBLE DOT TONE MARK
		{Lo: 0x3031, Hi: 0x3035, Stride: 1}, // VERTICAL KANA REPEAT MARKs
		{Lo: 0x303b, Hi: 0x303b, Stride: 1}, // VERTICAL IDEOGRAPHIC ITERATION MARK
		{Lo: 0xa960, Hi: 0xa97f, Stride: 1}, // Hangul Jamo Extended-A
		{Lo: 0xd7b0, Hi: 0xd7ff, Stride: 1}, // Hangul Jamo Extended-B
	},
	R32: []unicode.Range32{
		{Lo: 0x1d100, Hi: 0x1d24f, Stride: 1}, // Musical Symbols, Ancient Greek Musical Notation
	},
}
