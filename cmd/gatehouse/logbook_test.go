package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"sync"
)

// logLine is a line of a node's log.
type logLine struct {
	Level       string `json:"level"`
	Msg         string `json:"msg"` // "": the line is no log entry
	Listen      string `json:"listen"`
	AdminListen string `json:"admin_listen"`
	raw         string
}

// A logBook takes in what a node writes to standard error, and tells those
// who wait for a line.
type logBook struct {
	mu      sync.Mutex
	partial []byte
	lines   []logLine
	more    chan struct{} // closed when there is another line
}

func newLogBook() *logBook { return &logBook{more: make(chan struct{})} }

// Write takes in a piece of the log.
func (b *logBook) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.partial = append(b.partial, p...)
	for {
		line, rest, whole := bytes.Cut(b.partial, []byte("\n"))
		if !whole {
			return len(p), nil
		}
		l := logLine{raw: string(line)}
		if err := json.Unmarshal(line, &l); err != nil {
			l.Msg = ""
		}
		b.lines = append(b.lines, l)
		b.partial = bytes.Clone(rest)
		close(b.more)
		b.more = make(chan struct{})
	}
}

// with returns the entries with this message, and a channel that is closed
// when there is another line.
func (b *logBook) with(msg string) (found []logLine, more <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lines {
		if l.Msg == msg {
			found = append(found, l)
		}
	}
	return found, b.more
}

func (b *logBook) all() []logLine {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}

// errors counts the entries that are errors or warnings, but for the sweep's:
// it runs by the clock.
func (b *logBook) errors() (n int) {
	for _, l := range b.all() {
		if (l.Level == "ERROR" || l.Level == "WARN") && l.Msg != "rate windows could not be swept" {
			n++
		}
	}
	return n
}

func (b *logBook) text() string { return textOf(b.all()) }

// remarkable is what is in the log beyond a node's usual life.
func (b *logBook) remarkable() string {
	return textOf(slices.DeleteFunc(b.all(), func(l logLine) bool { return l.Msg == "serving" || l.Msg == "draining" }))
}

func textOf(lines []logLine) string {
	var text strings.Builder
	for _, l := range lines {
		text.WriteString("    " + l.raw + "\n")
	}
	return text.String()
}
