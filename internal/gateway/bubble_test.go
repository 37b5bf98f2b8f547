package gateway_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gatehouse/internal/gateway"
)

// pipes is a listener without a network, so that time may be synctest's.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// bubble is a rig inside synctest: calls are by a client of its own, and time
// passes when all wait.
type bubble struct {
	*rig
	client *http.Client
	front  *pipes
}

func inBubble(t *testing.T, provider http.HandlerFunc, test func(t *testing.T, b *bubble), options ...option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ended, revoke := context.WithCancel(context.Background())
		b := &bubble{front: newPipes(), rig: &rig{t: t, meter: &meter{settled: make(chan settled, 10), patience: 5 * time.Hour}, revoke: revoke, logs: new(logs)}}
		b.lease = &gateway.Lease{CustomerID: "jane", ExpiresAt: time.Now().Add(4 * time.Hour), Ended: ended}
		config := gateway.Config{
			Door: &door{lease: b.lease}, Meter: b.meter, Log: slog.New(slog.NewTextHandler(b.logs, nil)),
			Upstreams: map[string]gateway.Upstream{"anthropic": {Base: "http://provider", Key: operatorKey}},
		}
		front := &http.Server{ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 60 * time.Second, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
		for _, o := range options {
			o(&config, front)
		}
		var err error
		if b.gateway, err = gateway.New(config); err != nil {
			t.Fatal(err)
		}
		front.Handler = b.gateway
		back, behind := newPipes(), &http.Server{Handler: provider, ErrorLog: front.ErrorLog}
		b.gateway.Dial(back.dial)
		transport := &http.Transport{DialContext: b.front.dial, DisableCompression: true}
		b.client = &http.Client{Transport: transport}
		var g sync.WaitGroup
		g.Go(func() { _ = front.Serve(b.front) })
		g.Go(func() { _ = behind.Serve(back) })
		defer func() {
			transport.CloseIdleConnections()
			b.gateway.Close()
			_ = front.Close()
			b.gateway.Close()
			_ = behind.Close()
			g.Wait()
		}()
		test(t, b)
		transport.CloseIdleConnections()
		b.gateway.Close()
		synctest.Wait()
		if s := b.gateway.Stats(); s != (gateway.Stats{}) {
			t.Errorf("at the end there is left: %+v", s)
		}
	})
}

// open begins a streaming call of Anthropic's.
func (b *bubble) open(ctx context.Context, t *testing.T, body string) (*answer, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://gatehouse/gateway/anthropic/v1/messages", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Api-Key", token)
	return ask(t, b.client, req)
}

