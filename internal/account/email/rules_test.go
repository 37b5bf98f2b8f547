package email_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gatehouse/internal/account/email"
	"gatehouse/internal/fault"
)

func rules(t testing.TB, allow, deny []string) *email.Rules {
	t.Helper()
	r, err := email.NewRules(allow, deny)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRules(t *testing.T) {
	const disposable, notAllowed = fault.Disposable, fault.NotAllowed
	ours := []string(nil)
	tests := []struct {
		name        string
		allow, deny []string
		given, want string
	}{
		{"a company", ours, ours, "jane@acme.com", ""},
		{"a free provider", ours, ours, "jane@gmail.com", ""},
		{"a relay that people keep", ours, ours, "jane@privaterelay.appleid.com", ""},

		{"disposable", ours, ours, "jane@mailinator.com", disposable},
		{"disposable in upper case", ours, ours, "jane@MAILINATOR.COM", disposable},
		{"disposable in fullwidth", ours, ours, "jane@ｍailinator.com", disposable},
		{"below a disposable one", ours, ours, "jane@a.b.mailinator.com", disposable},
		{"a disposable IDN", ours, ours, "jane@xn--yaho-sqa.com", disposable},
		{"a disposable IDN in Unicode", ours, ours, "jane@yahóo.com", disposable},
		{"first of the list", ours, ours, "jane@0-mail.com", disposable},
		{"no label boundary", ours, ours, "jane@acmemailinator.com", ""},
		{"not a suffix", ours, ours, "jane@mailinator.com.acme.com", ""},

		{"example.com", ours, ours, "jane@example.com", disposable},
		{"below example.org", ours, ours, "jane@mail.example.org", disposable},
		{"example.net", ours, ours, "jane@EXAMPLE.net", disposable},
		{"example.de is anybody's", ours, ours, "jane@example.de", ""},
		{"top-level test", ours, ours, "jane@acme.test", disposable},
		{"top-level example", ours, ours, "jane@acme.example", disposable},
		{"top-level invalid", ours, ours, "jane@acme.invalid", disposable},
		{"top-level localhost", ours, ours, "jane@acme.localhost", disposable},
		{"top-level local", ours, ours, "jane@printer.local", disposable},
		{"top-level onion", ours, ours, "jane@acme.onion", disposable},
		{"top-level alt", ours, ours, "jane@acme.alt", disposable},
		{"top-level internal", ours, ours, "jane@acme.internal", disposable},
		{"home.arpa", ours, ours, "jane@home.arpa", disposable},
		{"arpa is not all of it", ours, ours, "jane@acme.arpa", ""},

		{"denied", ours, []string{"acme.com"}, "jane@acme.com", notAllowed},
		{"below a denied one", ours, []string{"acme.com"}, "jane@mail.acme.com", notAllowed},
		{"beside a denied one", ours, []string{"acme.com"}, "jane@notacme.com", ""},
		{"above a denied one", ours, []string{"mail.acme.com"}, "jane@acme.com", ""},
		{"denied with an @", ours, []string{"@acme.com"}, "jane@acme.com", notAllowed},
		{"denied with a dot", ours, []string{".acme.com"}, "jane@acme.com", notAllowed},
		{"denied with a star", ours, []string{" *.ACME.com "}, "jane@mail.acme.com", notAllowed},
		{"denied top-level domain", ours, []string{"zip"}, "jane@acme.zip", notAllowed},
		{"denied as Unicode, given as an A-label", ours, []string{"bu\u0308cher.de"}, "jane@xn--bcher-kva.de", notAllowed},
		{"denied as an A-label, given as Unicode", ours, []string{"XN--BCHER-KVA.de"}, "jane@Bücher.de", notAllowed},
		{"a denied disposable", ours, []string{"mailinator.com"}, "jane@mailinator.com", notAllowed},

		{"allowed disposable", []string{"mailinator.com"}, ours, "jane@mailinator.com", ""},
		{"below an allowed disposable", []string{"mailinator.com"}, ours, "jane@x.mailinator.com", ""},
		{"allowed part of a disposable", []string{"x.mailinator.com"}, ours, "jane@mailinator.com", disposable},
		{"allowed reserved", []string{"test"}, ours, "jane@load.test", ""},
		{"denied wins", []string{"mail.acme.com"}, []string{"acme.com"}, "jane@mail.acme.com", notAllowed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := rules(t, tt.allow, tt.deny).Check(parse(t, tt.given))
			if got := reason(t, err); got != tt.want {
				t.Errorf("Check(%+q) = %q, want %q", tt.given, got, tt.want)
			}
			if f, _ := errors.AsType[*fault.Error](err); f != nil && tt.want == disposable && !strings.Contains(f.Message, "disposable") {
				t.Errorf("%v does not contain the contract's word, disposable", err)
			}
		})
	}
}

