package load

import (
	"bufio"
	"cmp"
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// worker sends one request at a time and reads its answer. There are as many
// as were ever in flight together.
type worker struct {
	e      *engine
	wake   chan struct{}
	reader *bufio.Reader
	answer answer
	conn   *conn // in use; guarded by the engine's mu

	// What the pacer gives it.
	due, free time.Duration
	arrival   Arrival
	client    *client
	target    int    // index into the endpoint's addresses
	text      []byte // the whole request
}

func newWorker(e *engine) *worker {
	w := &worker{e: e, wake: make(chan struct{}, 1), reader: bufio.NewReader(nil)}

	if e.job.Script != nil {
		w.answer.more = MaxKept - exampleLen
	}
	e.workers.Go(func() {
		for range w.wake {
			w.send()
			e.rest(w)
		}
	})
	return w
}

// send sends one request, waits for what it comes to, and writes it down.
func (w *worker) send() {
	e := w.e
	sent := e.now()
	e.rec.sent(sent, w.free, w.target)
	d := done{request: w.arrival.Request, target: w.target, due: w.due, sent: sent}
	keep, dialing, err := w.exchange(&d)
	d.ended = e.now()
	w.use(nil, keep)
	if err != nil {
		d.status, d.err = 0, errorKind(err, dialing)
		if e.interrupted() {
			d.err = errorInterrupted
		}
		d.example = []byte(err.Error())
	} else {
		d.status, d.example, d.policy = w.answer.status, w.answer.example, w.answer.policy
	}
	if e.job.Script != nil {
		e.job.Script.Ended(&w.arrival, d.status, d.example)
	}
	d.example = d.example[:min(len(d.example), exampleLen)]
	e.rec.ended(&d)
}

// exchange gets a connection, sends the request and reads the answer.
func (w *worker) exchange(d *done) (keep, dialing bool, err error) {
	e := w.e
	deadline := e.began.Add(d.sent + e.job.Timeout)
	cn := e.takeIdle(w.client, w.target)
	if cn != nil {
		// It may have been closed, which is no failure, or have had more to say,
		// which is no answer to what comes next.
		_ = cn.SetDeadline(deadline) // fails on a closed connection alone, as the write will
		if !cn.watch.quiet() || cn.readAhead(deadline) {
			cn.drop()
			cn = nil
		}
	}
	if cn == nil {
		ctx, cancel := context.WithDeadline(e.ctx, deadline)
		cn, d.connect, d.shake, err = e.to.dial(ctx, w.client, w.target)
		cancel()
		if err != nil {
			return false, true, err
		}
		d.opened = true
		_ = cn.SetDeadline(deadline)
	} else {
		d.reused = true
	}
	w.use(cn, false)
	_, broken := cn.Write(w.text)
	if broken != nil && own(broken) {
		return false, false, broken
	}
	// If it broke, the target may have answered and closed before it had read
	// all: look for that answer, since it says more than a broken pipe.
	wrote := e.now()
	w.reader.Reset(cn)
	if _, err := w.reader.Peek(1); err != nil {
		return false, false, cmp.Or(broken, err)
	}
	first := e.now()
	d.waited = first - wrote
	if err := w.answer.read(w.reader, e.job.Requests[d.request].Method == http.MethodHead); err != nil {
		return false, false, err
	}
	d.received = e.now() - first
	// What comes unasked would be taken for the next request's answer.
	return w.answer.keep && broken == nil && w.reader.Buffered() == 0, false, nil
}

// use says which connection the worker has, so that an interruption can end
// it; nil gives it back, open or not.
func (w *worker) use(cn *conn, keep bool) {
	e := w.e
	e.mu.Lock()
	last := w.conn
	w.conn = cn
	if cn != nil && e.aborted {
		_ = cn.SetDeadline(time.Unix(1, 0))
	}
	e.mu.Unlock()
	switch {
	case last == nil:
	case keep:
		last.used = e.now()
		e.keepIdle(w.client, w.target, last)
	default:
		last.drop()
	}
}

// render writes the whole request.
func (r *Request) render(dst []byte, to *endpoint, c *client, f *filler) []byte {
	dst = append(dst, r.Method...)
	dst = append(dst, ' ')
	dst = append(dst, to.path...)
	dst = r.Path.fill(dst, f)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = append(dst, to.host...)
	dst = append(dst, "\r\n"...)
	named := false
	for i := range r.Headers {
		named = named || strings.EqualFold(r.Headers[i].Name, "User-Agent")
		dst = append(dst, r.Headers[i].Name...)
		dst = append(dst, ": "...)
		dst = r.Headers[i].Value.fill(dst, f)
		dst = append(dst, "\r\n"...)
	}
	if !named {
		dst = append(dst, "User-Agent: gatehouse-load\r\n"...)
	}
	if c.forwarded != "" {
		dst = append(dst, "X-Forwarded-For: "...)
		dst = append(dst, c.forwarded...)
		dst = append(dst, "\r\n"...)
	}
	if len(r.Body) == 0 && r.Method != http.MethodPost && r.Method != http.MethodPut && r.Method != http.MethodPatch {
		return append(dst, "\r\n"...)
	}
	f.body = r.Body.fill(f.body[:0], f)
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(f.body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, f.body...)
}
