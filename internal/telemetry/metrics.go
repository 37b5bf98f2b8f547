package telemetry

import (
	"runtime"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Metrics are all that a node counts.
type Metrics struct {
	inUse     atomic.Pointer[func() int]
	requests  *prometheus.HistogramVec
	faults    *prometheus.CounterVec
	decisions *prometheus.CounterVec
	signUps   *prometheus.CounterVec
	mail      *prometheus.CounterVec
	store     *prometheus.HistogramVec
	jobs      *prometheus.GaugeVec
	jobsAge   *prometheus.GaugeVec
	tries     *prometheus.HistogramVec
	nodes     *prometheus.GaugeVec
	differs   *prometheus.GaugeVec
	events    *prometheus.CounterVec
	missed    *prometheus.CounterVec
	parked    *prometheus.GaugeVec
	calls     *prometheus.CounterVec
}

// New registers a node's metrics with r; version is the build's.
func New(r prometheus.Registerer, version string) *Metrics {
	m := &Metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "gatehouse_http_request_duration_seconds",
			Help:    "Time from a request's head being read to its answer being written, by route, method and status; _count is the number of requests. Requests that matched no route have the route \"none\".",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"route", "method", "status"}),
		faults: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_http_faults_total",
			Help: "Requests answered with an error, by fault kind.",
		}, []string{"kind"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_rate_limit_decisions_total",
			Help: "Rate limit decisions by policy and outcome: admitted, denied (by the store), denied_remembered (from the node's memory), store_failed.",
		}, []string{"policy", "outcome"}),
		signUps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_sign_ups_total",
			Help: "Sign-ups that got past the rate limit and were read, by outcome: created, failed, or the first reason of refusal.",
		}, []string{"outcome"}),
		mail: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_mail_domain_checks_total",
			Help: "Checks whether an e-mail domain can receive mail, by outcome: accepted, refused, unknown (the resolver gave no answer; the address passes), busy (too many checks under way; the address passes).",
		}, []string{"outcome"}),
		store: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "gatehouse_store_duration_seconds",
			Help:    "Time that calls of the store took, waiting in its queue included, by call and outcome: ok, refused, failed.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}, []string{"call", "outcome"}),
	}
	m.jobs = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gatehouse_jobs",
		Help: "Jobs there are, by kind and state: queued (waiting or running), dead (given up until an operator decides). Counted every few seconds.",
	}, []string{"kind", "state"})
	m.jobsAge = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gatehouse_jobs_oldest_seconds",
		Help: "Age of the oldest queued job, by kind; 0 when none is queued.",
	}, []string{"kind"})
	m.tries = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "gatehouse_job_duration_seconds",
		Help:    "Time that tries of jobs took, by kind and outcome: done, retried (failed, and due again), dead (given up), returned (the node stopped).",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"kind", "outcome"})
	m.nodes = prometheus.NewGaugeVec(prometheus.GaugeOpts{ // of no label, so that it is not there until it is set
		Name: "gatehouse_cluster_nodes",
		Help: "Nodes alive as this one sees it, itself included; 1 once its own heartbeat has failed for 6 s. Not there without a cluster.",
	}, nil)
	m.differs = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gatehouse_cluster_limit_differs",
		Help: "1 while a policy's rate limit is not the same on all nodes alive, else 0, by policy. Not there without a cluster.",
	}, []string{"policy"})
	m.events = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_stripe_events_total",
		Help: "Decisions on Stripe's events, by type (those without an effect are \"other\") and state: done, ignored, parked (somebody has to look, or it waits for what is not there yet).",
	}, []string{"type", "state"})
	m.missed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_stripe_events_missed_total",
		Help: "Events that no webhook brought and the reconciler fetched. Not there before there were any.",
	}, nil)
	m.parked = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "gatehouse_stripe_parked_events",
		Help: "Events that are parked, by what they wait for: something (that may come, such as their customer), operator (somebody has to look). Counted twice a minute by each node.",
	}, []string{"wait"})
	m.calls = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_gateway_calls_total",
		Help: "Calls that the gateway sent on, by provider, how they ended (done, left: the client went away, cut: the provider broke off, failed, revoked, overdue, shutdown, lost: its node died, and another booked what was held for it; one that was only away counts it as well) and whether what they used had to be estimated.",
	}, []string{"provider", "outcome", "estimated"})
	m.inUse.Store(new(func() int { return 0 }))
	inUse := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "gatehouse_store_busy_connections",
		Help: "Connections to the database that are busy: of PostgreSQL's pool, or those that read SQLite.",
	}, func() float64 { return float64((*m.inUse.Load())()) })
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "gatehouse_build_info",
		Help:        "Always 1: the labels say which build this is.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	}, func() float64 { return 1 })
	r.MustRegister(m.requests, m.faults, m.decisions, m.signUps, m.mail, m.store, m.jobs, m.jobsAge, m.tries, m.nodes, m.differs, m.events, m.missed, m.parked, m.calls, build, inUse,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// ConnectionsInUse says whom to ask how many connections are busy.
func (m *Metrics) ConnectionsInUse(count func() int) { m.inUse.Store(&count) }

// Request returns the observer of one route's answers with one status.
func (m *Metrics) Request(route, method, status string) prometheus.Observer {
	return m.requests.WithLabelValues(route, method, status)
}

// Fault counts an answer that is an error.
func (m *Metrics) Fault(kind string) prometheus.Counter { return m.faults.WithLabelValues(kind) }

// Decision returns the counter of a policy's decisions of one outcome.
func (m *Metrics) Decision(policy, outcome string) prometheus.Counter {
	return m.decisions.WithLabelValues(policy, outcome)
}

// SignUp counts a sign-up's outcome.
func (m *Metrics) SignUp(outcome string) { m.signUps.WithLabelValues(outcome).Inc() }

// Jobs says how many jobs of a kind there are, and how old the oldest is.
func (m *Metrics) Jobs(kind string, queued, dead int, oldest time.Duration) {
	m.jobs.WithLabelValues(kind, "queued").Set(float64(queued))
	m.jobs.WithLabelValues(kind, "dead").Set(float64(dead))
	m.jobsAge.WithLabelValues(kind).Set(oldest.Seconds())
}

// JobTried records a try of a job.
func (m *Metrics) JobTried(kind, outcome string, took time.Duration) {
	m.tries.WithLabelValues(kind, outcome).Observe(took.Seconds())
}

// Nodes says how many nodes of the cluster are alive.
func (m *Metrics) Nodes(n int) { m.nodes.WithLabelValues().Set(float64(n)) }

// LimitDiffers says whether a policy's limit is not the same on all nodes.
func (m *Metrics) LimitDiffers(policy string, differs bool) {
	value := 0.0
	if differs {
		value = 1
	}
	m.differs.WithLabelValues(policy).Set(value)
}

// Call counts a call that the gateway sent on.
func (m *Metrics) Call(provider, outcome string, estimated bool) {
	m.calls.WithLabelValues(provider, outcome, strconv.FormatBool(estimated)).Inc()
}

// Event counts a decision on an event of Stripe's.
func (m *Metrics) Event(kind, state string) { m.events.WithLabelValues(kind, state).Inc() }

// EventsMissed counts events that the reconciler fetched.
func (m *Metrics) EventsMissed(n int) { m.missed.WithLabelValues().Add(float64(n)) }

// Parked says how many events are parked, for something or for an operator.
func (m *Metrics) Parked(waiting, stuck int) {
	m.parked.WithLabelValues("something").Set(float64(waiting))
	m.parked.WithLabelValues("operator").Set(float64(stuck))
}

// MailDomain counts the outcome of a check of a mail domain.
func (m *Metrics) MailDomain(outcome string) { m.mail.WithLabelValues(outcome).Inc() }

// StoreCall records how long a call of the store took.
func (m *Metrics) StoreCall(call, outcome string, took time.Duration) {
	m.store.WithLabelValues(call, outcome).Observe(took.Seconds())
}
