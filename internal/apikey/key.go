package apikey

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"log/slog"
	"math/big"
	"strings"
)

// Kind is what a key is for: real customers, or trying things out.
type Kind string

// The kinds of key; a node issues one, by its mode.
const (
	Live Kind = "live"
	Test Kind = "test"
)

// What a text of this form is.
const (
	keys   = "gk" // an API key
	tokens = "gt" // a credential for the gateway
)

// The form of a key: gk_live_ or gk_test_, the id, an underscore, the secret
// and a checksum over all before it. All but the first part is base62. A token's
// is the same with gt.
const (
	idLen     = 12 // 71 bits: unique, not secret
	secretLen = 43 // 256 bits
	sumLen    = 6  // 32 bits
	headLen   = len("gk_live_")
	keyLen    = headLen + idLen + 1 + secretLen + sumLen
)

const alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// Secret is a key as its owner holds it. No format, log or encoder shows it,
// also where it is a field of something that is printed: it is behind a
// pointer. Reveal is for the one answer that hands it over.
type Secret struct{ text *string }

// NewSecret keeps another's key as such.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal returns the key's text; the zero Secret has none.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// String hides the key, so that no %v prints it.
func (s Secret) String() string { return "gk_…" }

// LogValue hides the key from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Presented is what a store needs of a key to find and check it.
type Presented struct {
	PublicID string   // the id inside the key: says which, proves nothing
	Hash     [32]byte // SHA-256 of the key's text
}

// Generate makes a key of 256 random bits.
func Generate(kind Kind) (Secret, Presented) { return generate(keys, kind) }

// GenerateToken makes a token of 256 random bits.
func GenerateToken(kind Kind) (Secret, Presented) { return generate(tokens, kind) }

func generate(what string, kind Kind) (Secret, Presented) {
	var id [16]byte // 128 bits taken modulo 62^12: a bias below 2^-56
	rand.Read(id[:])
	var secret [32]byte
	rand.Read(secret[:])
	ids := new(big.Int).Exp(big.NewInt(62), big.NewInt(idLen), nil)
	body := what + "_" + string(kind) + "_" +
		base62(new(big.Int).Mod(new(big.Int).SetBytes(id[:]), ids), idLen) + "_" +
		base62(new(big.Int).SetBytes(secret[:]), secretLen)
	text := body + checksum(body)
	return Secret{&text}, Presented{PublicID: text[headLen : headLen+idLen], Hash: sha256.Sum256([]byte(text))}
}

// Parse reads a key that a client presents. It is false for what can't be a
// key of ours; true says nothing about whether such a key was ever issued.
func Parse(s string) (Presented, bool) { return parse(keys, s) }

// ParseToken is Parse for a token.
func ParseToken(s string) (Presented, bool) { return parse(tokens, s) }

func parse(what, s string) (Presented, bool) {
	if len(s) != keyLen || s[:len(what)] != what || s[len(what):headLen] != "_live_" && s[len(what):headLen] != "_test_" || s[headLen+idLen] != '_' {
		return Presented{}, false
	}
	id, rest := s[headLen:headLen+idLen], s[headLen+idLen+1:]
	if !isBase62(id) || !isBase62(rest) || checksum(s[:keyLen-sumLen]) != s[keyLen-sumLen:] {
		return Presented{}, false
	}
	return Presented{PublicID: id, Hash: sha256.Sum256([]byte(s))}, true
}

// Prefix is what may be shown of a key: its kind and its public id.
func Prefix(kind Kind, publicID string) string { return "gk_" + string(kind) + "_" + publicID }

func checksum(s string) string {
	var digits [sumLen]byte
	n := crc32.ChecksumIEEE([]byte(s))
	for i := sumLen - 1; i >= 0; i-- { // without a big.Int, since each call checks one
		digits[i] = alphabet[n%62]
		n /= 62
	}
	return string(digits[:])
}

// base62 writes n in exactly width digits, padded with 0 on the left.
func base62(n *big.Int, width int) string {
	digits := []byte(n.Text(62)) // 0-9a-zA-Z: ours has the capitals first
	for i, c := range digits {
		if c >= 'A' {
			digits[i] = c ^ 0x20
		}
	}
	return strings.Repeat("0", width-len(digits)) + string(digits)
}

func isBase62(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
