package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"time"
)

// measurements in the order they run; each prints its own lines.
var measurements = []struct {
	name, what string
	run        func(ctx context.Context, o options) error
}{
	{"denied", "refused sign-ups against a bare net/http handler that answers the same bytes", benchDenied},
	{"store", "durable sign-ups with two jobs each in the store by 64 callers, workers running, against raw batched inserts of the same rows", benchStore},
	{"signups", "durable sign-ups over HTTP by 64 clients against raw batched inserts of the same rows", benchSignUps},
	{"jobs", "jobs worked off beside 350 sign-ups a second, which queue two each", benchJobs},
	{"outage", "latency of sign-ups while mail and Stripe are down, hang or answer garbage, or 10,000 jobs wait", benchOutage},
	{"memory", "resident memory under 350 sign-ups a second", benchMemory},
	{"ready", "time from exec to ready with 100,000 customers", benchReady},
	{"generator", "the load engine's CPU a request against vegeta's and k6's, and its lag", benchGenerator},
	{"known", "a server of known latency, as the load engine measures it", benchKnown},
	{"soak", "the load engine's memory over ten minutes (only when asked for)", benchSoak},
	{"pgstore", "durable sign-ups with two jobs each in the store on PostgreSQL against pgbench inserting the same rows in one statement; three nodes against one", benchPGStore},
	{"pghttp", "durable sign-ups over HTTP by 64 clients, one node and three on PostgreSQL, against pgbench", benchPGHTTP},
	{"limits", "decisions of the limiter on PostgreSQL: the store, a row for each stamp, one statement a request, and redis_rate", benchLimits},
	{"bloat", "how large the limiter's tables get in -soak (only when asked for)", benchBloat},
	{"slow", "latency of others, and memory, beside 2,000 slow clients", benchSlow},
	{"webhooks", "events taken in durably in the store by 64 callers, with a job each, against raw inserts of the same rows, on SQLite and on PostgreSQL", benchWebhooks},
	{"webhookrate", "latency of webhooks over HTTP at 1,000 a minute, on SQLite and on PostgreSQL", benchWebhookRate},
	{"effect", "from the acknowledgement of a webhook until the credits are there, at 50 a second, on SQLite and on PostgreSQL", benchEffect},
	{"forged", "forged webhooks against a bare net/http handler that reads the body, makes one HMAC of it and answers the same bytes", benchForged},
	{"gateway", "calls through the gateway against the provider asked directly and against a bare ReverseProxy", benchGateway},
	{"streams", "resident memory with 2,000 open streams, of the gateway and of a bare ReverseProxy", benchStreams},
	{"exchange", "exchanges in the store by 64 callers against raw inserts of the same rows, on SQLite and on PostgreSQL", benchExchange},
}

type options struct {
	binary string
	dir    string // for databases: on the disk that is to be measured
	rounds int
	slice  time.Duration
	soak   time.Duration
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	var o options
	flag.StringVar(&o.binary, "binary", "bin/gatehouse", "the server to measure")
	flag.StringVar(&o.dir, "dir", "", "where to put databases (default: the system's temporary folder)")
	flag.IntVar(&o.rounds, "rounds", 7, "how often each comparison takes turns")
	flag.DurationVar(&o.slice, "slice", 3*time.Second, "how long one turn lasts")
	bare := flag.String("bare", "", "internal: serve the yardstick, the answer read from this file")
	flag.DurationVar(&o.soak, "soak", 10*time.Minute, "how long the soak lasts")
	known := flag.Bool("known", false, "internal: serve answers after known times")
	provider := flag.Bool("provider", false, "internal: serve as an AI provider")
	proxy := flag.String("proxy", "", "internal: serve the bare ReverseProxy before a provider at this address")
	flag.Parse()
	if *known {
		log.Fatal(serveKnown())
	}
	if *provider {
		log.Fatal(serveHere(http.HandlerFunc(provide)))
	}
	if *proxy != "" {
		log.Fatal(serveHere(bareProxy(*proxy)))
	}
	if *bare != "" {
		log.Fatal(serveBare(*bare))
	}
	if err := run(o, flag.Args()); err != nil {
		log.Fatal(err)
	}
}

func run(o options, only []string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if o.dir, err = os.MkdirTemp(o.dir, "gatehouse-bench-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(o.dir)) }()
	fmt.Printf("machine: %s, %d cores, %s\n", cpuModel(), runtime.NumCPU(), runtime.Version())
	for _, name := range only {
		if !slices.ContainsFunc(measurements, func(m struct {
			name, what string
			run        func(context.Context, options) error
		}) bool {
			return m.name == name
		}) {
			return fmt.Errorf("there is no measurement %q", name)
		}
	}
	for _, m := range measurements {
		if len(only) > 0 && !slices.Contains(only, m.name) || len(only) == 0 && (m.name == "soak" || m.name == "bloat") {
			continue
		}
		fmt.Printf("\n%s: %s\n", m.name, m.what)
		if err := m.run(ctx, o); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// spread is the median of some values with the least and the greatest.
func spread(format string, values []float64) string {
	s := slices.Sorted(slices.Values(values))
	f := func(i int) string { return fmt.Sprintf(format, s[i]) }
	return fmt.Sprintf("%s (%s–%s)", f(len(s)/2), f(0), f(len(s)-1))
}

func cpuModel() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown CPU"
}
