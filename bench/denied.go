package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
)

// deniedPace is the rate at which latencies are compared: both servers can do
// it several times over, so that what is measured is they, not a queue.
const deniedPace = 5000

// benchDenied storms the server from 8 addresses, whose limits are used up,
// over 32 connections, and a bare net/http handler in the same way. The two
// take turns; the figures are ratios within one pair of turns: the CPU a
// request as fast as they go, and p95 at one and the same pace.
func benchDenied(ctx context.Context, o options) error {
	server, err := o.serveGatehouse(ctx, "denied.db", "--limit-onboarding", "10/3600s")
	if err != nil {
		return err
	}
	storm := drive{
		conns: 32, want: "429",
		from: func(conn int) net.IP { return net.IPv4(127, 0, 1, byte(1+conn%8)) },
		request: func(buf []byte, conn, n int) []byte {
			return appendSignUp(buf, fmt.Sprintf("denied-%d-%d@bench.example.dev", conn, n), "")
		},
	}
	storm.addr = server.addr
	if _, err := storm.run(ctx, time.Second); err != nil { // uses the limits up
		return err
	}
	bare, err := o.startBare(ctx, server.addr, "/api/v1/customers/onboard", "")
	if err != nil {
		return err
	}
	return errors.Join(againstBare(ctx, o, server, bare, storm, deniedPace), server.stop(), bare.kill())
}

// againstBare compares a server with a bare handler under a storm, in turns.
func againstBare(ctx context.Context, o options, server, bare *process, storm drive, pace float64) error {
	var cpu, p95, serverCPU, bareCPU []float64
	for range o.rounds {
		b, bcost, err := measure(ctx, bare, storm, o.slice)
		if err != nil {
			return fmt.Errorf("bare: %w", err)
		}
		s, scost, err := measure(ctx, server, storm, o.slice)
		if err != nil {
			return fmt.Errorf("server: %w", err)
		}
		paced := storm
		paced.pace, paced.fromSend = pace, true
		bp, _, err := measure(ctx, bare, paced, o.slice)
		if err != nil {
			return fmt.Errorf("bare, paced: %w", err)
		}
		sp, _, err := measure(ctx, server, paced, o.slice)
		if err != nil {
			return fmt.Errorf("server, paced: %w", err)
		}
		serverCPU, bareCPU = append(serverCPU, scost), append(bareCPU, bcost)
		cpu = append(cpu, scost/bcost)
		p95 = append(p95, float64(sp.percentile(.95))/float64(bp.percentile(.95)))
		fmt.Printf("  server %6.0f/s %5.2f µs CPU, p95 %v; bare %6.0f/s %5.2f µs CPU, p95 %v; at %.0f/s p95 %v and %v\n",
			s.rate(), scost, s.percentile(.95), b.rate(), bcost, b.percentile(.95), pace, sp.percentile(.95), bp.percentile(.95))
	}
	fmt.Printf("CPU a request: server %s µs, bare %s µs, ratio %s\n", spread("%.2f", serverCPU), spread("%.2f", bareCPU), spread("%.2f", cpu))
	fmt.Printf("p95 ratio at %.0f/s: %s\n", pace, spread("%.2f", p95))
	return nil
}

// measure returns what a turn saw and the server's CPU a request in µs.
func measure(ctx context.Context, p *process, d drive, length time.Duration) (result, float64, error) {
	d.addr = p.addr
	before, err := p.cpu()
	if err != nil {
		return result{}, 0, err
	}
	r, err := d.run(ctx, length)
	if err != nil {
		return r, 0, err
	}
	if r.other > 0 {
		return r, 0, fmt.Errorf("%d answers were not %s", r.other, d.want)
	}
	after, err := p.cpu()
	return r, float64((after - before).Nanoseconds()) / 1000 / float64(r.count), err
}

// answered is an answer, as the bare handler is to give it.
type answered struct {
	Status int
	Header http.Header
	Body   string
	Secret string // "": it does not look at the request
}

// startBare starts the yardstick: it answers as the server does one request to
// the path, from an address whose limit may be used up.
func (o options) startBare(ctx context.Context, addr, path, secret string) (*process, error) {
	file := filepath.Join(o.dir, "answer.json")
	if err := saveAnswer(ctx, "http://"+addr+path, secret, file); err != nil {
		return nil, err
	}
	return startSelf(ctx, "-bare", file)
}

// saveAnswer gets one refusal and keeps it in a file.
func saveAnswer(ctx context.Context, url, secret, file string) error {
	client := http.Client{Transport: &http.Transport{
		DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, 1)}}).DialContext,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	res.Header.Del("Date")
	res.Header.Del("Content-Length")
	text, err := json.Marshal(answered{res.StatusCode, res.Header, string(body), secret})
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o600)
}

// serveBare is the yardstick: the least that net/http can do to give that
// answer, with the header map filled and the body written, and, with a secret,
// with the request's body read and one HMAC of it made and compared.
func serveBare(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var a answered
	if err := json.Unmarshal(text, &a); err != nil {
		return err
	}
	body := []byte(a.Body)
	return serveHere(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a.Secret != "" {
			sent, err := io.ReadAll(r.Body)
			mac := hmac.New(sha256.New, []byte(a.Secret))
			mac.Write(sent)
			if err != nil || hmac.Equal(mac.Sum(nil), []byte(r.Header.Get("Stripe-Signature"))) {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
		}
		h := w.Header()
		maps.Copy(h, a.Header)
		w.WriteHeader(a.Status)
		_, _ = w.Write(body)
	}))
}

// serveHere serves a handler on loopback, and says where as the server does.
func serveHere(h http.Handler) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	slog.New(slog.NewJSONHandler(os.Stderr, nil)).Info("serving", "listen", l.Addr().String())
	return http.Serve(l, h)
}
