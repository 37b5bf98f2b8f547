package load

import (
	"cmp"
	"slices"
	"strconv"
	"sync"
	"time"
)

// maxSeries bounds how many outcomes the plan has no name for are kept apart.
// A target that answers with ever new ones fills two more, and no memory.
const maxSeries = 24

// maxPolicies bounds the distinct RateLimit-Policy fields that are kept.
const maxPolicies = 16

// done is one request that has ended. Times are from the run's start.
type done struct {
	request        int
	target         int
	status         int    // 0: none
	err            string // an error's kind, if there is no status
	due            time.Duration
	sent, ended    time.Duration
	waited         time.Duration // request written to first byte; with a status
	received       time.Duration // first byte to last; with a status
	reused         bool          // the connection was
	opened         bool          // a connection was opened
	connect, shake time.Duration
	example        []byte // how the answer began
	policy         []byte
}

// series is a Series being made, with the second under way.
type series struct {
	Series
	request int
	window  *Distribution
}

type seriesKey struct {
	request, status int
	err             string
}

// recorder keeps all that is measured. Its lock is held for less than a
// microsecond a request.
type recorder struct {
	job   *Job
	sched *schedule

	mu       sync.Mutex
	result   Result
	names    map[int]Outcome // by status
	series   map[seriesKey]*series
	unnamed  int
	policies map[string]bool
	service  float64 // seconds of all requests together

	second  Sample // under way
	dueAt   int64  // arrivals due before the second under way
	dueMax  int64  // arrivals due in all: fewer when interrupted
	lag     *Distribution
	scratch *Distribution
}

func newRecorder(j *Job, s *schedule, addrs []string) *recorder {
	r := &recorder{
		job: j, sched: s, names: make(map[int]Outcome), series: make(map[seriesKey]*series), policies: make(map[string]bool),
		lag: newWindow(), scratch: newWindow(), dueMax: s.total,
	}
	for _, o := range j.Outcomes {
		r.names[o.Status] = o
	}
	for _, a := range addrs {
		r.result.Targets = append(r.result.Targets, Target{Address: a})
	}
	r.result.Lag = NewDistribution()
	r.result.Connections = Connections{
		Connect: NewDistribution(), Handshake: NewDistribution(), Waiting: NewDistribution(), Receiving: NewDistribution(),
	}
	return r
}

// sent takes note that a request to a target was taken up.
func (r *recorder) sent(at, free time.Duration, target int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.roll(at)
	r.second.Sent++
	r.result.Sent++
	r.result.Targets[target].Sent++
	r.result.InFlightMax = max(r.result.InFlightMax, r.inFlight())
	r.result.Lag.Record(at - free)
	r.lag.Record(at - free)
}

func (r *recorder) inFlight() int {
	return int(r.result.Sent - r.result.Answered - r.result.Errors)
}

// ended takes note of what a request came to.
func (r *recorder) ended(d *done) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.roll(d.ended)
	s := r.at(d)
	s.Latency.Record(d.ended - d.due)
	s.Service.Record(d.ended - d.sent)
	s.window.Record(d.ended - d.due)
	if s.Example == "" && s.Kind != Success {
		s.Example = string(d.example)
	}
	r.service += (d.ended - d.sent).Seconds()
	c := &r.result.Connections
	if d.opened {
		c.Opened++
		r.second.Opened++
		c.Connect.Record(d.connect)
		if d.shake > 0 {
			c.Handshake.Record(d.shake)
		}
	}
	if d.reused {
		c.Reused++
	}
	if d.status == 0 {
		r.result.Errors++
		r.second.Errors++
		if d.err == errorOwn {
			r.result.Generator.OwnErrors++
		}
		return
	}
	r.result.Answered++
	r.result.Targets[d.target].Answered++
	r.second.Answered++
	c.Waiting.Record(d.waited)
	c.Receiving.Record(d.received)
	if len(d.policy) > 0 && !r.policies[string(d.policy)] && len(r.policies) < maxPolicies {
		r.policies[string(d.policy)] = true
	}
}

// at finds the series of an outcome, or begins it.
func (r *recorder) at(d *done) *series {
	key := seriesKey{d.request, d.status, d.err}
	if s := r.series[key]; s != nil {
		return s
	}
	outcome, named := r.names[d.status]
	text := strconv.Itoa(d.status)
	switch {
	case d.status == 0:
		text = "error:" + d.err
		outcome = Outcome{Name: text, Kind: Failure}
	case !named:
		outcome = Outcome{Name: text, Kind: Failure}
		if d.status >= 200 && d.status < 300 {
			outcome.Kind = Success
		}
		if r.unnamed >= maxSeries {
			text = "other:" + string(outcome.Kind)
			key = seriesKey{d.request, 0, text}
			if s := r.series[key]; s != nil {
				return s
			}
			outcome.Name = text
		}
		r.unnamed++
	}
	s := &series{
		Series: Series{
			Request: r.job.Requests[d.request].Name, Key: text, Name: outcome.Name, Kind: outcome.Kind,
			Latency: NewDistribution(), Service: NewDistribution(),
		},
		request: d.request, window: newWindow(),
	}
	r.series[key] = s
	return s
}

