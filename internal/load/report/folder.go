package report

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"gatehouse/internal/load"
)

// ReadFolder reads what a run left in its folder: its summary, and its windows,
// which are nil where it wrote none, as runs of earlier versions.
func ReadFolder(dir string) (*Summary, []Window, error) {
	s, err := openSummary(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("%s has no %s: no run ended there", dir, summaryFile)
	}
	if err != nil {
		return nil, nil, err
	}
	windows, err := readFile(dir, WindowsFile, func(r io.Reader) ([]Window, error) {
		windows, err := ReadWindows(r)
		if err == nil {
			err = fits(windows, s)
		}
		return windows, err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	return s, windows, nil
}

func openSummary(dir string) (*Summary, error) {
	name := filepath.Join(dir, summaryFile)
	data, err := ReadBounded(name, maxSummary)
	if err != nil {
		return nil, err
	}
	s, err := ReadSummary(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return s, nil
}

// ReadBounded reads a file of at most so many bytes.
func ReadBounded(name string, most int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err == nil && len(data) > most {
		err = fmt.Errorf("%s is longer than %d bytes", name, most)
	}
	return data, err
}

func readFile[T any](dir, name string, read func(io.Reader) (T, error)) (all T, err error) {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return all, err
	}
	defer f.Close()
	if all, err = read(f); err != nil {
		return all, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return all, nil
}

// Open reads all that a run's pages are made of, from its folder.
func Open(dir string) (*Report, error) {
	s, windows, err := ReadFolder(dir)
	if err != nil {
		return nil, err
	}
	if windows == nil {
		return nil, fmt.Errorf("%s has no %s: an earlier version wrote none, or it was removed", dir, WindowsFile)
	}
	return readFile(dir, SamplesFile, func(r io.Reader) (*Report, error) {
		samples, err := readSamples(r)
		if err != nil {
			return nil, err
		}
		whole := &Report{Summary: s}
		return whole, whole.fill(samples, windows)
	})
}

// fill puts the seconds together, which must be all of the summary's run.
func (r *Report) fill(samples []*load.Sample, windows []Window) error {
	var sum Requests
	for _, x := range samples {
		sum.Scheduled, sum.Sent, sum.Answered, sum.Errors = sum.Scheduled+x.Due, sum.Sent+x.Sent, sum.Answered+x.Answered, sum.Errors+x.Errors
		for len(windows) > 0 && windows[0].Second == x.Second {
			x.Spreads, windows = append(x.Spreads, windows[0].Spread), windows[1:]
		}
		r.Seconds.Add(x)
	}
	if sum.Unsent = sum.Scheduled - sum.Sent; sum != r.Requests {
		return fmt.Errorf("it has %d requests that were sent and %d that were answered, and %s %d and %d: it was cut, or is of another run",
			sum.Sent, sum.Answered, summaryFile, r.Requests.Sent, r.Requests.Answered)
	}
	if len(windows) > 0 {
		return fmt.Errorf("%s has the second %d, and this has not: it was cut, or is of another run", WindowsFile, windows[0].Second)
	}
	return nil
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
