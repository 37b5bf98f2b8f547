package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"
)

// drive is some connections that send requests one after the other.
type drive struct {
	addr    string
	conns   int
	from    func(conn int) net.IP                // source address; nil: any
	request func(buf []byte, conn, n int) []byte // the n-th request of a connection, appended
	want    string                               // status that counts
	done    func(conn int)                       // told of each answer with it; nil: nobody
	pace    float64                              // requests a second over all; 0: as fast as they go
	// read reads an answer, and returns when what counts of it came; nil:
	// readAnswer, to its end.
	read func(*bufio.Reader) (status string, at time.Time, err error)
	// Latency counts from when a paced request was due, or, with fromSend,
	// from when it was sent: to compare two servers below their capacity,
	// without what this program adds by waking up late.
	fromSend bool
}

// result is what a drive saw.
type result struct {
	count, other int
	took         time.Duration
	latency      []time.Duration // ascending
}

func (r result) rate() float64 { return float64(r.count) / r.took.Seconds() }

func (r result) percentile(p float64) time.Duration {
	return r.latency[min(len(r.latency)-1, int(p*float64(len(r.latency))))]
}

// run sends for so long, or until ctx ends.
func (d drive) run(ctx context.Context, length time.Duration) (result, error) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	results := make([]result, d.conns)
	errs := make([]error, d.conns)
	start := time.Now()
	var wg sync.WaitGroup
	for i := range d.conns {
		wg.Go(func() { results[i], errs[i] = d.connection(ctx, i, start) })
	}
	wg.Wait()
	all := result{took: time.Since(start)}
	for _, r := range results {
		all.count += r.count
		all.other += r.other
		all.latency = append(all.latency, r.latency...)
	}
	slices.Sort(all.latency)
	if err := errors.Join(errs...); err != nil {
		return all, err
	}
	if all.count == 0 {
		return all, fmt.Errorf("no answer was %s, %d were others", d.want, all.other)
	}
	return all, nil
}

func (d drive) connection(ctx context.Context, i int, start time.Time) (r result, err error) {
	var dialer net.Dialer
	if d.from != nil {
		dialer.LocalAddr = &net.TCPAddr{IP: d.from(i)}
	}
	conn, err := dialer.DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return r, err
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	read := d.read
	if read == nil {
		read = func(r *bufio.Reader) (string, time.Time, error) {
			status, err := readAnswer(r)
			return status, time.Now(), err
		}
	}
	var buf []byte
	for n := 0; ctx.Err() == nil; n++ {
		sent := time.Now()
		if d.pace > 0 { // due at its own time, whatever the answers take
			sent = start.Add(time.Duration(float64(n*d.conns+i) / d.pace * float64(time.Second)))
			if end, ok := ctx.Deadline(); ok && sent.After(end) {
				break
			}
			if wait := time.Until(sent); wait > 0 {
				time.Sleep(wait)
			}
			if d.fromSend {
				sent = time.Now()
			}
		}
		buf = d.request(buf[:0], i, n)
		if _, err := conn.Write(buf); err != nil {
			return r, err
		}
		status, at, err := read(answers)
		if err != nil {
			return r, err
		}
		r.latency = append(r.latency, at.Sub(sent))
		if status != d.want {
			r.other++
			continue
		}
		r.count++
		if d.done != nil {
			d.done(i)
		}
	}
	return r, nil
}

// readAnswer reads one answer with a Content-Length and returns its status.
func readAnswer(r *bufio.Reader) (status string, err error) {
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch name, value, ok := bytes.Cut(line, []byte(": ")); {
		case first:
			status = string(line[9:12])
		case len(line) == 0:
			_, err := io.CopyN(io.Discard, r, int64(length))
			return status, err
		case ok && string(name) == "Content-Length":
			if length, err = strconv.Atoi(string(value)); err != nil {
				return "", err
			}
		}
	}
}

// appendSignUp appends a sign-up; forwarded, where it is not empty, is the
// client's address as a proxy would tell it.
func appendSignUp(buf []byte, email, forwarded string) []byte {
	length := len(`{"name":"Load Test","email":""}`) + len(email)
	buf = append(buf, "POST /api/v1/customers/onboard HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"...)
	if forwarded != "" {
		buf = append(append(append(buf, "X-Forwarded-For: "...), forwarded...), "\r\n"...)
	}
	buf = append(buf, "Content-Length: "...)
	buf = strconv.AppendInt(buf, int64(length), 10)
	buf = append(buf, "\r\n\r\n"+`{"name":"Load Test","email":"`...)
	buf = append(buf, email...)
	return append(buf, `"}`...)
}
