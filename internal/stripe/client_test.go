package stripe_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"gatehouse/internal/account"
	"gatehouse/internal/jobs"
	"gatehouse/internal/stripe"
	"gatehouse/internal/stripe/sim"
)

var jane = account.Customer{ID: "0192f0c1-2b3d-7a4e-8f50-112233445566", Name: "Jane Ünïcode & Sons [x]=1", Email: "jane+tag@example.test"}

func start(t *testing.T) (*sim.Server, *stripe.Client) {
	t.Helper()
	server := sim.Start()
	t.Cleanup(server.Close)
	return server, stripe.New(mustKey(t), server.URL())
}

// mustBeKeepable fails on an error that may not be stored and logged.
func mustBeKeepable(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if shows(text) || strings.Contains(text, "sk_") {
		t.Errorf("the error shows the key: %s", text)
	}
	if strings.ContainsAny(text, "@\n\r\x00\x1b") || strings.Contains(text, "%40") || strings.Contains(text, "jane") {
		t.Errorf("the error shows an address, or is no plain line: %q", text)
	}
	if len(text) > 800 {
		t.Errorf("the error has %d bytes: %s", len(text), text)
	}
}

func TestCustomerIsMadeWithWhatWeKnow(t *testing.T) {
	server, client := start(t)
	id, err := client.EnsureCustomer(t.Context(), jane, false)
	if err != nil {
		t.Fatal(err)
	}
	all := server.Customers()
	if len(all) != 1 || all[0].ID != id || all[0].Email != jane.Email || all[0].Name != jane.Name ||
		len(all[0].Metadata) != 1 || all[0].Metadata["gatehouse_customer_id"] != jane.ID {
		t.Errorf("id %s, customers %+v", id, all)
	}
	if server.Requests() != 1 {
		t.Errorf("a first try makes %d requests, want 1", server.Requests())
	}
}

func TestTryingAgainMakesOneCustomer(t *testing.T) {
	server, client := start(t)
	first, err := client.EnsureCustomer(t.Context(), jane, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, again := range []bool{false, true, false} {
		if id, err := client.EnsureCustomer(t.Context(), jane, again); err != nil || id != first {
			t.Errorf("again %v: %s, %v; want %s", again, id, err, first)
		}
	}
	server.Forget()
	if id, err := client.EnsureCustomer(t.Context(), jane, true); err != nil || id != first {
		t.Errorf("after the key is forgotten: %s, %v; want %s", id, err, first)
	}
	if all := server.Customers(); len(all) != 1 || all[0].Asked != 3 {
		t.Errorf("customers %+v", all)
	}
}

func TestNamesakesGetCustomersOfTheirOwn(t *testing.T) {
	server, client := start(t)
	john := jane
	john.ID = "0192f0c1-2b3d-7a4e-8f50-aaaaaaaaaaaa" // the same address: an account that was purged and opened again
	for _, who := range []account.Customer{jane, john} {
		if _, err := client.EnsureCustomer(t.Context(), who, true); err != nil {
			t.Fatal(err)
		}
	}
	if all := server.Customers(); len(all) != 2 || all[0].ID == all[1].ID {
		t.Errorf("customers %+v", all)
	}
}

func TestTwoTriesAtOnceMakeOneCustomer(t *testing.T) {
	server, client := start(t)
	var tries sync.WaitGroup
	for range 8 {
		tries.Go(func() {
			if _, err := client.EnsureCustomer(t.Context(), jane, true); err != nil && jobs.IsPermanent(err) {
				t.Error(err)
			}
		})
	}
	tries.Wait()
	if all := server.Customers(); len(all) != 1 {
		t.Errorf("%d customers, want 1", len(all))
	}
}

// faults are all that fail a try, and what the error is.
var faults = []struct {
	fault     sim.Fault
	want      string
	permanent bool
}{
	{sim.Limited, "status 429, type invalid_request_error, code rate_limit, request req_", false},
	{sim.Failed, "status 500, type api_error, request req_", false},
	{sim.Unavailable, "status 503", false},
	{sim.Refused, "status 400, type ", true},
	{sim.Unauthorized, "Stripe refused the API key (401): set GATEHOUSE_STRIPE_API_KEY, " +
		"then run gatehouse admin jobs retry --all, type invalid_request_error, request req_", true},
	{sim.Garbage, "status 200 with what is not JSON", false},
	{sim.Cut, "status 200, then: unexpected EOF", false},
	{sim.Lost, "EOF", false},
	{sim.Redirect, "status 307, which Stripe's API does not give", false},
	{sim.Endless, "status 200 with more than 16777216 bytes", false},
}

func TestEachFaultEndsInOneCustomer(t *testing.T) {
	for _, tt := range faults {
		for _, again := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, again %v", tt.want, again), func(t *testing.T) {
				server, client := start(t)
				server.Set(sim.Trouble{Fault: tt.fault})
				_, err := client.EnsureCustomer(t.Context(), jane, again)
				if err == nil {
					t.Fatal("it succeeds")
				}
				mustBeKeepable(t, err)
				if !strings.Contains(err.Error(), tt.want) {
					t.Errorf("the error is %q, want one with %q", err, tt.want)
				}
				if jobs.IsPermanent(err) != tt.permanent {
					t.Errorf("permanent is %v, want %v", !tt.permanent, tt.permanent)
				}
				if n := server.Requests(); n != 1 {
					t.Errorf("%d requests, want 1: nothing is tried twice or followed", n)
				}
				server.Set(sim.Trouble{})
				server.Forget() // a day later
				for range 2 {
					if _, err := client.EnsureCustomer(t.Context(), jane, true); err != nil {
						t.Fatalf("after the fault: %v", err)
					}
				}
				if n := len(server.Customers()); n != 1 {
					t.Errorf("%d customers, want 1", n)
				}
			})
		}
	}
}

