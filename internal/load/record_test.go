package load

import (
	"fmt"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// recording is a recorder of two requests, with 10 a second for ten seconds.
func recording(observe func(*Sample)) *recorder {
	j := &Job{
		Stages:   []Stage{{time.Millisecond, 10}, {10 * time.Second, 10}},
		Requests: []Request{{Name: "one"}, {Name: "two"}},
		Outcomes: []Outcome{{"created", 201, Success}, {"limited", 429, Expected}},
		Observe:  observe,
	}
	return newRecorder(j, newSchedule(j.Stages), []string{"127.0.0.1:1"})
}

// request records one that was due at a time, with so long a latency, and lag
// if it is given.
func (r *recorder) request(d done, latency time.Duration, lag ...time.Duration) {
	d.sent, d.ended = d.due, d.due+latency
	free := d.due
	for _, l := range lag {
		free -= l
	}
	r.sent(d.sent, free, d.target)
	r.ended(&d)
}

// checkSums holds what must be true of every result.
func checkSums(t *testing.T, r *Result) {
	t.Helper()
	if r.Scheduled != r.Sent+r.Unsent || r.Unsent < 0 {
		t.Errorf("%d scheduled is not %d sent and %d unsent", r.Scheduled, r.Sent, r.Unsent)
	}
	if r.Sent != r.Answered+r.Errors || r.Lag.Count() != r.Sent {
		t.Errorf("%d sent is not %d answered and %d errors, or %d lags", r.Sent, r.Answered, r.Errors, r.Lag.Count())
	}
	var inSeries, answered int64
	for _, s := range r.Series {
		inSeries += s.Count()
		if s.Service.Count() != s.Count() {
			t.Errorf("%s/%s has %d latencies and %d services", s.Request, s.Key, s.Count(), s.Service.Count())
		}
		if s.Key[0] != 'e' {
			answered += s.Count()
		}
	}
	if inSeries != r.Sent || answered != r.Answered {
		t.Errorf("the series have %d, %d of them answered; %d were sent and %d answered", inSeries, answered, r.Sent, r.Answered)
	}
	var due, sent, ok, failed, over, byRequest, opened int64
	for i, s := range r.Samples {
		if s.Second != i || s.Due < 0 {
			t.Errorf("sample %d is of second %d with %d due", i, s.Second, s.Due)
		}
		due, sent, ok, failed, opened = due+s.Due, sent+s.Sent, ok+s.Answered, failed+s.Errors, opened+s.Opened
		for _, w := range s.Windows {
			if w.Request == "" {
				over += w.Count
			} else {
				byRequest += w.Count
			}
		}
	}
	want := []int64{r.Scheduled, r.Sent, r.Answered, r.Errors, r.Sent, r.Sent, r.Connections.Opened}
	if diff := gocmp.Diff(want, []int64{due, sent, ok, failed, over, byRequest, opened}); diff != "" {
		t.Errorf("samples do not add up: scheduled, sent, answered, errors, windows twice, connections: -want +got\n%s", diff)
	}
	if c := r.Connections; c.Waiting.Count() != r.Answered || c.Receiving.Count() != r.Answered || c.Connect.Count() != c.Opened {
		t.Errorf("%d waits and %d receipts of %d answers; %d connects of %d", c.Waiting.Count(), c.Receiving.Count(), r.Answered, c.Connect.Count(), c.Opened)
	}
	if last := r.Samples[len(r.Samples)-1]; last.InFlight != 0 || last.Waiting != r.Unsent {
		t.Errorf("at the end %d are in flight and %d waiting, with %d unsent", last.InFlight, last.Waiting, r.Unsent)
	}
}

func TestRecorderSeconds(t *testing.T) {
	var seen []Sample
	r := recording(func(s *Sample) { seen = append(seen, *s) })
	const ms = time.Millisecond
	r.request(done{status: 201, due: 100 * ms, opened: true, connect: ms, policy: []byte("b")}, 10*ms, 2*ms)
	r.request(done{request: 1, status: 201, due: 200 * ms, reused: true, policy: []byte("a")}, 30*ms)
	r.request(done{request: 1, status: 429, due: 300 * ms, reused: true, policy: []byte("a"), example: []byte("slow down")}, 5*ms)
	r.request(done{err: errorOwn, due: 3100 * ms, example: []byte("no ports")}, 7*ms)
	r.stop(35)
	res := r.finish(3500 * ms)

	spreads := seen[0].Spreads
	for i := range seen {
		seen[i].Spreads = nil // they are told, and not kept
	}
	checkSeen := make([]Sample, len(res.Samples))
	for i, s := range res.Samples {
		checkSeen[i] = *s
	}
	if diff := gocmp.Diff(checkSeen, seen); diff != "" {
		t.Errorf("observed other than kept:\n%s", diff)
	}
	wantSpreads := []Spread{
		{"one", "201", []Bin{{9984 * time.Microsecond, 1}}},
		{"two", "201", []Bin{{29952 * time.Microsecond, 1}}},
		{"two", "429", []Bin{{4992 * time.Microsecond, 1}}},
	}
	if diff := gocmp.Diff(wantSpreads, spreads); diff != "" {
		t.Errorf("the first second in full: -want +got\n%s", diff)
	}
	first := seen[0]
	want := []Window{
		{Request: "one", Key: "201", Name: "created", Kind: Success, Count: 1, P50: 10 * ms, P95: 10 * ms, P99: 10 * ms, Max: 10 * ms},
		{Request: "two", Key: "201", Name: "created", Kind: Success, Count: 1, P50: 30 * ms, P95: 30 * ms, P99: 30 * ms, Max: 30 * ms},
		{Key: "201", Name: "created", Kind: Success, Count: 2, P50: 10047 * time.Microsecond, P95: 30 * ms, P99: 30 * ms, Max: 30 * ms},
		{Request: "two", Key: "429", Name: "limited", Kind: Expected, Count: 1, P50: 5 * ms, P95: 5 * ms, P99: 5 * ms, Max: 5 * ms},
		{Key: "429", Name: "limited", Kind: Expected, Count: 1, P50: 5 * ms, P95: 5 * ms, P99: 5 * ms, Max: 5 * ms},
	}
	if diff := gocmp.Diff(want, first.Windows); diff != "" {
		t.Errorf("the first second: -want +got\n%s", diff)
	}
	if first.Due != 10 || first.Sent != 3 || first.Waiting != 7 || first.Stage != 1 || first.Rate != 10 || first.Opened != 1 || first.LagMax != 2*ms {
		t.Errorf("the first second is %+v", first)
	}
	for _, s := range seen[1:3] { // in which nothing happened
		if s.Due != 10 || s.Sent+s.Answered+s.Errors > 0 || s.Windows != nil || s.LagMax != 0 {
			t.Errorf("second %d is %+v", s.Second, s)
		}
	}
	if last := seen[3]; len(seen) != 4 || last.Due != 5 || last.Errors != 1 {
		t.Errorf("%d seconds, the last %+v", len(seen), last)
	}
	if res.Generator.OwnErrors != 1 || res.Scheduled != 35 || res.Unsent != 31 || res.InFlightMax != 1 {
		t.Errorf("result %+v", res)
	}
	if diff := gocmp.Diff([]string{"a", "b"}, res.Connections.Policies); diff != "" {
		t.Error(diff)
	}
	var keys []string
	for _, s := range res.Series {
		keys = append(keys, fmt.Sprintf("%s %s %s %s %q", s.Request, s.Key, s.Name, s.Kind, s.Example))
	}
	if diff := gocmp.Diff([]string{
		`one 201 created success ""`, `one error:generator error:generator failure "no ports"`, `two 201 created success ""`, `two 429 limited expected "slow down"`,
	}, keys); diff != "" {
		t.Error(diff)
	}
}

func TestRecorderOfNothing(t *testing.T) {
	r := recording(nil)
	r.stop(0)
	if res := r.finish(0); len(res.Samples) != 1 || res.Sent+res.Unsent != 0 || res.Series != nil {
		t.Errorf("%+v", res)
	}
	r = recording(nil)
	r.stop(35) // the last five are due in a second that has nothing else
	if res := r.finish(3500 * time.Millisecond); len(res.Samples) != 4 || res.Samples[3].Due != 5 || res.Unsent != 35 {
		t.Errorf("%d unsent, %+v", res.Unsent, res.Samples[len(res.Samples)-1])
	}
}

func TestStopNeverTakesBackASecond(t *testing.T) {
	r := recording(nil)
	r.tick(2 * time.Second) // 20 are due
	r.stop(19)              // was computed just before
	res := r.finish(2 * time.Second)
	if res.Scheduled != 20 || len(res.Samples) != 2 || res.Samples[1].Due != 10 {
		t.Errorf("%d scheduled, %+v", res.Scheduled, res.Samples[1])
	}
}

func TestTenThousandOutcomesAreBounded(t *testing.T) {
	kinds := []string{
		errorTimeout, errorRefused, errorUnreachable, errorConnect, errorTLS, errorReset, errorClosed,
		errorTruncated, errorProtocol, errorTooLarge, errorOwn, errorInterrupted,
	}
	r := recording(nil)
	var n, ok int64
	for i := range 10_000 {
		d := done{request: i % 2, due: time.Duration(i) * time.Millisecond, policy: fmt.Appendf(nil, "p%d", i), example: []byte("x")}
		if i%5 == 0 {
			d.err = kinds[i/5%len(kinds)]
		} else {
			d.status = 100 + i%500
			if d.status/100 == 2 {
				ok++
			}
		}
		r.request(d, time.Millisecond)
		n++
	}
	r.stop(n)
	res := r.finish(11 * time.Second)
	var success int64
	names := make(map[string]bool)
	for _, s := range res.Series {
		if names[s.Request+s.Key] {
			t.Errorf("%s/%s is there twice", s.Request, s.Key)
		}
		names[s.Request+s.Key] = true
		if s.Kind == Success {
			success += s.Count()
		}
	}
	named := 2*len(kinds) + 2*len(r.job.Outcomes)
	if most := named + maxSeries + 4; len(res.Series) > most || len(r.series) > most {
		t.Errorf("%d series, want at most %d", len(res.Series), most)
	}
	if res.Answered+res.Errors != n || success != ok || res.Errors != n/5 {
		t.Errorf("%d answered, %d errors, %d successes; want %d in all and %d successes", res.Answered, res.Errors, success, n, ok)
	}
	if !names["oneother:failure"] || len(res.Connections.Policies) != maxPolicies {
		t.Errorf("%d policies; series: %v", len(res.Connections.Policies), names)
	}
	var windows int64
	for _, s := range res.Samples {
		for _, w := range s.Windows {
			if w.Request == "" {
				windows += w.Count
			}
		}
	}
	if windows != n {
		t.Errorf("the windows have %d, want %d", windows, n)
	}
}
