package load

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// Above this rate arrivals are released in batches of about batchSize, since
	// waking up costs more than sending does. A batch waits half its span on
	// average, which is in the latency, and never more than batchMax.
	batchAbove = 3000 // requests a second
	batchSize  = 8
	batchMax   = time.Millisecond
	// grace is how long requests in flight have to end when a run is interrupted.
	grace = time.Second
)

// engine is one run under way.
type engine struct {
	job     *Job
	sched   *schedule
	rec     *recorder
	to      *endpoint
	senders []*senders
	alarm   *alarm
	began   time.Time
	ctx     context.Context // ends dials under way
	maxIdle int             // connections

	mu       sync.Mutex // guards what follows, and clients' idle connections
	inFlight int
	idle     int // connections
	resting  []*worker
	busy     map[*worker]struct{}
	aborted  bool
	full     bool          // the pacer waits for a place in flight
	freed    chan struct{} // a place in flight was left while full
	workers  sync.WaitGroup
}

// Run sends all that the job plans and waits for what it comes to. When ctx
// ends it stops sending, gives what is in flight a second, and returns what was
// measured until then, marked as interrupted. It fails when it can't begin: a
// target without an address or that its clients can't reach, a machine without
// timers. A target that is dead is no failure of the run.
func Run(ctx context.Context, j *Job) (*Result, error) {
	to, err := resolve(ctx, j)
	if err != nil {
		return nil, err
	}
	dialing, stopDialing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopDialing()
	e := &engine{
		job: j, sched: newSchedule(j.Stages), to: to, senders: newSenders(j.Requests, len(to.addrs)),
		ctx: dialing, maxIdle: maxIdleConns(), freed: make(chan struct{}, 1), busy: make(map[*worker]struct{}),
	}
	e.rec = newRecorder(j, e.sched, to.addrs)
	cpu := cpuTime()
	if e.alarm, e.began, err = newAlarm(); err != nil {
		return nil, err
	}
	defer e.alarm.close()
	e.rec.result.Started = e.began

	over := make(chan struct{})
	var aside sync.WaitGroup
	aside.Go(func() { e.tend(over) })
	stopAlarm := context.AfterFunc(ctx, e.alarm.stop)
	defer stopAlarm()

	e.rec.stop(e.pace(ctx))
	e.settle(ctx, stopDialing)
	close(over)
	aside.Wait()
	e.closeIdle(0)

	result := e.rec.finish(e.now())
	result.Interrupted = ctx.Err() != nil
	result.Generator.CPU = cpuTime() - cpu
	result.Generator.MaxRSS = maxRSS()
	return result, nil
}

func (e *engine) now() time.Duration { return time.Since(e.began) }

// tend ends seconds on time and closes what was idle for too long.
func (e *engine) tend(over <-chan struct{}) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-over:
			return
		case <-second.C:
			e.rec.tick(e.now())
			e.closeIdle(maxIdle)
		}
	}
}

// pace releases each arrival when it is due, and returns how many were due
// until it ended: all, unless it was interrupted.
func (e *engine) pace(ctx context.Context) int64 {
	f := &filler{picks: rand.New(rand.NewPCG(e.job.Seed, 2)), unique: newUnique()}
	pick, targets := newChooser(e.job), newRota(e.job.Seed, len(e.to.addrs))
	last := e.job.Planned() + e.job.Timeout // when to give up on what had to wait
	var woke, blocked time.Duration
	for k := range e.sched.total {
		due := e.sched.due(k)
		now := e.now()
		for now < due && ctx.Err() == nil {
			rate, _ := e.sched.rate(due)
			e.alarm.wait(max(due, woke+batchSpan(rate)))
			now = e.now()
			woke = now
		}
		var w *worker
		if ctx.Err() == nil && now < last {
			var waited bool
			if w, waited = e.place(ctx, last); waited {
				blocked = e.now()
			}
		}
		if w == nil {
			if ctx.Err() != nil {
				return max(e.sched.dueBefore(e.now()), k)
			}
			return e.sched.total
		}
		a := &w.arrival
		*a = Arrival{Seq: uint64(k) + 1, Request: pick.next(), Values: a.Values[:0]}
		if e.job.Script != nil {
			e.job.Script.Next(a)
		}
		f.seq, f.now, f.given, f.id = a.Seq, time.Now(), a.Values, f.id[:0]
		c := e.senders[a.Request].next()
		free := due
		if due < blocked { // it had to wait for a place, and then for its turn
			free = e.now()
		}
		w.due, w.free, w.client, w.target = due, free, c, targets.next()
		w.text = e.job.Requests[a.Request].render(w.text[:0], e.to, c, f)
		if e.job.Script != nil && a.ID == "" {
			a.ID = string(f.id)
		}
		w.wake <- struct{}{}
	}
	return e.sched.total
}

// batchSpan is how long to collect arrivals at a rate.
func batchSpan(rate float64) time.Duration {
	if rate < batchAbove {
		return 0
	}
	return min(time.Duration(batchSize/rate*float64(time.Second)), batchMax)
}

