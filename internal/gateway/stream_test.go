package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"gatehouse/internal/gateway"
)

// script is a provider on a raw listener: for each connection one function.
func script(t testing.TB, serve ...func(conn net.Conn, request *http.Request)) (base string, connections *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	connections = new(atomic.Int64)
	var g sync.WaitGroup
	g.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			n := int(connections.Add(1)) - 1
			g.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				serve[min(n, len(serve)-1)](conn, r)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); g.Wait() })
	return "http://" + l.Addr().String(), connections
}

const chunkedSSE = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"

func chunk(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }

// reset closes a connection without the courtesy of a FIN.
func reset(conn net.Conn) { _ = conn.(*net.TCPConn).SetLinger(0) }

// A provider that cuts its stream, at any byte and in any way: the client gets
// every byte before the cut and none besides, and sees that it is one. Usage is
// what was seen, and marked unless its end was.
func TestEveryCutOfAStreamCanBeSeen(t *testing.T) {
	stream := anthropicStart + anthropicDelta + anthropicEnd + anthropicStop
	final := len(anthropicStart + anthropicDelta + anthropicEnd)
	type cut struct {
		name string
		send func(conn net.Conn, at int)
	}
	cuts := []cut{
		{"chunks, then FIN", func(conn net.Conn, at int) {
			if _, _ = io.WriteString(conn, chunkedSSE); at > 0 {
				_, _ = io.WriteString(conn, chunk(stream[:at]))
			}
		}},
		{"within a chunk", func(conn net.Conn, at int) {
			_, _ = fmt.Fprintf(conn, "%s%x\r\n%s", chunkedSSE, len(stream)+1, stream[:at])
		}},
		{"short of its length", func(conn net.Conn, at int) {
			_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%s", len(stream)+1, stream[:at])
		}},
	}
	for _, c := range cuts {
		t.Run(c.name, func(t *testing.T) {
			var offset atomic.Int64
			base, _ := script(t, func(conn net.Conn, _ *http.Request) { c.send(conn, int(offset.Load())) })
			r := newRig(t, nil, at(base))
			step := 1
			if testing.Short() {
				step = 17
			}
			for at := 0; at <= len(stream); at += step {
				offset.Store(int64(at))
				resp := r.do(r.request("POST", "/gateway/anthropic/v1/messages", `{"stream":true}`))
				got, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err == nil {
					t.Fatalf("cut at %d: it looks whole", at)
				}
				if string(got) != stream[:at] {
					t.Fatalf("cut at %d: got %q", at, got)
				}
				u := r.meter.next(t).usage
				if u.Outcome != gateway.Cut || u.InputTokens == 0 || u.OutputTokens == 0 || u.Estimated != (at < final-3) {
					t.Fatalf("cut at %d: %+v", at, u)
				}
			}
			r.meter.none(t)
		})
	}
}

// Any bytes in any pieces pass as they are.
func TestBytesPassAsTheyAre(t *testing.T) {
	type reply struct {
		media  string
		pieces [][]byte
	}
	var next atomic.Pointer[reply]
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", next.Load().media)
		for _, p := range next.Load().pieces {
			_, _ = w.Write(p)
			w.(http.Flusher).Flush()
		}
	})
	fragments := []string{"data: ", "\n", "\r\n", "\n\n", ": comment\n\n", `{"usage":`, `{"choices":[],"usage":{"prompt_tokens":1}}`, "event: x\n", "\x00", "é", "[DONE]", anthropicStart, chatDelta}
	rapid.Check(t, func(rt *rapid.T) {
		var whole []byte
		pieces := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) []byte {
			if rapid.Bool().Draw(rt, "fragment") {
				return []byte(rapid.SampledFrom(fragments).Draw(rt, "text"))
			}
			return rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(rt, "bytes")
		}), 0, 10).Draw(rt, "pieces")
		for _, p := range pieces {
			whole = append(whole, p...)
		}
		next.Store(&reply{rapid.SampledFrom([]string{sse, ndjson, plain, "", "text/html"}).Draw(rt, "media"), pieces})
		path := rapid.SampledFrom([]string{"anthropic/v1/messages", "openai/v1/responses", "ollama/api/chat", "openrouter/api/v1/chat/completions"}).Draw(rt, "path")
		_, got := r.post("/gateway/"+path, `{"stream":true}`)
		if got != string(whole) {
			rt.Fatalf("%q became %q", whole, got)
		}
		if u := r.meter.next(t).usage; u.InputTokens+u.CacheReadTokens == 0 && u.Outcome != gateway.Failed {
			rt.Fatalf("%+v", u)
		}
	})
}

