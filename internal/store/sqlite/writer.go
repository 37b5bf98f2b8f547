package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync/atomic"
	"time"

	"gatehouse/internal/fault"
)

const (
	// maxGroup bounds how long the first of a group waits for its commit:
	// 256 operations are some 10 ms.
	maxGroup = 256
	// maxQueue bounds the memory and the wait of what has queued: at the
	// writer's rate it is emptied within a second. More is refused at once.
	maxQueue = 4096
	// opTimeout is how long a caller waits for its outcome.
	opTimeout = 5 * time.Second
	// calm is how long writes must not have failed to be said to work again.
	calm = time.Second
)

var (
	errClosed    = errors.New("the store is closed")
	errQueueFull = errors.New("too many writes are waiting")
	errSlow      = errors.New("the write was not done in time")
)

// op is a write and its caller's claim to the outcome.
type op struct {
	run  func(*tx) error
	done chan error // buffered: the writer never waits for a caller
	// taken is claimed once: by the writer to run the op, or by a caller
	// that gave up, so that what was refused as late is not done later.
	taken atomic.Bool
	mine  bool  // the writer's: it has claimed the op
	err   error // the writer's: the op's own refusal
}

// claim makes the op the writer's, unless its caller has given up.
func (o *op) claim() bool {
	o.mine = o.mine || o.taken.CompareAndSwap(false, true)
	return o.mine
}

// writer runs all writes, in groups.
type writer struct {
	db      *sql.DB // at most one connection
	queue   chan *op
	stop    chan struct{}
	stopped chan struct{}
	log     *slog.Logger
	// failing says that writing failed lately. It ends when Ping's write, as
	// large as a real one, succeeds, or any does after a while without a
	// failure: on a disk that is all but full small writes still pass. So on
	// a node without requests it is health that finds out.
	failing  atomic.Bool
	failedAt atomic.Int64 // when it last did, in ns of the wall clock

	conn *tx // nil until opened, and after a failure
}

func newWriter(db *sql.DB, log *slog.Logger) *writer {
	w := &writer{
		db: db, log: log,
		queue: make(chan *op, maxQueue), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go w.loop()
	return w
}

// do runs one operation in a transaction and returns once it is durable. One
// that fails, be it that it refuses (returns a *fault.Error), has no effect; a
// refusal is cheap where nothing was written before it, and costs the others of
// its group a commit each where something was. An operation may run more than
// once, though it is committed at most once: it starts anew each time. When do
// fails with fault.Unavailable the outcome may be unknown.
func (w *writer) do(ctx context.Context, run func(*tx) error) error {
	o := &op{run: run, done: make(chan error, 1)}
	select {
	case <-w.stop:
		return fault.Away(errClosed)
	default:
	}
	select {
	case w.queue <- o:
	default:
		w.fails(errQueueFull)
		return fault.Away(errQueueFull)
	}
	timer := time.NewTimer(opTimeout)
	defer timer.Stop()
	select {
	case err := <-o.done:
		return err
	case <-timer.C:
		o.taken.Store(true)
		w.fails(errSlow) // or a disk that hangs would be seen by nobody
		return fault.Away(errSlow)
	case <-ctx.Done():
		o.taken.Store(true)
		return fault.Away(context.Cause(ctx))
	case <-w.stopped:
		select {
		case err := <-o.done:
			return err
		default:
			return fault.Away(errClosed)
		}
	}
}

// close finishes what has queued and lets go of the connection.
func (w *writer) close() error {
	close(w.stop)
	<-w.stopped
	return w.db.Close()
}

func (w *writer) loop() {
	defer close(w.stopped)
	group := make([]*op, 0, maxGroup)
	for {
		select {
		case o := <-w.queue:
			group = append(group[:0], o)
		case <-w.stop:
			for len(w.queue) > 0 {
				w.commit(w.gather(append(group[:0], <-w.queue)))
			}
			if w.conn != nil {
				w.conn.close()
			}
			return
		}
		w.let()
		w.commit(w.gather(group))
		clear(group[:cap(group)])
	}
}

// let gives way to callers that are ready to queue a write: those of the group
// just committed may be about to ask again, and one commit is cheaper than
// two. It ends when several turns brought nobody, which takes a microsecond or
// two where nobody is ready; no time is waited for.
func (w *writer) let() {
	for idle, before := 0, len(w.queue); idle < 4 && before < maxGroup; {
		runtime.Gosched()
		idle++
		if now := len(w.queue); now > before {
			idle, before = 0, now
		}
	}
}

// gather adds what has queued meanwhile, and waits for nothing.
func (w *writer) gather(group []*op) []*op {
	for len(group) < maxGroup {
		select {
		case o := <-w.queue:
			group = append(group, o)
		default:
			return group
		}
	}
	return group
}

// commit writes a group and tells each caller its outcome. If one operation
// breaks the group, or refuses after it wrote, all are tried again singly, so
// that it fails alone; if the disk does, nothing is tried again.
func (w *writer) commit(group []*op) {
	err := w.try(group)
	if err != nil && len(group) > 1 && !environmental(err) {
		for i := range group {
			w.finish(group[i:i+1], w.try(group[i:i+1]))
		}
		return
	}
	w.finish(group, err)
}

func (w *writer) finish(group []*op, err error) {
	switch {
	case err != nil && environmental(err):
		w.fails(err)
	case err == nil && w.conn.changed > 0 && time.Now().UnixNano()-w.failedAt.Load() > int64(calm):
		w.works()
	}
	for _, o := range group {
		switch {
		case err == nil:
			o.done <- o.err
		case environmental(err):
			o.done <- fault.Away(err)
		default:
			o.done <- err
		}
	}
}

// fails says that writing fails, if that is news.
func (w *writer) fails(err error) {
	w.failedAt.Store(time.Now().UnixNano())
	if !w.failing.Swap(true) {
		w.log.Error("the database can't be written", "err", err)
	}
}

// works says that writing works, if it had failed.
func (w *writer) works() {
	if w.failing.Swap(false) {
		w.log.Info("the database can be written again")
	}
}

// try runs a group in one transaction. On an error nothing of it is kept, and
// the connection is opened anew, whatever state the failure left it in.
func (w *writer) try(group []*op) (err error) {
	defer func() {
		if err != nil && w.conn != nil {
			w.conn.rollback()
			w.conn.close()
			w.conn = nil
		}
	}()
	if w.conn == nil {
		if w.conn, err = openTx(w.db); err != nil {
			return err
		}
	}
	w.conn.changed = 0
	if err := w.conn.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	for _, o := range group {
		if !o.claim() {
			continue
		}
		before := w.conn.changed
		o.err = runOp(o, w.conn)
		if _, refused := errors.AsType[*fault.Error](o.err); o.err != nil && (!refused || w.conn.changed > before) {
			return o.err
		}
	}
	if err := w.conn.exec("COMMIT"); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

func runOp(o *op, t *tx) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.Panicked(p)
		}
	}()
	return o.run(t)
}
