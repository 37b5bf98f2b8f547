package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	gomail "github.com/wneessen/go-mail"
)

// maxReplies is how much of a server is read in one session, in bytes: some
// hundred times what a session with a chain of certificates takes. One endless
// line would fill the memory.
const maxReplies = 1 << 20

var (
	errForm = errors.New("want smtp://[user:password@]host[:port] or smtps://[user:password@]host[:port], " +
		"special characters of user and password as %XX; smtp may end in ?tls=off")
	errOpenPassword = errors.New("a password is not sent without TLS: leave out the user and password or ?tls=off")
	errTooMuch      = fmt.Errorf("the server said more than %d bytes", maxReplies)
)

// Server is where mail is handed over. Printed, it shows no password.
type Server struct {
	host     string
	port     int
	implicit bool // TLS from the first byte
	policy   gomail.TLSPolicy
	login    *url.Userinfo  // nil: none; behind a pointer no %+v of what holds a Server shows it
	roots    *x509.CertPool // nil: the system's
}

// ParseServer reads smtp://[user:password@]host[:port] or smtps://…; the ports
// are 587 and 465 if none is given. smtps is TLS from the start. smtp asks for
// TLS by STARTTLS and says nothing further without; on loopback (localhost,
// 127.0.0.0/8, ::1) it goes on without where it is not offered. ?tls=off on
// smtp never asks for TLS: for a server on the same private network, or one on
// loopback whose certificate nobody signed. A user is only known to a server
// over TLS or on loopback. Its errors hold nothing of rawURL.
func ParseServer(rawURL string) (Server, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Opaque != "" || u.Path != "" || u.Fragment != "" {
		return Server{}, errForm
	}
	s := Server{host: strings.ToLower(u.Hostname()), port: gomail.DefaultPortTLS}
	ip, err := netip.ParseAddr(s.host)
	if err != nil && strings.Trim(s.host, "abcdefghijklmnopqrstuvwxyz0123456789-._") != "" || s.host == "" {
		return Server{}, errForm
	}
	loopback := s.host == "localhost" || ip.IsLoopback()
	if loopback {
		s.policy = gomail.TLSOpportunistic
	}
	switch {
	case u.Scheme == "smtps" && u.RawQuery == "":
		s.implicit, s.port, s.policy = true, gomail.DefaultPortSSL, gomail.NoTLS // none within TLS
	case u.Scheme == "smtp" && u.RawQuery == "tls=off":
		s.policy = gomail.NoTLS
	case u.Scheme != "smtp" || u.RawQuery != "":
		return Server{}, errForm
	}
	if p := u.Port(); p != "" {
		if s.port, err = strconv.Atoi(p); err != nil || s.port < 1 || s.port > 65535 {
			return Server{}, errForm
		}
	}
	s.login = u.User
	user, password := s.user()
	switch {
	case u.User == nil:
	case user == "" || password == "" || strings.ContainsFunc(user+password, unicode.IsControl):
		return Server{}, errForm
	case s.policy == gomail.NoTLS && !s.implicit && !loopback:
		return Server{}, errOpenPassword
	}
	return s, nil
}

func (s Server) user() (name, password string) {
	password, _ = s.login.Password()
	return s.login.Username(), password
}

// String is where the server is.
func (s Server) String() string { return net.JoinHostPort(s.host, strconv.Itoa(s.port)) }

func (s Server) tls() *tls.Config {
	return &tls.Config{ServerName: s.host, RootCAs: s.roots, MinVersion: tls.VersionTLS12}
}

// dial connects until ctx ends, which must not be forgotten: the library heeds
// it only up to the first reply, and leaves a connection open when a session
// fails early.
func (s Server) dial(ctx context.Context) (net.Conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", s.String())
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = raw.Close() })
	conn := &limited{Conn: raw, left: maxReplies}
	if s.implicit {
		return tls.Client(conn, s.tls()), nil // shakes hands with the first read
	}
	return conn, nil
}

// client returns a client for one session over conn, saying hello as helo.
func (s Server) client(conn net.Conn, helo string) (*gomail.Client, error) {
	options := []gomail.Option{
		gomail.WithDialContextFunc(func(context.Context, string, string) (net.Conn, error) { return conn, nil }),
		gomail.WithHELO(helo), // by default it tells the machine's name
		gomail.WithTimeout(sessionLimit),
		gomail.WithTLSPolicy(s.policy), gomail.WithTLSConfig(s.tls()),
		gomail.WithoutNoop(), gomail.WithoutRset(), gomail.WithoutSMTPUTF8(), // one message, all addresses ASCII
	}
	if user, password := s.user(); user != "" {
		// NoEnc: ParseServer took care where a password may go. SCRAM is the
		// last resort: the library lets a server set how long it computes.
		options = append(options, gomail.WithUsername(user), gomail.WithPassword(password),
			gomail.WithOpportunisticSMTPAuth(gomail.SMTPAuthPlainNoEnc, gomail.SMTPAuthLoginNoEnc, gomail.SMTPAuthCramMD5))
	}
	return gomail.NewClient(s.host, options...)
}

// limited is a connection of which only so much is read.
type limited struct {
	net.Conn
	left int // bytes
}

// Read is as a connection's, until too much was read.
func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errTooMuch
	}
	n, err := l.Conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}
