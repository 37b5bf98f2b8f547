package report

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
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

// Report is what the pages show: the same of a run that has just ended and of
// one that was read again.
type Report struct {
	*Summary
	Seconds Seconds
}

// Render writes the pages of a run into a folder that exists, each under a
// temporary name first, so that none is ever half there. One that can't be
// written keeps no other from it; the error has all that failed.
func Render(dir string, r *Report, html func(io.Writer, *Report) error) error {
	return errors.Join(
		WriteFile(dir, markdownFile, r, Markdown),
		WriteFile(dir, htmlFile, r, html),
		WriteFile(dir, junitFile, r.Summary, JUnit),
	)
}

// Write writes a run's reports. The pages are made of the summary as it will be
// read, in which what was no UTF-8 has been replaced. summary.json comes last:
// where it is, the others have been written or tried.
func Write(dir string, run *Run, html func(io.Writer, *Report) error) error {
	data, err := Summarize(run).JSON()
	if err != nil {
		return err
	}
	s, err := ReadSummary(data)
	if err == nil {
		err = Render(dir, &Report{s, run.Seconds}, html)
	}
	return errors.Join(err, writeText(dir, summaryFile, data))
}

// JSON is a summary of any kind as summary.json has it, its keys always in the
// same order.
func JSON(summary any) ([]byte, error) {
	data, err := json.Marshal(summary, json.Deterministic(true), jsontext.WithIndent("  "), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return nil, fmt.Errorf("write the summary: %w", err)
	}
	return append(data, '\n'), nil
}

// WriteSummary writes summary.json, which comes after all other reports.
func WriteSummary(dir string, summary any) error {
	data, err := JSON(summary)
	if err != nil {
		return err
	}
	return writeText(dir, summaryFile, data)
}

func writeText(dir, name string, text []byte) error {
	return WriteFile(dir, name, text, func(w io.Writer, text []byte) error {
		_, err := w.Write(text)
		return err
	})
}

// Template is a page's, of text/template or html/template.
type Template interface {
	Execute(w io.Writer, data any) error
}

// WritePages writes the pages of what is no single run.
func WritePages[P any](dir string, page P, markdown, html Template, junit func(io.Writer, P) error) error {
	return errors.Join(
		WriteFile(dir, markdownFile, page, Filled[P](markdown)),
		WriteFile(dir, htmlFile, page, Filled[P](html)),
		WriteFile(dir, junitFile, page, junit),
	)
}

// Filled writes a page of a template for WriteFile. It fails only where writing
// does.
func Filled[P any](t Template) func(io.Writer, P) error {
	return func(w io.Writer, p P) error {
		b := bufio.NewWriter(w)
		return errors.Join(t.Execute(b, p), b.Flush())
	}
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
