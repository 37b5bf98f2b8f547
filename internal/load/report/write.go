package report

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// These are written while the run goes; the others by Write.
const (
	SamplesFile = "samples.csv"
	WindowsFile = "windows.csv"
	WritesFile  = "writes.csv"
)

const (
	markdownFile = "report.md"
	htmlFile     = "report.html"
	junitFile    = "junit.xml"
	summaryFile  = "summary.json"
)

// Files are the names of all files of a run's reports.
func Files() []string {
	return []string{SamplesFile, WindowsFile, WritesFile, markdownFile, htmlFile, junitFile, summaryFile}
}

// Folder makes the folder of reports. One that holds an earlier run's is
// refused: its verdict must not be lost, nor taken for this one's.
func Folder(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // reports are for others to read
		return fmt.Errorf("make a folder for the reports: %w", err)
	}
	for _, name := range Files() {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%s holds %s of an earlier run: choose another folder with --out, or remove it", dir, name)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look into the folder for the reports: %w", err)
		}
	}
	return nil
}

// Write writes a run's reports into a folder that exists, each under a
// temporary name first, so that none is ever half there. summary.json comes
// last: where it is, the others have been written or tried. One that can't be
// written keeps no other from it; the error has all that failed.
func Write(dir string, r *Run, html func(io.Writer, *Run) error) error {
	summary := func(w io.Writer, r *Run) error {
		data, err := Summarize(r).JSON()
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	}
	return errors.Join(
		WriteFile(dir, markdownFile, r, Markdown),
		WriteFile(dir, htmlFile, r, html),
		WriteFile(dir, junitFile, r, JUnit),
		WriteFile(dir, summaryFile, r, summary),
	)
}

// WriteFile writes one report of r, under a temporary name first.
func WriteFile[R any](dir, name string, r R, write func(io.Writer, R) error) (err error) {
	temporary := filepath.Join(dir, name+".tmp")
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", name, err)
			_ = os.Remove(temporary) // what could not be finished; that it stays is the lesser fault
		}
	}()
	f, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644) //nolint:gosec // reports are for others to read
	if err != nil {
		return err
	}
	if err := errors.Join(write(f, r), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, filepath.Join(dir, name))
}
