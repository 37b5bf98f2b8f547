package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	jsonv2 "github.com/go-json-experiment/json"
	"pgregory.net/rapid"

	"gatehouse/internal/seal"
)

func parse(t testing.TB, text string) *seal.Ring {
	t.Helper()
	r, err := seal.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func box(t testing.TB, r *seal.Ring, plain, about string) seal.Box {
	t.Helper()
	b, err := r.Seal([]byte(plain), []byte(about))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatIsSealedOpens(t *testing.T) {
	r := parse(t, seal.NewKey())
	rapid.Check(t, func(t *rapid.T) {
		plain, about := rapid.SliceOf(rapid.Byte()).Draw(t, "plain"), rapid.SliceOf(rapid.Byte()).Draw(t, "about")
		b, err := r.Seal(plain, about)
		if err != nil {
			t.Fatal(err)
		}
		if len(plain) > 3 && bytes.Contains(b.Bytes, plain) {
			t.Error("it can be read")
		}
		if again, err := r.Seal(plain, about); err != nil || bytes.Equal(again.Bytes, b.Bytes) {
			t.Errorf("sealed twice it is the same, %v", err)
		}
		got, err := r.Open(b, about)
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("opened as %x, %v", got, err)
		}
	})
}

func TestFirstKeySealsAndAllOpen(t *testing.T) {
	keys := []string{seal.NewKey(), seal.NewKey(), seal.NewKey()}
	var boxes []seal.Box
	for _, k := range keys {
		boxes = append(boxes, box(t, parse(t, k), "secret", "about"))
	}
	all := parse(t, keys[0]+" , "+keys[1]+",\n"+keys[2]+"\n")
	b := box(t, all, "secret", "about")
	if got, err := parse(t, keys[0]).Open(b, []byte("about")); err != nil || string(got) != "secret" || b.KeyID != boxes[0].KeyID {
		t.Errorf("what all sealed the first opens as %q, %v", got, err)
	}
	for i, b := range boxes {
		if got, err := all.Open(b, []byte("about")); err != nil || string(got) != "secret" || !all.Holds(b.KeyID) {
			t.Errorf("the box of key %d: %q, %v", i+1, got, err)
		}
	}
	one := parse(t, keys[0])
	if _, err := one.Open(boxes[1], []byte("about")); !errors.Is(err, seal.ErrUnknown) || !strings.Contains(err.Error(), boxes[1].KeyID) || one.Holds(boxes[1].KeyID) {
		t.Errorf("a box of a key that is not here: %v", err)
	}
	posing := seal.Box{KeyID: boxes[0].KeyID, Bytes: boxes[1].Bytes}
	if _, err := one.Open(posing, []byte("about")); !errors.Is(err, seal.ErrBroken) {
		t.Errorf("a box under another key's id: %v", err)
	}
}

func TestWhatWasChangedDoesNotOpen(t *testing.T) {
	r := parse(t, seal.NewKey())
	const plain, about = "a secret of some length", "whose it is"
	b := box(t, r, plain, about)
	flipped := func(in []byte, bit int) []byte {
		out := bytes.Clone(in)
		out[bit/8] ^= 1 << (bit % 8)
		return out
	}
	wantBroken := func(what string, b seal.Box, about []byte) {
		t.Helper()
		if got, err := r.Open(b, about); !errors.Is(err, seal.ErrBroken) || got != nil {
			t.Errorf("%s: opened as %q, %v", what, got, err)
		}
	}
	for bit := range len(b.Bytes) * 8 {
		wantBroken(fmt.Sprintf("bit %d of the box", bit), seal.Box{KeyID: b.KeyID, Bytes: flipped(b.Bytes, bit)}, []byte(about))
	}
	for bit := range len(about) * 8 {
		wantBroken(fmt.Sprintf("bit %d of what it is about", bit), b, flipped([]byte(about), bit))
	}
	for n := range len(b.Bytes) {
		wantBroken(fmt.Sprintf("the first %d bytes", n), seal.Box{KeyID: b.KeyID, Bytes: b.Bytes[:n]}, []byte(about))
	}
	wantBroken("a byte more", seal.Box{KeyID: b.KeyID, Bytes: append(bytes.Clone(b.Bytes), 0)}, []byte(about))
	wantBroken("about nothing", b, nil)
	if got, err := r.Open(b, []byte(about)); err != nil || string(got) != plain {
		t.Errorf("unchanged: %q, %v", got, err)
	}
}

func TestWithoutAKeyNothingIsSealed(t *testing.T) {
	for name, r := range map[string]*seal.Ring{"nil": nil, "empty": parse(t, ""), "zero": {}} {
		_, sealed := r.Seal([]byte("x"), nil)
		_, opened := r.Open(seal.Box{KeyID: "0123"}, nil)
		if r.Ready() || r.Holds("") || !errors.Is(sealed, seal.ErrNoKey) || !errors.Is(opened, seal.ErrUnknown) {
			t.Errorf("%s: sealed %v, opened %v", name, sealed, opened)
		}
	}
}

func TestWrongKeysAreNotRepeated(t *testing.T) {
	good := seal.NewKey()
	for name, text := range map[string]string{
		"not base64": "hunter2-hunter2-hunter2-hunter2-hunter2-hunt", "16 bytes": "AAECAwQFBgcICQoLDA0ODw==",
		"33 bytes": base64.StdEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdefX")),
		"in hex":   hex.EncodeToString([]byte("0123456789abcdef0123456789abcdef")), "no padding": strings.TrimRight(good, "="),
		"two in one": good + good, "of a URL": "_" + good[1:], "spaces": good[:20] + " " + good[20:],
	} {
		for at, text := range map[string]string{"key 1 of them": text + "," + good, "key 2 of them": good + "," + text} {
			r, err := seal.Parse(text)
			if err == nil || r != nil || !strings.HasPrefix(err.Error(), at) {
				t.Errorf("%s: %v", name, err)
			}
			wantUnrepeated(t, text, err)
		}
	}
	for _, text := range []string{" ", "\n", ",", good + ",", "," + good, good + ",," + good} {
		if _, err := seal.Parse(text); err == nil {
			t.Errorf("%d characters with an empty key were taken", len(text))
		}
	}
}

// wantUnrepeated fails if an error has any eight characters in a row of what
// was to be a key.
func wantUnrepeated(t *testing.T, text string, err error) {
	t.Helper()
	for i := 0; i+8 <= len(text); i++ {
		if part := text[i : i+8]; strings.Contains(err.Error(), part) && !strings.Contains(strings.Repeat(" ", 8), part) {
			t.Errorf("the error repeats %q: %v", part, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(seal.NewKey())
	f.Fuzz(func(t *testing.T, text string) {
		r, err := seal.Parse(text)
		if err != nil {
			if r != nil || !strings.HasPrefix(err.Error(), "key ") || len(err.Error()) > 120 {
				t.Errorf("refused with %v", err)
			}
			return
		}
		if r.Ready() != (strings.TrimSpace(text) != "") {
			t.Errorf("ready: %t", r.Ready())
		}
		if !r.Ready() {
			return
		}
		b := box(t, r, "secret", "about")
		again := parse(t, text) // a key means the same each time
		if got, err := again.Open(b, []byte("about")); err != nil || string(got) != "secret" {
			t.Errorf("opened as %q, %v", got, err)
		}
	})
}

func TestKeysDoNotShowThemselves(t *testing.T) {
	raw := []byte("0123456789abcdef0123456789abcdef")
	text := base64.StdEncoding.EncodeToString(raw)
	r := parse(t, text)
	shows := func(printed string) bool {
		for i := range len(raw) - 8 {
			part := raw[i : i+8]
			list := strings.Trim(fmt.Sprint(part), "[]") // as %v has bytes
			goSyntax := strings.Trim(fmt.Sprintf("%#v", part), "[]byte{}")
			for _, form := range []string{string(part), hex.EncodeToString(part), list, goSyntax, text[i : i+8]} {
				if strings.Contains(strings.ToLower(printed), strings.ToLower(form)) {
					return true
				}
			}
		}
		return false
	}
	b := box(t, r, "secret", "about")
	values := map[string]any{
		"a ring": r, "what it points to": *r, "a field": struct{ Ring *seal.Ring }{r}, "an unexported field": struct{ ring *seal.Ring }{r},
		"a slice": []*seal.Ring{r}, "a box": b, "an id": b.KeyID,
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p", "%t"} {
			if printed := fmt.Sprintf(verb, v); shows(printed) {
				t.Errorf("%s of %s shows the key: %s", verb, name, printed)
			}
		}
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).Info("ring", "value", v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("ring", "value", v)
		one, err := json.Marshal(v)
		two, err2 := jsonv2.Marshal(v)
		if printed := fmt.Sprint(out.String(), string(one), err, string(two), err2); shows(printed) {
			t.Errorf("a log or JSON of %s shows the key: %s", name, printed)
		}
	}
	for _, printed := range []string{text, string(raw), fmt.Sprint(raw), fmt.Sprintf("%x", raw), fmt.Sprintf("%#v", raw)} {
		if !shows(printed) {
			t.Errorf("this test does not see a key that is shown: %s", printed)
		}
	}
}

func TestMadeKeysDiffer(t *testing.T) {
	seen := make(map[string]bool)
	for range 100 {
		k := seal.NewKey()
		b := box(t, parse(t, k), "secret", "about")
		if seen[k] || seen[b.KeyID] || len(b.KeyID) != 16 || strings.Contains(k, b.KeyID) {
			t.Fatalf("the key id is %s", b.KeyID)
		}
		seen[k], seen[b.KeyID] = true, true
	}
}
