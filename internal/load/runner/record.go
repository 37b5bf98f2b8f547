package runner

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"gatehouse/internal/load"
	"gatehouse/internal/load/plan"
	"gatehouse/internal/load/report"
	"gatehouse/internal/load/script"
)

// record keeps what was acknowledged, and what may have been done without an
// answer that says so, in writes.csv: what is to be there afterwards, and the
// only things that may be. It passes on what the plan's script has to say.
type record struct {
	plan   *plan.Plan
	script *script.Script

	mu     sync.Mutex
	file   *os.File
	buffer *bufio.Writer
	rows   *csv.Writer
	err    error
}

func newRecord(f *os.File, p *plan.Plan) *record {
	r := &record{plan: p, file: f, buffer: bufio.NewWriterSize(f, 64<<10)}
	r.rows = csv.NewWriter(r.buffer)
	r.err = r.rows.Write(report.WritesHead())
	return r
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
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = r.rows.Write([]string{method + " " + path, a.ID, strconv.Itoa(status)})
	}
}

// end puts all on disk.
func (r *record) end() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rows.Flush()
	for _, step := range []func() error{r.rows.Error, r.buffer.Flush, r.file.Sync} {
		if r.err == nil {
			r.err = step()
		}
	}
	if r.err != nil {
		return fmt.Errorf("%s: %w", report.WritesFile, r.err)
	}
	return nil
}
