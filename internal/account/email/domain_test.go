package email

import (
	"slices"
	"testing"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

func TestDomainASCII(t *testing.T) {
	tests := []struct {
		name, domain, want string // want "": refused
	}{
		{"lower case", "ACME.com", "acme.com"},
		{"one label", "test", "test"},
		{"sharp s stays", "faß.de", "xn--fa-hia.de"},
		{"final sigma stays", "λόγος.gr", "xn--oxapnm1c.gr"},
		{"Chinese", "例子.中国", "xn--fsqu00a.xn--fiqs8s"},
		{"Hebrew", "קום.com", "xn--9dbq2a.com"},
		{"digits of India", "१२३.com", "xn--e4bcd.com"},
		{"mixed script", "pаypal.com", "xn--pypal-4ve.com"}, // valid, and not paypal.com
		{"ideographic zero", "〇.com", "xn--w6j.com"},

		{"emoji", "i❤.ws", ""},
		{"emoji as an A-label", "xn--i-7iq.ws", ""},
		{"pile of poo as an A-label", "xn--ls8h.la", ""},
		{"emoji with a variation selector", "i❤\ufe0f.ws", ""},
		{"symbol", "a☺b.com", ""},
		{"currency", "€.com", ""},
		{"rare punctuation", "a‧b.com", ""},
		{"snowman", "☃.net", ""},

		{"soft hyphen", "ac\u00adme.com", ""},
		{"zero width space", "ac\u200bme.com", ""},
		{"word joiner", "ac\u2060me.com", ""},
		{"BOM", "ac\ufeffme.com", ""},
		{"grapheme joiner", "ac\u034fme.com", ""},
		{"variation selector", "1\ufe0f.com", ""},
		{"Hangul filler", "a\u3164b.com", ""},
		{"left-to-right mark", "ac\u200eme.com", ""},
		{"right-to-left mark", "ac\u200fme.com", ""},
		{"right-to-left override", "\u202emoc.emca", ""},
		{"private use", "a\ue000b.com", ""},
		{"unassigned", "a\u0378b.com", ""},

		{"joiner among Latin", "ac\u200dme.com", ""},
		{"non-joiner among Latin", "ac\u200cme.com", ""},
		{"joiner after a virama", "ශ්\u200dරී.com", "xn--10cl1a0b660p.com"},
		{"Sinhala without it is another", "ශ්රී.com", "xn--10cl1a0b.com"},
		{"non-joiner in Persian", "نامه\u200cای.com", "xn--mgba3gch31f060k.com"},
		{"leading mark", "\u0301acme.com", ""},
		{"left and right in one label", "aקום.com", ""},
		{"right-to-left label that begins with a digit", "1קום.com", ""},

		{"middle dot between l", "l·l.cat", "xn--ll-0ea.cat"},
		{"middle dot elsewhere", "a·b.cat", ""},
		{"middle dot as an A-label", "xn--ab-0ea.cat", ""},
		{"middle dot at the end", "l·.cat", ""},
		{"Greek numeral sign before Greek", "͵α.gr", "xn--wva4j.gr"},
		{"Greek numeral sign at the end", "α͵.gr", ""},
		{"Greek numeral sign before Latin", "α͵a.gr", ""},
		{"geresh after Hebrew", "א׳ב.com", "xn--4dbc5h.com"},
		{"geresh first", "׳אב.com", ""},
		{"gershayim after Hebrew", "א״ב.com", "xn--4dbc8h.com"},
		{"katakana dot in Japanese", "ア・イ.com", "xn--ccke4x.com"},
		{"katakana dot with a Han letter", "・山.com", "xn--vek712k.com"},
		{"katakana dot alone", "・.com", ""},
		{"katakana dot in Latin", "a・b.com", ""},
		{"Arabic digits", "ب١.com", "xn--ngb8i.com"},
		{"extended Arabic digits", "ب۱.com", "xn--ngb61b.com"},
		{"both kinds of Arabic digits", "ب١۱.com", ""},
		{"tatweel", "بـب.com", ""},
		{"old Hangul", "ᄀ\u1160.com", ""},

		{"empty", "", ""},
		{"dot", ".", ""},
		{"slash by compatibility", "a℀b.com", ""},
		{"dot by compatibility", "a․com", ""},
		{"number by compatibility", "acme.１２３", ""},
		{"invalid UTF-8", "ac\xffme.com", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := domainASCII(tt.domain)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Fatalf("domainASCII(%+q) = %q, %v, want %q", tt.domain, got, err, tt.want)
			}
			if again, err := domainASCII(got); err == nil && again != got {
				t.Errorf("domainASCII(%q) = %q, not itself", got, again)
			}
		})
	}
}

