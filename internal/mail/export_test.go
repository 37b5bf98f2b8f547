package mail

import (
	"crypto/x509"
	"errors"

	gomail "github.com/wneessen/go-mail"
)

var Greeting = greeting

// Abroad is s as if its host were not on loopback.
func (s Server) Abroad() Server {
	s.policy = gomail.TLSMandatory
	return s
}

// TLS is how s goes about it.
func (s Server) TLS() string {
	if s.implicit {
		return "at once"
	}
	return map[gomail.TLSPolicy]string{gomail.TLSMandatory: "must", gomail.TLSOpportunistic: "may", gomail.NoTLS: "off"}[s.policy]
}

// Trusting is s with its certificate checked against roots.
func (s Server) Trusting(roots *x509.CertPool) Server {
	s.roots = roots
	return s
}

// Printable is what s keeps of an error with that text.
func (s *Sender) Printable(text string) string { return s.printable(errors.New(text)) }
