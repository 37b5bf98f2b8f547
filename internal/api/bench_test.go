package api

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"gatehouse/internal/billing"
	"gatehouse/internal/ratelimit"
	"gatehouse/internal/stripe"
)

// full is a store whose windows have no place left.
type full struct{}

func (full) Take(context.Context, ratelimit.Name, ratelimit.Limit, string) (ratelimit.Decision, error) {
	return ratelimit.Decision{Wait: time.Hour}, nil
}

// nowhere is a writer that keeps headers, as net/http's does, and no body.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(int)             { n.header = n.header.Clone() }
func (n *nowhere) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkDenied is our part of a refused sign-up: what is left of it
// without net/http. bench/ measures the whole against a bare handler.
func BenchmarkDenied(b *testing.B) {
	a := newStub(full{}, func(*Config) {})
	r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, "/api/v1/customers/onboard", io.NopCloser(nil))
	if err != nil {
		b.Fatal(err)
	}
	r.RemoteAddr = "127.0.0.1:12345"
	b.ReportAllocs()
	for b.Loop() {
		a.ServeHTTP(&nowhere{make(http.Header)}, r)
	}
}

// BenchmarkForged is a forged webhook that is refused, over a connection, beside
// a bare handler that reads the body and makes one HMAC of it: what any endpoint
// for webhooks costs. Its bodies are as long as Stripe's are, and as they may be.
// Ours should take at most 1.5 times as long.
func BenchmarkForged(b *testing.B) {
	const secret = "whsec_0123456789abcdef"
	secrets, err := stripe.ParseSecrets(secret)
	if err != nil {
		b.Fatal(err)
	}
	ours := newStub(full{}, func(c *Config) {
		c.Webhook = func(signature []string, body []byte) (billing.Receipt, error) {
			_, err := secrets.Verify(signature, body, time.Now())
			return billing.Receipt{}, err
		}
	})
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write(body)
		if err != nil || !hmac.Equal(mac.Sum(nil), body[:sha256.Size]) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "no\n") // the client is this benchmark
		}
	})
	for _, size := range []int{500, 4 << 10, 64 << 10, maxEvent} {
		request := fmt.Appendf(nil, "POST /api/webhooks/stripe HTTP/1.1\r\nHost: gatehouse\r\nStripe-Signature: t=%d,v1=%064d\r\nContent-Length: %d\r\n\r\n%s",
			time.Now().Unix(), 0, size, strings.Repeat("x", size))
		for _, side := range []struct {
			name    string
			handler http.Handler
			last    string // of its answer
		}{{"ours", ours, "}\n"}, {"bare", bare, "no\n"}} {
			b.Run(strconv.Itoa(size)+"/"+side.name, func(b *testing.B) {
				server := httptest.NewServer(side.handler)
				defer server.Close()
				conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", server.Listener.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				defer conn.Close()
				answer := make([]byte, 4<<10)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := conn.Write(request); err != nil {
						b.Fatal(err)
					}
					for n := 0; !bytes.HasSuffix(answer[:n], []byte(side.last)); {
						more, err := conn.Read(answer[n:])
						if err != nil {
							b.Fatal(err)
						}
						n += more
					}
				}
			})
		}
	}
}