// derived is the whole of RFC 5892 section 3 for code points that stand alone,
// written as the RFC has it, with the rules that validLabel leaves to mapping.
func derived(r rune) bool {
	in := func(lo, hi rune) bool { return lo <= r && r <= hi }
	is := func(list ...rune) bool { return slices.Contains(list, r) }
	fold := func(s string) string { return norm.NFKC.String(cases.Fold().String(norm.NFKC.String(s))) }
	switch {
	case is(0xdf, 0x3c2, 0x6fd, 0x6fe, 0xf0b, 0x3007): // exceptions: PVALID
		return true
	case in(0x660, 0x669), in(0x6f0, 0x6f9): // exceptions: CONTEXTO that holds for one alone
		return true
	case is(0xb7, 0x375, 0x5f3, 0x5f4, 0x30fb): // exceptions: CONTEXTO that doesn't
		return false
	case is(0x640, 0x7fa, 0x302e, 0x302f, 0x303b), in(0x3031, 0x3035): // exceptions: DISALLOWED
		return false
	case r == '-', in('0', '9'), in('a', 'z'): // LDH
		return true
	case is(0x200c, 0x200d): // CONTEXTJ
		return true
	case in(0x1100, 0x11ff), in(0xa960, 0xa97c), in(0xd7b0, 0xd7c6), in(0xd7cb, 0xd7fb): // OldHangulJamo
		return false
	case fold(string(r)) != string(r): // Unstable
		return false
	case unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector,
		unicode.White_Space, unicode.Noncharacter_Code_Point): // IgnorableProperties
		return false
	case in(0x20d0, 0x20ff), in(0x1d100, 0x1d24f): // IgnorableBlocks
		return false
	default: // LetterDigits
		return unicode.In(r, unicode.Ll, unicode.Lu, unicode.Lo, unicode.Nd, unicode.Lm, unicode.Mn, unicode.Mc)
	}
}

// Every code point that mapping lets through as it is: what validLabel meets.
// It stands after a q, with which nothing composes, since no label may begin
// with a mark.
func TestValidLabelIsRFC5892(t *testing.T) {
	mapping := idna.New(idna.MapForLookup()) // profile without the direction, which depends on neighbours
	checked := 0
	for r := range unicode.MaxRune + 1 {
		label := "q" + string(r)
		if mapped, err := mapping.ToUnicode(label); err != nil || mapped != label || r == '.' || r == '-' {
			continue
		}
		checked++
		if got, want := validLabel(label), derived(r); got != want {
			t.Errorf("validLabel(%U) = %t, want %t", r, got, want)
		}
	}
	if checked < 100_000 { // Unicode has more letters than that
		t.Errorf("only %d code points were checked", checked)
	}
}

func TestParseDomainSpellsLikeAddresses(t *testing.T) {
	for given, want := range map[string]string{
		"Load.ACME.com": "load.acme.com", "BÜCHER.de": "xn--bcher-kva.de", "ｌoad.acme.com": "load.acme.com",
		"internal": "", "": "", "*.acme.com": "", "x@acme.com": "", "acme.com.": "", "192.0.2.1": "",
	} {
		got, err := ParseDomain(given)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", given, got, err, want)
		}
		if address, aerr := Parse("x@" + given); want != "" && (aerr != nil || address.Domain != got) {
			t.Errorf("%q: an address is at %q, %v", given, address.Domain, aerr)
		}
	}
}
