package pgtest

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
)

// Find returns the folder of PostgreSQL's programs: $PGBIN, the one in PATH, or
// the newest of Debian's packages, which keep the server's out of PATH.
func Find() (string, error) {
	if bin := os.Getenv("PGBIN"); bin != "" {
		if !complete(bin) {
			return "", fmt.Errorf("PGBIN is %s, where there is no postgres, initdb and pg_basebackup", bin)
		}
		return bin, nil
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		if target, err := filepath.EvalSymlinks(path); err == nil { // links may lie in PATH without the other programs
			path = target
		}
		if bin := filepath.Dir(path); complete(bin) {
			return bin, nil
		}
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", fmt.Errorf("look for PostgreSQL: %w", err)
	}
	found = slices.DeleteFunc(found, func(bin string) bool { return !complete(bin) })
	if len(found) == 0 {
		return "", errors.New("no PostgreSQL here: apt-get install postgresql, or set PGBIN to the folder of its programs")
	}
	return slices.MaxFunc(found, func(a, b string) int { return cmp.Compare(version(a), version(b)) }), nil
}

func complete(bin string) bool {
	for _, program := range []string{"postgres", "initdb", "pg_basebackup"} {
		if _, err := exec.LookPath(filepath.Join(bin, program)); err != nil {
			return false
		}
	}
	return true
}

// version is the number in /usr/lib/postgresql/15/bin, zero if there is none.
func version(bin string) float64 {
	v, err := strconv.ParseFloat(filepath.Base(filepath.Dir(bin)), 64)
	if err != nil {
		return 0
	}
	return v
}
