package report

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"gatehouse/internal/load"
	"gatehouse/internal/load/gate"
	"gatehouse/internal/load/resources"
)

// Schema is the version of summary.json; another one is not read.
const Schema = "gatehouse.load/1"

// maxSummary is the longest summary that is read, in bytes: many times what 64
// requests with a few dozen outcomes each make.
const maxSummary = 16 << 20

// MaxTime is the longest time that is believed, in milliseconds: a year.
const MaxTime = 365 * 86_400_000

// Summary is summary.json: the contract's fields, and some beside them.
type Summary struct {
	Schema          string    `json:"schema"`
	ToolVersion     string    `json:"tool_version"`
	Plan            string    `json:"plan"`
	PlanHash        string    `json:"plan_hash"`
	Profile         string    `json:"profile"`
	Seed            uint64    `json:"seed"`
	Target          string    `json:"target"`
	StartedAt       time.Time `json:"started_at"`
	DurationSeconds float64   `json:"duration_seconds"` // until the last answer
	PlannedSeconds  float64   `json:"planned_seconds"`  // of the stages together
	TimeoutSeconds  float64   `json:"timeout_seconds"`  // of a request
	Interrupted     bool      `json:"interrupted"`
	ClosedModel     bool      `json:"closed_model,omitzero"` // a slow target may have slowed the load down; never of ours

	Environment Environment                   `json:"environment"`
	Stages      []Stage                       `json:"stages"`
	Clients     string                        `json:"clients"`
	Requests    Requests                      `json:"requests"`
	Rate        Rates                         `json:"rate"`
	InFlight    InFlight                      `json:"in_flight"`
	Outcomes    map[string]Outcome            `json:"outcomes"` // by status or error, over all requests
	ByRequest   map[string]map[string]Outcome `json:"by_request"`
	SuccessP95  *float64                      `json:"success_p95_ms"`  // latency, of all successes together
	Writes      *int                          `json:"writes,omitzero"` // rows that writes.csv is to have; nil: not known
	Connections Connections                   `json:"connections"`
	Targets     []Called                      `json:"targets,omitzero"` // by address, where there were several
	Generator   GeneratorLoad                 `json:"generator"`
	Resources   resources.Usage               `json:"resources"` // the target's

	Gates        []gate.Check `json:"gates"`
	WithoutGates bool         `json:"without_gates,omitzero"` // the plan had none: those above came unasked
	Baseline     string       `json:"baseline,omitzero"`      // what the run was compared with
	Comparison   *Comparison  `json:"comparison,omitzero"`
	Notes        []string     `json:"notes,omitzero"`
	Verdict      gate.Verdict `json:"verdict"`
	Reasons      []string     `json:"reasons"`
}

// Stage is one of the plan's.
type Stage struct {
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rate"` // at its end, a second
}

// Requests counts what was due and what became of it.
type Requests struct {
	Scheduled int64 `json:"scheduled"`
	Sent      int64 `json:"sent"`
	Answered  int64 `json:"answered"`
	Unsent    int64 `json:"unsent"`
	Errors    int64 `json:"errors"`
}

// Rates are over the planned duration.
type Rates struct {
	Offered  float64 `json:"offered_rps"`
	Achieved float64 `json:"achieved_rps"`
}

// InFlight is how many requests awaited an answer.
type InFlight struct {
	Avg float64 `json:"avg"`
	Max int     `json:"max"`
}

// Outcome is all requests that ended alike.
type Outcome struct {
	Name    string    `json:"name"`
	Kind    load.Kind `json:"kind"`
	Count   int64     `json:"count"`
	Latency Times     `json:"latency_ms"` // due to done
	Service Times     `json:"service_ms"` // sent to done
	Example string    `json:"example,omitzero"`
}

// Times sums up a distribution, in milliseconds. What there are too few times
// for is null.
type Times struct {
	Min  *float64 `json:"min"`
	Avg  *float64 `json:"avg"`
	P50  *float64 `json:"p50"`
	P90  *float64 `json:"p90"`
	P95  *float64 `json:"p95"`
	P99  *float64 `json:"p99"`
	P999 *float64 `json:"p99_9"`
	Max  *float64 `json:"max"`
}

// stat is one of Times.
type stat struct {
	name string
	ms   *float64
}

// stats are always the same ones in the same order.
func (t Times) stats() []stat {
	return []stat{{"min", t.Min}, {"avg", t.Avg}, {"p50", t.P50}, {"p90", t.P90}, {"p95", t.P95}, {"p99", t.P99}, {"p99.9", t.P999}, {"max", t.Max}}
}

// Percentiles are p50, p90, p95 and p99.
func (t Times) Percentiles() [4]*float64 { return [4]*float64{t.P50, t.P90, t.P95, t.P99} }

