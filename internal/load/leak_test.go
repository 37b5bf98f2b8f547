package load

import (
	"bytes"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"
)

// counted is what a run must give back.
type counted struct{ goroutines, files int }

// engineGoroutines counts those of this package's own code; a target in the
// same process ends its own when it likes.
func engineGoroutines() int {
	stacks := make([]byte, 8<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	n := 0
	for g := range bytes.SplitSeq(stacks, []byte("\n\n")) {
		for _, own := range []string{"load.(*engine)", "load.(*worker)", "load.newWorker", "load.(*alarm)"} {
			if bytes.Contains(g, []byte(own)) {
				n++
				break
			}
		}
	}
	return n
}

// resources counts what a run against a target's port has now.
func resources(port string) counted { return counted{engineGoroutines(), engineFiles(port)} }

func (c counted) checkGone(t *testing.T, port string) {
	t.Helper()
	// A goroutine that was waited for has said that it is done, and may still be
	// on its way out where others want the processor.
	now := resources(port)
	for tired := time.Now().Add(10 * time.Second); now.goroutines > c.goroutines && time.Now().Before(tired); now = resources(port) {
		runtime.Gosched()
	}
	if now.goroutines > c.goroutines || now.files > c.files {
		t.Errorf("it left behind %d goroutines and %d files", now.goroutines-c.goroutines, now.files-c.files)
	}
}

// listen serves connections one goroutine each, until the test ends. What
// serve leaves open is closed then, so a target can stay silent.
func listen(t testing.TB, serve func(net.Conn)) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	conns.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			conns.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		conns.Wait()
	})
	return ln
}
