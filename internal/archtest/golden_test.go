package archtest

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the generated documents")

// golden holds a generated document to what the code would generate now. path
// is seen from the module's root; with -update the document is written instead.
func golden(t *testing.T, path string, want []byte) {
	t.Helper()
	if err := compare(filepath.Join(root, path), want, *update); err != nil {
		t.Error(err)
	}
}

func compare(path string, want []byte, write bool) error {
	got, err := os.ReadFile(path)
	switch {
	case err == nil && bytes.Equal(got, want):
		return nil
	case write:
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, want, 0o644)
	case err != nil:
		return fmt.Errorf("a generated document is missing: run `make generate` and commit it: %w", err)
	}
	return fmt.Errorf("%s is behind the code: run `make generate` and commit it (- as it is, + as it should be):\n%s",
		path, cmp.Diff(string(got), string(want)))
}

func TestCompare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "docs", "x.md")
	if err := compare(path, []byte("a\n"), false); err == nil {
		t.Error("a missing document is accepted")
	}
	if err := compare(path, []byte("a\n"), true); err != nil {
		t.Errorf("write a new document: %v", err)
	}
	if err := compare(path, []byte("a\n"), false); err != nil {
		t.Errorf("a current document: %v", err)
	}
	if err := compare(path, []byte("b\n"), false); err == nil {
		t.Error("a document that is behind is accepted")
	}
	if err := compare(path, []byte("b\n"), true); err != nil {
		t.Errorf("rewrite a document: %v", err)
	}
	if err := compare(path, []byte("b\n"), false); err != nil {
		t.Errorf("the rewritten document: %v", err)
	}
}