// Each piece is handed on before the next one is there.
func TestPiecesPassAtOnce(t *testing.T) {
	for _, media := range []string{sse, ndjson, plain} {
		taken := make(chan struct{})
		r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			w.(http.Flusher).Flush()
			for range 20 {
				<-taken
				_, _ = io.WriteString(w, "{}\n\n")
				w.(http.Flusher).Flush()
			}
		})
		resp := r.do(r.request("POST", "/gateway/ollama/api/chat", `{}`))
		piece := make([]byte, 4)
		for range 20 {
			taken <- struct{}{}
			if _, err := io.ReadFull(resp.Body, piece); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A writer in between, as the API has one, hides neither flushing nor deadlines.
func TestWrappedWriters(t *testing.T) {
	taken := make(chan struct{})
	r := newRigWithout(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", sse)
		w.(http.Flusher).Flush()
		<-taken
	})
	r.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.gateway.ServeHTTP(&wrapped{w}, req) })
	r.server.Start()
	r.do(r.request("POST", "/gateway/anthropic/v1/messages", `{"stream":true}`)) // the head alone
	close(taken)
}

type wrapped struct{ http.ResponseWriter }

func (w *wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// golang.org/issue/56228: the abort must get through who recovers panics, and
// the call be settled all the same.
func TestAbortsAreErrAbortHandler(t *testing.T) {
	base, _ := script(t, func(conn net.Conn, _ *http.Request) { _, _ = io.WriteString(conn, chunkedSSE+chunk(anthropicStart)) })
	panics := make(chan any, 1)
	r := newRigWithout(t, nil, at(base))
	r.server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		defer func() {
			p := recover()
			panics <- p
			panic(p)
		}()
		r.gateway.ServeHTTP(w, req)
	})
	r.server.Start()
	resp := r.do(r.request("POST", "/gateway/anthropic/v1/messages", `{"stream":true}`))
	_, _ = io.ReadAll(resp.Body)
	if p := <-panics; p != http.ErrAbortHandler { //nolint:errorlint // net/http compares the panic value itself
		t.Errorf("it panicked with %v", p)
	}
	if u := r.meter.next(t).usage; u.Outcome != gateway.Cut || u.InputTokens != 25 {
		t.Errorf("%+v", u)
	}
}

// As many calls as there are places are read on without their clients; what is
// beyond is let go at once, and estimated.
func TestReadingOnIsBoundedInNumber(t *testing.T) {
	const places, calls = 3, 8
	finish, closed := make(chan struct{}), make(chan struct{}, calls)
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", sse)
		_, _ = io.WriteString(w, anthropicStart+anthropicDelta)
		w.(http.Flusher).Flush()
		select {
		case <-finish:
			_, _ = io.WriteString(w, anthropicEnd+anthropicStop)
		case <-req.Context().Done():
			closed <- struct{}{}
		}
	}, bounded(func(b *gateway.Bounds) { b.Drains, b.DrainSilence = places, time.Minute }))
	for range calls {
		ctx, leave := context.WithCancel(t.Context())
		resp := r.do(r.request("POST", "/gateway/anthropic/v1/messages", `{"stream":true}`).WithContext(ctx))
		if _, err := io.ReadFull(resp.Body, make([]byte, len(anthropicStart))); err != nil {
			t.Fatal(err)
		}
		leave()
	}
	for range calls - places {
		if u := r.meter.next(t).usage; u.Outcome != gateway.Left || !u.Estimated || u.InputTokens != 25 {
			t.Errorf("beyond the bound: %+v", u)
		}
		<-closed // the provider is let go
	}
	if s := r.gateway.Stats(); s.Draining != places || s.Open != places {
		t.Errorf("%+v", s)
	}
	close(finish)
	for range places {
		if u := r.meter.next(t).usage; u.Outcome != gateway.Left || u.Estimated || u.OutputTokens != 15 {
			t.Errorf("within the bound: %+v", u)
		}
	}
}

// Nobody pays for a list of models that nobody reads.
func TestFreeCallsEndWithTheirClient(t *testing.T) {
	entered, closed := make(chan struct{}), make(chan struct{})
	r := newRig(t, func(_ http.ResponseWriter, req *http.Request) {
		close(entered)
		<-req.Context().Done()
		close(closed)
	}, capped)
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-entered
		leave()
	}()
	if _, err := ask(t, r.server.Client(), r.request("GET", "/gateway/anthropic/v1/models", "").WithContext(ctx)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	wait(t, closed, "the provider is let go")
	if s := r.meter.next(t); figures(s.usage) != (gateway.Usage{Outcome: gateway.Left}) || !s.call.Free || s.reservation.ID != "" {
		t.Errorf("%+v", s)
	}
}

