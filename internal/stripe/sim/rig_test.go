package sim_test

import (
	"context"
	stdjson "encoding/json" // which stripe-go's types are for
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	stripego "github.com/stripe/stripe-go/v85"

	"gatehouse/internal/stripe/sim"
)

const testKey = "sk_" + "test_1234567890"

// rig is a stand-in, stripe-go's client of it, and an endpoint for its events.
type rig struct {
	*testing.T
	*sim.Server
	api  *stripego.Client
	hook *endpoint
}

// endpoint takes deliveries. What it answers may be changed.
type endpoint struct {
	url string

	mu     sync.Mutex
	came   []request
	answer func(n int) int // status for the n-th request, from 1
}

type request struct {
	body   string
	header http.Header
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e.mu.Lock()
	e.came = append(e.came, request{string(body), r.Header})
	n, answer := len(e.came), e.answer
	e.mu.Unlock()
	w.WriteHeader(answer(n))
}

// set changes what it answers.
func (e *endpoint) set(answer func(n int) int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
}

func always(status int) func(int) int { return func(int) int { return status } }

func (e *endpoint) requests() []request {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]request(nil), e.came...)
}

// events are those that came, in order.
func (e *endpoint) events(t testing.TB) (events []stripego.Event) {
	t.Helper()
	for _, r := range e.requests() {
		events = append(events, decode[stripego.Event](t, []byte(r.body)))
	}
	return events
}

// decode reads what stripe-go's types read.
func decode[T any](t testing.TB, text []byte) (v T) {
	t.Helper()
	if err := stdjson.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v, in %s", err, text)
	}
	return v
}

func newEndpoint(t testing.TB) *endpoint {
	t.Helper()
	e := &endpoint{answer: always(200)}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	e.url = s.URL + "/api/webhooks/stripe"
	return e
}

// newRig is a rig whose deliveries are tried again after a millisecond.
func newRig(t *testing.T, change func(*sim.Options)) *rig {
	t.Helper()
	r := &rig{T: t, hook: newEndpoint(t)}
	o := sim.Options{Webhooks: []string{r.hook.url}, Secrets: []string{"whsec_test"}, Retry: time.Millisecond}
	if change != nil {
		change(&o)
	}
	var err error
	if r.Server, err = sim.New(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	r.api = clientOf(testKey, r.URL())
	return r
}

func clientOf(key, base string) *stripego.Client {
	return stripego.NewClient(key, stripego.WithBackends(stripego.NewBackendsWithConfig(&stripego.BackendConfig{
		// On a used connection net/http would itself repeat what has an Idempotency-Key.
		HTTPClient: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		URL:        &base, MaxNetworkRetries: new(int64(0)), EnableTelemetry: new(false),
		LeveledLogger: &stripego.LeveledLogger{Level: stripego.LevelNull},
	})))
}

// call makes a request of pairs such as "email", "jane@example.test".
func (r *rig) call(method, path string, pairs ...string) (status int, body []byte) {
	r.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	target, in := r.URL()+path, io.Reader(strings.NewReader(form.Encode()))
	if method != http.MethodPost {
		target, in = target+"?"+form.Encode(), nil
	}
	req, err := http.NewRequestWithContext(r.Context(), method, target, in)
	if err != nil {
		r.Fatal(err)
	}
	req.Close = true
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer "+testKey)
	resp, err := new(http.Client).Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, body
}

// asked gets a path in a version of the API.
func (r *rig) asked(path, version string) string {
	r.Helper()
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, r.URL()+path, nil)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	req.Header.Set("Stripe-Version", version)
	resp, err := new(http.Client).Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		r.Fatalf("%s: %d, %v", path, resp.StatusCode, err)
	}
	return string(body)
}

// must makes a request that has to succeed, and returns its answer.
func (r *rig) must(method, path string, pairs ...string) map[string]any {
	r.Helper()
	status, body := r.call(method, path, pairs...)
	if status != http.StatusOK {
		r.Fatalf("%s %s %q: %d %s", method, path, pairs, status, body)
	}
	var v map[string]any
	if err := json.Unmarshal(body, &v); err != nil {
		r.Fatal(err)
	}
	return v
}

// post is must, and returns the id that it answers with.
func (r *rig) post(path string, pairs ...string) string {
	r.Helper()
	id, _ := r.must(http.MethodPost, path, pairs...)["id"].(string)
	return id
}

// refused makes a request that has to fail, and returns why.
func (r *rig) refused(want int, method, path string, pairs ...string) stripego.Error {
	r.Helper()
	status, body := r.call(method, path, pairs...)
	if status != want {
		r.Fatalf("%s %s %q: %d %s; want %d", method, path, pairs, status, body, want)
	}
	return *decode[struct {
		Error *stripego.Error `json:"error"`
	}](r, body).Error
}

// customer is a customer with a card, which is its default. A clock may be "".
func (r *rig) customer(clock, card string) (customer, method string) {
	r.Helper()
	pairs := []string{"email", "jane@example.test"}
	if clock != "" {
		pairs = append(pairs, "test_clock", clock)
	}
	customer = r.post("/v1/customers", pairs...)
	method = r.post("/v1/payment_methods/"+card+"/attach", "customer", customer)
	r.post("/v1/customers/"+customer, "invoice_settings[default_payment_method]", method)
	return customer, method
}

// advance puts a clock at a time.
func (r *rig) advance(clock string, to int64) {
	r.Helper()
	r.post("/v1/test_helpers/test_clocks/"+clock+"/advance", "frozen_time", strconv.FormatInt(to, 10))
}

// told returns the types of the events since the last call.
func (r *rig) told(seen *int) string {
	r.Helper()
	var kinds []string
	all := r.Events()
	for _, e := range all[*seen:] {
		kinds = append(kinds, e.Type)
	}
	*seen = len(all)
	return strings.Join(kinds, " ")
}

// quiet waits until all is delivered.
func (r *rig) quiet() {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	if err := r.Quiet(ctx); err != nil {
		r.Fatal(err)
	}
}

// errorOf is Stripe's error in one of stripe-go's.
func errorOf(t testing.TB, err error) *stripego.Error {
	t.Helper()
	e, ok := errors.AsType[*stripego.Error](err)
	if !ok {
		t.Fatalf("the error is %v, want one of Stripe's", err)
	}
	return e
}
