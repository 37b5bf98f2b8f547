package resources

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

const (
	most = 1e15 // of anything: what is believed, and can be added up
	// ticks is how many units of processor time a second has in /proc: USER_HZ,
	// which is 100 on all that Go runs on.
	ticks = 100
)

// What is used.
const (
	cpu = iota // seconds of processor time since the process began
	memory
	goroutines
	openFiles
	pool
	jobs
)

// names are for people.
var names = [...]string{
	cpu: "processor time", memory: "memory", goroutines: "goroutines", openFiles: "open files", pool: "database connections", jobs: "jobs",
}

// reading is what a target used at one moment, as far as it told.
type reading map[int]float64

// Source is where readings are from.
type Source struct {
	name string
	read func(context.Context) (reading, error)
}

// wanted are the metrics that are read. Several series of one are added up.
var wanted = map[string]int{
	"process_cpu_seconds_total": cpu, "process_resident_memory_bytes": memory, "process_open_fds": openFiles, "go_goroutines": goroutines,
	"gatehouse_store_busy_connections": pool,
	"gatehouse_jobs":                   jobs, // in the state "queued"
}

// Fetch gets a node's /metrics, in Prometheus' text format, and bounds them.
type Fetch func(context.Context) ([]byte, error)

// Metrics reads a target's /metrics, and adds those of all its nodes up. Where
// one is silent nothing is known of the whole.
func Metrics(nodes ...Fetch) Source {
	name := "metrics"
	if len(nodes) > 1 {
		name = fmt.Sprintf("metrics of %d nodes together", len(nodes))
	}
	return Source{name, func(ctx context.Context) (reading, error) {
		all := reading{}
		for _, fetch := range nodes {
			text, err := fetch(ctx)
			if err != nil {
				return nil, err
			}
			r, err := parseMetrics(string(text))
			if err != nil {
				return nil, err
			}
			for of, v := range r {
				all[of] += v
			}
		}
		return all, nil
	}}
}

// parseMetrics picks what is wanted, and looks into no other line.
func parseMetrics(text string) (reading, error) {
	r := reading{}
	for line := range strings.SplitSeq(text, "\n") {
		name := line[:max(strings.IndexAny(line, "{ "), 0)]
		of, ok := wanted[name]
		if !ok {
			continue
		}
		rest := line[len(name):]
		labels := rest[:strings.LastIndexByte(rest, '}')+1] // neither value nor time has a brace
		if of == jobs && !strings.Contains(labels, `state="queued"`) {
			continue
		}
		value, _, _ := strings.Cut(strings.TrimSpace(rest[len(labels):]), " ") // a time may follow
		v, err := strconv.ParseFloat(value, 64)
		if err != nil || !(v >= 0 && v <= most) {
			return nil, fmt.Errorf("/metrics: %s is %.40q", name, value)
		}
		r[of] += v
	}
	if len(r) == 0 {
		return nil, errors.New("/metrics has nothing that is looked for")
	}
	return r, nil
}

// Process looks at a process of this machine. It fails where there is none, and
// elsewhere than on Linux.
func Process(pid int) (Source, error) {
	s := Source{"pid", func(context.Context) (reading, error) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return nil, fmt.Errorf("there is no process %d here, on Linux: %w", pid, err)
		}
		return parseStat(string(text))
	}}
	_, err := s.read(context.Background())
	return s, err
}

// parseStat reads /proc/PID/stat. Source: proc_pid_stat(5).
func parseStat(text string) (reading, error) {
	const state, utime, stime, rss = 3, 14, 15, 24 // fields, from 1
	name := strings.LastIndexByte(text, ')')       // the second, which may have any signs
	fields := append(make([]string, state), strings.Fields(text[name+1:])...)
	if len(fields) <= rss || fields[state] == "Z" {
		return nil, errors.New("the process has ended")
	}
	r := reading{}
	for _, f := range []struct {
		at, of int
		unit   float64
	}{{utime, cpu, 1.0 / ticks}, {stime, cpu, 1.0 / ticks}, {rss, memory, float64(os.Getpagesize())}} {
		n, err := strconv.ParseFloat(fields[f.at], 64)
		if err != nil || !(n >= 0 && n*f.unit <= most) {
			return nil, fmt.Errorf("/proc: the process has %.20q", fields[f.at])
		}
		r[f.of] += n * f.unit
	}
	return r, nil
}
