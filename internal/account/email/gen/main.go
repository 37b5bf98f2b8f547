package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// To update: set version, then integrity to what `npm view
// disposable-email-domains-js@VERSION dist.integrity` prints, run `go
// generate`, read the diff, and change version and count in ../doc.go. Look
// for a provider that people have real mailboxes at: it would be locked out.
const (
	name      = "disposable-email-domains-js"
	version   = "1.26.0" // CC0-1.0
	integrity = "sha512-pSqALZAiuw6HDC1HqhhtvShRnniUNObQ6kzwa5N280XbyxxCPBZnQQ7fO6Uk/CNTi4cAaKE1UZl3Mc30Zfj4UA=="

	listPath = "package/dist/dict/disposable_email_blocklist.json" // in the tarball
	output   = "disposable.txt"
	maxList  = 16 << 20 // bytes: a hundred times today's list
)

func main() {
	log.SetFlags(0)
	if err := run(); err != nil {
		log.Fatalf("gen: %v", err)
	}
}

func run() error {
	tarball, err := fetch()
	if err != nil {
		return err
	}
	if err := verify(tarball, integrity); err != nil {
		return err
	}
	list, err := extract(tarball)
	if err != nil {
		return fmt.Errorf("read %s: %w", listPath, err)
	}
	text, err := format(list)
	if err != nil {
		return err
	}
	return os.WriteFile(output, text, 0o644)
}

// fetch has npm download the package's tarball, from whichever registry npm is
// set up with: integrity, not the place, says what it is.
func fetch() ([]byte, error) {
	dir, err := os.MkdirTemp("", "gen")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // what stays is in the temporary directory
	cmd := exec.Command("npm", "pack", "--ignore-scripts", "--loglevel=error", name+"@"+version)
	cmd.Dir = dir
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("npm pack: %w", err)
	}
	return os.ReadFile(filepath.Join(dir, name+"-"+version+".tgz"))
}

func verify(tarball []byte, want string) error {
	sum := sha512.Sum512(tarball)
	if got := "sha512-" + base64.StdEncoding.EncodeToString(sum[:]); got != want {
		return fmt.Errorf("the tarball is %s, want %s", got, want)
	}
	return nil
}

func extract(tarball []byte) ([]string, error) {
	unzipped, err := gzip.NewReader(bytes.NewReader(tarball))
	if err != nil {
		return nil, err
	}
	for files := tar.NewReader(unzipped); ; {
		header, err := files.Next()
		if err != nil { // io.EOF too: the list is not there
			return nil, err
		}
		if header.Name != listPath {
			continue
		}
		text, err := io.ReadAll(io.LimitReader(files, maxList))
		if err != nil {
			return nil, err
		}
		var list []string
		err = json.Unmarshal(text, &list)
		return list, err
	}
}

// domain is a name as Address.Domain has it: two or more lower-case labels of
// letters, digits and inner hyphens, the last not a number. Whether an A-label
// decodes is not asked: a name that no address can have does no harm.
var domain = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$`)

// format returns the list as lower-case lines, sorted by byte, each once.
func format(list []string) ([]byte, error) {
	if len(list) == 0 {
		return nil, errors.New("the list is empty")
	}
	lines := make([]string, 0, len(list))
	for _, entry := range list {
		line := strings.ToLower(entry)
		if len(line) > 253 || !domain.MatchString(line) {
			return nil, fmt.Errorf("entry %q is not a domain", entry)
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return []byte(strings.Join(slices.Compact(lines), "\n") + "\n"), nil
}
