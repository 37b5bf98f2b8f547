package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"

	"gatehouse/internal/cluster"
	"gatehouse/internal/jobs"
	"gatehouse/internal/ratelimit"
)

// Bounds of the delay between "not ready" and the listener's end, in which
// balancers see the one before they meet the other.
const (
	minDrainDelay = time.Second
	maxDrainDelay = 5 * time.Second
	// minDrain leaves what is under way a second beyond the delay.
	minDrain = 2 * time.Second
)

// ballastSize is memory that is asked for and never touched, so that it costs
// none, but the collector counts it: what lives is a few MiB, and a storm of
// refusals would have it run a hundred times a second. A GOGC of so much would do
// the same, and multiply the memory when thousands of connections live. With
// collectAt, in percent, the heap grows by half the ballast, and by half of what
// connections take. Measured: docs/benchmarks.md.
const (
	ballastSize = 16 << 20
	collectAt   = 50
)

// newBallast is called before all else: later it would be memory that was used
// already, and is cleared, which makes it cost what it is.
func newBallast() []byte {
	if os.Getenv("GOGC") == "" { // an operator's word counts
		debug.SetGCPercent(collectAt)
	}
	return make([]byte, ballastSize)
}

// Run serves until ctx ends, then drains: /readyz turns 503 at once, requests
// are still served for a delay, with Connection: close, then the listener
// closes and what is under way is finished; the store closes last. It is nil
// when all that ended in time. The death of one part ends the rest.
func (a *App) Run(ctx context.Context) (err error) {
	defer runtime.KeepAlive(a.ballast)
	defer func() { err = errors.Join(err, a.closeStore()) }()
	leave := a.join(ctx)
	defer leave()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(a.public, a.publicL) })
	if a.adminL != nil {
		g.Go(func() error { return serve(a.admin, a.adminL) })
	}
	g.Go(func() error { a.sweep(ctx); return nil })
	g.Go(func() error { a.catchUp(ctx); return nil })
	g.Go(func() error { a.tend(ctx); return nil })
	g.Go(func() error { a.tendKeys(ctx); return nil })
	// Calls under way end after the last request: until then tokens are known,
	// and what they cost is booked.
	serving, served := context.WithCancel(context.WithoutCancel(ctx))
	defer served()
	g.Go(func() error { a.tokens.Run(serving); return nil })
	g.Go(func() error { a.meter.Run(serving); return nil })
	work, cut := context.WithCancel(context.WithoutCancel(ctx))
	finished := make(chan struct{})
	g.Go(func() error {
		defer close(finished)
		a.jobs.Run(ctx, work)
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		defer cut()
		until, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.config.DrainTimeout)
		defer cancel()
		err := a.drain(until)
		served()
		// Jobs had the time that requests took, and have a little more; those
		// that are cut then give themselves back.
		deadline, _ := until.Deadline()
		select {
		case <-finished:
		case <-time.After(min(jobsGrace, time.Until(deadline)-jobs.LastWord)):
		}
		return err
	})
	a.announce()
	a.announceJobs(ctx)
	return g.Wait()
}

// join tells the cluster of this node, and waits a moment for what it answers:
// from then on the node goes by the database's clock. The function it returns
// leaves the cluster again; a node that drains still belongs to it.
func (a *App) join(ctx context.Context) (leave func()) {
	if a.members == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	left := make(chan struct{})
	go func() {
		defer close(left)
		a.members.Run(ctx)
	}()
	select {
	case <-a.joined:
	case <-time.After(cluster.Beat):
	}
	return func() {
		cancel()
		<-left
	}
}

// closePatience is how long the last commit may take: a disk that hangs must
// not keep the process from ending.
const closePatience = 5 * time.Second

func (a *App) closeStore() error {
	closed := make(chan error, 1)
	go func() { closed <- a.store.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(closePatience):
		return fmt.Errorf("the database could not be closed within %s", closePatience)
	}
}

