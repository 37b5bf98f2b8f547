package api_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"testing"

	"gatehouse/internal/account/email"
	"gatehouse/internal/billing"
)

// One mailbox signs up once, however it is spelled.
func TestSignUpOnlyOnce(t *testing.T) {
	for _, test := range []struct{ name, first, again string }{
		{"the same", "ada@company.dev", "ada@company.dev"},
		{"case of the domain", "ada@company.dev", "ada@COMPANY.dev"},
		{"case of the name", "ada@company.dev", "Ada@company.dev"},
		{"dots at a provider that ignores them", "ada.lovelace@gmail.com", "a.d.a.lovelace@gmail.com"},
		{"tag at a provider that ignores it", "ada@gmail.com", "ada+gatehouse@gmail.com"},
		{"two names of one provider", "ada@gmail.com", "A.d.a+x@googlemail.com"},
		{"domain in letters and in ASCII", "ada@bücher.dev", "ada@xn--bcher-kva.dev"},
		{"domain decomposed", "ada@bücher.dev", "ada@bu\u0308cher.dev"},
		{"spaces around it", "ada@company.dev", "  ada@company.dev "},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t)
			s.send(t, "POST", onboard, document(`{"name": "Ada", "email": "`+test.first+`"}`)).want(t, http.StatusCreated)
			s.send(t, "POST", onboard, document(`{"name": "Eve", "email": "`+test.again+`"}`)).invalid(t, "email", "already_registered")
			if all := s.customers(t); len(all) != 1 || all[0].Name != "Ada" || all[0].Email != test.first {
				t.Errorf("kept: %+v", all)
			}
		})
	}
}

// What is not known to be one mailbox is two.
func TestSignUpMergesNoStrangers(t *testing.T) {
	s := newServer(t, unlimited)
	for _, address := range []string{
		"ada@company.dev", "a.da@company.dev", "ada+x@company.dev", "ada@company.de", "ada@mail.company.dev",
		"ada@xn--80ak6aa92e.com", "ada@apple.com", // the first is "аррӏе" in Cyrillic
	} {
		s.send(t, "POST", onboard, document(`{"name": "Ada", "email": "`+address+`"}`)).want(t, http.StatusCreated)
	}
}

// Fifty at once with one address, in many spellings: one customer, one key,
// one entry in one ledger.
func TestSignUpFiftyAtOnce(t *testing.T) {
	s := newServer(t, limit("onboarding", "1000/60s"))
	spellings := []string{"ada.lovelace@gmail.com", "adalovelace@gmail.com", "Ada.Lovelace+1@Gmail.com", "a.dalovelace@googlemail.com", "ADALOVELACE@GMAIL.COM"}
	answers := s.atOnce(t, 50, func(i int) (answer, error) {
		return s.try(t.Context(), "POST", onboard, document(`{"name": "Ada `+strconv.Itoa(i)+`", "email": "`+spellings[i%len(spellings)]+`"}`))
	})
	created := 0
	for _, got := range answers {
		if got.status == http.StatusCreated {
			created++
			continue
		}
		got.invalid(t, "email", "already_registered")
	}
	all := s.customers(t)
	if created != 1 || len(all) != 1 {
		t.Fatalf("%d were created and %d are kept, want one", created, len(all))
	}
	keys, err := s.database.Keys(t.Context(), all[0].ID)
	if err != nil || len(keys) != 1 {
		t.Errorf("there are %d keys (%v), want one", len(keys), err)
	}
	report, err := billing.Verify(s.database.Ledgers(t.Context(), ""))
	if err != nil || report.Entries != 1 || len(report.Findings) > 0 {
		t.Errorf("the ledger: %+v (%v), want one entry", report, err)
	}
}

// zone answers for a DNS with one domain that takes mail.
type zone string

func (z zone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	if name == string(z) || name == string(z)+"." {
		return []*net.MX{{Host: "mx." + string(z) + ".", Pref: 10}}, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: name, IsNotFound: true}
}

func (z zone) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// deaf is a DNS that gives no answer.
type deaf struct{}

func (deaf) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	return nil, &net.DNSError{Err: "i/o timeout", Name: name, IsTimeout: true, IsTemporary: true}
}

func (deaf) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	return nil, &net.DNSError{Err: "i/o timeout", Name: host, IsTimeout: true, IsTemporary: true}
}

func TestSignUpChecksMail(t *testing.T) {
	checking := func(r email.Resolver) option {
		return func(_ testing.TB, s *setup) { s.mail = email.NewMX(r, email.MXOptions{}) }
	}
	s := newServer(t, checking(zone("company.dev")))
	s.send(t, "POST", onboard, document(`{"name": "Ada", "email": "ada@company.dev"}`)).want(t, http.StatusCreated)
	s.send(t, "POST", onboard, document(`{"name": "Ada", "email": "ada@nobody.dev"}`)).invalid(t, "email", "no_mail_server")

	s = newServer(t, checking(deaf{})) // a resolver's outage is not the applicant's
	s.send(t, "POST", onboard, document(`{"name": "Ada", "email": "ada@nobody.dev"}`)).want(t, http.StatusCreated)
}
