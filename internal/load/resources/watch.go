package resources

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/load"
)

const (
	every    = 5 * time.Second
	patience = 2 * time.Second // with one reading
)

// Usage is what a target used, as far as it is known.
type Usage struct {
	Source string  `json:"source"` // "metrics", "pid", "metrics, pid"; "" for nothing
	Why    string  `json:"why"`    // why there is nothing or no more, and what was odd
	Stages []Stage `json:"stages"` // those with a reading
}

// Stage is what was used in one of the plan's stages; nil is not known.
type Stage struct {
	Stage      int    `json:"stage"` // from 0; -1 before the run, and as many as there are after it
	CPU        *Spent `json:"cpu_cores,omitzero"`
	Memory     *Spent `json:"memory_bytes,omitzero"`
	Goroutines *Spent `json:"goroutines,omitzero"`
	OpenFiles  *Spent `json:"open_fds,omitzero"`
	Pool       *Spent `json:"pool_in_use,omitzero"`
	Jobs       *Spent `json:"jobs_queued,omitzero"`
}

// Spent is how much of something was used.
type Spent struct {
	Avg float64 `json:"avg"`
	Max float64 `json:"max"`
}

// Watch reads sources while a run goes.
type Watch struct {
	sources []Source
	all     []moment
	stop    func()
	reader  sync.WaitGroup
}

// moment is one reading; err is of the sources that failed.
type moment struct {
	at time.Time
	reading
	err error
}

// Begin reads the sources for the first time, and then every five seconds until
// Stop, or until ctx ends.
func Begin(ctx context.Context, sources ...Source) *Watch {
	w := &Watch{sources: sources}
	ctx, w.stop = context.WithCancel(ctx)
	w.read(ctx)
	w.reader.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				w.read(ctx)
			}
		}
	})
	return w
}

// Stop reads for the last time, unless ctx has ended.
func (w *Watch) Stop(ctx context.Context) {
	w.stop()
	w.reader.Wait()
	w.read(ctx)
}

// read adds a moment, unless ctx ends before it.
func (w *Watch) read(ctx context.Context) {
	brief, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	began := time.Now()
	m := moment{reading: reading{}}
	for i, s := range w.sources {
		r, err := s.read(brief)
		if i < len(w.sources)-1 { // the last alone is believed, so that no two counters mix
			delete(r, cpu)
			delete(r, memory)
		}
		maps.Copy(m.reading, r)
		m.err = errors.Join(m.err, err)
	}
	if ctx.Err() == nil {
		m.at = began.Add(time.Since(began) / 2)
		w.all = append(w.all, m)
	}
}

// Usage sums up what was read until Stop, by the stages of a run that began and
// took so long.
func (w *Watch) Usage(began time.Time, took time.Duration, stages []load.Stage) Usage {
	type sum struct{ total, weight, most float64 }
	sums := map[[2]int]sum{} // by stage and what is used
	add := func(at time.Time, of int, v, weight float64) {
		place := [2]int{stageAt(at.Sub(began), took, stages), of}
		s := sums[place]
		sums[place] = sum{s.total + v*weight, s.weight + weight, max(s.most, v)}
	}
	u := Usage{Stages: []Stage{}}
	for _, source := range w.sources {
		u.Source = strings.TrimPrefix(u.Source+", "+source.name, ", ")
	}
	into := func(m moment) time.Duration { return max(m.at.Sub(began), 0).Round(time.Second) }
	silent := 0
	var before moment // that told its processor time
	for _, m := range w.all {
		if m.err != nil {
			silent++
			u.Why = cmp.Or(u.Why, fmt.Sprintf("the first %v into the run: %v", into(m), m.err))
		}
		for of, v := range m.reading {
			if of != cpu {
				add(m.at, of, v, 1)
				continue
			}
			passed, spent := m.at.Sub(before.at), v-before.reading[cpu]
			if before.reading != nil && passed > 0 && spent >= 0 { // a process that began anew begins at zero
				add(m.at.Add(-passed/2), cpu, spent/passed.Seconds(), passed.Seconds())
			}
			before = m
		}
	}
	if silent > 0 {
		u.Why = fmt.Sprintf("it was silent in %d of %d readings, %s", silent, len(w.all), u.Why)
	}
	for of := range names {
		u.Why = strings.TrimPrefix(u.Why+w.odd(of, into), "; ")
	}
	for i := -1; i <= len(stages); i++ {
		spent := func(of int) *Spent {
			s, ok := sums[[2]int{i, of}]
			if !ok {
				return nil
			}
			return &Spent{math.Round(s.total/s.weight*1e3) / 1e3, math.Round(s.most*1e3) / 1e3}
		}
		if s := (Stage{i, spent(cpu), spent(memory), spent(goroutines), spent(openFiles), spent(pool), spent(jobs)}); s != (Stage{Stage: i}) {
			u.Stages = append(u.Stages, s)
		}
	}
	return u
}

// odd says, after a semicolon each, how often one thing was missing that had been
// told before, where the rest was told, and that a counter went back.
func (w *Watch) odd(of int, into func(moment) time.Duration) (text string) {
	var last, lost, back *moment
	missing := 0
	for i := range w.all {
		m := &w.all[i]
		v, told := m.reading[of]
		switch {
		case told && of == cpu && last != nil && v < last.reading[of]:
			back = cmp.Or(back, m)
		case !told && last != nil && m.err == nil:
			lost = cmp.Or(lost, m)
			missing++
		}
		if told {
			last = m
		}
	}
	if lost != nil {
		text = fmt.Sprintf("; %s: missing in %d of %d readings, the first %v into the run", names[of], missing, len(w.all), into(*lost))
	}
	if back != nil {
		text += fmt.Sprintf("; %s: went back by %v into the run, as after a restart", names[of], into(*back))
	}
	return text
}

// stageAt is the stage of a moment; the last one's while answers are awaited.
func stageAt(at, took time.Duration, stages []load.Stage) int {
	if at > took {
		return len(stages)
	}
	i, end := -1, time.Duration(0)
	for ; at >= end && i+1 < len(stages); i++ {
		end += stages[i+1].Duration
	}
	return i
}
