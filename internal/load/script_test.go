package load

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// player is a script that gives every other arrival to the second request, and
// takes note of what it is told.
type player struct {
	mu   sync.Mutex
	told map[uint64]ending
}

type ending struct {
	Arrival
	status int
	body   string
	times  int
}

func (p *player) Next(a *Arrival) {
	a.Values = append(a.Values, fmt.Sprint("v", a.Seq), fmt.Sprint("w", a.Seq))
	a.Ref = a.Seq * 2
	if a.Seq%2 == 0 {
		a.Request, a.ID = 1, fmt.Sprint("own-", a.Seq)
	}
}

func (p *player) Ended(a *Arrival, status int, body []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := ending{*a, status, string(body), p.told[a.Seq].times + 1}
	e.Values = append([]string(nil), a.Values...) // they are used again
	p.told[a.Seq] = e
}

// TestScriptHasItsSay looks at each arrival from both sides: the target answers
// with what it was sent, in full length, and hangs up on some.
func TestScriptHasItsSay(t *testing.T) {
	const long = 3 * MaxKept
	var mu sync.Mutex
	came := make(map[string]int)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read a request: %v", err)
		}
		mu.Lock()
		came[r.Method+" "+r.URL.String()+" "+r.Header.Get("X-W")]++
		mu.Unlock()
		switch {
		case strings.HasSuffix(r.URL.Path, "5"):
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Errorf("hang up: %v", err)
				return
			}
			_ = c.Close()
		case strings.HasSuffix(r.URL.Path, "7"):
			w.WriteHeader(http.StatusTooManyRequests)
		}
		fmt.Fprintf(w, "%s%s", body, strings.Repeat(".", long))
	}))
	defer s.Close()
	j := jobFor(t, s.URL, 100, 100*time.Millisecond)
	p := &player{told: make(map[uint64]ending)}
	j.Script = p
	one := j.Requests[0].Clients
	uuid, w := Part{Place: UUID}, []Header{{"X-W", Template{{Place: Given, Given: 1}}}}
	j.Requests = []Request{
		{Name: "a", Weight: 1, Method: http.MethodPost, Path: Template{{Text: "/a/"}, uuid, {Text: "/"}, {Place: Given}}, Headers: w, Body: Template{uuid, uuid}, Clients: one},
		{Name: "b", Method: http.MethodPut, Path: Template{{Text: "/b/"}, {Place: Given}}, Headers: w, Body: Template{uuid}, Clients: one},
	}
	r := run(t.Context(), t, j)

	if int64(len(p.told)) != r.Sent || r.Errors == 0 {
		t.Fatalf("%d arrivals were told, of %d sent and %d without an answer", len(p.told), r.Sent, r.Errors)
	}
	for seq, e := range p.told {
		v, w := fmt.Sprint("v", seq), fmt.Sprint("w", seq)
		if e.times != 1 || e.Ref != seq*2 || len(e.Values) != 2 || e.Values[0] != v {
			t.Errorf("arrival %d: told %d times, as %+v", seq, e.times, e.Arrival)
		}
		request, path := 0, "/"+v
		if seq%2 == 0 {
			request, path = 1, "PUT /b/"+v
		}
		if n := matches(came, path+" "+w); e.Request != request || n != 1 {
			t.Errorf("arrival %d became request %d, and came %d times", seq, e.Request, n)
		}
		switch status := map[byte]int{'5': 0, '7': 429}[v[len(v)-1]]; {
		case v[len(v)-1] == '5':
			if e.status != 0 || e.body != "EOF" {
				t.Errorf("arrival %d, hung up on: %d, %q", seq, e.status, e.body)
			}
			continue
		case e.status != max(status, 200) || len(e.body) != MaxKept:
			t.Errorf("arrival %d: %d with %d bytes", seq, e.status, len(e.body))
		}
		// The last UUID of the body, or the script's own id.
		if want := e.body[36*(1-request):][:36]; request == 0 && e.ID != want || request == 1 && e.ID != fmt.Sprint("own-", seq) {
			t.Errorf("arrival %d has the id %q; its body began %q", seq, e.ID, e.body[:80])
		}
	}
	for _, series := range r.Series {
		if len(series.Example) > exampleLen {
			t.Errorf("%s %s has an example of %d bytes", series.Request, series.Key, len(series.Example))
		}
	}
}

// matches counts what ends so.
func matches(came map[string]int, end string) (n int) {
	for what, times := range came {
		if strings.HasSuffix(what, end) {
			n += times
		}
	}
	return n
}
