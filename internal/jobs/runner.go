package jobs

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"gatehouse/internal/fault"
)

// Handler does a job. It may be called again for one that is done, and beside
// another call for the same one: its effect needs a unique key of its own. It
// returns when ctx ends. Its error is kept and logged, and holds no secret and
// no address; see Permanent.
type Handler func(ctx context.Context, j Job) error

// Outcome is what became of a try. It is a metric label.
type Outcome string

// The outcomes.
const (
	Done     Outcome = "done"
	Retried  Outcome = "retried"  // failed, and will be tried again
	Died     Outcome = "dead"     // given up
	Returned Outcome = "returned" // cut off, since the node stops: it will be begun anew
)

const (
	// Workers is how many jobs of a kind run at once on a node: enough for
	// Rate where one takes 40 ms.
	Workers = 16
	// Rate is how many jobs of a kind a node begins a second: as many as the
	// reference's rate of sign-ups makes, and a little more, so that a backlog
	// of thousands slows no request. Measured: docs/benchmarks.md.
	Rate = 400
	// poll is how often an idle kind looks for work, which is one read.
	poll = 200 * time.Millisecond
	// storm is how many tries in a row fail before a kind rests: then what it
	// needs is away, and trying each job would only use up its tries.
	storm = 8
	// maxRest bounds such a rest, and with it how late an outage's end is seen.
	maxRest = 15 * time.Second
	// sampleEvery is how old what is known of depth and age may be.
	sampleEvery = 5 * time.Second
	// settle bounds how long the write of an outcome is tried, so that the job
	// is not done again where the database is away for a moment. With Timeout
	// it is within the lease.
	settle = 20 * time.Second
	// LastWord bounds that once the node stops.
	LastWord = 2 * time.Second
)

// Runner works jobs off on one node.
type Runner struct {
	queue    Queue
	handlers map[Kind]Handler
	log      *slog.Logger
	observe  Observer
	stats    atomic.Pointer[[]Stat]
}

// Observer is told what a runner sees.
type Observer struct {
	Tried   func(Kind, Outcome, time.Duration) // what became of a try, and how long it took
	Counted func(Stat)                         // now and then, of each kind there is or could be
}

// NewRunner returns a runner of some kinds of jobs.
func NewRunner(q Queue, handlers map[Kind]Handler, log *slog.Logger, observe Observer) *Runner {
	return &Runner{queue: q, handlers: handlers, log: log, observe: observe}
}

// Handlers are the kinds that it runs.
func (r *Runner) Handlers() map[Kind]Handler { return r.handlers }

// Stats is what was last seen of the queue; nil before anything was.
func (r *Runner) Stats() []Stat {
	if s := r.stats.Load(); s != nil {
		return *s
	}
	return nil
}

// Run works until ctx ends, then lets what is under way finish until cut ends,
// and gives back the rest.
func (r *Runner) Run(ctx, cut context.Context) {
	var wg sync.WaitGroup
	for kind, handle := range r.handlers {
		wg.Go(func() {
			l := lane{runner: r, kind: kind, handle: handle, slots: make(chan struct{}, Workers)}
			l.run(ctx, cut)
		})
	}
	wg.Go(func() { r.sample(ctx) })
	wg.Wait()
}

// sample looks at the queue now and then: counting it takes a while where it
// is long, so no request does.
func (r *Runner) sample(ctx context.Context) {
	for pause := time.Duration(0); wait(ctx, pause); {
		start := time.Now()
		stats, err := r.queue.JobStats(ctx)
		if err == nil {
			r.count(stats)
		}
		pause = max(sampleEvery, 20*time.Since(start))
	}
}

func (r *Runner) count(stats []Stat) {
	r.stats.Store(&stats)
	seen := make(map[Kind]Stat)
	for _, kind := range Kinds() {
		seen[kind] = Stat{Kind: kind}
	}
	for _, s := range stats {
		seen[s.Kind] = s
	}
	for _, s := range seen {
		r.observe.Counted(s)
	}
}

// lane runs the jobs of one kind.
type lane struct {
	runner *Runner
	kind   Kind
	handle Handler
	slots  chan struct{} // taken while a job runs
	failed atomic.Int64  // tries in a row
	work   sync.WaitGroup
}

