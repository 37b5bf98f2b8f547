package resources

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"gatehouse/internal/load"
)

// stages are a run of 20 seconds.
var stages = []load.Stage{{Rate: 5}, {Duration: 10 * time.Second, Rate: 5}, {Duration: 10 * time.Second, Rate: 10}}

func spent(avg, most float64) *Spent { return &Spent{avg, most} }

// drive watches a run that takes a second to begin, and so long.
func drive(t *testing.T, took time.Duration, sources ...Source) Usage {
	t.Helper()
	w := Begin(t.Context(), sources...)
	<-time.After(time.Second)
	began := time.Now()
	<-time.After(took)
	w.Stop(t.Context())
	return w.Usage(began, took-time.Millisecond, stages)
}

func TestUsageByStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zero, n := time.Now(), 0.0
		got := drive(t, 20*time.Second, Source{"metrics", func(context.Context) (reading, error) {
			n++
			at := time.Since(zero).Seconds()
			return reading{cpu: at/2 + max(at-11, 0), memory: 1000 * n, jobs: 0}, nil // half a core, and then one and a half
		}})
		want := Usage{Source: "metrics", Stages: []Stage{ // read at -1, 4, 9, 14, 19 and 20
			{Stage: -1, Memory: spent(1000, 1000), Jobs: spent(0, 0)},
			{Stage: 1, CPU: spent(0.5, 0.5), Memory: spent(2500, 3000), Jobs: spent(0, 0)},
			{Stage: 2, CPU: spent(1.409, 1.5), Memory: spent(4500, 5000), Jobs: spent(0, 0)},
			{Stage: 3, Memory: spent(6000, 6000), Jobs: spent(0, 0)},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestATargetThatFallsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zero := time.Now()
		got := drive(t, 20*time.Second, Source{"metrics", func(context.Context) (reading, error) {
			if time.Since(zero) > 7*time.Second {
				return nil, errors.New("gone")
			}
			return reading{goroutines: 5}, nil
		}})
		want := Usage{Source: "metrics", Why: "it was silent in 4 of 6 readings, the first 9s into the run: gone", Stages: []Stage{
			{Stage: -1, Goroutines: spent(5, 5)}, {Stage: 1, Goroutines: spent(5, 5)},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// A process that begins anew counts from zero: that interval tells nothing.
func TestARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counter := []float64{100, 105, 1, 6, 11, 12}
		got := drive(t, 20*time.Second, Source{"metrics", func(context.Context) (reading, error) {
			v := counter[0]
			counter = counter[1:]
			return reading{cpu: v}, nil
		}})
		want := []Stage{{Stage: 1, CPU: spent(1, 1)}, {Stage: 2, CPU: spent(1, 1)}}
		if diff := cmp.Diff(want, got.Stages); diff != "" {
			t.Error(diff)
		}
		if want := "processor time: went back by 9s into the run, as after a restart"; got.Why != want {
			t.Errorf("it says %q, want %q", got.Why, want)
		}
	})
}

// A metric that vanishes alone is told of; one that never was, or comes late, is not.
func TestAMetricThatVanishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		got := drive(t, 20*time.Second, Source{"metrics", func(context.Context) (reading, error) {
			n++
			r := reading{memory: 1, openFiles: 1}
			switch {
			case n == 2:
				return nil, errors.New("gone") // which says enough of this reading
			case n == 4 || n == 5:
				delete(r, openFiles)
			case n == 6:
				r[jobs] = 1
			}
			return r, nil
		}})
		want := "it was silent in 1 of 6 readings, the first 4s into the run: gone; open files: missing in 2 of 6 readings, the first 14s into the run"
		if got.Why != want {
			t.Errorf("it says %q, want %q", got.Why, want)
		}
	})
}

// Of two sources the process is believed about itself.
func TestTwoSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := drive(t, time.Second,
			Source{"metrics", func(context.Context) (reading, error) { return reading{cpu: 1, memory: 1, jobs: 2}, nil }},
			Source{"pid", func(context.Context) (reading, error) { return reading{memory: 7}, errors.New("it has no processor") }})
		want := Usage{Source: "metrics, pid", Why: "it was silent in 2 of 2 readings, the first 0s into the run: it has no processor", Stages: []Stage{
			{Stage: -1, Memory: spent(7, 7), Jobs: spent(2, 2)}, {Stage: 3, Memory: spent(7, 7), Jobs: spent(2, 2)},
		}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// A target that never answers costs two seconds before a run and after it.
func TestATargetThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zero := time.Now()
		got := drive(t, 20*time.Second, Source{"metrics", func(ctx context.Context) (reading, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		if took := time.Since(zero); took != 25*time.Second || len(got.Stages) > 0 || got.Why != "it was silent in 5 of 5 readings, the first 0s into the run: context deadline exceeded" {
			t.Errorf("%+v after %v", got, took)
		}
	})
}

func TestAnInterruptionEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		zero := time.Now()
		w := Begin(ctx, Source{"metrics", func(ctx context.Context) (reading, error) {
			if time.Since(zero) > 0 {
				<-ctx.Done()
			}
			return reading{memory: 1}, ctx.Err()
		}})
		<-time.After(6 * time.Second)
		cancel()
		w.Stop(ctx)
		if took := time.Since(zero); took != 6*time.Second || len(w.all) != 1 {
			t.Errorf("%d readings after %v", len(w.all), took)
		}
		if got := w.Usage(zero, 6*time.Second, stages); got.Why != "" || len(got.Stages) != 1 {
			t.Errorf("%+v; want what was read before, and no complaint", got)
		}
	})
}

func TestNothingToWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if got := drive(t, 20*time.Second); got.Source != "" || got.Why != "" || len(got.Stages) > 0 {
			t.Errorf("%+v", got)
		}
	})
}
