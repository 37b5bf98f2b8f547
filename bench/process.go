package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-json-experiment/json"
)

// process is a server under measurement.
type process struct {
	cmd  *exec.Cmd
	addr string
}

// start runs a program that writes a JSON line with its listen address to
// standard error once it serves.
func start(ctx context.Context, name string, args ...string) (*process, error) {
	return startWith(ctx, nil, name, args...)
}

// startWith does so with some variables in the environment.
func startWith(ctx context.Context, variables []string, name string, args ...string) (*process, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), variables...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd}
	lines := bufio.NewScanner(stderr)
	var said []string
	for lines.Scan() {
		var event struct {
			Msg    string `json:"msg"`
			Listen string `json:"listen"`
		}
		said = append(said, lines.Text())
		if err := json.Unmarshal(lines.Bytes(), &event); err == nil && event.Msg == "serving" {
			p.addr = event.Listen
			go func() { _, _ = io.Copy(io.Discard, stderr) }()
			return p, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("%s did not serve: %s", name, strings.Join(said, "; ")), cmd.Wait())
}

// startSelf starts this program as one of its stand-ins.
func startSelf(ctx context.Context, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return start(ctx, self, args...)
}

// serveGatehouse starts the server on a database of its own.
func (o options) serveGatehouse(ctx context.Context, database string, args ...string) (*process, error) {
	return start(ctx, o.binary, append([]string{
		"serve", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--drain-timeout", "2s",
		"--database", "sqlite:" + filepath.Join(o.dir, database), "--trusted-proxies", "127.0.0.0/8",
	}, args...)...)
}

// stop ends the server and waits for it.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	return p.cmd.Wait()
}

// kill ends a program that need not end well.
func (p *process) kill() error {
	err := p.cmd.Process.Kill()
	_ = p.cmd.Wait() // it was killed
	return err
}

// cpu is the processor time the server has used, user and system. The kernel
// counts it in ticks of 10 ms, so measure over seconds.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+2:]))
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}

// memory is the server's resident memory now and at its highest, in MiB.
func (p *process) memory() (now, highest float64, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	for line := range strings.Lines(string(text)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, "VmRSS: %f kB", &kib); n == 1 {
			now = kib / 1024
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %f kB", &kib); n == 1 {
			highest = kib / 1024
		}
	}
	return now, highest, err
}
