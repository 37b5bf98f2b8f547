package postgres

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/fault"
)

const (
	// maxGroup bounds a statement's work, and with it how long the first of a
	// group waits: some 10 ms.
	maxGroup = 256
	// width is how many groups of decisions may be under way: while the database
	// works on one, the next is put together and sent. Groups of sign-ups cost the
	// database so much more than us that a second one only makes them smaller.
	width = 2
	// maxQueue bounds the memory of what has queued in a lane.
	maxQueue = 4096
	// maxWait is how long a call may have queued when its turn comes. With
	// callTimeout it bounds how long a caller waits for its outcome.
	maxWait = 2 * time.Second
	// callTimeout bounds one call to the database.
	callTimeout = 3 * time.Second
)

var (
	errClosed    = errors.New("the store is closed")
	errQueueFull = errors.New("too many calls are waiting")
	errSlow      = errors.New("the calls before it took too long")
)

// call is one caller's request and what became of it.
type call[In, Out any] struct {
	in     In
	queued time.Time
	out    Out
	err    error
	done   chan struct{} // closed once out or err is there
	// answered is claimed by the one answer that counts: a call that was moved
	// to another lane may meet two.
	answered atomic.Bool
}

// answer says what became of the call; only the first answer counts.
func (c *call[In, Out]) answer(out Out, err error) {
	if c.answered.CompareAndSwap(false, true) {
		c.out, c.err = out, err
		close(c.done)
	}
}

// lane runs calls in groups, so many groups at a time. run answers each of its
// calls before it returns.
type lane[In, Out any] struct {
	run     func(ctx context.Context, group []*call[In, Out])
	runners sync.WaitGroup

	mu     sync.Mutex
	wake   sync.Cond // there is something in the queue, or never will be
	queue  []*call[In, Out]
	closed bool
}

func newLane[In, Out any](width int, run func(context.Context, []*call[In, Out])) *lane[In, Out] {
	l := &lane[In, Out]{run: run}
	l.wake.L = &l.mu
	for range width {
		l.runners.Go(l.loop)
	}
	return l
}

// do has a call done and returns its outcome. When it fails with
// fault.Unavailable the outcome may be unknown; when ctx ends, the call may be
// done all the same.
func (l *lane[In, Out]) do(ctx context.Context, in In) (none Out, err error) {
	c := &call[In, Out]{in: in, queued: time.Now(), done: make(chan struct{})}
	if err := l.add(c); err != nil {
		return none, err
	}
	select {
	case <-c.done:
		return c.out, c.err
	case <-ctx.Done():
		return none, fault.Away(context.Cause(ctx))
	}
}

func (l *lane[In, Out]) add(c *call[In, Out]) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return fault.Away(errClosed)
	case len(l.queue) == maxQueue:
		return fault.Away(errQueueFull)
	}
	l.queue = append(l.queue, c)
	l.wake.Signal()
	return nil
}

// end refuses calls from now on; what has queued is done.
func (l *lane[In, Out]) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.wake.Broadcast()
}

// close ends the lane and waits until it has done what has queued.
func (l *lane[In, Out]) close() {
	l.end()
	l.runners.Wait()
}

func (l *lane[In, Out]) loop() {
	for l.await() {
		l.let()
		l.runGroup(l.take())
	}
}

// await waits until there is something to do; it is false when there never will
// be.
func (l *lane[In, Out]) await() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.wake.Wait()
	}
	return len(l.queue) > 0
}

// take takes the calls that are first in the queue; another runner may have
// taken them.
func (l *lane[In, Out]) take() (group []*call[In, Out]) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(maxGroup, len(l.queue))
	group = append(group, l.queue[:n]...)
	rest := copy(l.queue, l.queue[n:])
	clear(l.queue[rest:])
	l.queue = l.queue[:rest]
	return group
}

func (l *lane[In, Out]) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.queue)
}

// let gives way to callers that are ready to queue: those just answered may be
// about to ask again, and one call is cheaper than two. No time is waited for.
func (l *lane[In, Out]) let() {
	for idle, before := 0, l.len(); idle < 4 && 0 < before && before < maxGroup; {
		runtime.Gosched()
		idle++
		if now := l.len(); now > before {
			idle, before = 0, now
		}
	}
}

func (l *lane[In, Out]) runGroup(group []*call[In, Out]) {
	var none Out
	now := time.Now()
	group = slices.DeleteFunc(group, func(c *call[In, Out]) bool {
		late := now.Sub(c.queued) > maxWait
		if late {
			c.answer(none, fault.Away(errSlow))
		}
		return late
	})
	if len(group) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			for _, c := range group {
				c.answer(none, fault.Panicked(p))
			}
		}
	}()
	l.run(ctx, group)
}
