package seal

import (
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

// Why a box does not open, or can't be made.
var (
	ErrNoKey   = errors.New("there is no master key")
	ErrUnknown = errors.New("it was sealed with a master key that is not here")
	ErrBroken  = errors.New("it was changed since it was sealed")
)

// Ring holds master keys; the first one seals. A nil Ring holds none.
type Ring struct{ keys []key }

type key struct {
	id   string
	aead func() cipher.AEAD // behind a function, which no format shows the inside of
}

// Box is something sealed.
type Box struct {
	KeyID string // of the master key; says nothing about it
	Bytes []byte // nonce and ciphertext
}

// NewKey makes a master key, in the form that Parse reads.
func NewKey() string {
	var raw [chacha20poly1305.KeySize]byte
	rand.Read(raw[:])
	return base64.StdEncoding.EncodeToString(raw[:])
}

// Parse reads master keys: each 32 bytes in base64, several by comma. Its
// errors do not repeat them. An empty text is a Ring of none.
func Parse(text string) (*Ring, error) {
	r := new(Ring)
	if text == "" {
		return r, nil
	}
	for i, item := range strings.Split(text, ",") {
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(item))
		if err != nil || len(raw) != chacha20poly1305.KeySize {
			return nil, fmt.Errorf("key %d of them: want 32 bytes in base64, as `openssl rand -base64 32` makes them", i+1)
		}
		aead, err := chacha20poly1305.NewX(raw)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append([]byte("gatehouse master key\x00"), raw...))
		r.keys = append(r.keys, key{hex.EncodeToString(sum[:8]), func() cipher.AEAD { return aead }})
	}
	return r, nil
}

// With returns a Ring of r's keys and then other's; either may be nil.
func (r *Ring) With(other *Ring) *Ring {
	both := new(Ring)
	for _, one := range []*Ring{r, other} {
		if one != nil {
			both.keys = append(both.keys, one.keys...)
		}
	}
	return both
}

// Ready says whether there is a key to seal with.
func (r *Ring) Ready() bool { return r != nil && len(r.keys) > 0 }

// Holds says whether a box of this key can be opened.
func (r *Ring) Holds(keyID string) bool { return r.find(keyID) != nil }

func (r *Ring) find(keyID string) cipher.AEAD {
	if r != nil {
		for _, k := range r.keys {
			if k.id == keyID {
				return k.aead()
			}
		}
	}
	return nil
}

// Seal encrypts plain with the first key. The box opens only with the same
// about, which is not kept in it. It fails with ErrNoKey alone.
func (r *Ring) Seal(plain, about []byte) (Box, error) {
	if !r.Ready() {
		return Box{}, ErrNoKey
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX, chacha20poly1305.NonceSizeX+len(plain)+chacha20poly1305.Overhead)
	rand.Read(nonce) // 192 bits: never the same twice
	return Box{r.keys[0].id, r.keys[0].aead().Seal(nonce, nonce, plain, about)}, nil
}

// Open decrypts a box. Its error is one of this package's, and nothing of the
// box is told with it.
func (r *Ring) Open(b Box, about []byte) ([]byte, error) {
	aead := r.find(b.KeyID)
	switch {
	case aead == nil:
		return nil, fmt.Errorf("%w (key id %q)", ErrUnknown, b.KeyID)
	case len(b.Bytes) < chacha20poly1305.NonceSizeX:
		return nil, ErrBroken
	}
	nonce, sealed := b.Bytes[:chacha20poly1305.NonceSizeX], b.Bytes[chacha20poly1305.NonceSizeX:]
	plain, err := aead.Open(nil, nonce, sealed, about)
	if err != nil {
		return nil, ErrBroken
	}
	return plain, nil
}