// place waits for a place in flight and returns a worker for it; nil when ctx
// or the run's last moment came first.
func (e *engine) place(ctx context.Context, last time.Duration) (w *worker, waited bool) {
	for {
		e.mu.Lock()
		if e.inFlight < e.job.MaxInFlight {
			e.inFlight++
			e.full = false
			if n := len(e.resting); n > 0 {
				w, e.resting = e.resting[n-1], e.resting[:n-1]
			} else {
				w = newWorker(e)
			}
			e.busy[w] = struct{}{}
			e.mu.Unlock()
			return w, waited
		}
		e.full = true
		e.mu.Unlock()
		waited = true
		giveUp := time.NewTimer(last - e.now())
		select {
		case <-e.freed:
		case <-ctx.Done():
		case <-giveUp.C:
		}
		giveUp.Stop()
		if ctx.Err() != nil || e.now() >= last {
			return nil, true
		}
	}
}

// rest gives a worker's place back.
func (e *engine) rest(w *worker) {
	e.mu.Lock()
	e.inFlight--
	delete(e.busy, w)
	e.resting = append(e.resting, w)
	if e.full {
		select {
		case e.freed <- struct{}{}:
		default:
		}
	}
	e.mu.Unlock()
}

// settle waits for what is in flight: each has its time-out, and, when the run
// is interrupted, a second at most. Then the workers end.
func (e *engine) settle(ctx context.Context, stopDialing func()) {
	empty := make(chan struct{})
	go func() {
		defer close(empty)
		e.mu.Lock()
		for e.inFlight > 0 {
			e.full = true
			e.mu.Unlock()
			<-e.freed
			e.mu.Lock()
		}
		for _, w := range e.resting {
			close(w.wake)
		}
		e.mu.Unlock()
		e.workers.Wait()
	}()
	select {
	case <-empty:
		return
	case <-ctx.Done():
	}
	patience := time.NewTimer(grace)
	defer patience.Stop()
	select {
	case <-empty:
		return
	case <-patience.C:
	}
	e.mu.Lock()
	e.aborted = true // first, so that what ends now is known as interrupted
	for w := range e.busy {
		if w.conn != nil {
			_ = w.conn.SetDeadline(time.Unix(1, 0))
		}
	}
	e.mu.Unlock()
	stopDialing()
	<-empty
}

// chooser decides which request an arrival is, by the seed and the weights.
type chooser struct {
	rng   *rand.Rand
	upTo  []float64 // cumulative weights
	total float64
}

func newChooser(j *Job) *chooser {
	c := &chooser{rng: rand.New(rand.NewPCG(j.Seed, 1))}
	for _, r := range j.Requests {
		c.total += r.Weight
		c.upTo = append(c.upTo, c.total)
	}
	return c
}

func (c *chooser) next() int {
	if len(c.upTo) == 1 {
		return 0
	}
	at := c.rng.Float64() * c.total
	for i, up := range c.upTo {
		if at < up {
			return i
		}
	}
	return len(c.upTo) - 1
}

// takeIdle gives a client's last used connection to a target, or nil.
func (e *engine) takeIdle(c *client, target int) *conn {
	e.mu.Lock()
	defer e.mu.Unlock()
	idle := c.idle[target]
	n := len(idle)
	if n == 0 {
		return nil
	}
	cn := idle[n-1]
	idle[n-1] = nil
	c.idle[target] = idle[:n-1]
	e.idle--
	return cn
}

// keepIdle gives a connection to a target back to its client, or closes it where
// too many are open.
func (e *engine) keepIdle(c *client, target int, cn *conn) {
	e.mu.Lock()
	keep := e.idle < e.maxIdle
	if keep {
		c.idle[target] = append(c.idle[target], cn)
		e.idle++
	}
	e.mu.Unlock()
	if !keep {
		_ = cn.Close()
	}
}

// closeIdle closes what was idle for longer.
func (e *engine) closeIdle(longer time.Duration) {
	now := e.now()
	var old []*conn
	e.mu.Lock()
	for _, s := range e.senders {
		for i := range s.clients {
			for target, idle := range s.clients[i].idle {
				n := 0
				for n < len(idle) && now-idle[n].used >= longer { // the first is the oldest
					n++
				}
				if n > 0 {
					old = append(old, idle[:n]...)
					s.clients[i].idle[target] = append(idle[:0], idle[n:]...)
					e.idle -= n
				}
			}
		}
	}
	e.mu.Unlock()
	for _, cn := range old {
		_ = cn.Close()
	}
}

// interrupted reports whether what was in flight has been ended.
func (e *engine) interrupted() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.aborted
}

func newUnique() *rand.ChaCha8 {
	var seed [32]byte
	for i := 0; i < len(seed); i += 8 {
		binary.NativeEndian.PutUint64(seed[i:], rand.Uint64())
	}
	return rand.NewChaCha8(seed)
}
