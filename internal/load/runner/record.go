package runner

import (
	"bufio"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/plan"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/script"
)

// record keeps what was acknowledged, and what may have been done without an
// answer that says so, in writes.csv: what is to be there afterwards, and the
// only things that may be. It passes on what the plan's script has to say.
//
// Rows wait in memory for a goroutine that writes them each second: a slow disk
// must not become the target's latency.
type record struct {
	plan   *plan.Plan
	script *script.Script

	mu    sync.Mutex
	rows  []report.Written // not yet written
	told  int              // rows in all
	over  chan struct{}    // closed when there are no more
	ended chan error
}

func newRecord(f *os.File, p *plan.Plan) *record {
	r := &record{plan: p, over: make(chan struct{}), ended: make(chan error, 1)}
	go func() { r.ended <- r.keep(f) }()
	return r
}

// keep writes rows until there are no more, and puts them on disk.
func (r *record) keep(f *os.File) error {
	out := csv.NewWriter(bufio.NewWriterSize(f, 64<<10))
	_ = out.Write(report.WritesHead()) // an error of any row is told by Error
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for more := true; more; {
		select {
		case <-second.C:
		case <-r.over:
			more = false
		}
		r.mu.Lock()
		rows := r.rows
		r.rows = nil
		r.mu.Unlock()
		for _, w := range rows {
			_ = out.Write([]string{w.Request, w.ID, strconv.Itoa(w.Status)})
		}
		out.Flush()
	}
	return cmp.Or(out.Error(), f.Sync())
}

// Next implements load.Script.
func (r *record) Next(a *load.Arrival) {
	if r.script != nil {
		r.script.Next(a)
	}
}

// Ended implements load.Script.
func (r *record) Ended(a *load.Arrival, status int, body []byte) {
	if r.script != nil {
		r.script.Ended(a, status, body)
	}
	request := &r.plan.Requests[a.Request]
	r.wrote(a, request.Method, pathOf(request), status)
}

// pathOf is a request's path with {} for what differs.
func pathOf(r *load.Request) string {
	var path strings.Builder
	for _, p := range r.Path {
		path.WriteString(p.Text)
		if p.Place != load.Literal {
			path.WriteString("{}")
		}
	}
	return path.String()
}

// wrote takes note of one request that may have written something.
func (r *record) wrote(a *load.Arrival, method, path string, status int) {
	reads := method == http.MethodGet || method == http.MethodHead || method == http.MethodOptions
	refused := status >= 300 && status < 500
	if reads || refused || a.ID == "" {
		return
	}
	row := report.Written{Request: method + " " + path, ID: a.ID, Status: status}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told++
	r.rows = append(r.rows, row)
}

// end waits until all is on disk, and says how many rows that are; after an
// interruption it waits for a second.
func (r *record) end(ctx context.Context) (told int, err error) {
	close(r.over)
	select {
	case err = <-r.ended:
	case <-afterInterruption(ctx):
		err = errors.New("the disk took too long")
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", report.WritesFile, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.told, err
}
