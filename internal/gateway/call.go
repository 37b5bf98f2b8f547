package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// call is one request on its way to a provider, and its answer on the way back.
//
// The handler's goroutine does the work. What ends a call from outside (its lease,
// its client, a provider's silence, our own shutdown) calls it, so that it costs a
// stream no goroutine. It does so by cancelling the request to the provider, and by
// moving the client's deadline into the past: the work waits for nothing else.
type call struct {
	Call
	target
	g        *Gateway
	lease    *Lease
	reserved Reservation
	owed     bool // money was set aside
	reached  bool // the provider may have seen the call
	worked   bool // and had it for a while, without an answer
	hides    bool // the client did not ask for the usage that we asked for
	rc       *http.ResponseController
	tee      *tee           // nil: nothing is measured
	answer   *http.Response // that is passed on; nil: there was none
	status   int            // of any; 0: there was none

	cancel  context.CancelFunc // of the request to the provider
	unwatch []func() bool
	heard   atomic.Int64 // when the provider last sent something, in ns since Started
	expires time.Time    // the lease, by the monotonic clock

	mu       sync.Mutex
	timer    *time.Timer
	over     bool      // there is nothing left to watch
	ended    Outcome   // why it was ended from outside; empty: it was not
	left     time.Time // when the client left; zero: it did not
	drains   bool      // it is read on though the client left
	deadline time.Time // of the client
}

// run sends the request and hands the answer through. It returns an error only
// while nothing has been answered; afterwards it panics with ErrAbortHandler
// where the client must see that its answer is not whole.
func (c *call) run(w http.ResponseWriter, r *http.Request, body *body) error {
	c.g.open.Add(1)
	c.expires = time.Now().Add(c.lease.ExpiresAt.Sub(c.g.config.Now()))
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	c.cancel = cancel
	c.watch(r.Context())
	outcome := Failed
	defer func() { c.finish(ctx, outcome) }()

	failed := func(how string, err error) error {
		kind := upstreamFailed
		if ne, ok := errors.AsType[net.Error](err); outcome == Overdue || ok && ne.Timeout() {
			kind = upstreamSlow
		}
		return c.upstream.failed(ctx, c.g.config.Log, kind, how, err)
	}
	resp, err := c.send(ctx, r, body)
	if err != nil {
		switch outcome = c.endedAs(Failed); outcome {
		case Left:
			panic(http.ErrAbortHandler)
		case Revoked:
			return unknown()
		case Shutdown:
			return orAway(err)
		}
		return failed("could not be reached, or did not answer", err)
	}
	defer resp.Body.Close()
	body.release()
	c.status = resp.StatusCode
	switch s := c.status; {
	case s < 200 || s >= 300 && s < 400:
		return failed("answered with a redirect, which Gatehouse does not follow", fmt.Errorf("status %d", s))
	case s == http.StatusUnauthorized: // its words could show a part of our key, and would be taken for ours
		return failed("did not accept Gatehouse's key", fmt.Errorf("status %d", s))
	}
	c.answer = resp
	flush := c.prepare(w.Header())
	w.WriteHeader(resp.StatusCode)
	if outcome = c.copy(w, flush); outcome == Done {
		if !flush { // the client need not wait for our books
			_ = c.rc.Flush()
		}
		return nil
	}
	_ = c.rc.Flush() // what came is the client's, to the last byte
	panic(http.ErrAbortHandler)
}

// atOnce is how soon a request fails on a connection that the provider had closed.
const atOnce = time.Second

