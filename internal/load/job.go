package load

import (
	"crypto/tls"
	"net/url"
	"time"
)

// The bounds of a job. They are wide enough for one generator's machine and
// keep a mistyped number from becoming a storm.
const (
	MaxRate     = 1_000_000        // requests a second
	MaxDuration = 24 * time.Hour   // of all stages together
	MaxTimeout  = 10 * time.Minute // of a request
	MaxInFlight = 1_000_000
	MaxClients  = 100_000 // of one request, by source address
	MaxRequests = 64
	MaxOutcomes = 64
)

// Job is all that the engine has to know of a run. It is taken as valid: the
// plan that it is made from has been checked.
type Job struct {
	// Targets are nodes of one service, and requests go to each in turn: scheme
	// (http or https) and host; a path is put before each request's. Scheme and
	// path are the first's, and several are called over http.
	Targets     []*url.URL
	TLS         *tls.Config
	Stages      []Stage
	Requests    []Request
	Outcomes    []Outcome // what the plan has names for
	MaxInFlight int
	Timeout     time.Duration // of one request, from its sending on
	Seed        uint64        // decides which request an arrival is, and what it picks
	// Observe, if set, is told each second as it ends. It must not block.
	Observe func(*Sample)
	// Script, if set, has its say on each arrival.
	Script Script
}

// Script is what a plan does that templates can't: requests that depend on
// earlier answers, and a record of what was acknowledged.
type Script interface {
	// Next is asked by the pacer, and so by one goroutine, what an arrival is to
	// be. It may choose another request than the weights did, and gives Values for
	// the Given places of its templates. It must not block: what it takes is lag.
	Next(a *Arrival)
	// Ended is told, by many goroutines, what came of it: the status, or 0 where
	// there was no answer, and how the body began (MaxKept bytes), or what the
	// error said. What it is given is used again for the next arrival.
	Ended(a *Arrival, status int, body []byte)
}

// MaxKept is how much of an answer's body a script sees.
const MaxKept = 4 << 10

// Arrival is one request of a run.
type Arrival struct {
	Seq     uint64   // from 1
	Request int      // index into the job's
	Values  []string // of the Given places, by their numbers
	ID      string   // of what it writes: the script's, or else the last UUID that it was filled with
	Ref     any      // the script's own
}

// Stage ramps linearly from the rate before it (0 at first) to Rate, in
// requests a second, over Duration.
type Stage struct {
	Duration time.Duration
	Rate     float64
}

// Planned is how long the stages take together.
func (j *Job) Planned() time.Duration {
	var sum time.Duration
	for _, s := range j.Stages {
		sum += s.Duration
	}
	return sum
}

// Request is one kind of request that a job sends.
type Request struct {
	Name    string
	Weight  float64 // its share of arrivals is its part of all weights
	Method  string
	Path    Template // with a query, if any
	Headers []Header
	Body    Template
	Clients *Clients // requests with the same pointer are sent by the same clients
}

// Header is one header field of a request.
type Header struct {
	Name  string
	Value Template
}

// Via is how clients are told apart.
type Via string

// The ways to be many clients.
const (
	ViaNone      Via = "none"      // one client, from the machine's own address
	ViaSource    Via = "source"    // connections from so many loopback addresses
	ViaForwarded Via = "forwarded" // one address, and an X-Forwarded-For for each client
)

// Clients is who sends: arrivals go to the clients in strict turn, so each
// sends equally often.
type Clients struct {
	Count int
	Via   Via
}

// Kind is what an outcome means to the plan.
type Kind string

// The kinds of outcomes.
const (
	Success  Kind = "success"
	Expected Kind = "expected" // no success, and meant to be none: a refusal beyond a limit
	Failure  Kind = "failure"
)

// Outcome gives a status a name and a meaning. Without one a 2xx is a success
// and anything else a failure.
type Outcome struct {
	Name   string
	Status int
	Kind   Kind
}
