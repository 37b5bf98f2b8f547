package stripe

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader is where Stripe puts the signature of a webhook.
const SignatureHeader = "Stripe-Signature"

const (
	maxAge    = 300 * time.Second // as Stripe's own libraries: a captured event can't be sent again for longer
	maxAhead  = 60 * time.Second  // theirs take any time to come; a minute is for clocks that disagree
	maxHeader = 8 << 10           // bytes: some hundred signatures, where Stripe sends one for each secret
)

// Secrets sign webhooks: two while one is rolled. No format, log or encoder
// shows them. There are none in the zero value.
type Secrets struct{ list *[]string }

// ParseSecrets reads secrets that are separated by commas, each of 1 to 255
// printable ASCII characters without spaces. Blank ones are dropped, so there
// may be none. Its error tells which is wrong and nothing of what it is.
func ParseSecrets(s string) (Secrets, error) {
	var list []string
	for i, secret := range strings.Split(s, ",") {
		secret = strings.TrimSpace(secret)
		switch {
		case secret == "" || slices.Contains(list, secret):
		case !isID(secret):
			return Secrets{}, fmt.Errorf("secret %d: want 1 to 255 printable ASCII characters without spaces: whsec_…", i+1)
		default:
			list = append(list, secret)
		}
	}
	if len(list) == 0 {
		return Secrets{}, nil
	}
	return Secrets{&list}, nil
}

// Any says whether there is one. Without, no webhook can be believed.
func (s Secrets) Any() bool { return s.list != nil }

// String hides the secrets, so that no %v prints them.
func (s Secrets) String() string { return "whsec_…" }

// LogValue hides the secrets from slog.
func (s Secrets) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Signed is how a webhook was signed.
type Signed struct {
	Secret int       // which one, from 1
	At     time.Time // whole seconds
}

// Verify checks the values of a webhook's signature header against its body, as
// raw as it came. It takes one value of the form t=SECONDS,v1=HEX with one time
// and any number of signatures, one of which must be of one of the secrets;
// other schemes are passed over. The time is at most 300 s before now and at
// most 60 s after it.
//
// A forgery costs one HMAC for each secret, and none where the header is not
// of that form or not of this time. The error is for the log, and has nothing
// of what was sent but the time.
func (s Secrets) Verify(values []string, body []byte, now time.Time) (Signed, error) {
	switch {
	case !s.Any():
		return Signed{}, errors.New("there is no secret to check it with")
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return Signed{}, errors.New("it has no " + SignatureHeader)
	case len(values) > 1:
		return Signed{}, errors.New("it has more than one " + SignatureHeader)
	case len(values[0]) > maxHeader:
		return Signed{}, fmt.Errorf("its %s is longer than %d bytes", SignatureHeader, maxHeader)
	}
	seconds, signatures, ok := readSignature(values[0])
	if !ok {
		return Signed{}, errors.New("its " + SignatureHeader + " is malformed")
	}
	at := time.Unix(seconds, 0).UTC()
	if age := now.Sub(at); age > maxAge || age < -maxAhead {
		return Signed{}, fmt.Errorf("it was signed at %d, and now it is %d: older than %s or more than %s ahead", seconds, now.Unix(), maxAge, maxAhead)
	}
	prefix := append(strconv.AppendInt(nil, seconds, 10), '.')
	var buffer [sha256.Size]byte
	for i, secret := range *s.list {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(prefix)
		mac.Write(body)
		sum := mac.Sum(buffer[:0])
		for _, signature := range signatures {
			if subtle.ConstantTimeCompare(sum, signature[:]) == 1 {
				return Signed{Secret: i + 1, At: at}, nil
			}
		}
	}
	return Signed{}, errors.New("no signature of it is by a secret of ours")
}

// readSignature takes a header apart. It is strict, so that whatever else reads
// it reads the same: one t as numbers are usually written, at least one v1 of
// 64 digits in lower case, and no spaces.
func readSignature(header string) (seconds int64, signatures [][sha256.Size]byte, ok bool) {
	signatures = make([][sha256.Size]byte, 0, 2)
	for item := range strings.SplitSeq(header, ",") {
		scheme, value, _ := strings.Cut(item, "=")
		switch {
		case !isPrintable(item) || scheme == "" || value == "":
			return 0, nil, false
		case scheme == "t":
			again := seconds != 0
			var err error
			seconds, err = strconv.ParseInt(value, 10, 64)
			if again || err != nil || seconds <= 0 || strconv.FormatInt(seconds, 10) != value {
				return 0, nil, false
			}
		case scheme == "v1":
			var signature [sha256.Size]byte
			if !readHex(&signature, value) {
				return 0, nil, false
			}
			signatures = append(signatures, signature)
		}
	}
	return seconds, signatures, seconds > 0 && len(signatures) > 0
}

// readHex is hex.Decode for lower case alone.
func readHex(into *[sha256.Size]byte, s string) bool {
	if len(s) != 2*len(into) {
		return false
	}
	for i := range len(s) {
		digit := s[i] - '0'
		if digit > 9 {
			if digit = s[i] - 'a'; digit > 5 {
				return false
			}
			digit += 10
		}
		into[i/2] = into[i/2]<<4 | digit
	}
	return true
}

// isID says whether s can be an id or a secret of Stripe's, which promises no
// more than "up to 255 characters".
func isID(s string) bool { return 0 < len(s) && len(s) <= 255 && isPrintable(s) }

// isPrintable says whether s is printable ASCII without spaces.
func isPrintable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
