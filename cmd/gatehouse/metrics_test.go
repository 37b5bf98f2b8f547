package main

import (
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// metrics are the values of one scrape.
type metrics []sample

type sample struct {
	name   string
	labels map[string]string
	value  float64
}

var (
	sampleLine = regexp.MustCompile(`^([a-z_:A-Z0-9]+)(?:\{(.*)\})? (\S+)$`)
	labelPair  = regexp.MustCompile(`([a-zA-Z0-9_]+)="((?:[^"\\]|\\.)*)"`)
)

// parseMetrics reads Prometheus's text format, as far as it is ours.
func parseMetrics(text string) (m metrics, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || line[0] == '#' {
			continue
		}
		parts := sampleLine.FindStringSubmatch(line)
		if parts == nil {
			return nil, fmt.Errorf("no sample: %q", line)
		}
		s := sample{name: parts[1], labels: make(map[string]string)}
		for _, pair := range labelPair.FindAllStringSubmatch(parts[2], -1) {
			s.labels[pair[1]] = pair[2]
		}
		if s.value, err = strconv.ParseFloat(parts[3], 64); err != nil {
			return nil, fmt.Errorf("no value: %q", line)
		}
		m = append(m, s)
	}
	return m, nil
}

// sum adds up the series of a name that have these labels: "status=201".
func (m metrics) sum(name string, labels ...string) (sum float64) {
	for _, s := range m {
		fits := s.name == name
		for _, label := range labels {
			k, v, _ := strings.Cut(label, "=")
			fits = fits && s.labels[k] == v
		}
		if fits {
			sum += s.value
		}
	}
	return sum
}

func TestParseMetrics(t *testing.T) {
	m, err := parseMetrics("# HELP a_total text\na_total{b=\"c\",d=\"e,f\"} 3\na_total{b=\"x\"} 1e3\nplain 0.5\n")
	if err != nil || len(m) != 3 {
		t.Fatalf("%v, %v", m, err)
	}
	if want := map[string]string{"b": "c", "d": "e,f"}; !maps.Equal(m[0].labels, want) {
		t.Errorf("labels %v, want %v", m[0].labels, want)
	}
	if got := m.sum("a_total"); got != 1003 {
		t.Errorf("sum of all: %v, want 1003", got)
	}
	if got := m.sum("a_total", "b=c", "d=e,f"); got != 3 {
		t.Errorf("sum of one series: %v, want 3", got)
	}
	if _, err := parseMetrics("<html>"); err == nil {
		t.Error("a page is no metrics, and yet no error")
	}
}