func (b *bubble) stream(ctx context.Context, t *testing.T) *answer {
	t.Helper()
	resp, err := b.open(ctx, t, `{"stream":true}`)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// paced writes an event and then one more after each pause, until told to stop.
func paced(pause time.Duration, pieces ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", sse)
		for i, p := range pieces {
			if i > 0 {
				select {
				case <-time.After(pause):
				case <-r.Context().Done():
					return
				}
			}
			if _, err := io.WriteString(w, p); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
}

// since fails where something took another time than it should.
func since(t *testing.T, start time.Time, least, most time.Duration) {
	t.Helper()
	if took := time.Since(start); took < least || took > most {
		t.Errorf("it took %s, want %s to %s", took, least, most)
	}
}

// Neither the server's ReadTimeout nor its WriteTimeout cuts a stream, and what
// comes is handed on at once.
func TestStreamsOutliveTheServersTimeouts(t *testing.T) {
	pieces := []string{anthropicStart, anthropicText, anthropicDelta, anthropicDelta, anthropicEnd, anthropicStop}
	inBubble(t, paced(3*time.Minute, pieces...), func(t *testing.T, b *bubble) {
		start := time.Now()
		resp := b.stream(t.Context(), t)
		since(t, start, 0, 0)
		for i, want := range pieces {
			got := make([]byte, len(want))
			if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != want {
				t.Fatalf("piece %d: %q, %v", i, got, err)
			}
			since(t, start, time.Duration(i)*3*time.Minute, time.Duration(i)*3*time.Minute)
		}
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
			t.Errorf("%q, %v", rest, err)
		}
		if s := b.meter.next(t); s.usage.Estimated || s.usage.Outcome != gateway.Done || s.usage.Took != 15*time.Minute {
			t.Errorf("%+v", s.usage)
		}
		// The connection takes another request, whose deadlines are its own.
		resp = b.stream(t.Context(), t)
		if got, err := io.ReadAll(resp.Body); err != nil || string(got) != strings.Join(pieces, "") {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestTheHeadOfAStreamDoesNotWaitForItsBody(t *testing.T) {
	inBubble(t, paced(5*time.Minute, "", anthropicAll), func(t *testing.T, b *bubble) {
		start := time.Now()
		resp := b.stream(t.Context(), t)
		since(t, start, 0, 0)
		_, _ = io.ReadAll(resp.Body)
	})
}

// A client that leaves has its call read to the end, for the usage there.
func TestWhenTheClientLeavesReadingGoesOn(t *testing.T) {
	inBubble(t, paced(4*time.Second, anthropicStart, anthropicDelta, anthropicDelta, anthropicDelta, anthropicEnd, anthropicStop), func(t *testing.T, b *bubble) {
		ctx, leave := context.WithCancel(t.Context())
		start := time.Now()
		resp := b.stream(ctx, t)
		leave()
		_ = resp.Body.Close()
		s := b.meter.next(t)
		since(t, start, 20*time.Second, 20*time.Second)
		anthropicUsage := anthropicUsage
		anthropicUsage.Status, anthropicUsage.Outcome = 200, gateway.Left
		if figures(s.usage) != anthropicUsage {
			t.Errorf("%+v", s.usage)
		}
	})
}

// It goes on for a minute at the most, and for five seconds of silence.
func TestReadingOnEndsInTime(t *testing.T) {
	endless := make([]string, 1000)
	for i := range endless {
		endless[i] = anthropicDelta
	}
	endless[0] = anthropicStart
	for _, tt := range []struct {
		name   string
		pause  time.Duration
		most   time.Duration
		pieces []string
	}{
		{"endless", time.Second, time.Minute, endless},
		{"silent", time.Hour, 5 * time.Second, []string{anthropicStart, anthropicDelta}},
		{"silent from the first", time.Hour, 5 * time.Second, []string{"", anthropicStart}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			closed := make(chan time.Time, 1)
			provider := paced(tt.pause, tt.pieces...)
			inBubble(t, func(w http.ResponseWriter, r *http.Request) {
				provider(w, r)
				closed <- time.Now()
			}, func(t *testing.T, b *bubble) {
				ctx, leave := context.WithCancel(t.Context())
				resp := b.stream(ctx, t)
				start := time.Now()
				leave()
				_ = resp.Body.Close()
				s := b.meter.next(t)
				since(t, start, tt.most, tt.most)
				if u := s.usage; u.Outcome != gateway.Left || !u.Estimated || u.OutputTokens == 0 || u.InputTokens == 0 {
					t.Errorf("%+v", u)
				}
				if at := <-closed; at.Sub(start) > tt.most+time.Second {
					t.Errorf("the provider was let go after %s", at.Sub(start))
				}
			})
		})
	}
}

// What does not come in parts is silent until it is done.
func TestReadingOnForAWholeAnswer(t *testing.T) {
	for took, exact := range map[time.Duration]bool{40 * time.Second: true, 2 * time.Minute: false} {
		inBubble(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			select {
			case <-time.After(took):
			case <-r.Context().Done():
			}
			_, _ = io.WriteString(w, `{"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":4}}`)
		}, func(t *testing.T, b *bubble) {
			ctx, leave := context.WithTimeout(t.Context(), time.Second)
			defer leave()
			start := time.Now()
			if _, err := b.open(ctx, t, `{"max_tokens":500}`); err == nil {
				t.Fatal("it did not leave")
			}
			u := b.meter.next(t).usage
			if exact {
				since(t, start, took, took)
				if u.Estimated || u.OutputTokens != 4 || u.Outcome != gateway.Left {
					t.Errorf("%+v", u)
				}
			} else {
				since(t, start, 61*time.Second, 61*time.Second)
				if !u.Estimated || u.OutputTokens != 500 || u.Outcome != gateway.Left || u.Status != 0 {
					t.Errorf("%+v", u)
				}
			}
		})
	}
}

// A client that takes nothing for a minute is cut; its call is read on.
func TestAClientThatTakesNothingIsCut(t *testing.T) {
	inBubble(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", sse)
		_, _ = io.WriteString(w, anthropicStart)
		for range 100 {
			_, _ = io.WriteString(w, anthropicDelta)
			w.(http.Flusher).Flush()
		}
		_, _ = io.WriteString(w, anthropicEnd)
	}, func(t *testing.T, b *bubble) {
		in := bufio.NewReader(b.rawStream(t))
		if line, err := in.ReadString('\n'); err != nil || line != "HTTP/1.1 200 OK\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
		start := time.Now()
		u := b.meter.next(t).usage
		since(t, start, time.Minute, time.Minute+2*time.Second)
		if u.Outcome != gateway.Left || u.Estimated || u.OutputTokens != 15 {
			t.Errorf("%+v", u)
		}
		if rest, err := io.ReadAll(in); strings.HasSuffix(string(rest), "\r\n0\r\n\r\n") {
			t.Errorf("the cut can't be seen: %v", err)
		}
	})
}

func TestASlowClientIsNotCut(t *testing.T) {
	inBubble(t, paced(0, strings.Repeat(anthropicDelta, 100)), func(t *testing.T, b *bubble) {
		in := b.rawStream(t)
		piece, got := make([]byte, 4<<10), []byte(nil)
		for !strings.HasSuffix(string(got), "\r\n0\r\n\r\n") {
			n, err := in.Read(piece)
			if err != nil {
				t.Fatalf("%q, %v", got, err)
			}
			got = append(got, piece[:n]...)
			<-time.After(25 * time.Second)
		}
		if n := strings.Count(string(got), "data:"); n != 100 {
			t.Errorf("%d events", n)
		}
		if u := b.meter.next(t).usage; u.Outcome != gateway.Done || u.Took < 2*time.Minute {
			t.Errorf("%+v", u)
		}
	})
}

// rawStream is a streaming call on a connection without any buffer.
func (b *bubble) rawStream(t *testing.T) net.Conn {
	t.Helper()
	conn, err := b.front.dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "POST /gateway/anthropic/v1/messages HTTP/1.1\r\nHost: gatehouse\r\nX-Api-Key: "+token+"\r\nContent-Length: 15\r\n\r\n{\"stream\":true}")
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// A provider may be slow, but not for ever.
func TestPatienceWithAProvider(t *testing.T) {
	t.Run("before the head", func(t *testing.T) {
		inBubble(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}, func(t *testing.T, b *bubble) {
			start := time.Now()
			resp, err := b.open(t.Context(), t, `{"max_tokens":500}`)
			if err != nil {
				t.Fatal(err)
			}
			since(t, start, 10*time.Minute, 10*time.Minute)
			refused(t, resp, http.StatusGatewayTimeout, "UPSTREAM_TIMEOUT")
			_ = resp.Body.Close()
			if u := b.meter.next(t).usage; u.Outcome != gateway.Overdue || !u.Estimated || u.OutputTokens != 500 {
				t.Errorf("%+v", u)
			}
		})
	})
	t.Run("in a stream", func(t *testing.T) {
		inBubble(t, paced(9*time.Minute, anthropicStart, anthropicDelta, anthropicDelta), func(t *testing.T, b *bubble) {
			resp := b.stream(t.Context(), t)
			got, err := io.ReadAll(resp.Body)
			if err != nil || string(got) != anthropicStart+anthropicDelta+anthropicDelta {
				t.Errorf("%q, %v", got, err)
			}
			b.meter.next(t)
		})
		inBubble(t, paced(11*time.Minute, anthropicStart, anthropicDelta), func(t *testing.T, b *bubble) {
			start := time.Now()
			resp := b.stream(t.Context(), t)
			got, err := io.ReadAll(resp.Body)
			since(t, start, 10*time.Minute, 10*time.Minute)
			if err == nil || string(got) != anthropicStart {
				t.Errorf("%q, %v", got, err)
			}
			if u := b.meter.next(t).usage; u.Outcome != gateway.Overdue || !u.Estimated || u.InputTokens != 25 {
				t.Errorf("%+v", u)
			}
		})
	})
	t.Run("a whole answer that trickles", func(t *testing.T) {
		inBubble(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			for r.Context().Err() == nil {
				_, _ = io.WriteString(w, " ")
				w.(http.Flusher).Flush()
				select {
				case <-time.After(time.Minute):
				case <-r.Context().Done():
				}
			}
		}, func(t *testing.T, b *bubble) {
			start := time.Now()
			resp, err := b.open(t.Context(), t, `{}`)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.ReadAll(resp.Body)
			since(t, start, 10*time.Minute, 10*time.Minute)
			if err == nil {
				t.Error("the cut can't be seen")
			}
			b.meter.next(t)
		})
	})
}

