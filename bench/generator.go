package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
)

const (
	generatorRate = 8000 // requests a second
	lagRate       = 5000
)

// benchGenerator has the load engine, vegeta and k6 take turns at one rate
// against one bare server, and compares the CPU time of the whole processes,
// reports included. Then it looks at the engine's own lateness beside that
// server.
func benchGenerator(ctx context.Context, o options) error {
	vegeta, err := tool(ctx, "vegeta")
	if err != nil {
		return err
	}
	k6, err := tool(ctx, "k6")
	if err != nil {
		return err
	}
	bare, err := serveCreated(ctx, o.dir)
	if err != nil {
		return err
	}
	var byVegeta, byK6, ours, vegetas, k6s, lags []float64
	for range o.rounds {
		v, err := o.vegeta(ctx, vegeta, bare.addr)
		if err != nil {
			return err
		}
		g, _, err := o.gatehouse(ctx, bare.addr, generatorRate)
		if err != nil {
			return err
		}
		k, err := o.k6(ctx, k6, bare.addr)
		if err != nil {
			return err
		}
		_, lag, err := o.gatehouse(ctx, bare.addr, lagRate)
		if err != nil {
			return err
		}
		ours, vegetas, k6s = append(ours, g), append(vegetas, v), append(k6s, k)
		byVegeta, byK6, lags = append(byVegeta, g/v), append(byK6, g/k), append(lags, lag)
		fmt.Printf("  gatehouse %5.1f µs CPU a request, vegeta %5.1f, k6 %5.1f; lag p99 at %d/s %.2f ms\n", g, v, k, lagRate, lag)
	}
	fmt.Printf("CPU a request at %d/s: gatehouse %s µs; vegeta %s µs, ratio %s; k6 %s µs, ratio %s\n", generatorRate,
		spread("%.1f", ours), spread("%.1f", vegetas), spread("%.2f", byVegeta), spread("%.1f", k6s), spread("%.2f", byK6))
	fmt.Printf("lag p99 at %d/s beside the target: %s ms\n", lagRate, spread("%.2f", lags))
	return bare.cmd.Process.Kill()
}

// serveCreated serves an answer like that to a sign-up, with net/http alone.
func serveCreated(ctx context.Context, dir string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(answered{Status: 201, Header: map[string][]string{"Content-Type": {"application/json"}}, Body: strings.Repeat("x", 300)})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "created.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	return start(ctx, self, "-bare", file)
}

// tool is the path of a yardstick, which is built when first asked for.
func tool(ctx context.Context, name string) (string, error) {
	cmd := exec.CommandContext(ctx, "tools/tool.sh", name)
	cmd.Stderr = os.Stderr
	path, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return strings.TrimSpace(string(path)), nil
}

// cost runs a generator and gives its CPU time in µs, user and system.
func cost(cmd *exec.Cmd) (float64, error) {
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", cmd.Args[0], err, out)
	}
	u, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, errors.New("this system does not tell what a process used")
	}
	return float64(time.Duration(u.Utime.Nano() + u.Stime.Nano()).Microseconds()), nil
}

func (o options) vegeta(ctx context.Context, binary, addr string) (float64, error) {
	body := filepath.Join(o.dir, "body.json")
	if err := os.WriteFile(body, []byte(`{"name": "Load 1", "email": "load-00000000-0000-4000-8000-000000000000@load.gatehouse.internal"}`), 0o600); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, binary, "attack", "-rate", fmt.Sprint(generatorRate), "-duration", o.slice.String(), "-output", os.DevNull)
	cmd.Stdin = strings.NewReader("POST http://" + addr + "/api/v1/customers/onboard\nContent-Type: application/json\n@" + body + "\n")
	used, err := cost(cmd)
	return used / (generatorRate * o.slice.Seconds()), err
}

func (o options) k6(ctx context.Context, binary, addr string) (float64, error) {
	script := filepath.Join(o.dir, "k6.js")
	text := fmt.Sprintf(`import http from 'k6/http';
export const options = {discardResponseBodies: true, scenarios: {s: {executor: 'constant-arrival-rate',
  rate: %d, timeUnit: '1s', duration: '%s', preAllocatedVUs: 200, maxVUs: 2000}}};
const params = {headers: {'Content-Type': 'application/json'}};
export default function () {
  http.post('http://%s/api/v1/customers/onboard', '{"name": "Load ' + __ITER + '", "email": "load-' + __VU + '-' + __ITER + '@load.gatehouse.internal"}', params);
}
`, generatorRate, o.slice, addr)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return 0, err
	}
	summary := filepath.Join(o.dir, "k6.json")
	cmd := exec.CommandContext(ctx, binary, "run", "--quiet", "--no-usage-report", "--summary-export", summary, script)
	used, err := cost(cmd)
	if err != nil {
		return 0, err
	}
	var s struct {
		Metrics struct {
			Requests struct {
				Count float64 `json:"count"`
			} `json:"http_reqs"`
		} `json:"metrics"`
	}
	out, err := os.ReadFile(summary)
	if err != nil {
		return 0, err
	}
	if err := json.Unmarshal(out, &s); err != nil || s.Metrics.Requests.Count == 0 {
		return 0, errors.Join(errors.New("k6 tells no count"), err)
	}
	return used / s.Metrics.Requests.Count, nil // it drops what it has no user for
}

// summary is what is read of a run's summary.json.
type summary struct {
	Requests struct {
		Sent     int64 `json:"sent"`
		Answered int64 `json:"answered"`
	} `json:"requests"`
	Outcomes map[string]struct {
		Count   int64               `json:"count"`
		Latency map[string]*float64 `json:"latency_ms"`
	} `json:"outcomes"`
	Generator struct {
		P99Lag float64 `json:"p99_lag_ms"`
	} `json:"generator"`
}

// gatehouse runs a plan of one request at a rate and gives the CPU time a
// request in µs and the lag's p99 in ms.
func (o options) gatehouse(ctx context.Context, addr string, rate int) (used, lag float64, err error) {
	used, s, err := o.load(ctx, addr, fmt.Sprintf(`name: bench
stages: [{duration: 1ms, rate: %[1]d}, {duration: %[2]s, rate: %[1]d}]
requests:
  - name: onboard
    method: POST
    path: /api/v1/customers/onboard
    headers: {Content-Type: application/json}
    body: '{"name": "Load {{seq}}", "email": "load-{{uuid}}@{{domain}}"}'
`, rate, o.slice))
	if err != nil {
		return 0, 0, err
	}
	return used / float64(s.Requests.Sent), s.Generator.P99Lag, nil
}

// load runs a plan and gives the CPU time in µs and the summary, whatever the
// verdict.
func (o options) load(ctx context.Context, addr, plan string) (float64, *summary, error) {
	dir, err := os.MkdirTemp(o.dir, "load-")
	if err != nil {
		return 0, nil, err
	}
	file := filepath.Join(dir, "plan.yaml")
	if err := os.WriteFile(file, []byte(plan), 0o600); err != nil {
		return 0, nil, err
	}
	cmd := exec.CommandContext(ctx, o.binary, "load", "run", file, "--target", "http://"+addr, "--target-admin", "none", "--out", filepath.Join(dir, "out"))
	used, err := cost(cmd)
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() == 2) {
		return 0, nil, err
	}
	text, err := os.ReadFile(filepath.Join(dir, "out", "summary.json"))
	if err != nil {
		return 0, nil, err
	}
	s := new(summary)
	return used, s, json.Unmarshal(text, s)
}
