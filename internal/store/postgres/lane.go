package postgres

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"gatehouse/internal/fault"
)

const (
	// maxGroup bounds a statement's work, and with it how long the first of a
	// group waits: some 10 ms.
	maxGroup = 256
	// maxQueue bounds the memory and the wait of what has queued in a lane.
	maxQueue = 4096
	// callTimeout bounds one call to the database.
	callTimeout = 3 * time.Second
	// opTimeout is how long a caller waits for its outcome, its queue included.
	opTimeout = 5 * time.Second
)

var (
	errClosed    = errors.New("the store is closed")
	errQueueFull = errors.New("too many calls are waiting")
	errSlow      = errors.New("the call was not done in time")
)

// call is one caller's request and its claim to the outcome.
type call[In, Out any] struct {
	in  In
	out Out
	err error
	// done is closed once out or err is there.
	done chan struct{}
	// taken is claimed once: by the lane, or by a caller that gave up, so that
	// what was refused as late is not done later.
	taken atomic.Bool
}

// answer says what became of the call; only the first answer counts.
func (c *call[In, Out]) answer(out Out, err error) {
	select {
	case <-c.done:
	default:
		c.out, c.err = out, err
		close(c.done)
	}
}

// lane runs calls in groups, one group at a time. run answers each of its calls
// before it returns.
type lane[In, Out any] struct {
	run     func(ctx context.Context, group []*call[In, Out])
	queue   chan *call[In, Out]
	stop    chan struct{}
	stopped chan struct{}
	ending  sync.Once
}

func newLane[In, Out any](run func(context.Context, []*call[In, Out])) *lane[In, Out] {
	l := &lane[In, Out]{
		run: run, queue: make(chan *call[In, Out], maxQueue),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go l.loop()
	return l
}

// do has a call done and returns its outcome. When it fails with
// fault.Unavailable the outcome may be unknown.
func (l *lane[In, Out]) do(ctx context.Context, in In) (Out, error) {
	c := &call[In, Out]{in: in, done: make(chan struct{})}
	if err := l.add(c); err != nil {
		var none Out
		return none, err
	}
	return l.await(ctx, c)
}

func (l *lane[In, Out]) add(c *call[In, Out]) error {
	select {
	case <-l.stop:
		return fault.Away(errClosed)
	default:
	}
	select {
	case l.queue <- c:
		return nil
	default:
		return fault.Away(errQueueFull)
	}
}

func (l *lane[In, Out]) await(ctx context.Context, c *call[In, Out]) (none Out, err error) {
	timer := time.NewTimer(opTimeout)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.out, c.err
	case <-timer.C:
		err = errSlow
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-l.stopped:
		select {
		case <-c.done:
			return c.out, c.err
		default:
			err = errClosed
		}
	}
	c.taken.Store(true)
	return none, fault.Away(err)
}

// close finishes what has queued.
func (l *lane[In, Out]) close() {
	l.ending.Do(func() { close(l.stop) })
	<-l.stopped
}

func (l *lane[In, Out]) loop() {
	defer close(l.stopped)
	for {
		select {
		case c := <-l.queue:
			l.let()
			l.runGroup(c)
		case <-l.stop:
			for len(l.queue) > 0 {
				l.runGroup(<-l.queue)
			}
			return
		}
	}
}

// let gives way to callers that are ready to queue: those just answered may be
// about to ask again, and one call is cheaper than two. No time is waited for.
func (l *lane[In, Out]) let() {
	for idle, before := 0, len(l.queue); idle < 4 && before < maxGroup; {
		runtime.Gosched()
		idle++
		if now := len(l.queue); now > before {
			idle, before = 0, now
		}
	}
}

// runGroup runs first and what has queued behind it.
func (l *lane[In, Out]) runGroup(first *call[In, Out]) {
	group := make([]*call[In, Out], 0, min(maxGroup, len(l.queue)+1))
	for c := first; ; {
		if c.taken.CompareAndSwap(false, true) {
			group = append(group, c)
		}
		if len(group) < maxGroup {
			select {
			case c = <-l.queue:
				continue
			default:
			}
		}
		break
	}
	if len(group) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			for _, c := range group {
				c.answer(c.out, fault.Panicked(p))
			}
		}
	}()
	l.run(ctx, group)
}