// A lease that is revoked, or expires, ends what is open, whatever it waits for.
func TestOpenCallsEndWithTheirLease(t *testing.T) {
	for _, how := range []string{"revoked", "expired"} {
		prepare := func(b *bubble) (after time.Duration) {
			if how == "revoked" {
				time.AfterFunc(90*time.Second, b.revoke)
				return 90 * time.Second
			}
			b.lease.ExpiresAt = time.Now().Add(90 * time.Second)
			return 90 * time.Second
		}
		t.Run(how+" while the provider is silent", func(t *testing.T) {
			inBubble(t, paced(time.Hour, anthropicStart, anthropicDelta), func(t *testing.T, b *bubble) {
				start, after := time.Now(), prepare(b)
				resp := b.stream(t.Context(), t)
				got, err := io.ReadAll(resp.Body)
				since(t, start, after, after)
				if err == nil || string(got) != anthropicStart {
					t.Errorf("%q, %v", got, err)
				}
				if u := b.meter.next(t).usage; u.Outcome != gateway.Revoked || !u.Estimated || u.InputTokens != 25 {
					t.Errorf("%+v", u)
				}
			})
		})
		t.Run(how+" while the client takes nothing", func(t *testing.T) {
			inBubble(t, paced(0, anthropicStart, strings.Repeat(anthropicDelta, 1000)), func(t *testing.T, b *bubble) {
				start, after := time.Now(), prepare(b)
				resp := b.stream(t.Context(), t)
				u := b.meter.next(t).usage
				since(t, start, after, after)
				if u.Outcome != gateway.Revoked {
					t.Errorf("%+v", u)
				}
				if _, err := io.ReadAll(resp.Body); err == nil {
					t.Error("the cut can't be seen")
				}
			}, bounded(func(b *gateway.Bounds) { b.Stall = time.Hour }))
		})
		t.Run(how+" before the head", func(t *testing.T) {
			inBubble(t, func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			}, func(t *testing.T, b *bubble) {
				start, after := time.Now(), prepare(b)
				resp := b.stream(t.Context(), t)
				since(t, start, after, after)
				refused(t, resp, http.StatusUnauthorized, "INVALID_API_KEY")
				_ = resp.Body.Close()
				if u := b.meter.next(t).usage; u.Outcome != gateway.Revoked || !u.Estimated {
					t.Errorf("%+v", u)
				}
			})
		})
		t.Run(how+" after the client has left", func(t *testing.T) {
			inBubble(t, paced(time.Second, strings.Split(strings.Repeat(anthropicDelta+"|", 500), "|")...), func(t *testing.T, b *bubble) {
				start, after := time.Now(), prepare(b)
				ctx, leave := context.WithTimeout(t.Context(), 80*time.Second)
				defer leave()
				resp := b.stream(ctx, t)
				_, _ = io.ReadAll(resp.Body)
				u := b.meter.next(t).usage
				since(t, start, after, after)
				if u.Outcome != gateway.Revoked {
					t.Errorf("%+v", u)
				}
			})
		})
	}
}

