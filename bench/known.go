package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"
)

// benchKnown measures a server that holds each answer for a known time: 10 ms,
// and every hundredth for a second. It compares each percentile that the
// summary gives with what the server did, by its own clock, and the counts.
func benchKnown(ctx context.Context, o options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	worst := 0.0
	for range o.rounds {
		known, err := start(ctx, self, "-known")
		if err != nil {
			return err
		}
		_, s, err := o.load(ctx, known.addr, `name: known
stages: [{duration: 1ms, rate: 250}, {duration: 19990ms, rate: 250}]
requests: [{name: get, method: GET, path: /}]
gates: [all.latency.p99 < 2s]
`)
		if err != nil {
			return err
		}
		held, err := heldBy(ctx, known.addr)
		if err != nil {
			return err
		}
		slices.Sort(held)
		got := s.Outcomes["200"]
		fmt.Printf("  counts: %d sent, %d answered, %d served;", s.Requests.Sent, got.Count, len(held))
		if int(got.Count) != len(held) || s.Requests.Sent != got.Count {
			fmt.Print(" THEY DIFFER;")
		}
		for _, p := range []struct {
			name  string
			share float64
		}{{"p50", .5}, {"p90", .9}, {"p95", .95}, {"p99", .99}, {"p99_9", .999}} {
			measured := got.Latency[p.name]
			if measured == nil {
				fmt.Print(" " + p.name + " not given")
				continue
			}
			truth := held[int(math.Ceil(p.share*float64(len(held))))-1]
			off := *measured/truth - 1
			worst = max(worst, math.Abs(off))
			fmt.Printf(" %s %.2f ms (%+.2f %%)", p.name, *measured, off*100)
		}
		fmt.Println()
		if err := known.cmd.Process.Kill(); err != nil {
			return err
		}
		_ = known.cmd.Wait() // it was killed
	}
	fmt.Printf("the percentile that was furthest off: %.2f %%\n", worst*100)
	return nil
}

// heldBy asks the server how long it held each answer, in ms.
func heldBy(ctx context.Context, addr string) ([]float64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/held", nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var held []float64
	return held, json.UnmarshalRead(res.Body, &held)
}

// serveKnown is that server. Each connection has a timer of the kernel's, since
// Go's would round up to a millisecond.
func serveKnown() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	slog.New(slog.NewJSONHandler(os.Stderr, nil)).Info("serving", "listen", l.Addr().String())
	var mu sync.Mutex
	var held []float64
	count := 0
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			timer, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
			if err != nil {
				log.Print(err)
				return
			}
			expired := os.NewFile(uintptr(timer), "timer")
			defer expired.Close()
			in := bufio.NewReader(conn)
			for {
				path, err := readRequest(in)
				if err != nil {
					return
				}
				began := time.Now()
				if path != "/" && path != "/held" { // the tool asks for its health
					_, _ = io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
					return
				}
				if path == "/held" {
					mu.Lock()
					text, err := json.Marshal(held)
					mu.Unlock()
					_, werr := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(text), text)
					_ = errors.Join(err, werr)
					return
				}
				mu.Lock()
				hold := 10 * time.Millisecond
				if count%100 == 0 {
					hold = time.Second
				}
				count++
				mu.Unlock()
				spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(hold))}
				var times [8]byte
				err = unix.TimerfdSettime(timer, 0, &spec, nil)
				if _, rerr := expired.Read(times[:]); err != nil || rerr != nil {
					log.Print(errors.Join(err, rerr))
					return
				}
				mu.Lock()
				held = append(held, float64(time.Since(began))/float64(time.Millisecond))
				mu.Unlock()
				if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
					return
				}
			}
		}()
	}
}

// readRequest reads one request and returns its path.
func readRequest(r *bufio.Reader) (path string, err error) {
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch name, value, _ := bytes.Cut(line, []byte(": ")); {
		case path == "":
			path = strings.Fields(string(line))[1]
		case len(line) == 0:
			_, err := io.CopyN(io.Discard, r, int64(length))
			return path, err
		case string(name) == "Content-Length":
			if length, err = strconv.Atoi(string(value)); err != nil {
				return "", err
			}
		}
	}
}
