package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"
)

// patience is how long anything may take here: far beyond what a busy machine
// needs, so that only what hangs is given up.
const patience = time.Minute

// process is a program that runs until it is told to end, and at most as long
// as we do.
type process struct {
	cmd  *exec.Cmd
	said tail
	done chan struct{} // closed when it and all its children have ended
}

func start(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	// Children hold this pipe open as well, and Wait waits until all let go: after
	// a kill they live on for a moment, and keep a new server from starting.
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	dieWithParent(cmd)
	// Linux takes the thread that starts a program for its parent, with which it
	// dies. A thread of Go's ends only with a goroutine that locked it and did not
	// let go: so none may do that here, or others' programs would go with it.
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	go func() {
		_ = cmd.Wait() // that it ended is all there is to know
		close(p.done)
	}()
	return p, nil
}

// end sends a signal and waits until the process is gone.
func (p *process) end(signal os.Signal) error {
	if err := p.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(patience):
		return fmt.Errorf("%s did not end in %v after %v; it said:\n%s", p.cmd.Path, patience, signal, &p.said)
	}
}

// until tries f again and again until it succeeds, the process ends or the
// context does.
func (p *process) until(ctx context.Context, f func(context.Context) error) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-again.C:
		case <-p.done:
			return fmt.Errorf("%s ended; it said:\n%s", p.cmd.Path, &p.said)
		case <-ctx.Done():
			return fmt.Errorf("%w; %s said:\n%s", err, p.cmd.Path, &p.said)
		}
	}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// maxTail is enough to see why a server does not start, in bytes.
const maxTail = 16 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	t.text = t.text[max(0, len(t.text)-maxTail):]
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// freePort finds a port of loopback where nobody listens. It is below those that
// systems give to whoever asks for any (from 32768 up): a server that is down
// for a while must find its port free when it comes back.
func freePort(ctx context.Context) (string, error) {
	const lowest, count = 20000, 12000
	var last error
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(count))
		if err != nil {
			return "", fmt.Errorf("choose a port: %w", err)
		}
		port := strconv.FormatInt(lowest+n.Int64(), 10)
		ln, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(loopback, port))
		if err == nil {
			return port, ln.Close()
		}
		last = err
	}
	return "", fmt.Errorf("no free port: %w", last)
}

const loopback = "127.0.0.1"
