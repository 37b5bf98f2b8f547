package report

import (
	"cmp"
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"gatehouse/internal/load"
)

// samplesHead is what comes before the groups of columns.
var samplesHead = []string{
	"second", "stage", "rate", "due", "sent", "answered", "errors", "in_flight", "waiting", "lag_p99_ms", "lag_max_ms", "opened",
}

// Samples writes samples.csv, a row a second, while a run goes. Its columns
// are known before the run: each of the plan's outcomes has its own, whatever
// else happens shares those of "success" and "failure".
type Samples struct {
	csv   *csv.Writer
	names []string // what the groups of columns are of
}

// NewSamples begins the file. That its head could not be written is told by
// the first Add.
func NewSamples(w io.Writer, outcomes []load.Outcome) *Samples {
	s := &Samples{csv: csv.NewWriter(w)}
	for _, o := range outcomes {
		s.names = append(s.names, o.Name)
	}
	s.names = append(s.names, string(load.Failure), string(load.Success))
	head := slices.Clone(samplesHead)
	for _, n := range s.names {
		head = append(head, n+"_count", n+"_p50_ms", n+"_p95_ms", n+"_p99_ms", n+"_max_ms")
	}
	_ = s.csv.Write(head) // it is kept until the next flush, and the error with it
	s.csv.Flush()
	return s
}

// Add writes one second's row. Where several statuses share columns their
// percentiles are left empty, since those of a whole can't be told from those
// of its parts; its longest time can. So are p95 and p99 of too few requests.
func (s *Samples) Add(x *load.Sample) error {
	row := []string{
		strconv.Itoa(x.Second), strconv.Itoa(x.Stage), strconv.FormatFloat(round(x.Rate), 'f', -1, 64),
		strconv.FormatInt(x.Due, 10), strconv.FormatInt(x.Sent, 10), strconv.FormatInt(x.Answered, 10), strconv.FormatInt(x.Errors, 10),
		strconv.Itoa(x.InFlight), strconv.FormatInt(x.Waiting, 10), cell(x.LagP99), cell(x.LagMax), strconv.FormatInt(x.Opened, 10),
	}
	for _, n := range s.names {
		row = append(row, s.cells(n, x.Windows)...)
	}
	if err := s.csv.Write(row); err != nil {
		return err
	}
	s.csv.Flush()
	return s.csv.Error()
}

// cells are what goes to the columns of a name.
func (s *Samples) cells(name string, windows []load.Window) []string {
	var parts []load.Window
	var n int64
	for _, w := range windows {
		if w.Request == "" && s.column(w) == name {
			parts = append(parts, w)
			n += w.Count
		}
	}
	row := []string{strconv.FormatInt(n, 10), "", "", "", ""}
	if len(parts) == 1 {
		row[1] = cell(parts[0].P50)
		if n >= load.Needed(0.95) {
			row[2] = cell(parts[0].P95)
		}
		if n >= load.Needed(0.99) {
			row[3] = cell(parts[0].P99)
		}
	}
	if len(parts) > 0 {
		row[4] = cell(slices.MaxFunc(parts, func(a, b load.Window) int { return cmp.Compare(a.Max, b.Max) }).Max)
	}
	return row
}

// column is the name of the columns that a window goes to.
func (s *Samples) column(w load.Window) string {
	switch {
	case slices.Contains(s.names, w.Name):
		return w.Name
	case w.Kind == load.Success:
		return string(load.Success)
	}
	return string(load.Failure)
}

// cell is a time in milliseconds.
func cell(t time.Duration) string { return strconv.FormatFloat(round(milliseconds(t)), 'f', -1, 64) }

// readSamples reads of samples.csv what all requests came to, second by second,
// without a gap.
func readSamples(r io.Reader) ([]*load.Sample, error) {
	var all []*load.Sample
	err := readTable(r, maxWindows, samplesHead, func(row []string) error {
		second, err := strconv.Atoi(row[0])
		if err != nil || second != len(all) || second > lastSecond {
			return fmt.Errorf("its second is %.20q, want %d", row[0], len(all))
		}
		x := &load.Sample{Second: second}
		for column, to := range map[int]*int64{3: &x.Due, 4: &x.Sent, 5: &x.Answered, 6: &x.Errors} {
			n, err := strconv.ParseInt(row[column], 10, 64)
			if err != nil || n < 0 || n > maxBin {
				return fmt.Errorf("%.20q is no count", row[column])
			}
			*to = n
		}
		all = append(all, x)
		return nil
	})
	return all, err
}
