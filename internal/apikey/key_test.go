package apikey_test

import (
	"crypto/sha256"
	"regexp"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gatehouse/internal/apikey"
)

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// checksum is the contract's, written out: CRC-32 (IEEE, reflected) bit by
// bit, then six base62 digits with zeros on the left.
func checksum(s string) string {
	crc := ^uint32(0)
	for i := range len(s) {
		crc ^= uint32(s[i])
		for range 8 {
			low := crc & 1
			crc >>= 1
			if low == 1 {
				crc ^= 0xEDB88320
			}
		}
	}
	crc = ^crc
	digits := []byte("000000")
	for i := len(digits) - 1; crc > 0; i-- {
		digits[i] = alphabet[crc%62]
		crc /= 62
	}
	return string(digits)
}

// contract is the form of a key: id, secret, checksum.
var contract = regexp.MustCompile(`^gk_(live|test)_([0-9A-Za-z]{12})_([0-9A-Za-z]{43})([0-9A-Za-z]{6})$`)

// keys are generated ones and, since those rarely have small digits, ones
// that are put together from any.
var keys = rapid.Custom(func(t *rapid.T) string {
	kind := rapid.SampledFrom([]apikey.Kind{apikey.Live, apikey.Test}).Draw(t, "kind")
	if rapid.Bool().Draw(t, "generated") {
		secret, _ := apikey.Generate(kind)
		return secret.Reveal()
	}
	digits := rapid.StringMatching(`[0-9A-Za-z]{12}_[0-9A-Za-z]{43}`)
	head := "gk_" + string(kind) + "_" + digits.Draw(t, "digits")
	return head + checksum(head)
})

func TestChecksumIsTheOneThatScannersKnow(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"GitHub's example, padded on the left", "qkJaB6MffYVzZXWqmcoF49yrUxP3wf", "0LsakP"},
		{"the check value of CRC-32, 0xCBF43926", "123456789", "3jZRME"},
		{"nothing is zero", "", "000000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := apikey.Checksum(tt.text); got != tt.want {
				t.Errorf("checksum of %q = %s, want %s", tt.text, got, tt.want)
			}
			if got := checksum(tt.text); got != tt.want {
				t.Errorf("the test's own checksum of %q = %s, want %s", tt.text, got, tt.want)
			}
		})
	}
}

func TestChecksumAgreesOnAnyText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		if got, want := apikey.Checksum(text), checksum(text); got != want {
			t.Fatalf("checksum of %q = %s, want %s", text, got, want)
		}
	})
}

func TestGeneratedKeyHasTheContractsForm(t *testing.T) {
	for _, kind := range []apikey.Kind{apikey.Live, apikey.Test} {
		ids, secrets := map[string]bool{}, map[string]bool{}
		const n = 500
		for range n {
			secret, made := apikey.Generate(kind)
			key := secret.Reveal()
			parts := contract.FindStringSubmatch(key)
			if parts == nil || parts[1] != string(kind) {
				t.Fatalf("a %s key is %q", kind, key)
			}
			if want := checksum(key[:len(key)-6]); parts[4] != want {
				t.Errorf("%q ends in %s, want %s", key, parts[4], want)
			}
			if made.PublicID != parts[2] {
				t.Errorf("the id of %q is told as %q", key, made.PublicID)
			}
			if made.Hash != sha256.Sum256([]byte(key)) {
				t.Errorf("the hash of %q is not the SHA-256 of its text", key)
			}
			ids[parts[2]], secrets[parts[3]] = true, true
		}
		if len(ids) != n || len(secrets) != n {
			t.Errorf("%d %s keys have %d ids and %d secrets", n, kind, len(ids), len(secrets))
		}
	}
}

// A digit that never turns up at some place would mean fewer random bits. Of
// 2,000 fair keys one fails this in fewer than a run in a million. The first
// place of the secret takes a digit less: 2^256 is 60.5 times 62^42.
func TestEachPlaceOfAKeyTakesAllDigits(t *testing.T) {
	const id, secret = len("gk_live_"), len("gk_live_") + 12 + 1
	seen := map[int]map[byte]bool{}
	for range 2000 {
		s, _ := apikey.Generate(apikey.Live)
		key := s.Reveal()
		for i := id; i < secret+43; i++ {
			if seen[i] == nil {
				seen[i] = map[byte]bool{}
			}
			seen[i][key[i]] = true
		}
	}
	for i, digits := range seen {
		switch {
		case i == secret-1: // the underscore
		case i == secret:
			if len(digits) != 61 {
				t.Errorf("the secret begins with %d different digits, want the 61 that 256 bits give", len(digits))
			}
		case len(digits) != 62:
			t.Errorf("place %d takes %d different digits, want 62", i, len(digits))
		}
	}
}

