package apikey_test

import (
	"crypto/sha256"
	"strings"
	"testing"

	"gatehouse/internal/apikey"
)

// A token has a key's form under another head, so that neither passes for the
// other.
func TestTokensAreNoKeys(t *testing.T) {
	for _, kind := range []apikey.Kind{apikey.Live, apikey.Test} {
		secret, issued := apikey.GenerateToken(kind)
		text := secret.Reveal()
		if head := "gt_" + string(kind) + "_"; !strings.HasPrefix(text, head) || !contract.MatchString("gk"+text[2:]) || text[len(text)-6:] != checksum(text[:len(text)-6]) {
			t.Errorf("a token is %s", text)
		}
		got, ok := apikey.ParseToken(text)
		if !ok || got != issued || got.Hash != sha256.Sum256([]byte(text)) || got.PublicID != text[8:20] {
			t.Errorf("%s is read as %+v, %v, issued as %+v", text, got, ok, issued)
		}
		if _, ok := apikey.Parse(text); ok {
			t.Error("a token passes for a key")
		}
		key, _ := apikey.Generate(kind)
		if _, ok := apikey.ParseToken(key.Reveal()); ok {
			t.Error("a key passes for a token")
		}
		resealed := func(head string) string { return head + text[8:len(text)-6] + checksum(head+text[8:len(text)-6]) }
		for _, head := range []string{"gt_prod_", "gx_live_", "GT_live_", "gt-live_", "gk_live_"} {
			if _, ok := apikey.ParseToken(resealed(head)); ok {
				t.Errorf("%s passes for a token", resealed(head))
			}
		}
		for i := range text { // one character off
			other := []byte(text)
			other[i] ^= 1
			if _, ok := apikey.ParseToken(string(other)); ok {
				t.Errorf("%s passes for %s", other, text)
			}
		}
		again, _ := apikey.GenerateToken(kind)
		if again.Reveal() == text {
			t.Error("the same token twice")
		}
	}
	if _, ok := apikey.ParseToken(""); ok {
		t.Error("nothing passes for a token")
	}
}