func TestLostAnswerIsReplayedWithoutLooking(t *testing.T) {
	server, client := start(t)
	server.Set(sim.Trouble{Fault: sim.Lost, Times: 1})
	if _, err := client.EnsureCustomer(t.Context(), jane, false); err == nil {
		t.Fatal("it succeeds")
	}
	if _, err := client.EnsureCustomer(t.Context(), jane, false); err != nil {
		t.Fatal(err)
	}
	if all := server.Customers(); len(all) != 1 || all[0].Asked != 2 {
		t.Errorf("customers %+v", all)
	}
}

func TestStoredFailureLastsAsLongAsItsKey(t *testing.T) {
	server, client := start(t)
	server.Set(sim.Trouble{Fault: sim.Failed, Times: 1})
	for range 3 {
		if _, err := client.EnsureCustomer(t.Context(), jane, false); err == nil || jobs.IsPermanent(err) {
			t.Fatalf("the stored 500 gives %v", err)
		}
	}
	server.Forget()
	if _, err := client.EnsureCustomer(t.Context(), jane, false); err != nil {
		t.Fatal(err)
	}
}

func TestHangEndsWithItsContext(t *testing.T) {
	for _, again := range []bool{false, true} {
		server, client := start(t)
		server.Set(sim.Trouble{Fault: sim.Hang})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := client.EnsureCustomer(ctx, jane, again)
			ended <- err
		}()
		for server.Hanging() == 0 {
			runtime.Gosched()
		}
		server.Set(sim.Trouble{})
		if !again { // a key is in use while its first request hangs
			_, err := client.EnsureCustomer(t.Context(), jane, false)
			if err == nil || !strings.Contains(err.Error(), "status 409") || jobs.IsPermanent(err) {
				t.Errorf("beside a try under way: %v", err)
			}
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) || jobs.IsPermanent(err) {
			t.Errorf("the error is %v, want the context's", err)
		} else {
			mustBeKeepable(t, err)
		}
	}
}

