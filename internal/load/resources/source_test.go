package resources

import (
	"context"
	"errors"
	"maps"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const told = `# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.
# TYPE process_cpu_seconds_total counter
process_cpu_seconds_total 12.5
process_resident_memory_bytes 3.5e+07
process_resident_memory_bytes_peak 9e+07
go_goroutines 17 1700000000000
gatehouse_jobs{kind="a } \"b\"",state="queued"} 3
gatehouse_jobs{kind="c",state="queued"} 4
gatehouse_jobs{kind="c",state="dead"} 100
process_open_fds{instance="a"} 9
other{le="+Inf"} NaN
`

func TestMetrics(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       reading
		err        string
	}{
		{"a node's", told, reading{cpu: 12.5, memory: 3.5e7, goroutines: 17, openFiles: 9, jobs: 7}, ""},
		{"another program's", "gatehouse_store_busy_connections{db_name=\"x\"} 5\n", reading{pool: 5}, ""},
		{"without an end of line", "go_goroutines 1", reading{goroutines: 1}, ""},
		{"a page", "<html>\n", nil, "nothing that is looked for"},
		{"nothing", "", nil, "nothing that is looked for"},
		{"jobs that wait for nobody", "gatehouse_jobs{state=\"dead\"} 1\n", nil, "nothing that is looked for"},
		{"no number", "go_goroutines many\n", nil, `go_goroutines is "many"`},
		{"no value", "go_goroutines \n", nil, `go_goroutines is ""`},
		{"labels without an end", "process_open_fds{a=\"b\" 1\n", nil, "process_open_fds is"},
		{"not a number", "go_goroutines NaN\n", nil, "NaN"},
		{"less than none", "process_cpu_seconds_total -1\n", nil, "-1"},
		{"without bounds", "process_resident_memory_bytes +Inf\n", nil, "+Inf"},
		{"more than can be", "process_resident_memory_bytes 1e300\n", nil, "1e300"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Metrics(func(context.Context) ([]byte, error) { return []byte(tt.text), nil }).read(t.Context())
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, want %q", err, tt.err)
			}
		})
	}
	gone := errors.New("gone")
	if _, err := Metrics(func(context.Context) ([]byte, error) { return nil, gone }).read(t.Context()); !errors.Is(err, gone) {
		t.Errorf("%v, want what the target said", err)
	}
}

func TestStat(t *testing.T) {
	const after = " S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 19 20 100 more"
	page := float64(os.Getpagesize())
	for _, tt := range []struct {
		name, text string
		want       reading
		err        string
	}{
		{"a process", "42 (gatehouse)" + after, reading{cpu: 2, memory: 100 * page}, ""},
		{"an odd name", "42 (a) S 1 (b)" + after, reading{cpu: 2, memory: 100 * page}, ""},
		{"one that nobody has waited for", "42 (x)" + strings.Replace(after, "S", "Z", 1), nil, "has ended"},
		{"cut", "42 (x) S 1 2 3", nil, "has ended"},
		{"nothing", "", nil, "has ended"},
		{"no number", "42 (x)" + strings.Replace(after, "150", "x", 1), nil, `has "x"`},
		{"more than can be", "42 (x)" + strings.Replace(after, " 100 ", " 1e300 ", 1), nil, `has "1e300"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseStat(tt.text)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, want %q", err, tt.err)
			}
		})
	}
}

func TestProcess(t *testing.T) {
	s, err := Process(os.Getpid())
	if runtime.GOOS != "linux" {
		if err == nil {
			t.Error("it claims to watch a process here")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.read(t.Context()); err != nil || r[memory] < 1<<20 || r[cpu] > 3600 {
		t.Errorf("%v, %v; want this process", r, err)
	}
	if _, err := Process(-1); err == nil || !strings.Contains(err.Error(), "there is no process -1 here") {
		t.Errorf("%v, want no such process", err)
	}
}

// FuzzMetrics: whatever a target tells are numbers that can be added up.
func TestMetricsOfSeveralNodes(t *testing.T) {
	node := func(text string, err error) Fetch {
		return func(context.Context) ([]byte, error) { return []byte(text), err }
	}
	one, gone := node("go_goroutines 3\nprocess_cpu_seconds_total 2.5\n", nil), errors.New("gone")
	all := Metrics(one, node("go_goroutines 4\n", nil))
	if got, err := all.read(t.Context()); err != nil || !maps.Equal(got, reading{goroutines: 7, cpu: 2.5}) || all.name != "metrics of 2 nodes together" {
		t.Errorf("%s: %v, %v", all.name, got, err)
	}
	if got, err := Metrics(one, node("", gone)).read(t.Context()); !errors.Is(err, gone) || got != nil {
		t.Errorf("with one that is silent %v, %v; want nothing of the whole", got, err)
	}
}

func FuzzMetrics(f *testing.F) {
	f.Add(told)
	f.Add("42 (gatehouse) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 17 18 19 20 100")
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) (reading, error){parseMetrics, parseStat} {
			r, err := parse(text)
			if err == nil && len(r) == 0 {
				t.Error("it read nothing, and no error")
			}
			for of, v := range r {
				if of < cpu || of > jobs || !(v >= 0) || math.IsInf(v, 1) {
					t.Errorf("%d is %v", of, v)
				}
			}
		}
	})
}