// send asks the provider, and once more where the connection failed before
// anything came back, as one does that was kept too long.
func (c *call) send(ctx context.Context, r *http.Request, body *body) (*http.Response, error) {
	to := &c.upstream.base
	out := &http.Request{
		Method: r.Method, URL: &url.URL{Scheme: to.Scheme, Host: to.Host, Path: to.Path + c.path, RawQuery: c.query}, Host: to.Host,
		Header: c.upstream.requestHeader(r.Header, r.Method == http.MethodPost),
	}
	var reached, answered atomic.Bool
	var wrote atomic.Int64 // when the request was sent whole, in ns
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { reached.Store(true) },
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				wrote.Store(time.Now().UnixNano())
			}
		},
		GotFirstResponseByte: func() { answered.Store(true) },
	})
	for again := true; ; again = false {
		if r.Method == http.MethodPost {
			out.Body, out.ContentLength = body.sent(), body.length()
		}
		resp, err := c.g.transport.RoundTrip(out.WithContext(ctx))
		c.reached = reached.Load()
		// A provider that had the whole request for a while may have done what it
		// asks: it is not asked again.
		c.worked = wrote.Load() > 0 && time.Now().UnixNano()-wrote.Load() > int64(atOnce)
		c.hear()
		if err == nil {
			return resp, nil
		}
		if ne, ok := errors.AsType[net.Error](err); !again || c.worked || answered.Load() || ctx.Err() != nil || ok && ne.Timeout() {
			return nil, err
		}
		wrote.Store(0)
	}
}

// prepare makes the answer's header and the tee, and says whether each piece is
// to be flushed.
func (c *call) prepare(h http.Header) (stream bool) {
	resp := c.answer
	answerHeader(h, resp.Header)
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	f := whole
	switch strings.ToLower(strings.TrimSpace(media)) {
	case "text/event-stream":
		f = events
	case "application/x-ndjson":
		f = lines
	}
	if resp.StatusCode < 300 && !c.Free {
		c.tee = &tee{speaks: c.speaks, form: f, flat: c.NoOutput, blind: len(resp.Header["Content-Encoding"]) > 0}
		c.tee.hides = c.hides && f == events && !c.tee.blind
		if resp.ContentLength > 0 && f == whole {
			c.tee.doc = make([]byte, 0, min(resp.ContentLength, maxDoc))
		}
	}
	if resp.ContentLength >= 0 && (c.tee == nil || !c.tee.hides) {
		h["Content-Length"] = []string{strconv.FormatInt(resp.ContentLength, 10)}
	}
	return f != whole || resp.ContentLength < 0
}

// Pieces of a stream are small, and there may be thousands of streams.
var (
	smallPieces = sync.Pool{New: func() any { b := make([]byte, 2<<10); return &b }}
	largePieces = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}
)

// copy hands the answer through until it ends, or is ended. When the client has
// left it reads on for what was used, as long as the watch lets it.
func (c *call) copy(w io.Writer, flush bool) Outcome {
	pool := &largePieces
	if flush && c.tee != nil && c.tee.form != whole {
		pool = &smallPieces
	}
	piece := pool.Get().(*[]byte)
	defer pool.Put(piece)
	left := flush && c.write(w, nil, flush) != nil // the head, at once
	for {
		n, err := c.answer.Body.Read(*piece)
		c.hear()
		p := (*piece)[:n]
		if c.tee != nil && c.tee.hides {
			p = c.tee.filter(p)
			if err != nil {
				p = append(p, c.tee.held...)
			}
		}
		left = left || len(p) > 0 && c.write(w, p, flush) != nil
		if c.tee != nil && !c.tee.hides {
			c.tee.read(p)
		}
		if left {
			c.gone() // where it was a write that failed, net/http does not know
		}
		switch {
		case left && (err != nil || c.tee == nil):
			return c.endedAs(Left)
		case err == io.EOF: // a wrapped one would be no end
			return Done
		case err != nil:
			return c.endedAs(Cut)
		}
	}
}

// hear notes that the provider sent something.
func (c *call) hear() { c.heard.Store(int64(time.Since(c.Started))) }

var errEnded = errors.New("the call was ended, or its client has left")

// write sends a piece to the client, with time to take it. To give that costs a
// little, so it is done once a second.
func (c *call) write(w io.Writer, p []byte, flush bool) (err error) {
	stall, now := c.g.config.Bounds.Stall, time.Now()
	c.mu.Lock()
	if c.ended != "" || !c.left.IsZero() {
		err = errEnded
	} else if c.deadline.Sub(now) < stall {
		c.deadline = now.Add(stall + min(stall, time.Second))
		_ = c.rc.SetWriteDeadline(c.deadline)
	}
	c.mu.Unlock()
	if err == nil && len(p) > 0 {
		_, err = w.Write(p)
	}
	if err == nil && flush {
		err = c.rc.Flush()
	}
	return err
}