func TestNobodyThereIsWorthAnotherTry(t *testing.T) {
	server, client := start(t)
	server.Close()
	for _, again := range []bool{false, true} {
		_, err := client.EnsureCustomer(t.Context(), jane, again)
		if err == nil || jobs.IsPermanent(err) || !strings.Contains(err.Error(), "refused") {
			t.Fatalf("the error is %v", err)
		}
		mustBeKeepable(t, err)
	}
}

func TestNothingIsPrinted(t *testing.T) { // stripe-go would print answers and errors
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	stdout, stderr := os.Stdout, os.Stderr
	os.Stdout, os.Stderr = out, out
	defer func() { os.Stdout, os.Stderr = stdout, stderr }()
	server, client := start(t)
	for _, fault := range []sim.Fault{sim.Unauthorized, sim.Garbage, sim.Lost, sim.None} {
		server.Set(sim.Trouble{Fault: fault})
		_, _ = client.EnsureCustomer(t.Context(), jane, true)
	}
	if printed, err := os.ReadFile(out.Name()); err != nil || len(printed) > 0 {
		t.Errorf("%v, printed:\n%s", err, printed)
	}
}

func TestStrangersCertificateGetsNoKey(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request came") }))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // it logs what fails
	server.StartTLS()
	defer server.Close()
	_, err := stripe.New(mustKey(t), server.URL).EnsureCustomer(t.Context(), jane, false)
	if err == nil || jobs.IsPermanent(err) || !strings.Contains(err.Error(), "x509") {
		t.Errorf("the error is %v", err)
	}
}

// answering is a client of a server that gives one answer to a creation and
// one to a look-up.
func answering(t *testing.T, status int, created, listed string) *stripe.Client {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := created
		if r.Method == http.MethodGet {
			body = listed
		}
		w.Header().Set("Request-Id", "req_\xff jane@example.test "+strings.Repeat("9", 500))
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	t.Cleanup(server.Close)
	return stripe.New(mustKey(t), server.URL)
}

const (
	noneFound = `{"object":"list","data":[],"has_more":false}`
	sound     = `{"id":"cus_1","object":"customer","metadata":{"gatehouse_customer_id":"0192f0c1-2b3d-7a4e-8f50-112233445566"}}`
)

