package stripetest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"sync"
	"time"
)

// Customer is a customer that was made.
type Customer struct {
	ID       string            `json:"id"`
	Object   string            `json:"object"` // "customer"
	Created  int64             `json:"created"`
	Email    string            `json:"email"`
	Livemode bool              `json:"livemode"`
	Metadata map[string]string `json:"metadata"`
	Name     string            `json:"name"`
	// Asked is how often it was asked for: 1, and each replay of its answer.
	Asked int `json:"-"`
}

// Fault is what a request meets.
type Fault int

// The faults. Failed and Refused are answers that Stripe stores with the key
// and replays until [Server.Forget]; Lost and Cut come after the work is done;
// the others come before it.
const (
	None         Fault = iota
	Limited            // 429 with Retry-After: 1
	Failed             // 500
	Unavailable        // 503
	Refused            // 400, as of a card; its message quotes the address
	Unauthorized       // 401, which quotes a part of the key
	Hang               // no answer until the client goes; its key is in use meanwhile
	Garbage            // 200 with HTML
	Cut                // half of the answer
	Lost               // no answer, and the connection is closed
	Redirect           // 307 to the same place
	Endless            // 200 and spaces without end
)

// Trouble says which requests meet a fault.
type Trouble struct {
	Fault Fault
	Every int // every n-th request from now on; 0 is 1
	Times int // so many requests, then none; 0: without end
}

// Server is a running stand-in.
type Server struct {
	url    string
	http   *http.Server
	served chan struct{} // closed when it serves no more
	done   chan struct{}
	open   sync.WaitGroup // requests

	mu        sync.Mutex
	closed    bool
	customers []*Customer
	answers   map[string]*answer // by Idempotency-Key
	trouble   Trouble
	since     int // requests since trouble was set
	requests  int
	hanging   int
}

// answer is what is stored with an Idempotency-Key.
type answer struct {
	params string // what the key was first used with
	status int    // 0: still under way
	body   []byte
	made   *Customer // nil: a refusal
}

// Start starts a stand-in on a free port of loopback. It panics if it can't,
// which is for tests.
func Start() *Server {
	s, err := Listen("127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return s
}

// Listen starts a stand-in on a TCP address; port 0 is a free one.
func Listen(addr string) (*Server, error) {
	ln, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("start the Stripe stand-in: %w", err)
	}
	s := &Server{
		url:     "http://" + ln.Addr().String(),
		served:  make(chan struct{}),
		done:    make(chan struct{}),
		answers: map[string]*answer{},
	}
	s.http = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		defer close(s.served)
		_ = s.http.Serve(ln) // ends with Close
	}()
	return s, nil
}

// URL is where it listens: the client's base.
func (s *Server) URL() string { return s.url }

// Close ends it, and every request under way.
func (s *Server) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	s.mu.Unlock()
	close(s.done)
	_ = s.http.Close() // a listener that does not close: nothing to do
	<-s.served
	s.open.Wait()
}

// Set changes what requests meet from now on; the zero Trouble ends it.
func (s *Server) Set(t Trouble) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble, s.since = t, 0
}

// Customers are those that were made, in order; copies.
func (s *Server) Customers() []Customer {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Customer, 0, len(s.customers))
	for _, c := range s.customers {
		kept := *c
		kept.Metadata = maps.Clone(c.Metadata)
		all = append(all, kept)
	}
	return all
}

// Requests is how many requests came.
func (s *Server) Requests() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// Hanging is how many requests hang now; each has its key in use.
func (s *Server) Hanging() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hanging
}

// Forget drops what is stored with Idempotency-Keys, as Stripe may after 24 h.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.answers, func(_ string, a *answer) bool { return a.status != 0 })
}

// arrive counts a request and says what it meets.
func (s *Server) arrive() (fault Fault, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return None, false
	}
	s.open.Add(1)
	s.requests++
	s.since++
	every := cmp.Or(s.trouble.Every, 1)
	if s.since%every != 0 || s.trouble.Times > 0 && s.since/every > s.trouble.Times {
		return None, true
	}
	return s.trouble.Fault, true
}
