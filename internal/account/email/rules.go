package email

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"gatehouse/internal/fault"
)

// disposableList has one lower-case A-label domain a line, sorted by byte.
//
//go:embed disposable.txt
var disposableList string

// reserved are the domains at which no customer can have a mailbox.
var reserved = domainSet{
	"test": {}, "example": {}, "invalid": {}, "localhost": {}, // RFC 2606, 6761
	"example.com": {}, "example.net": {}, "example.org": {}, // RFC 2606
	"local":     {}, // RFC 6762
	"onion":     {}, // RFC 7686
	"home.arpa": {}, // RFC 8375
	"alt":       {}, // RFC 9476
	"internal":  {}, // set aside for private use by ICANN's board, July 2024
}

type domainSet map[string]struct{}

func (s domainSet) has(domain string) bool {
	_, ok := s[domain]
	return ok
}

// Rules decide at which domains an account may be opened. They don't change,
// so any number of goroutines may check against them.
type Rules struct {
	allow, deny domainSet
	exempt      []string // few
	disposable  []string // sorted: a binary search costs no time at start, as filling a map would
}

// NewRules takes the operator's domains, each in any spelling and with an
// optional leading "@", "." or "*.": all mean the domain and everything below
// it. A single label, such as a top-level domain, is a domain too.
func NewRules(allow, deny []string) (*Rules, error) {
	allowed, err := newDomainSet(allow)
	if err != nil {
		return nil, fmt.Errorf("allowed e-mail domains: %w", err)
	}
	denied, err := newDomainSet(deny)
	if err != nil {
		return nil, fmt.Errorf("denied e-mail domains: %w", err)
	}
	return &Rules{
		allow: allowed, deny: denied,
		disposable: strings.Split(strings.TrimSuffix(disposableList, "\n"), "\n"),
	}, nil
}

func newDomainSet(entries []string) (domainSet, error) {
	set := make(domainSet, len(entries))
	for _, entry := range entries {
		name := strings.TrimSpace(entry)
		for _, prefix := range []string{"@", "*.", "."} {
			if rest, ok := strings.CutPrefix(name, prefix); ok {
				name = rest
				break
			}
		}
		domain, err := domainASCII(name)
		if err != nil {
			return nil, fmt.Errorf("entry %q: %w", entry, err)
		}
		set[domain] = struct{}{}
	}
	return set, nil
}

// Exempt returns the rules with some domains allowed, in Address.Domain's
// spelling: those alone and not what is below them.
func (r *Rules) Exempt(domains []string) *Rules {
	exempt := *r
	exempt.exempt = domains
	return &exempt
}

// Check refuses an address by its domain. The operator's word comes before
// ours, and a denial before an allowance: deny, allow, reserved, disposable.
func (r *Rules) Check(a Address) error {
	switch {
	case under(a.Domain, r.deny.has):
		return fault.Field("email", fault.NotAllowed, "email is at a domain that is not allowed here")
	case under(a.Domain, r.allow.has), slices.Contains(r.exempt, a.Domain):
		return nil
	case under(a.Domain, reserved.has):
		return fault.Field("email", fault.Disposable, "email is at a reserved domain, which is refused like a disposable one")
	case under(a.Domain, r.isDisposable):
		return fault.Field("email", fault.Disposable, "email is from a disposable e-mail provider")
	}
	return nil
}

func (r *Rules) isDisposable(domain string) bool {
	_, found := slices.BinarySearch(r.disposable, domain)
	return found
}

// under reports whether a domain, or a domain it is part of, is listed.
func under(domain string, listed func(string) bool) bool {
	for {
		if listed(domain) {
			return true
		}
		_, parent, ok := strings.Cut(domain, ".")
		if !ok {
			return false
		}
		domain = parent
	}
}