func TestAnswerIsNotBelievedUnread(t *testing.T) {
	ours := `"metadata":{"gatehouse_customer_id":"` + jane.ID + `"}`
	for name, answer := range map[string]string{
		"another object":    `{"id":"cus_1","object":"subscription",` + ours + `}`,
		"no object":         `{"id":"cus_1",` + ours + `}`,
		"an id alone":       `"cus_1"`,
		"null":              `null`,
		"a list":            `[]`,
		"wrong types":       `{"id":1,"object":"customer"}`,
		"no id":             `{"object":"customer",` + ours + `}`,
		"an empty id":       `{"id":"cus_","object":"customer",` + ours + `}`,
		"another id":        `{"id":"sub_1","object":"customer",` + ours + `}`,
		"a space":           `{"id":"cus_1 2","object":"customer",` + ours + `}`,
		"a line end":        `{"id":"cus_1\n","object":"customer",` + ours + `}`,
		"not ASCII":         `{"id":"cus_ü","object":"customer",` + ours + `}`,
		"a long id":         `{"id":"cus_` + strings.Repeat("a", 251) + `","object":"customer",` + ours + `}`,
		"deleted":           `{"id":"cus_1","object":"customer","deleted":true,` + ours + `}`,
		"another one's":     `{"id":"cus_1","object":"customer","metadata":{"gatehouse_customer_id":"jane@example.test"}}`,
		"nobody's":          `{"id":"cus_1","object":"customer","metadata":{"gatehouse_customer_id":""}}`,
		"a key twice":       `{"id":"cus_1","id":"cus_2","object":"customer",` + ours + `}`,
		"two values":        sound + sound,
		"an address quoted": `{"id":"jane@example.test","object":{"email":"jane@example.test"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			for _, again := range []bool{false, true} {
				client := answering(t, http.StatusOK, answer, noneFound)
				if again && strings.Contains(answer, ours) { // else it is passed over
					client = answering(t, http.StatusOK, sound, `{"object":"list","data":[`+answer+`]}`)
				}
				id, err := client.EnsureCustomer(t.Context(), jane, again)
				if err == nil || id != "" || jobs.IsPermanent(err) {
					t.Fatalf("again %v: %q, %v; want an error that is not permanent", again, id, err)
				}
				mustBeKeepable(t, err)
			}
		})
	}
	longest := "cus_" + strings.Repeat("~", 250)
	for _, answer := range []string{sound, `{"id":"` + longest + `","object":"customer","metadata":{}}`, `{"id":"cus_1","object":"customer","metadata":null}`} {
		if _, err := answering(t, http.StatusOK, answer, noneFound).EnsureCustomer(t.Context(), jane, false); err != nil {
			t.Errorf("%s: %v", answer, err)
		}
	}
}

func TestLookUpPassesOverWhatIsNotOurs(t *testing.T) {
	list := `{"object":"list","has_more":true,"data":[null,"cus_9",{},{"id":"cus_2","object":"customer","metadata":{"gatehouse_customer_id":"x"}},` +
		`{"id":"cus_3","object":"customer","metadata":{}},{"id":"cus_4","object":"customer","metadata":{"gatehouse_customer_id":"` + jane.ID + `"}}]}`
	if id, err := answering(t, http.StatusOK, sound, list).EnsureCustomer(t.Context(), jane, true); err != nil || id != "cus_4" {
		t.Errorf("%s, %v; want cus_4", id, err)
	}
}

func TestOnlyStripesOwnRefusalIsPermanent(t *testing.T) {
	hostile := `"type":"in\u001bvalid","code":"` + strings.Repeat("c", 400) + `","param":"jane@example.test",` +
		`"message":"No\n\u2028jane@example.test jane%40example.test ‘` + testKey + `’ Bearer=sk_te\u0000st_` + secretPart + strings.Repeat(" word", 1000) + `"`
	refusals := []string{`{"error":{` + hostile + `}}`, `{"error":{"type":"idempotency_error","message":"Keys differ"}}`}
	strangers := []string{``, `<html>`, `null`, `{}`, `{"error":"denied"}`, `{"error":{}}`, `{"error":{"message":"denied"}}`, `{"error":{"type":7}}`, `{"message":"jane@example.test"}`}
	for _, status := range []int{400, 401, 402, 403, 404, 407, 409, 413, 422, 429, 451, 500, 502, 503, 504, 599} {
		stays := status < 500 && status != 409 && status != 429
		for _, body := range refusals {
			_, err := answering(t, status, body, noneFound).EnsureCustomer(t.Context(), jane, false)
			if err == nil || jobs.IsPermanent(err) != stays {
				t.Errorf("%d %.30s: permanent is %v, want %v", status, body, !stays, stays)
			}
			mustBeKeepable(t, err)
			if keyed := strings.Contains(err.Error(), "GATEHOUSE_STRIPE_API_KEY"); keyed != (status == 401 || status == 403) {
				t.Errorf("%d speaks of the key: %v", status, keyed)
			}
		}
		for _, body := range strangers {
			_, err := answering(t, status, body, noneFound).EnsureCustomer(t.Context(), jane, false)
			if err == nil || jobs.IsPermanent(err) || !strings.Contains(err.Error(), fmt.Sprint(status)) {
				t.Errorf("%d %s: %v; want an error that is not permanent and has the status", status, body, err)
			}
			mustBeKeepable(t, err)
		}
	}
	for _, status := range []int{201, 202, 204, 300, 301, 302, 304} { // also where the body would do
		body := sound
		if status == 204 || status == 304 {
			body = ""
		}
		if _, err := answering(t, status, body, noneFound).EnsureCustomer(t.Context(), jane, false); err == nil || jobs.IsPermanent(err) {
			t.Errorf("%d: %v; want an error that is not permanent", status, err)
		}
	}
}
