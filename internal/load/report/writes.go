package report

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"time"
)

// maxWrites is the longest writes.csv that is read, in bytes: some two million
// writes.
const maxWrites = 256 << 20

// WritesHead is the first line of writes.csv.
func WritesHead() []string { return []string{"request", "id", "status"} }

// Written is a row of writes.csv: a request that was acknowledged, or that may
// have been carried out without an answer that says so.
type Written struct {
	Request string // method and path, {} for what differs
	ID      string // of what it writes
	Status  int    // 0: no answer
}

// Acknowledged says whether the target promised it.
func (w Written) Acknowledged() bool { return w.Status >= 200 && w.Status < 300 }

// ReadWrites reads writes.csv, of which every row must be right.
func ReadWrites(r io.Reader) ([]Written, error) {
	var all []Written
	err := readTable(r, maxWrites, WritesHead(), func(row []string) error {
		status, err := strconv.Atoi(row[2])
		if err != nil || status != 0 && (status < 200 || status > 599) || row[1] == "" {
			return fmt.Errorf("%.20q is no status, or there is no id", row[2])
		}
		all = append(all, Written{strings.Clone(row[0]), strings.Clone(row[1]), status})
		return nil
	})
	return all, err
}

// Writes is what the run of a folder wrote.
type Writes struct {
	Rows  []Written
	Began time.Time // zero: not known
	// Killed is for a run without a summary, which was killed or could not be
	// prepared: rows of its last second may be missing.
	Killed bool
	Torn   bool // its last row was not whole, and is left out
}

// OpenWrites reads all that the run of a folder wrote. Where no run was, that is
// fs.ErrNotExist.
func OpenWrites(dir string) (w Writes, err error) {
	s, err := openSummary(dir)
	if unknown := errors.Is(err, fs.ErrNotExist) || errors.Is(err, errSchema); err != nil && !unknown {
		return w, err
	}
	w.Killed = s == nil
	w.Rows, err = readFile(dir, WritesFile, func(r io.Reader) ([]Written, error) {
		if w.Killed {
			text, err := io.ReadAll(io.LimitReader(r, maxWrites+1)) // ReadWrites tells what is too long
			if err != nil {
				return nil, err
			}
			text, w.Torn = wholeRows(text)
			r = bytes.NewReader(text)
		}
		return ReadWrites(r)
	})
	switch {
	case s == nil || err != nil && !errors.Is(err, fs.ErrNotExist):
		return w, err
	case err != nil:
		return w, fmt.Errorf("%s has no %s: it was removed, or an earlier version wrote none", dir, WritesFile)
	case s.Writes != nil && *s.Writes != len(w.Rows):
		return w, fmt.Errorf("%s in %s has %d rows, and %s says %d: it was cut, or is of another run", WritesFile, dir, len(w.Rows), summaryFile, *s.Writes)
	}
	w.Began = s.StartedAt
	return w, nil
}

// wholeRows leaves out a last row that was being written. A file that ends
// before its first row has none.
func wholeRows(text []byte) (whole []byte, torn bool) {
	head := strings.Join(WritesHead(), ",") + "\n"
	if len(text) < len(head) && strings.HasPrefix(head, string(text)) {
		return []byte(head), true
	}
	if end := bytes.LastIndexByte(text, '\n') + 1; end < len(text) && len(text) <= maxWrites {
		return text[:end], true
	}
	return text, false
}
