package email

import (
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"gatehouse/internal/fault"
)

const (
	// maxGiven is in characters: 64 for the local part, the @, and 255 for
	// the domain (RFC 3696, erratum 1690). Written in Unicode a domain only
	// gets shorter, unless its letters are decomposed too.
	maxGiven = 320
	maxLocal = 64 // bytes, RFC 5321 section 4.5.3.1.1
)

// Address is an e-mail address that Parse found valid.
type Address struct {
	Given     string // as its owner wrote it, trimmed; what clients are shown
	Canonical string // the same for all spellings of one mailbox; compare this
	Domain    string // of Given, as lower-case ASCII A-labels
}

// ASCII spells the address as every mail server takes it, with A-labels; the
// zero Address is "".
func (a Address) ASCII() string {
	local, _, found := strings.Cut(a.Given, "@")
	if !found {
		return ""
	}
	return local + "@" + a.Domain
}

// Parse reads one address: a dot-atom, an @ and an IDNA2008 domain of two or
// more labels, with no quotes, literals, comments or display name. Its errors
// are fault.Invalid and name the field "email". Spaces around the address are
// dropped; control characters are refused wherever they stand, since an
// address ends up in mail headers. It is cheap on input of any length.
func Parse(s string) (Address, error) {
	given := strings.TrimFunc(s, func(r rune) bool { return unicode.IsSpace(r) && !unicode.IsControl(r) })
	switch {
	case strings.TrimSpace(given) == "":
		return refuse(fault.Required, "email is required")
	case len(given) > maxGiven*utf8.UTFMax || utf8.RuneCountInString(given) > maxGiven:
		return refuse(fault.TooLong, "email must be at most 320 characters")
	case !utf8.ValidString(given) || strings.ContainsFunc(given, unicode.IsControl):
		return refuse(fault.MalformedValue, "email must not contain control characters or invalid text")
	}

	local, domain, _ := strings.Cut(given, "@") // no @ leaves no domain, and a second one is in no domain
	if !dotAtom(local) {
		return refuse(fault.MalformedValue, "email must be one address like name@company.com, without quotes, spaces or a display name")
	}
	if len(local) > maxLocal {
		return refuse(fault.TooLong, "email must have at most 64 characters before the @")
	}
	ascii, err := domainASCII(domain)
	if errors.Is(err, errDomainLong) {
		return refuse(fault.TooLong, "email must have a domain of at most 253 characters, 63 between two dots")
	}
	if err != nil || !strings.Contains(ascii, ".") {
		return refuse(fault.MalformedValue, "email must have a valid domain after one @, like name@company.com")
	}
	canonical, ok := fold(strings.ToLower(local), ascii)
	if !ok {
		return refuse(fault.MalformedValue, "email must name a mailbox before its +tag")
	}
	return Address{Given: given, Canonical: canonical, Domain: ascii}, nil
}

func refuse(reason, message string) (Address, error) {
	return Address{}, fault.Field("email", reason, message)
}

// dotAtom reports whether s is a dot-atom: atext in runs of at least one,
// separated by single dots (RFC 5322 section 3.2.3).
func dotAtom(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" || strings.ContainsFunc(atom, notAtext) {
			return false
		}
	}
	return true
}

func notAtext(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	default:
		return !strings.ContainsRune("!#$%&'*+-/=?^_`{|}~", r)
	}
}