func TestParseReadsWhatGenerateMakes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]apikey.Kind{apikey.Live, apikey.Test}).Draw(t, "kind")
		secret, made := apikey.Generate(kind)
		read, ok := apikey.Parse(secret.Reveal())
		if !ok || read != made {
			t.Fatalf("Parse(%q) = %+v, %t, want %+v", secret.Reveal(), read, ok, made)
		}
		if prefix := apikey.Prefix(kind, made.PublicID); !strings.HasPrefix(secret.Reveal(), prefix+"_") {
			t.Fatalf("the prefix of %q is told as %q", secret.Reveal(), prefix)
		}
	})
}

func TestParseRefusesEachSingleChange(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := []byte(keys.Draw(t, "key"))
		if _, ok := apikey.Parse(string(key)); !ok {
			t.Fatalf("Parse refuses %q", key)
		}
		at := rapid.IntRange(0, len(key)-1).Draw(t, "at")
		digits := rapid.SampledFrom([]byte(alphabet + "_-"))
		wrong := rapid.OneOf(digits, rapid.Byte()).Filter(func(b byte) bool { return b != key[at] }).Draw(t, "wrong")
		key[at] = wrong
		if _, ok := apikey.Parse(string(key)); ok {
			t.Fatalf("Parse takes %q, changed at %d", key, at)
		}
	})
}

func TestParseRefusesTwoNeighboursSwapped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := []byte(keys.Draw(t, "key"))
		at := rapid.IntRange(0, len(key)-2).Draw(t, "at")
		if key[at] == key[at+1] {
			t.Skip("the same twice")
		}
		key[at], key[at+1] = key[at+1], key[at]
		if _, ok := apikey.Parse(string(key)); ok {
			t.Fatalf("Parse takes %q, swapped at %d", key, at)
		}
	})
}

// whole is a valid key that stays the same from run to run.
const whole = "gk_test_0123456789AB_" + "CDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrs"

// sealed puts the right checksum after a text, so that only its form is wrong.
func sealed(body string) string { return body + checksum(body) }

func TestParseRefusesWhatIsNoKey(t *testing.T) {
	valid := sealed(whole)
	if read, ok := apikey.Parse(valid); !ok || read.PublicID != "0123456789AB" {
		t.Fatalf("Parse(%q) = %+v, %t", valid, read, ok)
	}
	tests := []struct{ name, text string }{
		{"nothing", ""},
		{"a prefix", "gk_test_"},
		{"a character too few", valid[:len(valid)-1]},
		{"a character too many", valid + "0"},
		{"a space before", " " + valid[:len(valid)-1]},
		{"a line end after", valid + "\n"},
		{"no checksum", whole},
		{"a checksum of zeros", whole + "000000"},
		{"a test key made live", strings.Replace(valid, "test", "live", 1)},
		{"a kind that there is not", sealed(strings.Replace(whole, "test", "best", 1))},
		{"a gateway token", sealed(strings.Replace(whole, "gk_", "gt_", 1))},
		{"capitals in its head", sealed(strings.Replace(whole, "gk_test", "GK_TEST", 1))},
		{"a hyphen for the underscore", sealed(strings.Replace(whole, "B_C", "B-C", 1))},
		{"an underscore in the id", sealed(strings.Replace(whole, "0123", "0_23", 1))},
		{"a plus in the secret", sealed(strings.Replace(whole, "CDEF", "CD+F", 1))},
		{"a letter that is none of ASCII's", sealed(strings.Replace(whole, "CDEF", "Cé"+"F", 1))},
		{"a NUL in the secret", sealed(strings.Replace(whole, "CDEF", "CD\x00F", 1))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if read, ok := apikey.Parse(tt.text); ok || read != (apikey.Presented{}) {
				t.Errorf("Parse(%q) = %+v, %t", tt.text, read, ok)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sealed(whole))
	f.Fuzz(func(t *testing.T, text string) {
		read, ok := apikey.Parse(text)
		parts := contract.FindStringSubmatch(text)
		want := parts != nil && !strings.HasSuffix(text, "\n") && parts[4] == checksum(text[:len(text)-6])
		switch {
		case ok != want:
			t.Errorf("Parse(%q) = %t, want %t", text, ok, want)
		case !ok && read != (apikey.Presented{}):
			t.Errorf("Parse(%q) refuses, and returns %+v", text, read)
		case ok && (read.PublicID != parts[2] || read.Hash != sha256.Sum256([]byte(text))):
			t.Errorf("Parse(%q) = %+v", text, read)
		}
	})
}