// tick ends the seconds that are over, in which perhaps nothing happened.
func (r *recorder) tick(now time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.roll(now)
}

// roll ends the seconds before the one that now is in.
func (r *recorder) roll(now time.Duration) {
	for now >= time.Duration(r.second.Second+1)*time.Second {
		r.endSecond()
	}
}

func (r *recorder) endSecond() {
	s := r.second // a copy
	start := time.Duration(s.Second) * time.Second
	due := min(r.sched.dueBefore(start+time.Second), r.dueMax)
	s.Due = due - r.dueAt
	s.Rate, s.Stage = r.sched.rate(start + time.Second/2)
	s.InFlight = r.inFlight()
	s.Waiting = max(due-r.result.Sent, 0)
	s.LagP99, s.LagMax = r.lag.rawQuantile(0.99), r.lag.Max()
	var spreads []Spread
	if r.job.Observe != nil {
		spreads = r.spreads()
	}
	s.Windows = r.windows()
	r.lag.reset()
	r.result.Samples = append(r.result.Samples, &s)
	r.second = Sample{Second: s.Second + 1}
	r.dueAt = due
	if r.job.Observe != nil {
		told := s
		told.Spreads = spreads
		r.job.Observe(&told)
	}
}

// active are the series in which something ended in the second under way.
func (r *recorder) active() []*series {
	active := make([]*series, 0, len(r.series))
	for _, s := range r.series {
		if s.window.Count() > 0 {
			active = append(active, s)
		}
	}
	slices.SortFunc(active, func(a, b *series) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(a.request, b.request))
	})
	return active
}

// spreads gives the second's outcomes by request, in full.
func (r *recorder) spreads() []Spread {
	var all []Spread
	for _, s := range r.active() {
		all = append(all, Spread{s.Request, s.Key, s.window.bins()})
	}
	return all
}

// windows gives the second's outcomes, by request and over all, and begins anew.
func (r *recorder) windows() []Window {
	active := r.active()
	var all []Window
	for i := 0; i < len(active); {
		same := i
		r.scratch.reset()
		for ; same < len(active) && active[same].Key == active[i].Key; same++ {
			s := active[same]
			all = append(all, s.look(s.Request, s.window))
			r.scratch.Merge(s.window)
			s.window.reset()
		}
		all = append(all, active[i].look("", r.scratch))
		i = same
	}
	return all
}

func (s *series) look(request string, d *Distribution) Window {
	return Window{
		Request: request, Key: s.Key, Name: s.Name, Kind: s.Kind, Count: d.Count(),
		P50: d.rawQuantile(0.5), P95: d.rawQuantile(0.95), P99: d.rawQuantile(0.99), Max: d.Max(),
	}
}

// stop takes note that no more arrivals are released than so many, which were due.
func (r *recorder) stop(due int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dueMax = max(due, r.dueAt) // a second that ended since has counted its own
}

// finish ends the last second and returns what was measured.
func (r *recorder) finish(elapsed time.Duration) *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.roll(elapsed)
	if r.second.Sent+r.second.Answered+r.second.Errors > 0 || r.dueAt < r.dueMax || r.result.Samples == nil {
		r.endSecond()
	}
	res := &r.result
	res.Planned, res.Elapsed, res.Scheduled = r.job.Planned(), elapsed, r.dueMax
	res.Unsent = res.Scheduled - res.Sent
	if elapsed > 0 {
		res.InFlightAvg = r.service / elapsed.Seconds() // Little's law
	}
	ordered := make([]*series, 0, len(r.series))
	for _, s := range r.series {
		ordered = append(ordered, s)
	}
	slices.SortFunc(ordered, func(a, b *series) int {
		return cmp.Or(cmp.Compare(a.request, b.request), cmp.Compare(a.Key, b.Key))
	})
	for _, s := range ordered {
		res.Series = append(res.Series, &s.Series)
	}
	for p := range r.policies {
		res.Connections.Policies = append(res.Connections.Policies, p)
	}
	slices.Sort(res.Connections.Policies)
	return res
}