// successes is the key of those of a tool that tells no statuses.
const successes = string(load.Success)

// Counterparts are the outcomes of two runs that mean the same, by their keys:
// the same status, or, where a tool tells successes but not their statuses, the
// only status of success that the other run has. They are in the order of the
// second run's keys.
func Counterparts(first, second map[string]Outcome) [][2]string {
	var pairs [][2]string
	for _, key := range slices.Sorted(maps.Keys(second)) {
		if _, ok := first[key]; ok {
			pairs = append(pairs, [2]string{key, key})
		}
	}
	only := func(in map[string]Outcome) (key string, one bool) {
		n := 0
		for k, o := range in {
			if o.Kind == load.Success && o.Count > 0 {
				key = k
				n++
			}
		}
		return key, n == 1
	}
	a, oneA := only(first)
	b, oneB := only(second)
	if oneA && oneB && a != b && (a == successes || b == successes) {
		pairs = append(pairs, [2]string{a, b})
	}
	return pairs
}

// Connections is the network's part.
type Connections struct {
	Opened     int64 `json:"opened"`
	Reused     int64 `json:"reused"`
	Handshakes int64 `json:"tls_handshakes"`
	Connect    Times `json:"connect_ms"`
	Handshake  Times `json:"tls_handshake_ms"`
	Waiting    Times `json:"waiting_ms"`
	Receiving  Times `json:"receiving_ms"`
}

// Called is what went to one of several addresses.
type Called struct {
	Address  string `json:"address"`
	Sent     int64  `json:"sent"`
	Answered int64  `json:"answered"`
}

// GeneratorLoad is what the run cost the generator.
type GeneratorLoad struct {
	Saturated  bool    `json:"saturated"` // it was the bottleneck, and the run says nothing of the target
	CPUSeconds float64 `json:"cpu_seconds"`
	MaxRSS     int64   `json:"max_rss_bytes"`
	MaxLag     float64 `json:"max_lag_ms"`
	P99Lag     float64 `json:"p99_lag_ms"` // however few requests there were
	OwnErrors  int64   `json:"own_errors"`
}

// Summarize makes a run's summary.
func Summarize(r *Run) *Summary {
	res := r.Result
	p99, _ := res.Lag.Quantile(0.99)
	longest, _ := res.Lag.Quantile(1)
	s := &Summary{
		Schema: Schema, ToolVersion: r.ToolVersion, Plan: r.Plan, PlanHash: r.PlanHash, Profile: r.Profile, Seed: r.Seed, Target: r.Target,
		StartedAt: res.Started.UTC(), DurationSeconds: round(res.Elapsed.Seconds()), PlannedSeconds: round(res.Planned.Seconds()),
		TimeoutSeconds: r.Timeout.Seconds(), Interrupted: res.Interrupted,
		Environment: r.Environment, Clients: r.Clients, Resources: r.Resources,
		Requests:  Requests{res.Scheduled, res.Sent, res.Answered, res.Unsent, res.Errors},
		Rate:      Rates{round(over(res.Scheduled, res.Planned)), round(over(res.Sent, res.Planned))},
		InFlight:  InFlight{round(res.InFlightAvg), res.InFlightMax},
		Outcomes:  map[string]Outcome{},
		ByRequest: map[string]map[string]Outcome{},
		Writes:    r.Writes,
		Connections: Connections{
			res.Connections.Opened, res.Connections.Reused, res.Connections.Handshake.Count(),
			timesOf(res.Connections.Connect), timesOf(res.Connections.Handshake), timesOf(res.Connections.Waiting), timesOf(res.Connections.Receiving),
		},
		Generator: GeneratorLoad{
			Saturated: gate.Saturated(r.Reasons), CPUSeconds: round(res.Generator.CPU.Seconds()), MaxRSS: res.Generator.MaxRSS,
			MaxLag: round(milliseconds(longest)), P99Lag: round(milliseconds(p99)), OwnErrors: res.Generator.OwnErrors,
		},
		Gates: r.Checks, WithoutGates: r.Gates == 0, Comparison: r.Baseline, Notes: r.Notes, Verdict: r.Verdict, Reasons: r.Reasons,
	}
	if len(res.Targets) > 1 {
		for _, t := range res.Targets {
			s.Targets = append(s.Targets, Called(t))
		}
	}
	for _, stage := range r.Stages {
		s.Stages = append(s.Stages, Stage{round(stage.Duration.Seconds()), stage.Rate})
	}
	successes := load.NewDistribution()
	for _, o := range byOutcome(res) {
		s.Outcomes[o.Key] = outcomeOf(o)
		if o.Kind == load.Success {
			successes.Merge(o.Latency)
		}
	}
	s.SuccessP95 = timesOf(successes).P95
	for _, o := range res.Series {
		if s.ByRequest[o.Request] == nil {
			s.ByRequest[o.Request] = map[string]Outcome{}
		}
		s.ByRequest[o.Request][o.Key] = outcomeOf(o)
	}
	if r.Baseline != nil {
		s.Baseline = r.Baseline.Name
	}
	return s
}

