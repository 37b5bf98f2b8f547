package stripe

import (
	"cmp"
	"errors"
	"log/slog"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// Key is a secret or restricted API key. No format, log or encoder shows it,
// also where it is a field of something that is printed: it is behind a pointer.
type Key struct{ text *string }

// keyForm is one of Stripe's four kinds of key for servers. Stripe promises no
// length but "up to 255 characters" for its ids.
var keyForm = regexp.MustCompile(`^[sr]k_(test|live)_[0-9A-Za-z_]{1,247}$`)

// ParseKey reads an API key of at most 255 characters. Its error says what was
// wanted and nothing of what was given.
func ParseKey(s string) (Key, error) {
	if !keyForm.MatchString(s) {
		return Key{}, errors.New("want a secret or restricted API key of Stripe's: sk_test_…, sk_live_…, rk_test_… or rk_live_…")
	}
	return Key{&s}, nil
}

// String hides the key, so that no %v prints it.
func (k Key) String() string { return "sk_…" }

// LogValue hides the key from slog.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// DefaultBase is where Stripe's API is.
const DefaultBase = "https://api.stripe.com"

// ParseBase reads where the API is, "" being [DefaultBase]: a scheme and a host
// alone, https, or http on loopback, where a stand-in may be. Its error does
// not repeat what was given.
func ParseBase(s string) (string, error) {
	s = strings.TrimSuffix(cmp.Or(s, DefaultBase), "/")
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme+"://"+u.Host != s:
		return "", errors.New("want a URL of a scheme and a host alone, such as " + DefaultBase)
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return s, nil
	}
	return "", errors.New("want https, or http on loopback: the API key goes there")
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
