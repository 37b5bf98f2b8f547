package mail

import (
	_ "embed"
	"fmt"
	htmltemplate "html/template"
	"strings"
	texttemplate "text/template"
	"unicode"
	"unicode/utf8"

	gomail "github.com/wneessen/go-mail"

	"gatehouse/internal/account"
)

// maxName bounds the name in a greeting, in characters.
const maxName = 60

var (
	//go:embed welcome.txt
	welcomeTXT string
	//go:embed welcome.html
	welcomeHTML string

	textBody = texttemplate.Must(texttemplate.New("welcome.txt").Parse(welcomeTXT))
	htmlBody = htmltemplate.Must(htmltemplate.New("welcome.html").Parse(welcomeHTML))
)

// welcome writes c's welcome mail. Its Message-ID is the same on every try as
// long as mail comes from the same domain.
func (s *Sender) welcome(c account.Customer) (*gomail.Msg, error) {
	to, _, err := ascii(c.Email)
	if err != nil {
		return nil, err
	}
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	if err := m.From(s.from.header); err != nil {
		return nil, err
	}
	if err := m.To("<" + to + ">"); err != nil {
		return nil, err
	}
	m.Subject("Your Gatehouse account is open")
	m.SetDate()
	m.SetMessageIDWithValue("welcome." + c.ID + "@" + s.from.helo)
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no holiday notice answers it

	says := struct{ Greeting, Credit string }{greeting(c.Name), fmt.Sprintf("%d fixes", c.CreditBalance)}
	if c.CreditBalance == 1 {
		says.Credit = "1 fix"
	}
	if err := m.SetBodyTextTemplate(textBody, says); err != nil {
		return nil, err
	}
	return m, m.AddAlternativeHTMLTemplate(htmlBody, says)
}

// greeting greets by name where the name is plainly one: letters with their
// marks, spaces, hyphens and apostrophes, at most maxName characters. The mail
// goes to an address that whoever signed up chose, who need not own it: a name
// is all of a stranger's text that may ride on our mail to others, and no
// link, number, address or markup can be written in what passes here.
func greeting(name string) string {
	name = strings.TrimSpace(name)
	first, _ := utf8.DecodeRuneInString(name)
	strange := func(r rune) bool {
		return !unicode.In(r, unicode.L, unicode.M) && !strings.ContainsRune(" -'’", r)
	}
	if !utf8.ValidString(name) || utf8.RuneCountInString(name) > maxName || !unicode.IsLetter(first) || strings.ContainsFunc(name, strange) {
		return "Hello,"
	}
	return "Hello " + name + ","
}
