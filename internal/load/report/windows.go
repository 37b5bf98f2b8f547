package report

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"gatehouse/internal/load"
)

const (
	// maxWindows is the longest windows.csv or samples.csv that is read, in bytes:
	// two days at 200 requests a second.
	maxWindows = 64 << 20
	// maxBin is the most that one bin of it may count: what a second can't hold.
	maxBin = 1 << 31
	// lastSecond is that of the longest run, whatever it waits for at its end.
	lastSecond = int(2 * load.MaxDuration / time.Second)
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
	all := []Window{} // none is known too, where nothing ended
	err := readTable(r, maxWindows, windowsHead, func(row []string) error {
		w, err := readWindow(row)
		if err == nil && len(all) > 0 && w.Second < all[len(all)-1].Second {
			err = fmt.Errorf("its second %d comes after a later one", w.Second)
		}
		all = append(all, w)
		return err
	})
	return all, err
}

// readTable reads a CSV file of at most so many bytes whose first columns are
// those of head, and gives take each row, which is used again for the next.
func readTable(r io.Reader, most int64, head []string, take func(row []string) error) error {
	limited := &io.LimitedReader{R: r, N: most}
	rows := csv.NewReader(limited)
	rows.ReuseRecord = true
	first, err := rows.Read()
	if err != nil || len(first) < len(head) || !slices.Equal(first[:len(head)], head) {
		return fmt.Errorf("it does not begin with %s", strings.Join(head, ","))
	}
	for n := 1; ; n++ {
		row, err := rows.Read()
		switch {
		case limited.N == 0:
			return fmt.Errorf("it is longer than %d bytes", most)
		case errors.Is(err, io.EOF):
			return nil
		case err == nil:
			err = take(row)
		}
		if err != nil {
			return fmt.Errorf("row %d: %w", n, err)
		}
	}
}

func readWindow(row []string) (w Window, err error) {
	w.Second, err = strconv.Atoi(row[0])
	if err != nil || w.Second < 0 || w.Second > lastSecond {
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