func TestDisposableMessageIsTheContracts(t *testing.T) {
	err := rules(t, nil, nil).Check(parse(t, "jane@mailinator.com"))
	const want = "email is from a disposable e-mail provider"
	if f, ok := errors.AsType[*fault.Error](err); !ok || f.Message != want || f.Details[0].Message != want {
		t.Errorf("Check = %#v, want message %q", err, want)
	}
}

func TestNewRulesNamesAMalformedEntry(t *testing.T) {
	for _, entry := range []string{
		"", " ", "@", "*.", "*", "acme.com.", "ac me.com", "ac_me.com", "jane@acme.com", "*acme.com", "a.*.com",
		"..acme.com", "@@acme.com", "i❤.ws", "127.0.0.1", "acme.com,other.com", strings.Repeat("a", 64) + ".com",
		"https://acme.com", "ac\xffme.com",
	} {
		entries := []string{"fine.com", entry}
		_, allowErr := email.NewRules(entries, nil)
		_, denyErr := email.NewRules(nil, entries)
		for list, err := range map[string]error{"allowed": allowErr, "denied": denyErr} {
			if err == nil || !strings.Contains(err.Error(), list) || !strings.Contains(err.Error(), strconv.Quote(entry)) {
				t.Errorf("NewRules with %s %q = %v, want an error that names both", list, entry, err)
			}
		}
	}
}

func TestDisposableListIsSound(t *testing.T) {
	lines := strings.Split(strings.TrimSuffix(email.DisposableList, "\n"), "\n")
	if len(lines) != 8883 {
		t.Errorf("%d domains, doc.go says 8883", len(lines))
	}
	if !slices.IsSorted(lines) {
		t.Error("the list is not sorted, and is searched as if it were")
	}
	r := rules(t, nil, nil)
	for i, line := range lines {
		if i > 0 && lines[i-1] == line || line != strings.ToLower(line) {
			t.Errorf("line %d, %q, is not lower-case or is there twice", i+1, line)
		}
		a, err := email.Parse("jane@" + line)
		if err != nil {
			if line != "xn--o38h.abrdns.com" { // an emoji, which no address can have
				t.Errorf("line %d, %q: %v", i+1, line, err)
			}
			continue
		}
		if a.Domain != line {
			t.Errorf("line %d: %q is spelt %q by Parse, so never found", i+1, line, a.Domain)
		}
		if got := reason(t, r.Check(a)); got != fault.Disposable {
			t.Errorf("line %d: Check(%q) = %q", i+1, line, got)
		}
	}
	// Real mailboxes, and relays that their owners keep.
	for _, domain := range []string{
		"gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "yahoo.com", "icloud.com", "me.com", "proton.me",
		"pm.me", "fastmail.com", "gmx.de", "web.de", "posteo.de", "mailbox.org", "qq.com", "163.com", "yandex.ru", "mail.ru",
		"duck.com", "mozmail.com", "privaterelay.appleid.com", "users.noreply.github.com",
	} {
		if err := r.Check(email.Address{Domain: domain}); err != nil {
			t.Errorf("Check(%q) = %v", domain, err)
		}
	}
}

func TestExemptDomainsAreAllowedExactly(t *testing.T) {
	before := rules(t, nil, []string{"denied.internal"})
	r := before.Exempt([]string{"load.gatehouse.internal", "mailinator.com", "load.denied.internal"})
	tests := []struct{ given, want string }{
		{"x@load.gatehouse.internal", ""},
		{"x@LOAD.Gatehouse.internal", ""},
		{"x@mailinator.com", ""},
		{"x@sub.load.gatehouse.internal", fault.Disposable},
		{"x@evil-load.gatehouse.internal", fault.Disposable},
		{"x@gatehouse.internal", fault.Disposable},
		{"x@sub.mailinator.com", fault.Disposable},
		{"x@load.denied.internal", fault.NotAllowed},
	}
	for _, tt := range tests {
		address, err := email.Parse(tt.given)
		if err != nil {
			t.Fatal(err)
		}
		if got := reason(t, r.Check(address)); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.given, got, tt.want)
		}
		if reason(t, before.Check(address)) == "" {
			t.Errorf("%s: the rules that others hold were changed", tt.given)
		}
	}
}
