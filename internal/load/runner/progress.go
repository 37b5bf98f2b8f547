package runner

import (
	"fmt"
	"io"
	"strings"
	"time"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/plan"
	"gatehouse/internal/load/report"
)

// linesEvery is how often a run that nobody watches on a terminal says how it
// goes.
const linesEvery = 10 * time.Second

// progress tells how a run goes. What can't be written at once is lost: the run
// waits for no reader.
type progress struct {
	lines    chan string
	ended    chan struct{} // closed once all lines are written
	terminal bool
	stages   int
	planned  time.Duration
	began    bool // a line is on the terminal, without its end
	sent     int64
	kinds    map[load.Kind]int64
}

func newProgress(w io.Writer, terminal bool, p *plan.Plan) *progress {
	job := load.Job{Stages: p.Stages}
	told := &progress{lines: make(chan string, 64), ended: make(chan struct{}), terminal: terminal, stages: len(p.Stages), planned: job.Planned(), kinds: make(map[load.Kind]int64)}
	go func() {
		defer close(told.ended)
		for line := range told.lines {
			_, _ = io.WriteString(w, line)
		}
	}()
	return told
}

func (p *progress) tell(format string, args ...any) {
	select {
	case p.lines <- fmt.Sprintf(format, args...):
	default:
	}
}

// begin says what will be sent.
func (p *progress) begin(run *report.Run, before look) {
	profile := ""
	if run.Profile != "" {
		profile = ", profile " + run.Profile
	}
	p.tell("plan %s%s against %s for %v (seed %d): %s\n", run.Plan, profile, run.Target, p.planned.Round(time.Second), run.Seed, run.Clients)
	if before.err != nil {
		p.tell("the target does not say how it is: %v\n", before.err)
		return
	}
	p.tell("the target is %s, version %s, node %s\n", before.health.Status, before.health.Version, before.health.Node)
}

// second takes in one second of the run and tells of it when it is time.
func (p *progress) second(s *load.Sample) {
	p.sent += s.Sent
	slowest := map[load.Kind]time.Duration{}
	for _, w := range s.Windows {
		if w.Request == "" {
			p.kinds[w.Kind] += w.Count
			slowest[w.Kind] = max(slowest[w.Kind], w.P95)
		}
	}
	at := time.Duration(s.Second+1) * time.Second
	if !p.terminal && at%linesEvery != 0 {
		return
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s stage %d/%d %.1f/s planned, %d/s sent | %s ok", clock(at), clock(p.planned), s.Stage+1, p.stages, s.Rate, s.Sent, number(p.kinds[load.Success]))
	if t := slowest[load.Success]; t > 0 {
		fmt.Fprintf(&b, " (p95 %s)", milliseconds(t))
	}
	fmt.Fprintf(&b, ", %s expected", number(p.kinds[load.Expected]))
	if t := slowest[load.Expected]; t > 0 {
		fmt.Fprintf(&b, " (p95 %s)", milliseconds(t))
	}
	fmt.Fprintf(&b, ", %s failed | %d in flight, lag p99 %s", number(p.kinds[load.Failure]), s.InFlight, milliseconds(s.LagP99))
	if s.Waiting > 0 {
		fmt.Fprintf(&b, ", %s due and waiting", number(s.Waiting))
	}
	if !p.terminal {
		p.tell("%s\n", b.String())
		return
	}
	const anew = "\r\x1b[K" // to the line's start, and nothing right of it
	p.tell("%s%s", anew, b.String())
	p.began = true
}

// end waits for the last lines to be written, if somebody reads them.
func (p *progress) end() {
	if p.began {
		p.tell("\n")
	}
	close(p.lines)
	select {
	case <-p.ended:
	case <-time.After(200 * time.Millisecond):
	}
}

func clock(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}

func number(n int64) string { return gate.Count.Text(float64(n)) }

func milliseconds(d time.Duration) string {
	return gate.Milliseconds.Text(float64(d) / float64(time.Millisecond))
}
