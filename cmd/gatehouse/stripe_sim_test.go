package main

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stripe/stripe-go/v85/webhook"
)

// aSim is a running stripe-sim, and an endpoint for its events.
type aSim struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner // of standard error
	url   string
	intro string // what it said at its start
	came  chan *http.Request
	body  chan []byte
}

func startSim(t *testing.T, env []string, args ...string) *aSim {
	t.Helper()
	s := &aSim{t: t, came: make(chan *http.Request, 8), body: make(chan []byte, 8)}
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.came <- r
		s.body <- body
	}))
	t.Cleanup(hook.Close)
	s.cmd = gatehouse(t, append([]string{"stripe-sim", "--listen", "127.0.0.1:0", "--webhook-url", hook.URL + "/hook"}, args...)...)
	s.cmd.Env = append(s.cmd.Env, env...)
	out, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.cmd.Process.Kill() })
	s.lines = bufio.NewScanner(out)
	for !strings.Contains(s.intro, "_WEBHOOK_SECRETS=") && s.lines.Scan() {
		s.intro += s.lines.Text() + "\n"
	}
	listening := regexp.MustCompile(`listens on (http://127\.0\.0\.1:\d+) and sends events to ` + regexp.QuoteMeta(hook.URL) + `/hook`).FindStringSubmatch(s.intro)
	if listening == nil {
		t.Fatalf("it said %q", s.intro)
	}
	s.url = listening[1]
	return s
}

// customer makes one, and returns the signature and the body of its event.
func (s *aSim) customer() (signature string, body []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/v1/customers", strings.NewReader("email=jane@example.test"))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer sk_test_sim")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("status %d", resp.StatusCode)
	}
	r := <-s.came
	return r.Header.Get("Stripe-Signature"), <-s.body
}

// end stops it, and returns what else it said.
func (s *aSim) end(signal os.Signal) (rest string) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(signal); err != nil {
		s.t.Fatal(err)
	}
	for s.lines.Scan() {
		rest += s.lines.Text() + "\n"
	}
	if code := await(s.t, s.cmd); code != exitOK {
		s.t.Errorf("exit code %d after %s, want 0", code, signal)
	}
	return rest
}

func TestStripeSimDelivers(t *testing.T) {
	t.Parallel()
	s := startSim(t, nil)
	for _, want := range []string{"GATEHOUSE_STRIPE_API_BASE=" + s.url, "GATEHOUSE_STRIPE_API_KEY=sk_test_sim", "GATEHOUSE_STRIPE_WEBHOOK_SECRETS=whsec_sim"} {
		if !strings.Contains(s.intro, want) {
			t.Errorf("it said %q, want %s", s.intro, want)
		}
	}
	signature, body := s.customer()
	if err := webhook.ValidatePayload(body, signature, "whsec_sim"); err != nil {
		t.Error(err)
	}
	if !s.lines.Scan() || !regexp.MustCompile(`^evt_\w+ customer\.created 200 in \S+s$`).MatchString(s.lines.Text()) {
		t.Errorf("the delivery's line is %q", s.lines.Text())
	}
	if rest := s.end(syscall.SIGTERM); rest != "" {
		t.Errorf("at its end it said %q", rest)
	}
}

func TestStripeSimSignsWithTheFirstSecret(t *testing.T) {
	t.Parallel()
	s := startSim(t, []string{"GATEHOUSE_STRIPE_WEBHOOK_SECRETS=whsec_first, whsec_second"}, "--quiet", "--api-version", "2022-11-15", "--seed", "7")
	if strings.Contains(s.intro, "first") || strings.Contains(s.intro, "second") {
		t.Errorf("it shows the secrets: %q", s.intro)
	}
	signature, body := s.customer()
	if err := webhook.ValidatePayload(body, signature, "whsec_first"); err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(body), `"api_version":"2022-11-15"`) {
		t.Errorf("%s", body)
	}
	if rest := s.end(syscall.SIGINT); rest != "" {
		t.Errorf("it was to be quiet and said %q", rest)
	}
}

func TestStripeSimStaysOnThisMachine(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ flag, value, want string }{
		{"listen", "0.0.0.0:12111", "want an address on loopback, such as 127.0.0.1:12111"},
		{"listen", ":12111", "want an address on loopback"},
		{"listen", "192.0.2.1:12111", "want an address on loopback"},
		{"listen", "127.0.0.1", "want an address on loopback"},
		{"listen", "127.0.0.1:70000", "want a port of at most 65535"},
		{"webhook-url", "https://example.test/hook", "is not on this machine"},
		{"webhook-url", "http://192.0.2.1:8080/hook", "is not on this machine"},
		{"webhook-url", "127.0.0.1:8080", "want http://127.0.0.1:PORT/PATH"},
		{"webhook-url", "ftp://127.0.0.1/hook", "want http://127.0.0.1:PORT/PATH"},
		{"webhook-url", "http://jane:secret@127.0.0.1:8080/hook", "without a user"},
		{"api-version", "latest", "want one such as 2026-03-25.dahlia"},
	} {
		t.Run(tt.flag+" "+tt.value, func(t *testing.T) {
			t.Parallel()
			o := finish(t, gatehouse(t, "stripe-sim", "--listen=127.0.0.1:0", "--"+tt.flag, tt.value))
			if o.code != exitUsage || o.stdout != "" || !strings.Contains(o.stderr, tt.want) || strings.Contains(o.stderr, "secret") {
				t.Errorf("exit code %d, standard error %q; want 2 and %q", o.code, o.stderr, tt.want)
			}
		})
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if o := finish(t, gatehouse(t, "stripe-sim", "--listen", ln.Addr().String())); o.code != exitFailed || !strings.Contains(o.stderr, "address already in use") {
		t.Errorf("a taken address: exit code %d, standard error %q", o.code, o.stderr)
	}
}
