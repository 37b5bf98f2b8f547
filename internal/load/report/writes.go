package report

import (
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

// OpenWrites reads all that the run of a folder wrote, and says when it began:
// the zero time for a run without a summary, which was killed or could not be
// prepared. Where no run was, that is fs.ErrNotExist.
func OpenWrites(dir string) (all []Written, began time.Time, err error) {
	s, err := openSummary(dir)
	if unknown := errors.Is(err, fs.ErrNotExist) || errors.Is(err, errSchema); err != nil && !unknown {
		return nil, began, err
	}
	all, err = readFile(dir, WritesFile, ReadWrites)
	switch {
	case s == nil || err != nil && !errors.Is(err, fs.ErrNotExist):
		return all, began, err
	case err != nil:
		return nil, began, fmt.Errorf("%s has no %s: it was removed, or an earlier version wrote none", dir, WritesFile)
	case s.Writes != nil && *s.Writes != len(all):
		return nil, began, fmt.Errorf("%s in %s has %d rows, and %s says %d: it was cut, or is of another run", WritesFile, dir, len(all), summaryFile, *s.Writes)
	}
	return all, s.StartedAt, nil
}
