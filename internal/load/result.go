package load

import "time"

// Result is what a run measured.
type Result struct {
	Started     time.Time
	Planned     time.Duration // of the stages together
	Elapsed     time.Duration // until the last answer, time-out or the interruption
	Interrupted bool

	Scheduled int64 // arrivals that were due: all of the plan, unless interrupted
	Sent      int64 // Answered and Errors together
	Answered  int64 // got a status
	Errors    int64 // were sent, or meant to be, and got none
	Unsent    int64 // due, but beyond the in-flight bound until the end

	InFlightAvg float64
	InFlightMax int

	// Series has one entry for each request and outcome that happened, by
	// request in the plan's order, then by key.
	Series []*Series
	// Samples has one entry a second.
	Samples []*Sample

	// Targets has one entry for each address that was called, in the job's order.
	Targets     []Target
	Lag         *Distribution // due (or, if later, the in-flight bound's leave) to sent
	Connections Connections
	Generator   Generator
}

// Series is all requests of one kind that came to one outcome.
type Series struct {
	Request string
	Key     string // "201", "error:timeout"
	Name    string // the plan's for it, or the key
	Kind    Kind
	Latency *Distribution // due to done
	Service *Distribution // sent to done
	// Example is how the first such answer that was no success began, or what the
	// first such error said.
	Example string
}

// Count is how many requests came to this outcome.
func (s *Series) Count() int64 { return s.Latency.Count() }

// Target is what went to one address.
type Target struct {
	Address        string // and port
	Sent, Answered int64
}

// Connections is what the network's part of it was.
type Connections struct {
	Opened    int64
	Reused    int64         // requests that found a connection open
	Connect   *Distribution // TCP, of each connection opened
	Handshake *Distribution // TLS, likewise
	Waiting   *Distribution // request written to first byte of the answer
	Receiving *Distribution // first byte to last byte
	// Policies is what RateLimit-Policy header fields said, each once, sorted.
	Policies []string
}

// Generator is what the run cost this process.
type Generator struct {
	CPU    time.Duration // user and system
	MaxRSS int64         // bytes
	// OwnErrors counts requests that failed for want of something here: file
	// descriptors, ports, memory. They are in Errors too.
	OwnErrors int64
}

// Sample is one second of a run.
type Sample struct {
	Second int     // the first is 0
	Stage  int     // index; the last stage's while answers are awaited at the end
	Rate   float64 // planned at the middle of the second, requests a second

	Due      int64
	Sent     int64
	Answered int64
	Errors   int64
	InFlight int   // at its end
	Waiting  int64 // due and not yet sent at its end

	// Windows has what ended in this second: by request and outcome, and, with
	// an empty Request, by outcome over all requests.
	Windows []Window

	LagP99, LagMax time.Duration
	Opened         int64 // connections

	// Spreads has what ended in this second in full. Only who observes the run
	// gets it: kept for each second of a day it would fill the memory.
	Spreads []Spread
}

// Spread is how the latencies of one request's outcome were spread in a second.
type Spread struct {
	Request, Key string
	Bins         []Bin // by time
}

// Window is one outcome's second. Its percentiles are given however few
// requests there were: they are for looking at, never for a verdict.
type Window struct {
	Request            string
	Key, Name          string
	Kind               Kind
	Count              int64
	P50, P95, P99, Max time.Duration // of latency
}