func (l *lane) run(ctx, cut context.Context) {
	defer l.work.Wait()
	var next time.Time // when the next ones may begin
	for {
		if !wait(ctx, time.Until(next)) {
			return
		}
		n := l.acquire(ctx)
		if n == 0 {
			return
		}
		// Not to be given up halfway: what is claimed must be begun.
		found, err := l.runner.queue.Claim(context.WithoutCancel(ctx), l.kind, n, Lease)
		if err != nil && ctx.Err() == nil {
			l.runner.log.DebugContext(ctx, "no jobs could be claimed", "kind", string(l.kind), "err", err)
		}
		next = time.Now().Add(time.Duration(len(found)) * time.Second / Rate)
		for range n - len(found) {
			<-l.slots
		}
		for _, j := range found {
			l.work.Go(func() {
				defer func() { <-l.slots }()
				l.try(cut, j)
			})
		}
		if len(found) < n && !wait(ctx, poll) {
			return
		}
		for rested := poll; rested < l.rest(); rested += poll { // until a try succeeds
			if !wait(ctx, poll) {
				return
			}
		}
	}
}

// acquire waits for a free slot and takes all that are free, or one alone
// while tries fail. It takes none when ctx ends.
func (l *lane) acquire(ctx context.Context) (n int) {
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return 0
	}
	if l.failed.Load() >= storm {
		return 1
	}
	for n = 1; n < Workers; n++ {
		select {
		case l.slots <- struct{}{}:
		default:
			return n
		}
	}
	return n
}

// rest is how long to leave alone what fails again and again.
func (l *lane) rest() time.Duration {
	over := l.failed.Load() - storm
	if over < 0 {
		return 0
	}
	return min(maxRest, time.Second<<min(over, 10))
}

// try runs one job and writes down what became of it.
func (l *lane) try(cut context.Context, j Job) {
	r, start := l.runner, time.Now()
	var err error
	if j.Tries > MaxTries { // each try ended without a word, so the process did
		err = Permanent(fmt.Errorf("%d tries ended without an outcome", MaxTries))
	} else {
		err = l.call(cut, j)
	}
	outcome, reason := Done, ""
	write := func(ctx context.Context) error { return r.queue.Done(ctx, j) }
	switch {
	case err == nil:
		l.failed.Store(0)
	case cut.Err() != nil:
		outcome = Returned
		write = func(ctx context.Context) error { return r.queue.Postpone(ctx, j, 0, "", true) }
	case IsPermanent(err) || j.Tries >= MaxTries:
		outcome, reason = Died, clean(err)
		if IsPermanent(err) && j.Tries <= MaxTries {
			l.failed.Store(0) // what it needs answers
		} else {
			l.failed.Add(1)
		}
		write = func(ctx context.Context) error { return r.queue.Bury(ctx, j, reason) }
		r.log.ErrorContext(cut, "job is dead", "kind", string(j.Kind), "subject", j.Subject, "tries", j.Tries, "err", reason)
	default:
		outcome, reason = Retried, clean(err)
		l.failed.Add(1)
		after := Delay(j.Tries)
		write = func(ctx context.Context) error { return r.queue.Postpone(ctx, j, after, reason, false) }
		r.log.WarnContext(cut, "job failed and will be tried again", "kind", string(j.Kind), "subject", j.Subject, "tries", j.Tries, "after", after.Round(time.Second).String(), "err", reason)
	}
	if err := settled(cut, write); err != nil { // the lease ends, and it runs again
		r.log.WarnContext(cut, "a job's outcome could not be written", "kind", string(j.Kind), "subject", j.Subject, "outcome", string(outcome), "err", err)
	}
	r.observe.Tried(j.Kind, outcome, time.Since(start))
}

// settled writes an outcome, again and again for a while: a database that is
// busy for a moment must not have a mail sent twice.
func settled(cut context.Context, write func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(cut), settle)
	defer cancel()
	last := time.AfterFunc(settle, cancel)
	defer last.Stop()
	stop := context.AfterFunc(cut, func() { last.Reset(LastWord) })
	defer stop()
	for {
		err := write(ctx)
		if err == nil || !wait(ctx, poll) {
			return err
		}
	}
}

func (l *lane) call(cut context.Context, j Job) (err error) {
	ctx, cancel := context.WithTimeout(cut, Timeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fault.Panicked(p)
		}
	}()
	return l.handle(ctx, j)
}

// Delay is how long after its n-th failed try a job is tried again: a second,
// doubled with each try up to 6 hours, less up to half of it by chance, so that
// what failed together is not tried together.
func Delay(tries int) time.Duration {
	d := MaxDelay
	if tries < 16 {
		d = min(MaxDelay, time.Second<<max(tries-1, 0))
	}
	var b [8]byte
	rand.Read(b[:])
	return d - time.Duration(binary.BigEndian.Uint64(b[:])%uint64(d/2))
}

// clean is an error's text as it may be kept and shown: one line, bounded.
func clean(err error) string {
	text := err.Error()
	if errors.Is(err, context.DeadlineExceeded) {
		text = "it took longer than " + Timeout.String() + ": " + text
	}
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "")
	}
	return text
}

// wait lets some time pass; it is false once ctx has ended.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