// On a real network: the client sees the end within a second, whatever it does.
func TestRevokedStreamsEndWithinASecond(t *testing.T) {
	for _, reads := range []bool{true, false} {
		more := make(chan struct{})
		r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			w.Header().Set("Content-Type", sse)
			_, _ = io.WriteString(w, anthropicStart)
			w.(http.Flusher).Flush()
			if !reads { // until all buffers on the way are full
				for _, err := io.WriteString(w, anthropicDelta); err == nil; _, err = io.WriteString(w, anthropicDelta) {
				}
			}
			<-req.Context().Done()
			close(more)
		})
		resp := r.do(r.request("POST", "/gateway/anthropic/v1/messages", `{"stream":true}`))
		if _, err := io.ReadFull(resp.Body, make([]byte, len(anthropicStart))); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		r.revoke()
		if u := r.meter.next(t).usage; u.Outcome != gateway.Revoked || u.InputTokens != 25 {
			t.Errorf("%+v", u)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil {
			t.Error("the cut can't be seen")
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %s", took)
		}
		wait(t, more, "the provider is let go")
	}
}

// sub2api#1007: after the first byte nothing is asked twice; before it once
// more, where the connection failed.
func TestRetries(t *testing.T) {
	fin := func(net.Conn, *http.Request) {}
	rst := func(conn net.Conn, _ *http.Request) { reset(conn) }
	good := func(conn net.Conn, _ *http.Request) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 74\r\nConnection: close\r\n\r\n"+`{"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":4}}   `+" ")
	}
	says := func(s string) func(net.Conn, *http.Request) {
		return func(conn net.Conn, _ *http.Request) { _, _ = io.WriteString(conn, s) }
	}
	for _, tt := range []struct {
		name        string
		serve       []func(net.Conn, *http.Request)
		connections int64
		status      int
	}{
		{"closed, then good", []func(net.Conn, *http.Request){fin, good}, 2, 200},
		{"reset, then good", []func(net.Conn, *http.Request){rst, good}, 2, 200},
		{"closed twice", []func(net.Conn, *http.Request){fin, fin, good}, 2, 502},
		{"a byte, then closed", []func(net.Conn, *http.Request){says("H"), good}, 1, 502},
		{"a head, then closed", []func(net.Conn, *http.Request){says("HTTP/1.1 200 OK\r\nContent-Le"), good}, 1, 502},
		{"500", []func(net.Conn, *http.Request){says("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), good}, 1, 500},
		{"503", []func(net.Conn, *http.Request){says("HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"), good}, 1, 503},
		{"429", []func(net.Conn, *http.Request){says("HTTP/1.1 429 Slow\r\nContent-Length: 0\r\n\r\n"), good}, 1, 429},
		{"100, then closed", []func(net.Conn, *http.Request){says("HTTP/1.1 100 Continue\r\n\r\n"), good}, 1, 502},
	} {
		t.Run(tt.name, func(t *testing.T) {
			base, connections := script(t, tt.serve...)
			r := newRig(t, nil, at(base))
			resp, _ := r.post("/gateway/anthropic/v1/messages", `{"x":"`+strings.Repeat("y", 50_000)+`"}`)
			if resp.StatusCode != tt.status || connections.Load() != tt.connections {
				t.Errorf("%d after %d tries, want %d after %d", resp.StatusCode, connections.Load(), tt.status, tt.connections)
			}
			u := r.meter.next(t).usage
			if (u.Outcome == gateway.Done) != (tt.status == 200) || (u.OutputTokens == 4) != (tt.status == 200) {
				t.Errorf("%+v", u)
			}
			r.meter.none(t)
		})
	}
}

// A connection that was kept, and that the provider has closed meanwhile, costs
// the client nothing; and both tries send the whole body.
func TestAStaleConnectionIsReplaced(t *testing.T) {
	s := new(seen)
	r := newRig(t, s.ServeHTTP)
	for i := range 5 {
		body := fmt.Sprintf(`{"model":"m","x":"%s"}`, strings.Repeat("x", i*30_000))
		if resp, _ := r.post("/gateway/anthropic/v1/messages", body); resp.StatusCode != http.StatusOK || s.lastBody() != body {
			t.Fatalf("%d", resp.StatusCode)
		}
		r.upstream.CloseClientConnections()
	}
	if s.count() != 5 {
		t.Errorf("%d reached the provider", s.count())
	}
}

// What is compressed although we asked otherwise passes as it is, and is
// marked so; nothing can be read of it.
func TestCompressedAnswers(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, anthropicAll)
	_ = z.Close()
	r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", sse)
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(zipped.Bytes())
	})
	req := r.request("POST", "/gateway/openai/v1/chat/completions", `{"stream":true,"max_tokens":77}`)
	req.Header.Set("Accept-Encoding", "gzip") // or this client would unpack it
	resp, body := r.get(req)
	if resp.Header.Get("Content-Encoding") != "gzip" || body != zipped.String() {
		t.Errorf("%v, %d bytes of %d", resp.Header, len(body), zipped.Len())
	}
	if u := r.meter.next(t).usage; !u.Estimated || u.OutputTokens != 77 {
		t.Errorf("%+v", u)
	}
}

