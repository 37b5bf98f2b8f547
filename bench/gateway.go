package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/store/sqlite"
	"gatehouse/internal/vending"
)

const (
	// callPace is far below what any of the ways can do, and streamPace too.
	callPace    = 200
	streamPace  = 40
	callClients = 64
	openStreams = 2000
)

// ways are a provider, a bare proxy before it and the server before it, each a
// process of its own, and a credential for the last; the others look at none.
type ways struct {
	provider, bare, server *process
	database               string
	customer, token        string
}

func (o options) openWays(ctx context.Context, database string, args ...string) (w ways, err error) {
	w.database = filepath.Join(o.dir, database)
	if w.provider, err = startSelf(ctx, "-provider"); err != nil {
		return w, err
	}
	if w.bare, err = startSelf(ctx, "-proxy", w.provider.addr); err != nil {
		return w, err
	}
	w.server, err = startWith(ctx, []string{"GATEHOUSE_OPENAI_API_KEY=" + providerKey, "GATEHOUSE_OPENAI_BASE_URL=http://" + w.provider.addr}, o.binary, append([]string{
		"serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--drain-timeout", "2s", "--database", "sqlite:" + w.database,
	}, args...)...)
	if err != nil {
		return w, err
	}
	var signed struct {
		Customer struct {
			ID string `json:"id"`
		} `json:"customer"`
		APIKey string `json:"api_key"`
	}
	var given struct {
		Credentials map[string]struct {
			APIKey string `json:"api_key"`
		} `json:"credentials"`
	}
	err = w.post(ctx, "/api/v1/customers/onboard", "", `{"name":"Bench","email":"gateway@bench.example.dev"}`, &signed)
	if err == nil {
		err = w.post(ctx, "/api/v1/credentials/exchange", signed.APIKey, `{"providers":["openai"],"ttl_minutes":240}`, &given)
	}
	w.customer, w.token = signed.Customer.ID, given.Credentials["openai"].APIKey
	return w, err
}

func (w ways) post(ctx context.Context, path, key, body string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.server.addr+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Api-Key", key)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode >= http.StatusMultipleChoices {
		err = fmt.Errorf("%s is %s: %s", path, res.Status, text)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// close ends all that runs, the server well, so that all it owes is booked.
func (w ways) close() (err error) {
	for _, p := range []*process{w.provider, w.bare} {
		if p != nil {
			err = errors.Join(err, p.kill())
		}
	}
	if w.server != nil {
		err = errors.Join(err, w.server.stop())
	}
	return err
}

// booked is how many calls the server's database has, once it has stopped.
func (w ways) booked(ctx context.Context) (calls int, err error) {
	s, err := sqlite.Open(ctx, sqlite.Options{Path: w.database})
	if err != nil {
		return 0, err
	}
	used, err := s.UsedBetween(ctx, w.customer, time.Time{}, time.Now().Add(time.Hour))
	return int(used[vending.OpenAI].Requests), errors.Join(err, s.Close())
}

// calls sends calls, or takes streams, of which the first event counts.
func (w ways) calls(stream bool) drive {
	body := asked(stream, false)
	d := drive{
		conns: callClients, want: "200",
		request: func(buf []byte, _, _ int) []byte { return appendCall(buf, w.token, body) },
	}
	if stream {
		d.read = readStream
	}
	return d
}

// readStream reads an answer that comes in parts, to its end.
func readStream(r *bufio.Reader) (status string, first time.Time, err error) {
	for last := false; ; {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return status, first, err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case status == "":
			if status = string(line[9:12]); status != "200" {
				return status, first, fmt.Errorf("a stream is answered %s", line)
			}
		case first.IsZero():
			if bytes.HasPrefix(line, []byte("data:")) {
				first = time.Now()
			}
		case last: // the empty line after the chunk that is none
			return status, first, nil
		default:
			last = string(line) == "0"
		}
	}
}

// benchGateway sends the same bytes to the provider itself, through a bare
// proxy and through the server. At a modest pace, for what is added to the
// latency of calls and of streams' first events, all three are asked side by
// side, so that what else the machine does meets them alike; as fast as they go,
// the proxy and the server take turns. The server knows the token from memory,
// and books each call durably: at the end all of them must be.
func benchGateway(ctx context.Context, o options) error {
	w, err := o.openWays(ctx, "gateway.db")
	sent := 0
	if err == nil {
		sent, err = w.compare(ctx, o)
	}
	if err := errors.Join(err, w.close()); err != nil {
		return err
	}
	booked, err := w.booked(ctx)
	if err == nil && booked != sent {
		err = errors.New("they differ")
	}
	fmt.Printf("calls sent %d, booked %d\n", sent, booked)
	return err
}

