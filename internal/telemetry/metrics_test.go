package telemetry_test

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"gatehouse/internal/telemetry"
)

// ours are a registry's series of ours with their values: of a histogram, the
// count and the sum.
func ours(t *testing.T, r *prometheus.Registry) map[string]string {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := make(map[string]string)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "gatehouse_") {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			name := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			if h := m.GetHistogram(); h != nil {
				series[name] = fmt.Sprintf("%d of %g", h.GetSampleCount(), h.GetSampleSum())
				continue
			}
			series[name] = fmt.Sprint(m.GetCounter().GetValue() + m.GetGauge().GetValue())
		}
	}
	return series
}

func TestEachThingIsCountedInItsOwnSeries(t *testing.T) {
	r := prometheus.NewRegistry()
	m := telemetry.New(r, "v1.2.3")
	m.Request("/api/v1/account", "GET", "200").Observe(0.25)
	m.Request("/api/v1/account", "GET", "200").Observe(0.5)
	m.Request("/api/v1/account", "GET", "401").Observe(1)
	m.Fault("limited").Inc()
	m.Decision("api", "admitted").Inc()
	m.Decision("api", "admitted").Inc()
	m.Decision("onboarding", "denied").Inc()
	m.SignUp("created")
	m.MailDomain("unknown")
	m.StoreCall("open", "ok", 1500*time.Millisecond)
	m.Nodes(3)
	m.LimitDiffers("api", true)
	m.LimitDiffers("onboarding", true)
	m.LimitDiffers("onboarding", false)
	got := ours(t, r)
	maps.DeleteFunc(got, func(name, _ string) bool { return strings.HasPrefix(name, "gatehouse_build_info") })
	want := map[string]string{
		"gatehouse_http_request_duration_seconds{method=GET,route=/api/v1/account,status=200}": "2 of 0.75",
		"gatehouse_http_request_duration_seconds{method=GET,route=/api/v1/account,status=401}": "1 of 1",
		"gatehouse_http_faults_total{kind=limited}":                                            "1",
		"gatehouse_rate_limit_decisions_total{outcome=admitted,policy=api}":                    "2",
		"gatehouse_rate_limit_decisions_total{outcome=denied,policy=onboarding}":               "1",
		"gatehouse_sign_ups_total{outcome=created}":                                            "1",
		"gatehouse_mail_domain_checks_total{outcome=unknown}":                                  "1",
		"gatehouse_store_busy_connections{}":                                                   "0",
		"gatehouse_store_duration_seconds{call=open,outcome=ok}":                               "1 of 1.5",
		"gatehouse_cluster_nodes{}":                                                            "3",
		"gatehouse_cluster_limit_differs{policy=api}":                                          "1",
		"gatehouse_cluster_limit_differs{policy=onboarding}":                                   "0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the series differ (-want +got):\n%s", diff)
	}
}

func TestBuildIsTold(t *testing.T) {
	r := prometheus.NewRegistry()
	telemetry.New(r, "v1.2.3").ConnectionsInUse(func() int { return 4 })
	all := ours(t, r)
	if busy := all["gatehouse_store_busy_connections{}"]; busy != "4" {
		t.Errorf("%s connections are busy, want 4", busy)
	}
	if delete(all, "gatehouse_store_busy_connections{}"); len(all) != 1 {
		t.Errorf("before anything happened there are %v", all)
	}
	for name, value := range all {
		if !regexp.MustCompile(`^gatehouse_build_info\{go_version=go1\..*,version=v1\.2\.3\}$`).MatchString(name) || value != "1" {
			t.Errorf("%s is %s", name, value)
		}
	}
}

// Two nodes in one process, as in tests, must not share or refuse a registry.
func TestMetricsAreNoOnesButTheRegisterersOwn(t *testing.T) {
	a, b := prometheus.NewRegistry(), prometheus.NewRegistry()
	telemetry.New(a, "v1").SignUp("created")
	telemetry.New(b, "v1")
	for name := range ours(t, b) {
		if strings.Contains(name, "sign_ups") {
			t.Errorf("another registry has %s", name)
		}
	}
	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "gatehouse_") {
			t.Errorf("the global registry has %s", f.GetName())
		}
	}
}

func TestRuntimeAndProcessAreMeasured(t *testing.T) {
	r := prometheus.NewRegistry()
	telemetry.New(r, "v1")
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	for _, want := range []string{"go_goroutines", "go_memstats_heap_alloc_bytes"} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no %s among %v", want, names)
		}
	}
}