func outcomeOf(s *load.Series) Outcome {
	return Outcome{Name: s.Name, Kind: s.Kind, Count: s.Count(), Latency: timesOf(s.Latency), Service: timesOf(s.Service), Example: s.Example}
}

func timesOf(d *load.Distribution) Times {
	if d.Count() == 0 {
		return Times{}
	}
	exact := func(t time.Duration) *float64 { v := round(milliseconds(t)); return &v }
	q := func(share float64) *float64 {
		if t, ok := d.Quantile(share); ok {
			return exact(t)
		}
		return nil
	}
	return Times{exact(d.Min()), exact(d.Mean()), q(0.50), q(0.90), q(0.95), q(0.99), q(0.999), exact(d.Max())}
}

// JSON is the summary as it is written.
func (s *Summary) JSON() ([]byte, error) { return JSON(s) }

// ReadSummary reads a summary.json, or a baseline, which may know less: what is
// absent is not known. Fields that it has no name for are passed over, since a
// later version may have written them.
func ReadSummary(data []byte) (*Summary, error) {
	if len(data) > maxSummary {
		return nil, fmt.Errorf("read the summary: it is longer than %d bytes", maxSummary)
	}
	s := &Summary{}
	err := json.Unmarshal(data, s)
	if err == nil || s.Schema != "" && s.Schema != Schema { // what is of another kind may have other fields
		err = s.validate()
	}
	if err != nil {
		return nil, fmt.Errorf("read the summary: %w", err)
	}
	return s, nil
}

// errSchema begins what is said of a summary that is not of a run.
var errSchema = errors.New("its schema is")

func (s *Summary) validate() error {
	if s.Schema != Schema {
		what := ""
		switch name, _, _ := strings.Cut(strings.TrimPrefix(s.Schema, "gatehouse."), "/"); name {
		case "load":
			what = ": another version of gatehouse wrote it, and can read it"
		case "verify", "compare", "capacity", "suite":
			what = ": it is of load " + name + ", not of load run"
		}
		return fmt.Errorf("%w %.40q, want %q%s", errSchema, s.Schema, Schema, what)
	}
	if !slices.Contains([]gate.Verdict{"", gate.Pass, gate.Fail, gate.Inconclusive}, s.Verdict) {
		return fmt.Errorf("its verdict is %.40q, want pass, fail or inconclusive", s.Verdict)
	}
	if s.Outcomes == nil {
		return errors.New("it has no outcomes")
	}
	for key, o := range s.Outcomes {
		if !slices.Contains(kinds, o.Kind) {
			return fmt.Errorf("outcome %.40q is of kind %.40q, want success, expected or failure", key, o.Kind)
		}
		if o.Count < 0 {
			return fmt.Errorf("outcome %.40q has the count %d", key, o.Count)
		}
		for _, t := range slices.Concat(o.Latency.stats(), o.Service.stats()) {
			if t.ms != nil && (*t.ms < 0 || *t.ms > MaxTime) {
				return fmt.Errorf("outcome %.40q has the time %v ms", key, *t.ms)
			}
		}
	}
	return s.validateTargets()
}

// validateTargets checks that the counts by address, if any, are those of the run.
func (s *Summary) validateTargets() error {
	var sum Called
	for _, t := range s.Targets {
		if t.Answered < 0 || t.Answered > t.Sent {
			return fmt.Errorf("target %.40q answered %d of %d requests", t.Address, t.Answered, t.Sent)
		}
		sum.Sent, sum.Answered = sum.Sent+t.Sent, sum.Answered+t.Answered
	}
	if len(s.Targets) > 0 && (sum.Sent != s.Requests.Sent || sum.Answered != s.Requests.Answered) {
		return fmt.Errorf("its targets answered %d of %d requests, and the run %d of %d", sum.Answered, sum.Sent, s.Requests.Answered, s.Requests.Sent)
	}
	return nil
}

// over is a rate a second.
func over(n int64, d time.Duration) float64 {
	if d <= 0 {
		return 0
	}
	return float64(n) / d.Seconds()
}

// duration is so many seconds.
func duration(seconds float64) time.Duration { return time.Duration(math.Round(seconds * 1e9)) }

// round keeps three decimals: a microsecond, of milliseconds.
func round(v float64) float64 { return math.Round(v*1e3) / 1e3 }