func (w ways) compare(ctx context.Context, o options) (sent int, err error) {
	turn := func(p *process, length time.Duration) (result, float64, error) {
		r, cost, err := measure(ctx, p, w.calls(false), length)
		if p == w.server {
			sent += r.count
		}
		return r, cost, err
	}
	for _, p := range []*process{w.provider, w.bare, w.server} { // connections, and the token
		if _, _, err := turn(p, time.Second); err != nil {
			return sent, err
		}
	}
	var calls, streams [3][]result
	var rates, bareRates, ratios, cost, bareCost, costs []float64
	for range o.rounds {
		c, err1 := w.beside(ctx, false, callPace, o.slice)
		f, err2 := w.beside(ctx, true, streamPace, o.slice)
		b, bcost, err3 := turn(w.bare, o.slice)
		s, scost, err4 := turn(w.server, o.slice)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return sent, err
		}
		for i := range c {
			calls[i], streams[i] = append(calls[i], c[i]), append(streams[i], f[i])
		}
		sent += c[2].count + f[2].count
		fmt.Printf("  server %6.0f/s %5.1f µs CPU, p99 %v; bare %6.0f/s %5.1f µs CPU, p99 %v\n", s.rate(), scost, s.percentile(.99), b.rate(), bcost, b.percentile(.99))
		rates, bareRates, ratios = append(rates, s.rate()), append(bareRates, b.rate()), append(ratios, s.rate()/b.rate())
		cost, bareCost, costs = append(cost, scost), append(bareCost, bcost), append(costs, scost/bcost)
	}
	for i, name := range []string{"", "bare", "server"} {
		if i > 0 {
			fmt.Printf("%s adds to a call at %d/s: %s\n", name, callPace, added(calls[0], calls[i]))
			fmt.Printf("%s adds to a stream's first event at %d/s: %s\n", name, streamPace, added(streams[0], streams[i]))
		}
	}
	fmt.Printf("calls a second, %d clients: server %s, bare %s, ratio %s\n", callClients, spread("%.0f", rates), spread("%.0f", bareRates), spread("%.2f", ratios))
	fmt.Printf("CPU a call: server %s µs, bare %s µs, ratio %s\n", spread("%.1f", cost), spread("%.1f", bareCost), spread("%.2f", costs))
	return sent, nil
}

// beside asks all three ways at a pace each, at moments between each other's:
// the provider itself, the bare proxy, the server.
func (w ways) beside(ctx context.Context, stream bool, pace float64, length time.Duration) (all [3]result, err error) {
	var errs [3]error
	var running sync.WaitGroup
	for i, p := range []*process{w.provider, w.bare, w.server} {
		running.Go(func() {
			d := w.calls(stream)
			d.addr, d.conns, d.pace, d.fromSend = p.addr, 8, pace, true
			select {
			case <-time.After(time.Duration(float64(i) / 3 / pace * float64(time.Second))):
				all[i], errs[i] = d.run(ctx, length)
			case <-ctx.Done():
				errs[i] = ctx.Err()
			}
			if n := all[i].other; n > 0 && errs[i] == nil {
				errs[i] = fmt.Errorf("%d answers were not %s", n, d.want)
			}
		})
	}
	running.Wait()
	return all, errors.Join(errs[:]...)
}

// added is how much later the second's answers come than the first's: turn by
// turn, and over all of them at once, since p99 is a few answers of a turn.
func added(direct, way []result) string {
	var said []string
	for _, p := range []float64{.5, .99} {
		var each []float64
		var a, b result
		for i := range direct {
			each = append(each, (way[i].percentile(p)-direct[i].percentile(p)).Seconds()*1000)
			a.latency, b.latency = append(a.latency, direct[i].latency...), append(b.latency, way[i].latency...)
		}
		slices.Sort(a.latency)
		slices.Sort(b.latency)
		said = append(said, fmt.Sprintf("p%.0f %s ms, over all %.3f (%.3f to %.3f)", 100*p, spread("%.3f", each),
			(b.percentile(p)-a.percentile(p)).Seconds()*1000, a.percentile(p).Seconds()*1000, b.percentile(p).Seconds()*1000))
	}
	return strings.Join(said, "; ")
}

// benchStreams has 2,000 streams open at once, each with an event at once and
// then one every few seconds, through the bare proxy and then through the server.
func benchStreams(ctx context.Context, o options) error {
	w, err := o.openWays(ctx, "streams.db")
	if err == nil {
		err = errors.Join(w.hold(ctx, o, "bare", w.bare), w.hold(ctx, o, "server", w.server))
	}
	return errors.Join(err, w.close())
}

// hold holds streams open for a while and says what memory they take.
func (w ways) hold(ctx context.Context, o options, name string, p *process) error {
	warm := w.calls(false)
	warm.conns, warm.pace = 8, callPace
	if _, _, err := measure(ctx, p, warm, o.slice); err != nil {
		return err
	}
	before, _, err := p.memory()
	if err != nil {
		return err
	}
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	var events, broken atomic.Int64
	var opening, open sync.WaitGroup
	turns := make(chan struct{}, callClients)
	begin := time.Now()
	for range openStreams {
		turns <- struct{}{}
		opening.Add(1)
		open.Go(func() {
			opened := sync.OnceFunc(func() { <-turns; opening.Done() })
			defer opened()
			if err := w.stream(ctx, p.addr, func() { events.Add(1); opened() }); err != nil {
				broken.Add(1)
			}
		})
	}
	opening.Wait()
	took := time.Since(begin)
	select {
	case <-time.After(max(20*time.Second, 3*o.slice)):
	case <-ctx.Done():
	}
	with, highest, err := p.memory()
	if n := broken.Load(); n > 0 && err == nil {
		err = fmt.Errorf("%s: %d of %d streams did not stay open", name, n, openStreams)
	}
	leave()
	open.Wait()
	fmt.Printf("%s: resident %.1f MiB before, %.1f MiB with %d streams (highest %.1f): %.1f KiB a stream; opened in %v, %d events in all\n",
		name, before, with, openStreams, highest, (with-before)*1024/openStreams, took.Round(time.Millisecond), events.Load())
	return err
}

// stream reads one until ctx ends; an end before that is an error.
func (w ways) stream(ctx context.Context, addr string, event func()) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if _, err := conn.Write(appendCall(nil, w.token, asked(true, true))); err != nil {
		return err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		if bytes.HasPrefix(lines.Bytes(), []byte("data:")) {
			event()
		}
	}
	if ctx.Err() == nil {
		return errors.Join(lines.Err(), io.ErrUnexpectedEOF)
	}
	return nil
}