// Nothing passes that is revoked, or expires, while its body comes.
func TestALeaseThatIsOverLetsNothingThrough(t *testing.T) {
	for how, end := range map[string]func(*bubble){
		"expired": func(b *bubble) { b.lease.ExpiresAt = time.Now() },
		"revoked": func(b *bubble) { b.revoke() },
	} {
		inBubble(t, func(http.ResponseWriter, *http.Request) { t.Errorf("%s, and passed on", how) }, func(t *testing.T, b *bubble) {
			conn, err := b.front.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_, _ = io.WriteString(conn, "POST /gateway/anthropic/v1/messages HTTP/1.1\r\nHost: gatehouse\r\nX-Api-Key: "+token+"\r\nContent-Length: 2\r\n\r\n{")
			synctest.Wait()
			end(b)
			_, _ = io.WriteString(conn, "}")
			refused(t, answerOn(t, conn), http.StatusUnauthorized, "INVALID_API_KEY")
			b.meter.none(t)
		}, capped)
	}
}

// A client that leaves before the provider could be reached pays nothing.
func TestLeavingBeforeTheProviderIsReached(t *testing.T) {
	inBubble(t, func(http.ResponseWriter, *http.Request) {}, func(t *testing.T, b *bubble) {
		b.gateway.Dial(func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		ctx, leave := context.WithTimeout(t.Context(), time.Second)
		defer leave()
		if _, err := b.open(ctx, t, `{"stream":true}`); err == nil {
			t.Fatal("it did not leave")
		}
		if s := b.meter.next(t); figures(s.usage) != (gateway.Usage{Outcome: gateway.Left}) || s.reservation.ID == "" {
			t.Errorf("%+v", s)
		}
	}, capped)
}

// Close ends all, and each call is settled.
func TestCloseEndsWhatIsOpen(t *testing.T) {
	inBubble(t, paced(time.Hour, anthropicStart, anthropicDelta), func(t *testing.T, b *bubble) {
		resp := b.stream(t.Context(), t)
		start := time.Now()
		b.gateway.Close()
		if _, err := io.ReadAll(resp.Body); err == nil {
			t.Error("the cut can't be seen")
		}
		since(t, start, 0, 0)
		if u := b.meter.next(t).usage; u.Outcome != gateway.Shutdown || !u.Estimated || u.InputTokens != 25 {
			t.Errorf("%+v", u)
		}
		resp = b.stream(t.Context(), t)
		refused(t, resp, http.StatusServiceUnavailable, "UNAVAILABLE")
		_ = resp.Body.Close()
	})
}

// A body has two minutes.
func TestABodyThatDoesNotArriveIsRefused(t *testing.T) {
	inBubble(t, paced(0, anthropicAll), func(t *testing.T, b *bubble) {
		in, out := io.Pipe()
		defer out.Close()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://gatehouse/gateway/anthropic/v1/messages", in)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Api-Key", token)
		go func() {
			_, _ = io.WriteString(out, `{"a":`)
			<-time.After(100 * time.Second) // far beyond the server's ReadTimeout
			_, _ = io.WriteString(out, `1`)
		}()
		start := time.Now()
		resp, err := ask(t, b.client, req)
		if err != nil {
			t.Fatal(err)
		}
		since(t, start, 2*time.Minute, 2*time.Minute)
		refused(t, resp, http.StatusBadRequest, "INVALID_JSON")
	})
}
