package stripe_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"regexp"
	"testing"

	"gatehouse/internal/account"
	"gatehouse/internal/stripe"
)

// stripeMock starts stripe-mock, which holds requests against Stripe's own
// description of its API, and returns where it listens.
func stripeMock(t *testing.T) string {
	t.Helper()
	binary := os.Getenv("STRIPE_MOCK")
	if binary == "" {
		t.Skip("STRIPE_MOCK names no stripe-mock: run `make test PKG=./internal/stripe`")
	}
	// Without -https-addr it would listen there on all addresses.
	mock := exec.CommandContext(t.Context(), binary, "-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0")
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

func TestRequestsAreValidToStripe(t *testing.T) {
	client := stripe.New(mustKey(t), stripeMock(t))
	john := account.Customer{ID: "0192f0c1-2b3d-7a4e-8f50-aaaaaaaaaaaa", Name: "J", Email: "john@example.test"}
	ids := map[string]bool{}
	for _, who := range []account.Customer{jane, john} {
		for _, again := range []bool{false, true} { // true: also the list, whose customer is nobody's
			id, err := client.EnsureCustomer(t.Context(), who, again)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(who.Email, again, id)
			ids[id] = true
		}
	}
	if len(ids) != 4 {
		t.Errorf("%d ids for 4 creations: %v", len(ids), ids)
	}
}

func TestKeyThatStripeRefusesIsPermanent(t *testing.T) {
	base := stripeMock(t)
	live, err := stripe.ParseKey("sk_live_" + secretPart) // stripe-mock takes test keys alone
	if err != nil {
		t.Fatal(err)
	}
	_, err = stripe.New(live, base).EnsureCustomer(t.Context(), jane, false)
	if err == nil {
		t.Fatal("it is taken")
	}
	mustBeKeepable(t, err)
	t.Log(err)
}