func serve(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", l.Addr(), err)
	}
	return nil
}

// streamsEnd is how long before the drain's end the gateway's streams are ended:
// they are cut within moments, and what they cost is booked.
const streamsEnd = time.Second

// jobsGrace is how long jobs may go on after the last request; then they are
// given back.
const jobsGrace = 5 * time.Second

// drain stops serving until ctx ends.
func (a *App) drain(ctx context.Context) error {
	a.health.Draining()
	delay := min(max(a.config.DrainTimeout/4, minDrainDelay), maxDrainDelay)
	a.log.InfoContext(ctx, "draining", "delay", delay.String(), "timeout", a.config.DrainTimeout.String())
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	// Open streams have all but the last of the time, and then end.
	deadline, _ := ctx.Deadline()
	end := time.AfterFunc(time.Until(deadline)-streamsEnd, a.gateway.Close)
	defer end.Stop()
	err := a.public.Shutdown(ctx)
	if err != nil {
		// Shutdown also waits for new connections that have not said
		// anything yet; cutting those off fails no request.
		n := a.serving.Load()
		err = a.public.Close()
		if n > 0 {
			err = errors.Join(fmt.Errorf("%d requests were cut off after %s", n, a.config.DrainTimeout), err)
		}
	}
	// The admin listener ends last, so that the drain can be watched; nothing
	// there is worth waiting for.
	return errors.Join(err, a.admin.Close())
}

// sweepSome is how many outcomes one transaction sweeps: a few ms of the
// database's time.
const sweepSome = 500

// sweep removes unused rate windows and what is past its time, and books calls that
// were lost, now and then.
func (a *App) sweep(ctx context.Context) {
	windows := make(map[ratelimit.Name]time.Duration)
	for name, p := range a.config.Policies {
		if !p.Off { // the windows of a policy that is off wait for its return
			windows[name] = p.Window
		}
	}
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		seen, removed, err := a.store.Sweep(ctx, windows)
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "rate windows could not be swept", "err", err)
		} else {
			a.log.DebugContext(ctx, "rate windows swept", "seen", seen, "removed", removed)
		}
		if err := sweepAll(ctx, a.store.SweepOutcomes); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "old outcomes could not be swept", "err", err)
		}
		if err := sweepAll(ctx, a.store.SweepEvents); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "old events could not be swept", "err", err)
		}
		if err := a.meter.BookLost(ctx); err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "calls of nodes that died could not be booked", "err", err)
		}
	}
}

// sweepAll removes what has had its time, some at once, until none is left.
func sweepAll(ctx context.Context, sweepUpTo func(context.Context, int) (int, error)) error {
	for {
		if n, err := sweepUpTo(ctx, sweepSome); err != nil || n < sweepSome {
			return err
		}
	}
}

// announce says what is served, and what an operator would want to know
// before a customer finds it.
func (a *App) announce() {
	for _, name := range a.config.policiesOff() {
		a.log.Warn("a rate limit is off: it admits everything", "policy", name)
	}
	if host, _, err := net.SplitHostPort(a.config.Listen); err == nil && a.config.TLSCert == "" && !isLoopback(host) {
		a.log.Warn("serving plain HTTP beyond this machine: put a proxy with TLS in front, or set tls-cert and tls-key", "listen", a.config.Listen)
	}
	if host, _, err := net.SplitHostPort(a.config.AdminListen); err == nil && !isLoopback(host) {
		a.log.Warn("metrics and pprof are served beyond this machine, without authentication", "admin_listen", a.config.AdminListen)
	}
	args := []any{"listen", a.Addr().String(), "database", a.config.Database.String(), "mode", string(a.config.Mode)}
	if l := a.AdminAddr(); l != nil {
		args = append(args, "admin_listen", l.String())
	}
	a.log.Info("serving", args...)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (a *App) closeListeners() (err error) {
	for _, l := range []net.Listener{a.publicL, a.adminL} {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}
	return err
}
