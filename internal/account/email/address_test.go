package email_test

import (
	"errors"
	"strings"
	"testing"

	"gatehouse/internal/account/email"
	"gatehouse/internal/fault"
)

// reason returns the reason of a refusal of the field "email", "" for no
// error, and fails the test on any other error.
func reason(t testing.TB, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Kind != fault.Invalid || len(f.Details) != 1 || f.Details[0].Field != "email" {
		t.Fatalf("error = %#v, want one fault.Invalid detail of email", err)
	}
	if !strings.HasPrefix(f.Message, "email ") {
		t.Errorf("message %q does not say what of", f.Message)
	}
	return f.Details[0].Reason
}

func parse(t testing.TB, s string) email.Address {
	t.Helper()
	a, err := email.Parse(s)
	if err != nil {
		t.Fatalf("Parse(%q): %v", s, err)
	}
	return a
}

// labels returns a domain of n bytes, in labels of at most 63.
func labels(n int) string {
	s := strings.Repeat(strings.Repeat("a", 63)+".", n/64)
	return s + strings.Repeat("b", n-len(s))
}

func TestParse(t *testing.T) {
	tests := []struct {
		given string
		want  email.Address
	}{
		{"jane@acme.com", email.Address{Given: "jane@acme.com", Canonical: "jane@acme.com", Domain: "acme.com"}},
		{"  Jane@ACME.com\u3000", email.Address{Given: "Jane@ACME.com", Canonical: "jane@acme.com", Domain: "acme.com"}},
		{"Jane@Bücher.de", email.Address{Given: "Jane@Bücher.de", Canonical: "jane@xn--bcher-kva.de", Domain: "xn--bcher-kva.de"}},
		{"J.D+a@GoogleMail.com", email.Address{Given: "J.D+a@GoogleMail.com", Canonical: "jd@gmail.com", Domain: "googlemail.com"}},
		{"!#$%&'*+-/=?^_`{|}~@acme.com", email.Address{
			Given:     "!#$%&'*+-/=?^_`{|}~@acme.com",
			Canonical: "!#$%&'*+-/=?^_`{|}~@acme.com", Domain: "acme.com",
		}},
	}
	for _, tt := range tests {
		t.Run(tt.given, func(t *testing.T) {
			if got := parse(t, tt.given); got != tt.want {
				t.Errorf("Parse = %+q, want %+q", got, tt.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const required, tooLong, malformed = fault.Required, fault.TooLong, fault.MalformedValue
	tests := []struct {
		name, given, reason string
	}{
		{"empty", "", required},
		{"only spaces", " \u00a0\u3000", required},
		{"only white space", "\t\r\n ", required},

		{"321 characters", strings.Repeat("a", 64) + "@" + labels(256), tooLong},
		{"a megabyte", strings.Repeat("a", 1<<20), tooLong},
		{"a megabyte with an @", "jane@" + strings.Repeat("é.", 1<<19), tooLong},
		{"a megabyte of invalid UTF-8", strings.Repeat("\xff", 1<<20), tooLong},
		{"a local part of 65", strings.Repeat("a", 65) + "@acme.com", tooLong},
		{"a label of 64", "jane@" + strings.Repeat("a", 64) + ".com", tooLong},
		{"a label of 64 as an A-label", "jane@" + strings.Repeat("ü", 60) + ".com", tooLong},
		{"a domain of 254", "jane@" + labels(254), tooLong},
		{"a domain of 254 as A-labels", "jane@" + strings.Repeat("ü.", 50) + "com", tooLong},

		{"no @", "jane.acme.com", malformed},
		{"no local part", "@acme.com", malformed},
		{"no domain", "jane@", malformed},
		{"two @", "jane@acme@acme.com", malformed},
		{"fullwidth @", "jane\uff20acme.com", malformed},
		{"fullwidth @ beside an @", "jane@acme\uff20acme.com", malformed},
		{"small @", "jane\ufe6bacme.com", malformed},
		{"leading dot", ".jane@acme.com", malformed},
		{"trailing dot of the local part", "jane.@acme.com", malformed},
		{"double dot", "ja..ne@acme.com", malformed},
		{"quotes", `"jane"@acme.com`, malformed},
		{"quotes with a header", "\"a\r\nBcc:x\"@acme.com", malformed},
		{"display name", "Jane <jane@acme.com>", malformed},
		{"encoded word", "=?utf-8?q?jane?=@acme.com, x@acme.com", malformed},
		{"comment", "jane(x)@acme.com", malformed},
		{"list", "jane@acme.com,joe@acme.com", malformed},
		{"route", "@a.com:jane@acme.com", malformed},
		{"percent and bang are atext, two @ are not", "jane%acme.com@b.com@c.com", malformed},
		{"Unicode local part", "jané@acme.com", malformed},
		{"Cyrillic local part", "jаne@acme.com", malformed},
		{"BOM", "\ufeffjane@acme.com", malformed},
		{"invalid UTF-8", "jane@ac\xffme.com", malformed},
		{"overlong @", "jane\xc1\x80acme.com", malformed},
		{"lone surrogate", "jane@ac\xed\xa0\x80me.com", malformed},

		{"address literal", "jane@[127.0.0.1]", malformed},
		{"IPv4 address", "jane@127.0.0.1", malformed},
		{"numeric top-level domain", "jane@acme.123", malformed},
		{"one label", "jane@localhost", malformed},
		{"one label and a dot", "jane@com.", malformed},
		{"trailing dot", "jane@acme.com.", malformed},
		{"trailing ideographic dot", "jane@acme.com。", malformed},
		{"leading dot of the domain", "jane@.acme.com", malformed},
		{"empty label", "jane@acme..com", malformed},
		{"empty A-label", "jane@acme.xn--.com", malformed},
		{"underscore", "jane@ac_me.com", malformed},
		{"leading hyphen", "jane@-acme.com", malformed},
		{"trailing hyphen", "jane@acme-.com", malformed},
		{"hyphens where A-labels have theirs", "jane@ac--me.com", malformed},
		{"broken A-label", "jane@xn--a.com", malformed},
		{"A-label of ASCII", "jane@xn--acme-.com", malformed},
		{"A-label of capital Ü", "jane@xn--bcher-2pa.de", malformed},

		{"folds to nothing", "+x@gmail.com", malformed},
		{"folds to nothing at Proton", "-_-@proton.me", malformed},
		{"folds to a dot at the end", "a.+x@outlook.com", malformed},
	}
	for _, c := range []string{"\x00", "\t", "\n", "\r", "\r\n", "\x1f", "\x7f", "\u0085"} {
		for _, given := range []string{c + "jane@acme.com", "ja" + c + "ne@acme.com", "jane@ac" + c + "me.com", "jane@acme.com" + c} {
			tests = append(tests, struct{ name, given, reason string }{"control character", given, malformed})
		}
	}
	for _, c := range []string{" ", "\u00a0", "\u2003", "\u2028", "\u3000"} {
		for _, given := range []string{"ja" + c + "ne@acme.com", "jane" + c + "@acme.com", "jane@" + c + "acme.com", "jane@ac" + c + "me.com"} {
			tests = append(tests, struct{ name, given, reason string }{"inner space", given, malformed})
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, err := email.Parse(tt.given)
			if got := reason(t, err); got != tt.reason {
				t.Errorf("Parse(%.80q) = %+q, reason %q, want %q", tt.given, a, got, tt.reason)
			}
			if a != (email.Address{}) {
				t.Errorf("Parse(%.80q) = %+q beside its error", tt.given, a)
			}
		})
	}
}

func TestParseAcceptsTheLongest(t *testing.T) {
	for _, given := range []string{
		strings.Repeat("a", 64) + "@acme.com",
		"jane@" + labels(253),
		"jane@" + strings.Repeat("a", 63) + ".com",
		strings.Repeat("a", 64) + "@" + labels(253),
		strings.Repeat(" ", 1000) + "jane@acme.com",
	} {
		parse(t, given)
	}
}

// One mailbox, many spellings: ON-01 of the failure cases.
func TestCanonicalIsOnePerMailbox(t *testing.T) {
	tests := []struct {
		canonical string
		spellings []string
	}{
		{"jane@acme.com", []string{"jane@acme.com", "JANE@ACME.COM", " jane@acme.com ", "jane@ａｃｍｅ.com", "jane@acme。com", "jane@ⓐcme.com"}},
		{"jane@xn--bcher-kva.de", []string{
			"jane@bücher.de", "jane@BÜCHER.de", "jane@bu\u0308cher.de", "jane@BU\u0308CHER.DE",
			"jane@xn--bcher-kva.de", "JANE@XN--BCHER-KVA.DE", "jane@xn--Bcher-kva.de", "jane@ｂücher.de",
		}},
		{"janedoe@gmail.com", []string{
			"janedoe@gmail.com", "jane.doe@gmail.com", "j.a.n.e.d.o.e@gmail.com", "JaneDoe@Gmail.com", "janedoe+ci@gmail.com",
			"jane.doe+a+b@googlemail.com", "jane.doe+a.b@GoogleMail.com", "jane.doe@ｇｍａｉｌ.com",
		}},
		{"jane.doe@outlook.com", []string{"jane.doe@outlook.com", "Jane.Doe+ci@Outlook.com"}},
		{"jane@hotmail.co.uk", []string{"jane@hotmail.co.uk", "jane+ci@hotmail.co.uk"}},
		{"jane@outlook.de", []string{"jane@outlook.de", "jane+@outlook.de"}},
		{"jane.doe@icloud.com", []string{"jane.doe@icloud.com", "jane.doe+ci@icloud.com"}},
		{"janedoe@proton.me", []string{"jane.doe@proton.me", "jane_doe@proton.me", "Jane-Doe+ci@proton.me"}},
		{"jane.doe@fastmail.com", []string{"jane.doe@fastmail.com", "jane.doe+ci@fastmail.com"}},
		{"jane@runbox.com", []string{"jane@runbox.com", "jane+ci@runbox.com"}},
	}
	for _, tt := range tests {
		for _, spelling := range tt.spellings {
			if got := parse(t, spelling).Canonical; got != tt.canonical {
				t.Errorf("Parse(%+q).Canonical = %q, want %q", spelling, got, tt.canonical)
			}
		}
	}
}

// Many mailboxes stay many: ON-02, and folds that are not known to be true.
func TestCanonicalMergesNoStrangers(t *testing.T) {
	seen := make(map[string]string)
	for _, given := range []string{
		"jane@acme.com", "jane+ci@acme.com", "jane.doe@acme.com", "janedoe@acme.com", "jane-doe@acme.com",
		"jane@mail.acme.com",
		"jane@аcme.com", // the first letter is Cyrillic
		"jane@асме.com", // all four are
		"jane@acmé.com",
		"jane@fass.de", "jane@faß.de",
		"jane@λόγος.gr", "jane@λόγοσ.gr",
		"jane.doe@outlook.com", "janedoe@outlook.com", "janedoe@hotmail.com", "janedoe@live.com",
		"jane.doe@icloud.com", "janedoe@icloud.com", "janedoe@me.com",
		"janedoe@proton.me", "janedoe@pm.me", "janedoe@protonmail.com",
		"janedoe@gmail.com", "jane-doe@gmail.com", "jane_doe@gmail.com", "jane.doe@mail.gmail.com", "jane+ci@mail.gmail.com",
		"jane@yahoo.com", "jane-ci@yahoo.com", "jane+ci@yahoo.com",
	} {
		canonical := parse(t, given).Canonical
		if other, taken := seen[canonical]; taken {
			t.Errorf("%+q and %+q are both %q", given, other, canonical)
		}
		seen[canonical] = given
	}
}