// watch has the call ended when something else than its answer does.
func (c *call) watch(client context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, _ := c.due()
	c.timer = time.AfterFunc(time.Until(first), func() { c.unless(c.check) })
	c.unwatch = append(c.unwatch, c.timer.Stop,
		context.AfterFunc(client, c.gone),
		context.AfterFunc(c.g.stopping, func() { c.unless(func() { c.end(Shutdown) }) }))
	if c.lease.Ended != nil {
		c.unwatch = append(c.unwatch, context.AfterFunc(c.lease.Ended, func() { c.unless(func() { c.end(Revoked) }) }))
	}
}

// unless does something to the call, unless it is over, or was ended already.
func (c *call) unless(do func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over && c.ended == "" {
		do()
	}
}

// gone notes that the client has left: the call is read on, where that may be.
func (c *call) gone() {
	c.unless(func() {
		switch {
		case !c.left.IsZero(): // known already
		case c.Free || !c.g.drains.take(1):
			c.end(Left)
		default:
			c.left, c.drains = time.Now(), true
			c.check()
		}
	})
}

// check ends the call if its time has come, and looks again when it will have.
// Its caller holds the lock, as end's does.
func (c *call) check() {
	due, as := c.due()
	if left := time.Until(due); left > 0 {
		c.timer.Reset(left)
		return
	}
	c.end(as)
}

func (c *call) end(as Outcome) {
	c.ended = as
	_ = c.rc.SetWriteDeadline(time.Unix(1, 0))
	c.cancel()
}

// due is when the call ends, as far as is known now, and as what.
func (c *call) due() (at time.Time, as Outcome) {
	b, left := c.g.config.Bounds, c.left
	heard := c.Started.Add(time.Duration(c.heard.Load()))
	at, as = c.expires, Revoked
	sooner := func(t time.Time, o Outcome) {
		if t.Before(at) {
			at, as = t, o
		}
	}
	if c.Stream {
		sooner(heard.Add(b.Patience), Overdue)
	} else {
		sooner(c.Started.Add(b.Patience), Overdue)
	}
	if !left.IsZero() {
		sooner(left.Add(b.DrainTime), Left)
		if heard.Before(left) {
			heard = left
		}
		if c.Stream { // what does not come in parts is silent until it is done
			sooner(heard.Add(b.DrainSilence), Left)
		}
	}
	return at, as
}

// endedAs is how the call was ended from outside, or else what it looks like.
func (c *call) endedAs(otherwise Outcome) Outcome {
	c.mu.Lock()
	defer c.mu.Unlock()
	return cmp.Or(c.ended, otherwise)
}

// finish settles the call, whatever became of it.
func (c *call) finish(ctx context.Context, outcome Outcome) {
	c.mu.Lock()
	c.over = true // from here on nobody moves deadlines that are another request's
	c.mu.Unlock()
	for _, stop := range c.unwatch {
		stop()
	}
	if c.drains {
		c.g.drains.taken.Add(-1)
	}
	c.cancel()
	c.g.open.Add(-1)
	if !c.owed && !c.reached {
		return
	}
	var u Usage
	switch {
	case !c.reached:
	case c.status >= 300 || c.answer == nil && outcome == Failed && !c.worked:
		outcome = Failed // no provider is paid for what it refuses
	case c.Free:
	case c.answer == nil:
		u = new(tee).total(&c.Call, true)
	default:
		u = c.tee.total(&c.Call, outcome != Done)
		if c.tee.failed && outcome == Done {
			outcome = Failed
		}
	}
	u.Status, u.Outcome, u.Took = c.status, outcome, time.Since(c.Started)
	c.g.config.Meter.Settle(context.WithoutCancel(ctx), c.lease, &c.Call, u, c.reserved)
}
