package runner

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
)

func TestMeasure(t *testing.T) {
	o := options(t, func(http.ResponseWriter, *http.Request) {})
	never := func(*load.Sample) bool { return false }
	m, err := Measure(t.Context(), o, never)
	if err != nil || m.Result.Interrupted || m.Result.Sent != 50 || len(m.Checks) == 0 || m.Checks[0].Verdict != gate.Pass || m.Environment.Generator.Go == "" {
		t.Errorf("%+v, %v; want 50 sent and the gate held", m, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if m, err := Measure(ended, o, never); m != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v; want the interruption", m, err)
	}
}

// It ends early when somebody has seen enough.
func TestMeasureEnough(t *testing.T) {
	o := options(t, func(http.ResponseWriter, *http.Request) {})
	o.Plan.Stages = []load.Stage{{Duration: load.MaxDuration, Rate: 20}}
	m, err := Measure(t.Context(), o, func(*load.Sample) bool { return true })
	if err != nil || !m.Result.Interrupted || m.Result.Elapsed > load.MaxDuration/2 {
		t.Errorf("%+v, %v; want it ended", m, err)
	}
}

// A rate at which any of several nodes was started anew was not held, not only the
// first.
func TestMeasureOfSeveralNodes(t *testing.T) {
	began := time.Now()
	var asked atomic.Bool
	o := options(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, node("a", 1000+time.Since(began).Seconds()))
	})
	second := options(t, func(w http.ResponseWriter, _ *http.Request) {
		uptime := 1000 + time.Since(began).Seconds()
		if asked.Swap(true) {
			uptime = 0.001
		}
		_, _ = fmt.Fprint(w, node("b", uptime))
	})
	o.Targets = append(o.Targets, second.Targets...)
	m, err := Measure(t.Context(), o, func(*load.Sample) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	failed := slices.DeleteFunc(m.Checks, func(c gate.Check) bool { return c.Verdict == gate.Pass })
	if len(failed) != 1 || failed[0].Verdict != gate.Fail || !strings.Contains(failed[0].Name, second.TargetText()) {
		t.Errorf("%+v; want the second to have failed", failed)
	}
}

func TestRecovered(t *testing.T) {
	for _, tt := range []struct {
		name     string
		statuses []int // the last for ever
		asked    int64
	}{
		{"at once", []int{200}, 3},
		{"without /health", []int{404}, 3},
		{"after a while", []int{503, 503, 200}, 5},
		{"with a relapse", []int{200, 200, 503, 200}, 6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.statuses[min(int(asked.Add(1)), len(tt.statuses))-1])
				_, _ = w.Write([]byte("{}"))
			}))
			defer s.Close()
			target, err := url.Parse(s.URL)
			if err != nil {
				t.Fatal(err)
			}
			if err := Recovered(t.Context(), []*url.URL{target}); err != nil || asked.Load() < tt.asked {
				t.Errorf("%v after %d questions; want %d", err, asked.Load(), tt.asked)
			}
		})
	}
	t.Run("interrupted", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
			cancel()
		}))
		defer s.Close()
		target, err := url.Parse(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		if err := Recovered(ctx, []*url.URL{target}); !errors.Is(err, context.Canceled) {
			t.Errorf("%v; want the interruption", err)
		}
	})
}
