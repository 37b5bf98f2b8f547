package jobs_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/jobs"
)

type name struct {
	kind    jobs.Kind
	subject string
}

// queue is a Queue in memory, with the leases and the fence of a real one.
type queue struct {
	mu     sync.Mutex
	rows   map[name]*jobs.Job
	asked  int             // how often for jobs
	broken map[string]bool // calls that fail
}

var errAway = errors.New("the database is away")

func newQueue() *queue {
	return &queue{rows: make(map[name]*jobs.Job), broken: make(map[string]bool)}
}

// fill adds n jobs of a kind, begun so often already. Earlier ones are due longer.
func (q *queue) fill(kind jobs.Kind, n, tries int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for range n {
		subject := fmt.Sprintf("%05d", len(q.rows))
		at := time.Now().Add(time.Duration(len(q.rows)) - time.Hour)
		q.rows[name{kind, subject}] = &jobs.Job{Kind: kind, Subject: subject, CreatedAt: at, DueAt: at, Tries: tries}
	}
}

// fails makes calls fail, or no longer.
func (q *queue) fails(broken bool, calls ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, call := range calls {
		q.broken[call] = broken
	}
}

// left are the jobs that are there, by subject.
func (q *queue) left() []jobs.Job {
	q.mu.Lock()
	defer q.mu.Unlock()
	var all []jobs.Job
	for _, j := range q.rows {
		all = append(all, *j)
	}
	slices.SortFunc(all, func(a, b jobs.Job) int { return cmp.Compare(a.Subject, b.Subject) })
	return all
}

func (q *queue) Claim(_ context.Context, kind jobs.Kind, n int, lease time.Duration) ([]jobs.Job, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.asked++
	if q.broken["claim"] {
		return nil, errAway
	}
	var due []*jobs.Job
	for _, j := range q.rows {
		if j.Kind == kind && j.DeadAt.IsZero() && !j.DueAt.After(time.Now()) {
			due = append(due, j)
		}
	}
	slices.SortFunc(due, func(a, b *jobs.Job) int { return a.DueAt.Compare(b.DueAt) })
	var claimed []jobs.Job
	for _, j := range due[:min(n, len(due))] {
		j.DueAt, j.Running = time.Now().Add(lease), true
		j.Tries++
		j.Claim++
		claimed = append(claimed, *j)
	}
	return claimed, nil
}

// settle changes a job that is still its claimer's.
func (q *queue) settle(ctx context.Context, call string, j jobs.Job, change func(*jobs.Job)) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken[call] || ctx.Err() != nil {
		return errAway
	}
	if row := q.rows[name{j.Kind, j.Subject}]; row != nil && row.Claim == j.Claim {
		row.Running = false
		change(row)
	}
	return nil
}

func (q *queue) Done(ctx context.Context, j jobs.Job) error {
	return q.settle(ctx, "done", j, func(*jobs.Job) { delete(q.rows, name{j.Kind, j.Subject}) })
}

func (q *queue) Postpone(ctx context.Context, j jobs.Job, after time.Duration, reason string, refund bool) error {
	return q.settle(ctx, "postpone", j, func(row *jobs.Job) {
		row.DueAt, row.Reason = time.Now().Add(after), reason
		if refund {
			row.Tries--
		}
	})
}

func (q *queue) Bury(ctx context.Context, j jobs.Job, reason string) error {
	return q.settle(ctx, "bury", j, func(row *jobs.Job) { row.DeadAt, row.Reason = time.Now(), reason })
}

func (q *queue) JobStats(context.Context) ([]jobs.Stat, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.broken["stats"] {
		return nil, errAway
	}
	counts := make(map[jobs.Kind]*jobs.Stat)
	for _, j := range q.rows {
		if counts[j.Kind] == nil {
			counts[j.Kind] = &jobs.Stat{Kind: j.Kind}
		}
		if j.DeadAt.IsZero() {
			counts[j.Kind].Queued++
		} else {
			counts[j.Kind].Dead++
		}
	}
	var all []jobs.Stat
	for _, s := range counts {
		all = append(all, *s)
	}
	return all, nil
}

// node is a runner at work.
type node struct {
	*jobs.Runner
	stop, cut context.CancelFunc
	ended     chan struct{}
	mu        sync.Mutex
	tried     map[jobs.Outcome]int
	counted   map[jobs.Kind]jobs.Stat
	log       bytes.Buffer
}

// start runs handlers until the test ends; in a bubble.
func start(t *testing.T, q *queue, handlers map[jobs.Kind]jobs.Handler) *node {
	t.Helper()
	n := &node{ended: make(chan struct{}), tried: make(map[jobs.Outcome]int), counted: make(map[jobs.Kind]jobs.Stat)}
	n.Runner = jobs.NewRunner(q, handlers, slog.New(slog.NewTextHandler(&n.log, nil)), jobs.Observer{
		Tried: func(_ jobs.Kind, o jobs.Outcome, _ time.Duration) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.tried[o]++
		},
		Counted: func(s jobs.Stat) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.counted[s.Kind] = s
		},
	})
	var ctx, cut context.Context
	ctx, n.stop = context.WithCancel(t.Context())
	cut, n.cut = context.WithCancel(t.Context())
	go func() {
		defer close(n.ended)
		n.Run(ctx, cut)
	}()
	return n
}

// outcomes are what became of tries so far.
func (n *node) outcomes() map[jobs.Outcome]int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.tried)
}

// pass lets time pass and what is to happen until then happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// busy takes a while, as a handler does.
func busy(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// diary notes each call of a handler.
type diary struct {
	mu    sync.Mutex
	calls map[string][]time.Time // by subject
	at    int                    // now
	most  int                    // at once
}

// handle wraps a handler.
func (d *diary) handle(h jobs.Handler) jobs.Handler {
	return func(ctx context.Context, j jobs.Job) error {
		d.mu.Lock()
		if d.calls == nil {
			d.calls = make(map[string][]time.Time)
		}
		d.calls[j.Subject] = append(d.calls[j.Subject], time.Now())
		d.at++
		d.most = max(d.most, d.at)
		d.mu.Unlock()
		defer func() {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.at--
		}()
		return h(ctx, j)
	}
}

func (d *diary) times(subject string) []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.calls[subject])
}

// tries is how many calls there were.
func (d *diary) tries() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, times := range d.calls {
		n += len(times)
	}
	return n
}
