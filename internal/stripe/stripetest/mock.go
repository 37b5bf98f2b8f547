package stripetest

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"regexp"
	"testing" //nolint:depguard // for tests of several packages, so not in a _test.go
)

// Mock starts stripe-mock, which holds requests against Stripe's own
// description of its API, and returns its base URL. It ends with the test,
// which is skipped where STRIPE_MOCK names no program.
func Mock(t testing.TB) string {
	t.Helper()
	binary := os.Getenv("STRIPE_MOCK")
	if binary == "" {
		t.Skip("STRIPE_MOCK names no stripe-mock: run `make test PKG=./internal/stripe/...`")
	}
	// Without -https-addr it would listen there on all addresses.
	listen := []string{"-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0"}
	mock := exec.CommandContext(t.Context(), binary, listen...) //nolint:gosec // whoever runs the tests names the program
	out, err := mock.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	mock.Stderr = mock.Stdout
	if err := mock.Start(); err != nil {
		t.Fatal(err)
	}
	listening := regexp.MustCompile(`HTTP at address: (127\.0\.0\.1:\d+)`)
	lines := bufio.NewScanner(out)
	var said, addr string
	for addr == "" && lines.Scan() {
		said += lines.Text() + "\n"
		if found := listening.FindStringSubmatch(lines.Text()); found != nil {
			addr = found[1]
		}
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(io.Discard, out)
	}()
	t.Cleanup(func() { // the test's context has ended, and so the process
		<-drained
		_ = mock.Wait() // killed
	})
	if addr == "" {
		t.Fatalf("stripe-mock does not say where it listens:\n%s", said)
	}
	return "http://" + addr
}