// An answer of any length passes without being held.
func TestEndlessAnswersAreNotHeld(t *testing.T) {
	for media, size := range map[string]int64{plain: 256 << 20, sse: 64 << 20, ndjson: 64 << 20, "text/plain": 64 << 20} {
		block := bytes.Repeat([]byte("data: {\"x\":[0.125,0.25]}"), 10_000)
		r := newRig(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			if media == "text/plain" { // an error's body
				w.WriteHeader(http.StatusInternalServerError)
			}
			for left := size; left > 0; left -= int64(len(block)) {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		})
		before := heap()
		resp := r.do(r.request("POST", "/gateway/openai/v1/chat/completions", `{"stream":true}`))
		var highest, n int64
		for piece := make([]byte, 1<<20); ; {
			m, err := io.ReadFull(resp.Body, piece)
			if n += int64(m); err != nil {
				break
			}
			if n&(15<<20) == 0 {
				highest = max(highest, heap())
			}
		}
		if n < size {
			t.Errorf("%d bytes came", n)
		}
		if grown := highest - before; grown > 8<<20 {
			t.Errorf("%s: %d MiB were held", media, grown>>20)
		}
		_ = resp.Body.Close()
		if u := r.meter.next(t).usage; u.Estimated == (u.Outcome == gateway.Failed) {
			t.Errorf("%+v", u)
		}
	}
}

// Clients may speak HTTP/2 to us: flushing, deadlines and aborts are the same.
func TestClientsOverHTTP2(t *testing.T) {
	r := newRigWithout(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", sse)
		_, _ = io.WriteString(w, anthropicStart)
		w.(http.Flusher).Flush()
		<-req.Context().Done()
	})
	r.server.EnableHTTP2 = true
	r.server.StartTLS()
	resp, err := r.server.Client().Do(r.request("POST", "/gateway/anthropic/v1/messages", `{"stream":true}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, len(anthropicStart))
	if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != anthropicStart || resp.ProtoMajor != 2 {
		t.Fatalf("%s %q, %v", resp.Proto, got, err)
	}
	r.revoke()
	if rest, err := io.ReadAll(resp.Body); err == nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	if u := r.meter.next(t).usage; u.Outcome != gateway.Revoked {
		t.Errorf("%+v", u)
	}
}

// Many at once, some of which leave, some are cut: each is settled once.
func TestEachCallIsSettledOnce(t *testing.T) {
	const calls = 300
	r := newRig(t, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		w.Header().Set("Content-Type", sse)
		for _, piece := range []string{anthropicStart, anthropicDelta, anthropicEnd, anthropicStop} {
			if rand.IntN(10) == 0 {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, piece)
			w.(http.Flusher).Flush()
		}
	}, capped)
	var g sync.WaitGroup
	gate := make(chan struct{}, 20)
	for range calls {
		gate <- struct{}{}
		g.Go(func() {
			defer func() { <-gate }()
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			resp, err := r.server.Client().Do(r.request("POST", "/gateway/anthropic/v1/messages", `{"stream":true}`).WithContext(ctx))
			if err != nil {
				return
			}
			defer resp.Body.Close()
			if rand.IntN(4) == 0 {
				_, _ = resp.Body.Read(make([]byte, 10))
				return
			}
			_, _ = io.Copy(io.Discard, resp.Body)
		})
	}
	g.Wait()
	outcomes := map[gateway.Outcome]int{}
	for range calls {
		s := r.meter.next(t)
		outcomes[s.usage.Outcome]++
		if s.reservation.ID == "" {
			t.Errorf("%+v", s)
		}
	}
	t.Log(outcomes)
	r.meter.none(t)
	if len(r.meter.reserved) != calls {
		t.Errorf("%d were reserved", len(r.meter.reserved))
	}
}
