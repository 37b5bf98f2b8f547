package mail

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	netmail "net/mail"
	"strconv"
	"strings"
	"time"
	"unicode"

	gomail "github.com/wneessen/go-mail"

	"gatehouse/internal/account"
	"gatehouse/internal/account/email"
	"gatehouse/internal/jobs"
)

const (
	// sessionLimit ends a session that its context lets live longer.
	sessionLimit = time.Minute
	// quitLimit is how long the server's good-bye may take.
	quitLimit = 2 * time.Second
	// maxReason bounds what an error repeats, in characters.
	maxReason = 300
)

// From is who mail comes from. Somebody should read what is sent there: the
// welcome mail asks for an answer from who did not sign up.
type From struct {
	header string // as in the header From
	helo   string // the domain, as A-labels
}

// ParseFrom reads "Gatehouse <support@acme.com>" or a bare address: one, in
// ASCII before the @, at a domain of two or more labels.
func ParseFrom(s string) (From, error) {
	a, err := netmail.ParseAddress(s)
	if err == nil && !strings.ContainsFunc(a.Name, unicode.IsControl) {
		if address, domain, err := ascii(a.Address); err == nil {
			a.Address = address
			return From{header: a.String(), helo: domain}, nil
		}
	}
	return From{}, fmt.Errorf("want one address like support@acme.com or Gatehouse <support@acme.com>, not %.100q", s)
}

// ascii spells an address so that every server takes it: those without
// SMTPUTF8 know no ü.
func ascii(s string) (address, domain string, err error) {
	a, err := email.Parse(s)
	return a.ASCII(), a.Domain, err
}

// Sender sends mail. It may be used by many goroutines at once.
type Sender struct {
	server  Server
	from    From
	secrets *strings.Replacer // takes the password out of a text
}

// New returns a sender. It connects to nobody yet.
func New(s Server, f From) *Sender {
	var secrets []string
	if user, password := s.user(); password != "" { // as a server saw it, as it is, and as net/textproto quotes what a server says
		for _, secret := range []string{"\x00" + user + "\x00" + password, password} {
			quoted := strconv.Quote(secret)
			secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte(secret)), "…", secret, "…", quoted[1:len(quoted)-1], "…")
		}
	}
	return &Sender{server: s, from: f, secrets: strings.NewReplacer(secrets...)}
}

// Welcome sends c the welcome mail, in one SMTP session that ends with ctx, or
// after a minute. A nil error says that the server took it; after another one
// it may have taken it too, if the answer got lost. An error that trying again
// won't mend is jobs.Permanent: the server refused the recipient or the
// message, or the address is none. The text of an error is a line of at most
// some 350 printable characters, with no address and no password.
func (s *Sender) Welcome(ctx context.Context, c account.Customer) error {
	m, err := s.welcome(c)
	if err != nil {
		return jobs.Permanent(fmt.Errorf("write welcome mail: %s", s.printable(err)))
	}
	err = s.send(ctx, m)
	if err == nil {
		return nil
	}
	reason := s.printable(err)
	if refused(err) {
		return jobs.Permanent(fmt.Errorf("welcome mail is refused: %s", reason))
	}
	if over := ctx.Err(); over != nil {
		return fmt.Errorf("send welcome mail: %w: %s", over, reason)
	}
	return fmt.Errorf("send welcome mail: %s", reason)
}

func (s *Sender) send(ctx context.Context, m *gomail.Msg) error {
	ctx, cancel := context.WithTimeout(ctx, sessionLimit)
	defer cancel()
	conn, err := s.server.dial(ctx)
	if err != nil {
		return err
	}
	client, err := s.server.client(conn, s.from.helo)
	if err != nil {
		return err
	}
	session, err := client.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return err
	}
	err = client.SendWithSMTPClient(session, m)
	if !m.IsDelivered() {
		return err // with no QUIT: amid a message that broke off it would end and so send it
	}
	// The server has it, whatever becomes of the good-bye.
	if session.UpdateDeadline(quitLimit) == nil {
		_ = session.Quit()
	}
	return nil
}

// refused says whether a server refused the recipient or the message, and not
// us, or for now: what an operator can mend (53x and x.7.x: a missing password,
// a relay that does not know us, an address on a list) must not cost a customer
// the mail.
func refused(err error) bool {
	e, ok := errors.AsType[*gomail.SendError](err)
	if !ok || e.ErrorCode() < 500 || e.ErrorCode()/10 == 53 || strings.Contains(e.Error(), `"5.7.`) {
		return false
	}
	return e.Reason == gomail.ErrSMTPRcptTo || e.Reason == gomail.ErrSMTPData || e.Reason == gomail.ErrSMTPDataClose
}

// printable is what may be kept and logged of an error: a server's words are a
// stranger's, and repeat addresses.
func (s *Sender) printable(err error) string {
	text, _, _ := strings.Cut(err.Error(), ", affected ") // go-mail adds the recipient and the Message-ID
	words := strings.Fields(s.secrets.Replace(text))
	for i, w := range words {
		if strings.ContainsRune(w, '@') {
			words[i] = "…@…"
		}
	}
	line := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, strings.Join(words, " ")))
	if len(line) > maxReason {
		return string(line[:maxReason]) + "…"
	}
	return string(line)
}
