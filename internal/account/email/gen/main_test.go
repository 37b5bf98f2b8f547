package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"slices"
	"strings"
	"testing"
)

// pack returns a tarball of one file.
func pack(t *testing.T, path, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	zipped := gzip.NewWriter(&b)
	files := tar.NewWriter(zipped)
	if err := files.WriteHeader(&tar.Header{Name: path, Size: int64(len(text)), Mode: 0o644}); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zipped.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExtract(t *testing.T) {
	list, err := extract(pack(t, listPath, `["b.com", "a.com"]`))
	if want := []string{"b.com", "a.com"}; err != nil || !slices.Equal(list, want) {
		t.Errorf("extract = %q, %v, want %q", list, err, want)
	}
	for name, tarball := range map[string][]byte{
		"no list":  pack(t, "package/README.md", "[]"),
		"not JSON": pack(t, listPath, "b.com\n"),
		"no gzip":  []byte("b.com\n"),
	} {
		if list, err := extract(tarball); err == nil {
			t.Errorf("%s: extract = %q, want an error", name, list)
		}
	}
}

func TestVerify(t *testing.T) {
	sum := sha512.Sum512([]byte("tarball"))
	want := "sha512-" + base64.StdEncoding.EncodeToString(sum[:])
	if err := verify([]byte("tarball"), want); err != nil {
		t.Error(err)
	}
	if err := verify([]byte("tarbell"), want); err == nil {
		t.Error("another tarball passed")
	}
}

func TestFormat(t *testing.T) {
	text, err := format([]string{"b.com", "A.com", "a-1.b.co", "b.com", "xn--5nx.cc"})
	if want := "a-1.b.co\na.com\nb.com\nxn--5nx.cc\n"; err != nil || string(text) != want {
		t.Errorf("format = %q, %v, want %q", text, err, want)
	}
	for _, entry := range []string{
		"", "com", "a.com.", ".a.com", "a..com", "-a.com", "a-.com", "a_b.com", "a b.com", "a.com\n", "bücher.de", "127.0.0.1",
		"a@b.com", strings.Repeat("a", 64) + ".com", strings.Repeat("a.", 126) + "com",
	} {
		if text, err := format([]string{entry}); err == nil {
			t.Errorf("format of %q = %q, want an error", entry, text)
		}
	}
	if _, err := format(nil); err == nil {
		t.Error("an empty list passed")
	}
}
