package mail_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"gatehouse/internal/mail"
)

func TestWhatAServerSaysIsKeptOnlyAsFarAsItIsFit(t *testing.T) {
	out := sender(t, server(t, "smtps://jane:s3cret@acme.com"))
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for said, want := range map[string]string{
		"550 <jane@acme.com>: no, jane@x no":                       "550 …@… no, …@… no",
		"550-one\n550 two\r\n\tthree":                              "550-one 550 two three",
		"535 jane:s3cret " + b64("s3cret"):                         "535 jane:… …",
		"535 " + b64("\x00jane\x00s3cret") + "!":                   "535 …!",
		"550 ja\x00ne@acme.com \x1b[2J\u202e \xff \u2028x":         "550 …@… ?[2J? ? x",
		"550 no, affected recipient(s): x, affected message ID: y": "550 no",
		strings.Repeat("ü", 500):                                   strings.Repeat("ü", 300) + "…",
		strings.Repeat("x", 500) + "@":                             "…@…",
	} {
		if got := out.Printable(said); got != want {
			t.Errorf("of %q is kept %q, want %q", said, got, want)
		}
	}
	quoted := sender(t, server(t, "smtps://jane:%22s3%5Ccret@acme.com"))
	if got := quoted.Printable(fmt.Sprintf("535 %q", `no "s3\cret here`)); got != `535 "no … here"` {
		t.Error(got)
	}
	plain := sender(t, server(t, "smtp://acme.com"))
	if got := plain.Printable("550 no"); got != "550 no" {
		t.Error(got)
	}
}

func FuzzPrintable(f *testing.F) {
	out := mail.New(mail.Server{}, mail.From{})
	f.Add("550 <jane@acme.com>\r\n\x00")
	f.Fuzz(func(t *testing.T, said string) {
		if strings.Contains(said, "s3cret") {
			t.Skip("here it is no password")
		}
		tidy(t, out.Printable(said))
	})
}

// evil are texts that would become headers, recipients or links if anything
// let them.
var evil = []string{
	"Jane\r\nBcc: joe@evil.com", "Jane\nBcc: joe@evil.com", "Jane\rX", "Jane\x00", "=?utf-8?q?Jane=0d=0aBcc:_joe@evil.com?=", "=?utf-8?q?Jane=0d=0aBcc=3a_evil?=",
	"Win at https://evil.com", "evil.com", "joe@evil.com", "<b>Jane</b>", "Jane & Joe", "Call 555 1234", "{{.Credit}}",
	"Jane\u202e", "\u200fJane", "Jane\u2028Doe", "Jane\u200d", "Jane\u3002com", "Jane\uff0ecom", "٣٣٣", "Jane\xff", strings.Repeat("J", 255),
	strings.Repeat("J", 61), "", " ", "-", "'", "\u0301Jane", "💰",
}

func TestNobodyIsGreetedByWhatIsNoName(t *testing.T) {
	for _, name := range evil {
		if got := mail.Greeting(name); got != "Hello," {
			t.Errorf("%q: %q", name, got)
		}
	}
	for _, name := range []string{"Jane", "Jane van der Berg", "Anne-Marie O'Neil", "D’Arcy", "Жанна", "山田太郎", "José", "Jose\u0301", "देवी", strings.Repeat("ü", 60)} {
		if got, want := mail.Greeting(" "+name+" "), "Hello "+name+","; got != want {
			t.Errorf("%q: %q", name, got)
		}
	}
}

func FuzzGreeting(f *testing.F) {
	for _, name := range evil {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		got := mail.Greeting(name)
		rest, hello := strings.CutPrefix(got, "Hello")
		if rest = strings.TrimSuffix(rest, ","); !hello || len([]rune(rest)) > 61 || strings.ContainsFunc(rest, func(r rune) bool {
			return !unicode.IsPrint(r) || unicode.IsDigit(r) || strings.ContainsRune(`@:/.,<>&"=?%{}`, r)
		}) {
			t.Errorf("%q: %q", name, got)
		}
	})
}
