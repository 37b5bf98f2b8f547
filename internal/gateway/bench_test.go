package gateway_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"gatehouse/internal/gateway"
)

// idle is a meter that does nothing.
type idle struct{ gateway.Meter }

func (idle) Settle(context.Context, *gateway.Lease, *gateway.Call, gateway.Usage, gateway.Reservation) {
}

// proxies are the gateway and what it is compared with, before one provider.
func proxies(b *testing.B, provider http.HandlerFunc) map[string]string {
	b.Helper()
	upstream := httptest.NewServer(provider)
	b.Cleanup(upstream.Close)
	base, err := url.Parse(upstream.URL)
	if err != nil {
		b.Fatal(err)
	}
	g, err := gateway.New(gateway.Config{
		Upstreams: map[string]gateway.Upstream{"anthropic": {Base: upstream.URL, Key: operatorKey}, "openai": {Base: upstream.URL, Key: operatorKey}},
		Door:      &door{lease: &gateway.Lease{ExpiresAt: time.Now().Add(time.Hour), Ended: context.Background()}}, Meter: idle{}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	bare := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(base)
			r.Out.URL.Path = strings.TrimPrefix(r.In.URL.Path, "/gateway/anthropic")
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 256}, FlushInterval: -1, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	}
	gatewayed, bared := httptest.NewServer(g), httptest.NewServer(bare)
	b.Cleanup(func() { g.Close(); gatewayed.Close(); bared.Close() })
	return map[string]string{"direct": upstream.URL + "/v1/messages", "bare": bared.URL + "/gateway/anthropic/v1/messages", "gateway": gatewayed.URL + "/gateway/anthropic/v1/messages"}
}

// BenchmarkProxy compares a bare ReverseProxy with the gateway on the same
// bytes, and reports the latency of calls.
func BenchmarkProxy(b *testing.B) {
	stream := anthropicStart + strings.Repeat(anthropicDelta, 200) + anthropicEnd + anthropicStop
	for _, load := range []struct {
		name, request, media, answer string
		pieces                       int
	}{
		{"small", `{"model":"claude","max_tokens":100,"messages":[{"role":"user","content":"` + strings.Repeat("word ", 200) + `"}]}`, plain,
			`{"model":"claude","content":[{"type":"text","text":"` + strings.Repeat("word ", 400) + `"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":4}}`, 1},
		{"prompt of 100 KiB", `{"model":"claude","max_tokens":100,"messages":[{"role":"user","content":"` + strings.Repeat("word ", 20_000) + `"}]}`, plain,
			`{"model":"claude","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":4}}`, 1},
		{"stream of 200 events", `{"model":"claude","stream":true}`, sse, stream, 200},
		{"answer of 1 MiB", `{"model":"claude"}`, plain, `{"data":"` + strings.Repeat("0.123456,", 1<<20/9) + `"}`, 1},
	} {
		urls := proxies(b, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", load.media)
			for rest := load.answer; rest != ""; {
				n := min(len(rest), len(load.answer)/load.pieces+1)
				_, _ = io.WriteString(w, rest[:n])
				if rest = rest[n:]; load.pieces > 1 {
					w.(http.Flusher).Flush()
				}
			}
		})
		for _, way := range []string{"direct", "bare", "gateway"} {
			b.Run(load.name+"/"+way, func(b *testing.B) {
				client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
				var mu sync.Mutex
				var took []time.Duration
				b.SetBytes(int64(len(load.request) + len(load.answer)))
				b.SetParallelism(8)
				spent := cpu()
				b.RunParallel(func(p *testing.PB) {
					var mine []time.Duration
					for p.Next() {
						start := time.Now()
						req, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, urls[way], strings.NewReader(load.request))
						req.Header.Set("X-Api-Key", token)
						resp, err := client.Do(req)
						if err != nil {
							b.Error(err)
							return
						}
						n, err := io.Copy(io.Discard, resp.Body)
						_ = resp.Body.Close()
						if err != nil || n != int64(len(load.answer)) {
							b.Errorf("%d bytes, %v", n, err)
							return
						}
						mine = append(mine, time.Since(start))
					}
					mu.Lock()
					took = append(took, mine...)
					mu.Unlock()
				})
				slices.Sort(took)
				b.ReportMetric(float64((cpu()-spent).Microseconds())/float64(b.N), "cpu-µs/op")
				if len(took) > 0 {
					b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
					b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
				}
			})
		}
	}
}

// cpu is what this process has spent: it says more than the time where others
// use the machine.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkLatency is one call after the other: what the gateway adds to a
// provider's own time.
func BenchmarkLatency(b *testing.B) {
	urls := proxies(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", sse)
		_, _ = io.WriteString(w, anthropicAll)
	})
	for _, way := range []string{"direct", "bare", "gateway"} {
		b.Run(way, func(b *testing.B) {
			client := &http.Client{Transport: &http.Transport{}}
			var took, first []time.Duration
			for b.Loop() {
				start := time.Now()
				req, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, urls[way], strings.NewReader(`{"stream":true}`))
				req.Header.Set("X-Api-Key", token)
				resp, err := client.Do(req)
				if err != nil {
					b.Fatal(err)
				}
				_, _ = io.ReadFull(resp.Body, make([]byte, 1))
				first = append(first, time.Since(start))
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				took = append(took, time.Since(start))
			}
			for name, all := range map[string][]time.Duration{"first": first, "all": took} {
				slices.Sort(all)
				b.ReportMetric(float64(all[len(all)/2].Nanoseconds())/1e6, name+"-p50-ms")
				b.ReportMetric(float64(all[len(all)*99/100].Nanoseconds())/1e6, name+"-p99-ms")
			}
		})
	}
}

// BenchmarkOpenStreams holds 2,000 streams open, directly and through the
// gateway: the difference in MiB is the gateway's.
func BenchmarkOpenStreams(b *testing.B) {
	const streams = 2000
	end := make(chan struct{})
	defer close(end)
	urls := proxies(b, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", sse)
		_, _ = io.WriteString(w, anthropicStart)
		w.(http.Flusher).Flush()
		<-end
	})
	used := func() float64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse+m.StackInuse) / (1 << 20)
	}
	body := []byte(`{"model":"claude","stream":true,"x":"` + strings.Repeat("x", 50_000) + `"}`)
	for _, way := range []string{"direct", "bare", "gateway"} {
		b.Run(fmt.Sprintf("%d/%s", streams, way), func(b *testing.B) {
			for b.Loop() {
				before := used()
				transport := &http.Transport{}
				client := &http.Client{Transport: transport}
				var open []io.Closer
				for range streams {
					req, _ := http.NewRequestWithContext(b.Context(), http.MethodPost, urls[way], bytes.NewReader(body))
					req.Header.Set("X-Api-Key", token)
					resp, err := ask(b, client, req)
					if err != nil {
						b.Fatal(err)
					}
					_, _ = io.ReadFull(resp.Body, make([]byte, len(anthropicStart)))
					open = append(open, resp.Body)
				}
				b.ReportMetric(used()-before, "MiB")
				for _, c := range open {
					_ = c.Close()
				}
			}
		})
	}
}
