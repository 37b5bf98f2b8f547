package mail_test

import (
	"fmt"
	"strings"
	"testing"

	"gatehouse/internal/mail"
)

func TestServersAreReadFromURLs(t *testing.T) {
	for given, want := range map[string]string{
		"smtp://mail.acme.com":                 "mail.acme.com:587 must",
		"SMTP://Mail.ACME.com:2525":            "mail.acme.com:2525 must",
		"smtps://mail.acme.com":                "mail.acme.com:465 at once",
		"smtps://jane:s3cret@mail.acme.com:99": "mail.acme.com:99 at once",
		"smtps://localhost":                    "localhost:465 at once",
		"smtp://jane%40acme.com:s3%2Fcret@a":   "a:587 must",
		"smtp://10.0.0.1":                      "10.0.0.1:587 must",
		"smtp://localhost.acme.com":            "localhost.acme.com:587 must",
		"smtp://mail.acme.com?tls=off":         "mail.acme.com:587 off",
		"smtp://localhost":                     "localhost:587 may",
		"smtp://localhost:1025?tls=off":        "localhost:1025 off",
		"smtp://jane:s3cret@127.1.2.3?tls=off": "127.1.2.3:587 off",
		"smtp://jane:s3cret@127.1.2.3":         "127.1.2.3:587 may",
		"smtp://jane:s3cret@[::1]:1":           "[::1]:1 may",
		"smtp://mail_1.acme-x.com:65535":       "mail_1.acme-x.com:65535 must",
	} {
		s, err := mail.ParseServer(given)
		if got := s.String() + " " + s.TLS(); err != nil || got != want {
			t.Errorf("ParseServer(%q) = %s, %v, want %s", given, got, err, want)
		}
	}
}

func TestWhatIsNoServerIsRefusedWithTheFormWanted(t *testing.T) {
	const form, open = "want smtp://[user:password@]host[:port]", "not sent without TLS"
	for given, want := range map[string]string{
		"":                                    form,
		"mail.acme.com":                       form,
		"mail.acme.com:25":                    form,
		"smtp:mail.acme.com":                  form,
		"http://mail.acme.com":                form,
		"smtp://":                             form,
		"smtp://:25":                          form,
		"smtp://jane:s3cret@":                 form,
		"smtp://jane:s3cret@a b":              form,
		"smtp://jane:s3cret@a/inbox":          form,
		"smtp://jane:s3cret@a/":               form,
		"smtp://jane:s3cret@a#x":              form,
		"smtp://jane:s3cret@a:0":              form,
		"smtp://jane:s3cret@a:65536":          form,
		"smtp://jane:s3cret@a:smtp":           form,
		"smtp://jane:s3cret@a?tls=on":         form,
		"smtp://jane:s3cret@a?tls=off&x=1":    form,
		"smtp://jane:s3cret@a?auth=plain":     form,
		"smtps://jane:s3cret@a?tls=off":       form,
		"smtp://jane@a":                       form,
		"smtp://jane:@a":                      form,
		"smtp://:s3cret@a":                    form,
		"smtp://jane:s3cret%0d@a":             form,
		"smtp://jane:s3cret%@a":               form,
		"smtp://jane:s3cret@büro.de":          form,
		"smtp://jane:s3cret@a\r\nb":           form,
		"unix://jane:s3cret@a":                form,
		"smtp://jane:s3cret@a?tls=off":        open,
		"smtp://jane:s3cret@10.0.0.1?tls=off": open,
	} {
		_, err := mail.ParseServer(given)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseServer(%q): %v, want … %s …", given, err, want)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("ParseServer(%q) repeats the password: %v", given, err)
		}
	}
}

func TestAServerIsPrintedWithoutItsPassword(t *testing.T) {
	s := server(t, "smtps://jane:s3cret@acme.com")
	holder := struct{ s mail.Server }{s}
	out := sender(t, s)
	if printed := fmt.Sprintf("%v %+v %#v %s %q %v %+v %#v %v %+v %#v %+v", s, s, s, s, s, holder, holder, holder, out, out, out, *out); strings.Contains(printed, "s3cret") {
		t.Error(printed)
	}
}

func FuzzParseServer(f *testing.F) {
	for _, s := range []string{"smtp://jane:s3cret@acme.com:25?tls=off", "smtps://[::1%25lo]:465", "smtp://a/%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, given string) {
		s, err := mail.ParseServer(given)
		if err != nil {
			if !strings.Contains(err.Error(), "want smtp://") && !strings.Contains(err.Error(), "without TLS") {
				t.Errorf("%q: %v", given, err)
			}
			return
		}
		again, err := mail.ParseServer("smtp://" + strings.ReplaceAll(s.String(), "%", "%25"))
		if err != nil || again.String() != s.String() {
			t.Errorf("%q is %s, which is %s, %v", given, s, again, err)
		}
	})
}
