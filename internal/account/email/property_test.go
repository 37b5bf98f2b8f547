package email_test

import (
	"strings"
	"testing"
	"unicode"

	"golang.org/x/text/unicode/norm"
	"pgregory.net/rapid"

	"gatehouse/internal/account/email"
)

// holds checks what is true of every address that Parse takes.
func holds(t interface{ Errorf(string, ...any) }, given string, a email.Address) {
	if a.Given != strings.TrimSpace(given) {
		t.Errorf("Given = %q of %q", a.Given, given)
	}
	if strings.ContainsFunc(a.Given, unicode.IsControl) {
		t.Errorf("Given = %q has a control character", a.Given)
	}
	for _, spelling := range []string{a.Given, a.Canonical} {
		again, err := email.Parse(spelling)
		if err != nil || again.Canonical != a.Canonical {
			t.Errorf("Parse(%q) = %q, %v, want canonical %q as of %q", spelling, again.Canonical, err, a.Canonical, given)
		}
	}
	local, domain, _ := strings.Cut(a.Canonical, "@")
	if len(local) > 64 || len(domain) > 253 || len(a.Domain) > 253 {
		t.Errorf("%q of %q is too long", a.Canonical, given)
	}
	for _, s := range []string{a.Canonical, a.Domain} {
		if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f || 'A' <= r && r <= 'Z' }) {
			t.Errorf("%q of %q is not lower-case ASCII", s, given)
		}
	}
	if again, err := email.Parse("x@" + a.Domain); err != nil || again.Domain != a.Domain {
		t.Errorf("domain %q of %q is spelt %q, %v, by itself", a.Domain, given, again.Domain, err)
	}
}

var (
	locals  = rapid.StringMatching(`[a-zA-Z0-9!#$%&'*+=?^_{|}~-]{1,12}(\.[a-zA-Z0-9+_-]{1,12}){0,3}`)
	domains = rapid.OneOf(
		rapid.SampledFrom([]string{
			"gmail.com", "googlemail.com", "proton.me", "outlook.com", "hotmail.fr", "icloud.com", "fastmail.com",
			"acme.com", "bücher.de", "λόγος.gr", "例子.中国", "קום.com", "نامه.com",
		}),
		rapid.StringMatching(`[a-zà-öø-ÿа-яα-ω0-9][a-zà-öø-ÿа-яα-ω0-9-]{0,20}[a-z0-9]\.[a-z]{2,8}`),
	)
)

func TestWhatParseTakesHolds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		given := locals.Draw(t, "local") + "@" + domains.Draw(t, "domain")
		if a, err := email.Parse(given); err == nil {
			holds(t, given, a)
		}
	})
}

// respell draws another spelling of a domain by case, composition and width.
func respell(t *rapid.T, domain string) string {
	var b strings.Builder
	for _, r := range domain {
		switch rapid.IntRange(0, 3).Draw(t, "spelling") {
		case 1:
			if r != 'ς' && r != 'ÿ' && r != 'ß' { // whose capitals are also those of others, or far away
				r = unicode.ToUpper(r)
			}
		case 2:
			if '!' <= r && r <= '~' && r != '.' {
				r += '！' - '!' // the fullwidth form
			}
		case 3:
			b.WriteString(norm.NFD.String(string(r)))
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

func TestSpellingsOfADomainAreOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, err := email.Parse("jane@" + domains.Draw(t, "domain"))
		if err != nil {
			t.Skip("not a domain")
		}
		_, domain, _ := strings.Cut(a.Given, "@")
		other := "jane@" + respell(t, domain)
		b, err := email.Parse(other)
		if err != nil || a.Canonical != b.Canonical || a.Domain != b.Domain {
			t.Errorf("%+q is %q, %+q is %q, %v", a.Given, a.Canonical, other, b.Canonical, err)
		}
	})
}

func TestSpellingsOfAGmailMailboxAreOne(t *testing.T) {
	letters := rapid.StringMatching(`[a-z0-9]{1,20}`)
	rapid.Check(t, func(t *rapid.T) {
		name := letters.Draw(t, "name")
		var local strings.Builder
		for i, c := range name {
			if i > 0 && rapid.Bool().Draw(t, "dot") {
				local.WriteByte('.')
			}
			if rapid.Bool().Draw(t, "upper") {
				c = unicode.ToUpper(c)
			}
			local.WriteRune(c)
		}
		if rapid.Bool().Draw(t, "tagged") {
			local.WriteString("+" + letters.Draw(t, "tag"))
		}
		given := local.String() + "@" + rapid.SampledFrom([]string{"gmail.com", "GoogleMail.com"}).Draw(t, "domain")
		if a, err := email.Parse(given); err != nil || a.Canonical != name+"@gmail.com" {
			t.Errorf("Parse(%q).Canonical = %q, %v, want %q", given, a.Canonical, err, name+"@gmail.com")
		}
	})
}

// What is not known of a domain is not folded: its addresses differ wherever
// they differ in more than case.
func TestStrangersStayApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, other := locals.Draw(t, "one"), locals.Draw(t, "other")
		a, errA := email.Parse(one + "@acme.com")
		b, errB := email.Parse(other + "@acme.com")
		if errA != nil || errB != nil {
			t.Skip("not an address")
		}
		if same := strings.EqualFold(one, other); same != (a.Canonical == b.Canonical) {
			t.Errorf("%q and %q: one mailbox %t, canonical %q and %q", one, other, same, a.Canonical, b.Canonical)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Fuzz(func(t *testing.T, given string) {
		a, err := email.Parse(given)
		if err != nil {
			reason(t, err)
			if a != (email.Address{}) {
				t.Errorf("Parse(%q) = %q beside its error", given, a)
			}
			return
		}
		holds(t, given, a)
	})
}
