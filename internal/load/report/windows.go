package report

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/load"
)

const (
	// maxWindows is the longest windows.csv that is read, in bytes: two days at
	// 200 requests a second.
	maxWindows = 64 << 20
	// maxBin is the most that one bin of it may count: what a second can't hold.
	maxBin = 1 << 31
)

var windowsHead = []string{"second", "request", "outcome", "times"}

// Windows writes windows.csv while a run goes: a row for each second, request
// and outcome, with how long its requests took, from due to done. Times are
// MICROSECONDS or MICROSECONDS:COUNT, exact to a part in a hundred. It is what
// a comparison with another run draws its confidence from.
type Windows struct{ csv *csv.Writer }

// NewWindows begins the file. That its head could not be written is told by
// the first Add.
func NewWindows(w io.Writer) *Windows {
	out := csv.NewWriter(w)
	_ = out.Write(windowsHead) // it is kept until the next flush, and the error with it
	out.Flush()
	return &Windows{out}
}

// Add writes one second's rows.
func (w *Windows) Add(x *load.Sample) error {
	for _, s := range x.Spreads {
		times := make([]byte, 0, 8*len(s.Bins))
		for i, b := range s.Bins {
			if i > 0 {
				times = append(times, ' ')
			}
			times = strconv.AppendInt(times, b.Low.Microseconds(), 10)
			if b.Count > 1 {
				times = strconv.AppendInt(append(times, ':'), b.Count, 10)
			}
		}
		if err := w.csv.Write([]string{strconv.Itoa(x.Second), s.Request, s.Key, string(times)}); err != nil {
			return err
		}
	}
	w.csv.Flush()
	return w.csv.Error()
}

// Window is one row of windows.csv.
type Window struct {
	Second int
	load.Spread
}

// ReadWindows reads windows.csv, of which every row must be right.
func ReadWindows(r io.Reader) ([]Window, error) {
	limited := &io.LimitedReader{R: r, N: maxWindows}
	rows := csv.NewReader(limited)
	rows.FieldsPerRecord = len(windowsHead)
	rows.ReuseRecord = true
	head, err := rows.Read()
	if err != nil || !slices.Equal(head, windowsHead) {
		return nil, fmt.Errorf("it does not begin with %s", strings.Join(windowsHead, ","))
	}
	all := []Window{} // none is known too, where nothing ended
	for {
		row, err := rows.Read()
		if limited.N == 0 {
			return nil, fmt.Errorf("it is longer than %d bytes", maxWindows)
		}
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		var w Window
		if err == nil {
			w, err = readWindow(row)
		}
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", len(all)+1, err)
		}
		if len(all) > 0 && w.Second < all[len(all)-1].Second {
			return nil, fmt.Errorf("row %d: its second %d comes after a later one", len(all)+1, w.Second)
		}
		all = append(all, w)
	}
}

func readWindow(row []string) (w Window, err error) {
	const longest = 2 * load.MaxDuration // of a run, whatever it waits for at its end
	w.Second, err = strconv.Atoi(row[0])
	if err != nil || w.Second < 0 || w.Second > int(longest.Seconds()) {
		return w, fmt.Errorf("%.20q is no second", row[0])
	}
	w.Request, w.Key = strings.Clone(row[1]), strings.Clone(row[2])
	w.Bins = make([]load.Bin, 0, strings.Count(row[3], " ")+1)
	before := int64(-1)
	for text := range strings.SplitSeq(row[3], " ") {
		low, times, several := strings.Cut(text, ":")
		at, err := strconv.ParseInt(low, 10, 64)
		n := int64(1)
		if err == nil && several {
			n, err = strconv.ParseInt(times, 10, 64)
		}
		if err != nil || at <= before || at > time.Hour.Microseconds() || n < 1 || n > maxBin {
			return w, fmt.Errorf("%.40q is no time, or not in order", text)
		}
		before = at
		bin := load.Bin{Low: time.Duration(at) * time.Microsecond, Count: n}
		if bin.Low%bin.Width() != 0 { // there are 3,300 that a run writes, and a comparison has room for
			return w, fmt.Errorf("%.40q begins no bin", text)
		}
		w.Bins = append(w.Bins, bin)
	}
	return w, nil
}

// ReadFolder reads what a run left in its folder: its summary, and its windows,
// which are nil where it wrote none, as runs of earlier versions.
func ReadFolder(dir string) (*Summary, []Window, error) {
	whole, err := os.Open(filepath.Join(dir, summaryFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s has no %s: no run ended there", dir, summaryFile)
	}
	if err != nil {
		return nil, nil, err
	}
	defer whole.Close()
	data, err := io.ReadAll(io.LimitReader(whole, maxSummary+1)) // what is too long is told below
	if err != nil {
		return nil, nil, err
	}
	s, err := ReadSummary(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", dir, err)
	}
	f, err := os.Open(filepath.Join(dir, WindowsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	windows, err := ReadWindows(f)
	if err == nil {
		err = fits(windows, s)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return s, windows, nil
}

// fits checks that windows are all of a summary's run: a file that was cut, or
// is another run's, has other counts.
func fits(windows []Window, s *Summary) error {
	type subject struct{ request, key string }
	counts := map[subject]int64{}
	for _, w := range windows {
		for _, b := range w.Bins {
			counts[subject{w.Request, w.Key}] += b.Count
		}
	}
	for request, outcomes := range s.ByRequest {
		for key, o := range outcomes {
			at := subject{request, key}
			if counts[at] != o.Count {
				return fmt.Errorf("it has %s of %s %.40q, and %s %s: it was cut, or is of another run", count(counts[at]), request, key, summaryFile, count(o.Count))
			}
			delete(counts, at)
		}
	}
	for at := range counts {
		return fmt.Errorf("%s knows nothing of its %.40q %.40q: it is of another run", summaryFile, at.request, at.key)
	}
	return nil
}
