package verify

import (
	"math"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// Ask is one request to make.
type Ask struct {
	N       int
	Target  int
	Key     int       // of those that take turns, counted from 1; 0: none
	Spoofed bool      // with header fields that claim to come from another client
	Epoch   time.Time // what an Attempt's instants count from
}

// Attempt is a request and what came of it. The limiter decided at some moment
// from Sent to Received.
type Attempt struct {
	Ask
	Phase          phase
	Sent, Received time.Duration // since the epoch, on the monotonic clock
	Wrote          time.Duration // when a connection was there to write to; 0: unknown
	Answer
	Err     string // no answer came: why
	Unsent  bool   // it never left: nobody can have counted it
	Outcome Outcome
}

// Outcome is what the policy under test did with a request.
type Outcome string

// The outcomes. Unclear is no answer, or one that another policy or a fault
// gave: the request may or may not have taken a place, even later.
const (
	Admitted Outcome = "admitted"
	Denied   Outcome = "denied"
	Unclear  Outcome = "unclear"
)

// Answer is what matters of a response. A number that is missing or unreadable
// is -1.
type Answer struct {
	Status                              int
	Code, Message                       string
	Limit, Remaining, Reset, RetryAfter int       // X-RateLimit-…, Retry-After
	Policy                              string    // the name in RateLimit-Policy, "" for none
	Quota, Window                       int       // q and w there
	RName                               string    // the name in RateLimit
	R, T                                int       // r and t there
	Date                                time.Time // decides nothing; signatures need it
}

var (
	policyForm = regexp.MustCompile(`^"([a-z_]+)";q=(\d{1,9});w=(\d{1,9})$`)
	leftForm   = regexp.MustCompile(`^"([a-z_]+)";r=(\d{1,9});t=(\d{1,9})$`)
)

// readAnswer reads an answer's header fields.
func readAnswer(status int, h http.Header) Answer {
	a := Answer{
		Status: status,
		Limit:  number(h.Get("X-RateLimit-Limit")), Remaining: number(h.Get("X-RateLimit-Remaining")),
		Reset: number(h.Get("X-RateLimit-Reset")), RetryAfter: min(number(h.Get("Retry-After")), math.MaxInt32), // so that it is a time.Duration
		Quota: -1, Window: -1, R: -1, T: -1,
	}
	if m := policyForm.FindStringSubmatch(h.Get("RateLimit-Policy")); m != nil {
		a.Policy, a.Quota, a.Window = m[1], number(m[2]), number(m[3])
	}
	if m := leftForm.FindStringSubmatch(h.Get("RateLimit")); m != nil {
		a.RName, a.R, a.T = m[1], number(m[2]), number(m[3])
	}
	a.Date, _ = http.ParseTime(h.Get("Date")) // zero: it told none
	return a
}

func number(s string) int {
	n, err := strconv.ParseUint(s, 10, 40)
	if err != nil {
		return -1
	}
	return int(n)
}

// bare says that no policy signed the answer.
func (a *Answer) bare() bool { return a.Policy == "" && a.Limit < 0 && a.RName == "" }

// outcome reads an attempt as the policy's. A refusal that neither says whose
// it is nor has a code of the contract's is a proxy's, or another fault.
func (p *Policy) outcome(a *Attempt) Outcome {
	ours := a.Policy == p.Name || a.Policy == "" && (a.RName == p.Name || a.RName == "")
	switch {
	case a.Err != "" || !ours || a.bare() && a.Code == "" && a.Status >= http.StatusBadRequest:
		return Unclear
	case a.Status == http.StatusTooManyRequests:
		return Denied
	case a.Policy == p.Name || a.Status == p.Status:
		return Admitted // its fields say that it took a place, whatever became of it
	}
	return Unclear
}
